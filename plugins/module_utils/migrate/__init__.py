# SPDX-FileCopyrightText: 2026 The pachops.pachyderm contributors
# SPDX-License-Identifier: BSD-2-Clause
"""Moving an installation from one place to another: its objects, its metadata, and the cut-over."""
