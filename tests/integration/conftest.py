# SPDX-FileCopyrightText: 2026 The pachops.pachyderm contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What unit tests have, for integration tests too."""

from __future__ import annotations

import importlib.util
from pathlib import Path

_SPEC = importlib.util.spec_from_file_location("unit_conftest", Path(__file__).parents[1] / "unit" / "conftest.py")
assert _SPEC is not None
assert _SPEC.loader is not None
_UNIT = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(_UNIT)
run_module = _UNIT.run_module
