# SPDX-FileCopyrightText: 2026 The pachops.pachyderm contributors
# SPDX-License-Identifier: BSD-2-Clause
"""The user's side: pachctl's configuration, and a port-forward that is kept running."""
