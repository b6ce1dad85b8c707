# SPDX-FileCopyrightText: 2026 The pachops.pachyderm contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Moto's server of S3, IAM and STS, with what it lacks for these tests; a test double."""

from __future__ import annotations
