# SPDX-FileCopyrightText: 2026 The pachops.pachyderm contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What every test has: the collection as ``ansible_collections.pachops.pachyderm``, and :func:`run_module`.

The ``ansible`` wheel ships an ``ansible_collections`` package of its own, so a plain ``sys.path`` entry would find
either that one or ours; ansible-core's collection loader joins them, as it does at run time.

``run_module`` runs a module's ``main`` in this process, the way ansible-core does on a managed host::

    from ansible_collections.pachops.pachyderm.plugins.modules import pachyderm_storage_secret

    def test_bucket_is_required(run_module):
        result = run_module(pachyderm_storage_secret.main, backend="gcp", check_mode=True)
        assert result.failed
        assert "bucket" in result["msg"]
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from ansible.module_utils import basic
from ansible.module_utils.common.text.converters import to_bytes
from ansible.utils.collection_loader import AnsibleCollectionConfig
from ansible.utils.collection_loader._collection_finder import _AnsibleCollectionFinder

ROOT = Path(__file__).resolve().parent.parent
COLLECTIONS = ROOT / ".cache" / "collections"


def pytest_configure() -> None:
    """Install ansible-core's collection loader with the checkout in front."""
    link = COLLECTIONS / "ansible_collections" / "pachops" / "pachyderm"
    if link.resolve() != ROOT:
        raise pytest.UsageError(f"{link} does not lead to this checkout. Run `make setup` first.")
    if AnsibleCollectionConfig.collection_finder is None:
        _AnsibleCollectionFinder(paths=[str(COLLECTIONS)])._install()


@pytest.fixture(scope="session")
def root() -> Path:
    """The checkout's root directory."""
    return ROOT


class ModuleResult(dict[str, Any]):
    """What a module printed as its result, with its exit status in ``rc``."""

    def __init__(self, values: dict[str, Any], rc: int) -> None:
        super().__init__(values)
        self.exit_status = rc

    @property
    def failed(self) -> bool:
        """Whether the module ended by ``fail_json``; the exit status and the result have to agree."""
        assert bool(self.get("failed")) == (self.exit_status != 0), (self.exit_status, dict(self))
        return bool(self.get("failed"))

    @property
    def changed(self) -> bool:
        """Whether the module reported a change; false where it said nothing."""
        return bool(self.get("changed", False))


@contextmanager
def module_arguments(arguments: dict[str, Any]) -> Iterator[None]:
    """Hand ``arguments`` to the next AnsibleModule, on every supported ansible-core.

    2.19 brought serialization profiles and a helper of its own for them; before that the arguments are one global.
    """
    try:
        from ansible.module_utils.testing import patch_module_args
    except ImportError:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(basic, "_ANSIBLE_ARGS", to_bytes(json.dumps({"ANSIBLE_MODULE_ARGS": arguments})))
            yield
    else:
        with patch_module_args(arguments):
            yield


@pytest.fixture
def run_module(
    capsys: pytest.CaptureFixture[str], tmp_path_factory: pytest.TempPathFactory
) -> Callable[..., ModuleResult]:
    """Return ``run(main, check_mode=False, diff=False, **options) -> ModuleResult``."""
    remote_tmp = tmp_path_factory.mktemp("remote_tmp")

    def run(main: Callable[[], None], *, check_mode: bool = False, diff: bool = False, **options: Any) -> ModuleResult:
        arguments = {
            **options,
            "_ansible_check_mode": check_mode,
            "_ansible_diff": diff,
            "_ansible_remote_tmp": str(remote_tmp),
            "_ansible_keep_remote_files": False,
        }
        capsys.readouterr()
        with module_arguments(arguments), pytest.raises(SystemExit) as exit_info:
            main()
        output = capsys.readouterr().out
        code = exit_info.value.code
        status = code if isinstance(code, int) else int(code is not None)
        assert output.strip(), "the module ended without printing a result"
        return ModuleResult(json.loads(output.strip().splitlines()[-1]), status)

    return run
