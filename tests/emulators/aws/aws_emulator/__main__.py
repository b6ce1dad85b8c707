# SPDX-FileCopyrightText: 2026 The pachops.pachyderm contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""``python -m aws_emulator``: moto's server with the additions; its arguments are those of ``moto_server``."""

from __future__ import annotations

from moto.server import main

from .additions import install

install()
main()
