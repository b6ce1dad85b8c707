# SPDX-FileCopyrightText: 2026 The pachops.pachyderm contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A test double of pachd 1.13.4.  It is not Pachyderm, and no data that anyone needs belongs into it."""
