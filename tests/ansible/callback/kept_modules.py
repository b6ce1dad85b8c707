# SPDX-FileCopyrightText: 2026 The pachops.pachyderm contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Keeps the archives into which ansible-core packs modules, so that scenarios do not spend half of their time on them.

ansible-core packs a module with all that it imports once in every run, and the module's process then compiles what it
imports.  In tests, which run some 150 playbooks, the archives are kept below /var/cache/pachops/modules, under the digest of
this collection's plugins and the versions of the others, and hold the compiled code beside the source.  Nothing else
about a run changes.  Where ansible-core has changed its ways, or the cache cannot be written, runs are as without it.
"""

from __future__ import annotations

import base64
import contextlib
import dataclasses
import hashlib
import importlib.util
import io
import os
import shutil
import sys
import time
import zipfile
from importlib.metadata import version
from pathlib import Path
from typing import Any

from ansible import constants
from ansible.executor import module_common
from ansible.plugins.callback import CallbackBase
from ansible.plugins.loader import connection_loader

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
import warm_modules

DOCUMENTATION = """
name: kept_modules
type: aggregate
short_description: Keeps packed modules from run to run
description: For the project's own tests alone.
"""

CACHE = Path(os.environ.get("PACHOPS_CACHE", "/var/cache/pachops")) / "modules"
PLUGINS = Path(__file__).resolve().parents[3] / "plugins"
# Days after which archives that no run has used go.
UNUSED = 3


def digest() -> str:
    """Return the digest of all that the archives are made of."""
    total = hashlib.sha256(f"{sys.version} {version('ansible-core')} {version('ansible')}".encode())
    total.update(Path(__file__).read_bytes())
    for path in sorted(PLUGINS.glob("module*/**/*.py")):
        content = path.read_bytes()
        total.update(f"{path.relative_to(PLUGINS)} {len(content)} ".encode() + content)
    return total.hexdigest()[:32]


# The package of all that ansible-core packs leads on to the archive that was kept.
LEAD = """\
import sys
sys.path.insert(0, {archive!r})
__path__[:] = [sys.path[0] + "/ansible"]
"""


def packed(files: dict[str, bytes], compression: int) -> bytes:
    """Return an archive."""
    with io.BytesIO() as output:
        with zipfile.ZipFile(output, "w", compression) as target:
            for name, content in files.items():
                target.writestr(name, content)
        return output.getvalue()


def kept(archive: bytes, place: Path) -> bytes:
    """Keep an archive in ``place``, with the compiled code of every source in it; return one that leads there."""
    files: dict[str, bytes] = {}
    with zipfile.ZipFile(io.BytesIO(archive)) as source:
        for name in source.namelist():
            files[name] = source.read(name)
            if name.endswith(".py"):
                files[f"{name}c"] = unchecked(compile(files[name], f"{place}/{name}", "exec", dont_inherit=True))
    half = place.with_name(f".{place.name}.{os.getpid()}")
    half.write_bytes(packed(files, zipfile.ZIP_STORED))
    half.rename(place)
    return packed({"ansible/__init__.py": LEAD.format(archive=str(place)).encode()}, zipfile.ZIP_STORED)


def unchecked(code: Any) -> bytes:
    """Return the content of a .pyc that is not compared with its source."""
    external: Any = importlib.import_module("importlib._bootstrap_external")
    return bytes(external._code_to_hash_pyc(code, bytes(8), checked=False))


def keep() -> None:
    """Let this run, and the workers that it starts, use the archives of earlier ones."""
    directory = CACHE / digest()
    directory.mkdir(parents=True, exist_ok=True)
    os.utime(directory)
    for other in CACHE.iterdir():
        if other.stat().st_mtime < time.time() - UNUSED * 86400:
            shutil.rmtree(other, ignore_errors=True)
    (Path(constants.DEFAULT_LOCAL_TMP) / "ansiballz_cache").symlink_to(directory)
    dump = module_common._CachedModule.dump

    def dump_kept(module: Any, path: str) -> None:
        lead = kept(base64.b64decode(module.zip_data), directory / f"{Path(path).name}.zip")
        dump(dataclasses.replace(module, zip_data=base64.b64encode(lead)), path)

    module_common._CachedModule.dump = dump_kept
    warm(directory)


def warm(directory: Path) -> None:
    """Let modules be run by processes that have imported already what they need, where these are there."""
    sockets = warm_modules.place(directory)
    local = connection_loader.get("ansible.builtin.local", class_only=True)
    execute = local.exec_command

    def exec_command(self: Any, cmd: str, in_data: bytes | None = None, sudoable: bool = True) -> Any:
        call = None if in_data is None or self.become else warm_modules.Call.parse(cmd, in_data)
        told = warm_modules.run(sockets, call) if call else None
        return told or execute(self, cmd, in_data=in_data, sudoable=sudoable)

    local.exec_command = exec_command


class CallbackModule(CallbackBase):
    """It is loaded before the first worker starts, and does nothing else."""

    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "aggregate"
    CALLBACK_NAME = "kept_modules"

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        with contextlib.suppress(OSError, AttributeError):
            keep()
