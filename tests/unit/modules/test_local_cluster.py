# SPDX-FileCopyrightText: 2026 The pachops.pachyderm contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The local cluster's modules: options, check mode, results; the engine behind them has tests of its own."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.pachops.pachyderm.plugins.module_utils import image_archive as engine
from ansible_collections.pachops.pachyderm.plugins.modules import (
    image_archive,
    local_cluster_images,
    local_cluster_pki,
    local_cluster_preflight,
    local_cluster_ready,
    local_cluster_sandbox,
)

Run = Callable[..., Any]


def archive_options(tmp_path: Path, **changes: Any) -> dict[str, Any]:
    (tmp_path / "program").write_bytes(b"\x7fELF")
    return {
        "path": str(tmp_path / "i.tar"),
        "names": ["a/b:1"],
        "files": [
            {"path": "/program", "src": str(tmp_path / "program"), "mode": "0755"},
            {"path": "/bin/alias", "link": "/program"},
            {"path": "/etc/motd", "content": ""},
            {"path": "/tmp", "mode": "1777"},
        ],
        "entrypoint": ["/program"],
        "env": {"A": 1},
        **changes,
    }


@pytest.mark.parametrize("key", ["", "k1"])
def test_image_archive(run_module: Run, tmp_path: Path, key: str) -> None:
    options = archive_options(tmp_path, key=key)
    assert run_module(image_archive.main, check_mode=True, **options).changed
    assert not (tmp_path / "i.tar").exists()
    result = run_module(image_archive.main, **options)
    assert result.changed
    assert result["names"] == ["docker.io/a/b:1"]
    content = (tmp_path / "i.tar").read_bytes()
    assert not run_module(image_archive.main, **options).changed
    assert (tmp_path / "i.tar").read_bytes() == content
    (image,) = engine.read(tmp_path / "i.tar")
    assert image.config["config"]["Env"] == ["A=1"]
    for change in ({"cmd": ["x"]}, {"names": ["a/b:2"]}, {"user": "1"}):
        assert run_module(image_archive.main, check_mode=True, **{**options, **change}).changed, change
    assert run_module(image_archive.main, **{**options, "cmd": ["x"]}).changed


def test_image_archive_compares_content_unless_a_key_stands_for_it(run_module: Run, tmp_path: Path) -> None:
    options = archive_options(tmp_path)
    run_module(image_archive.main, **options)
    (tmp_path / "program").write_bytes(b"changed")
    assert run_module(image_archive.main, check_mode=True, **options).changed
    assert run_module(image_archive.main, **options).changed
    keyed = {**options, "key": "k1"}
    run_module(image_archive.main, **keyed)
    (tmp_path / "program").write_bytes(b"changed again")
    assert not run_module(image_archive.main, **keyed).changed
    assert run_module(image_archive.main, **{**keyed, "key": "k2"}).changed


def test_image_archive_in_check_mode_before_its_sources_exist(run_module: Run, tmp_path: Path) -> None:
    options = archive_options(tmp_path)
    (tmp_path / "program").unlink()
    assert run_module(image_archive.main, check_mode=True, **options).changed
    assert "program" in run_module(image_archive.main, **options)["msg"]


def test_image_archive_refuses_a_mode_that_is_none(run_module: Run, tmp_path: Path) -> None:
    files = [{"path": "/x", "content": "", "mode": "rwx"}]
    result = run_module(image_archive.main, **archive_options(tmp_path, files=files))
    assert result.failed
    assert "Write it like '0755'" in result["msg"]


def pki_options(tmp_path: Path) -> dict[str, Any]:
    return {
        "path": str(tmp_path / "pki"),
        "name": "dev",
        "node_address": "198.18.7.2",
        "service_address": "10.96.0.1",
        "kubeconfig": str(tmp_path / "kubeconfig"),
    }


def test_pki(run_module: Run, tmp_path: Path) -> None:
    foretold = run_module(local_cluster_pki.main, check_mode=True, **pki_options(tmp_path))
    assert foretold.changed
    assert not (tmp_path / "pki").exists()
    result = run_module(local_cluster_pki.main, **pki_options(tmp_path))
    assert result["written"] == foretold["written"]
    assert "PRIVATE" not in str(result)
    again = run_module(local_cluster_pki.main, **pki_options(tmp_path))
    assert not again.changed
    assert again["fingerprints"] == result["fingerprints"]


def test_pki_failure(run_module: Run, tmp_path: Path) -> None:
    (tmp_path / "pki").write_text("")
    assert run_module(local_cluster_pki.main, **pki_options(tmp_path)).failed


def test_pki_without_its_library(run_module: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(local_cluster_pki, "MISSING_LIBRARY", ImportError("no", name="cryptography"))
    assert "cryptography" in run_module(local_cluster_pki.main, **pki_options(tmp_path))["msg"]


def sandbox_options(tmp_path: Path, **changes: Any) -> dict[str, Any]:
    return {
        "name": "ut-sandbox",
        "state_dir": str(tmp_path / "state/x"),
        "run_dir": str(tmp_path / "run/x"),
        "node_subnet": "198.18.253.0/24",
        "pod_subnet": "10.244.0.0/16",
        **changes,
    }


def test_sandbox_in_check_mode(run_module: Run, tmp_path: Path) -> None:
    result = run_module(local_cluster_sandbox.main, check_mode=True, stop_strays=True, **sandbox_options(tmp_path))
    assert result.changed
    assert result["parts"] == ["namespaces", "link", "filter", "cgroups"]
    assert (result["host_address"], result["node_address"]) == ("198.18.253.1", "198.18.253.2")
    assert result["cgroup"] == "/pachops/ut-sandbox"
    assert 576 <= result["mtu"] <= 1500
    assert list(tmp_path.iterdir()) == []


def test_sandbox_that_is_not_there_is_absent(run_module: Run, tmp_path: Path) -> None:
    assert not run_module(
        local_cluster_sandbox.main, state="absent", check_mode=True, **sandbox_options(tmp_path)
    ).changed


@pytest.mark.parametrize("change", [{"node_subnet": "198.18.7.1/24"}, {"pod_subnet": "pods"}, {"name": "Dev"}])
def test_sandbox_with_malformed_options(run_module: Run, tmp_path: Path, change: dict[str, str]) -> None:
    result = run_module(local_cluster_sandbox.main, **sandbox_options(tmp_path, **change))
    assert result.failed
    assert next(iter(change.values())) in result["msg"]


def test_preflight(run_module: Run, tmp_path: Path) -> None:
    options = {"name": "dev", "directory": str(tmp_path), "memory": 0.01, "node_subnet": "198.18.253.0/24"}
    result = run_module(local_cluster_preflight.main, disk=0.001, packages=["no-such-package"], **options)
    assert not result.changed
    assert result["missing_packages"] == ["no-such-package"]
    assert result["supervisor"] in ("systemd", "supervisord")
    result = run_module(local_cluster_preflight.main, disk=1_000_000, go_minimum="999.0", **options)
    assert not result["usable"]
    assert result["go"] == ""
    assert any("local_cluster_required_disk" in line for line in result["report"])


def test_preflight_with_a_malformed_network(run_module: Run, tmp_path: Path) -> None:
    options = {"name": "dev", "directory": str(tmp_path), "memory": 1, "disk": 1, "node_subnet": "everywhere"}
    assert "Write it like" in run_module(local_cluster_preflight.main, **options)["msg"]


def test_ready_says_what_is_missing(run_module: Run, tmp_path: Path) -> None:
    run_module(local_cluster_pki.main, **pki_options(tmp_path))
    options = {"address": "127.0.0.9", "node": "dev", "pki": str(tmp_path / "pki"), "timeout": 0}
    assert "the API server does not answer" in run_module(local_cluster_ready.main, **options)["msg"]


def test_images_on_a_bare_host_in_check_mode(run_module: Run, tmp_path: Path) -> None:
    run_module(image_archive.main, **archive_options(tmp_path))
    options = {"archives": [str(tmp_path / "i.tar")], "address": str(tmp_path / "sock")}
    result = run_module(local_cluster_images.main, check_mode=True, **options)
    assert result.changed
    assert result["imported"] == ["docker.io/a/b:1"]
    assert result["images"]["docker.io/a/b:1"].startswith("sha256:")


def test_images_that_cannot_be_read_stop_before_anything_is_imported(run_module: Run, tmp_path: Path) -> None:
    run_module(image_archive.main, **archive_options(tmp_path))
    archives = [str(tmp_path / "i.tar"), str(tmp_path / "missing.tar")]
    result = run_module(local_cluster_images.main, archives=archives, address=str(tmp_path / "sock"))
    assert "missing.tar" in result["msg"]


def test_images_without_containerd(run_module: Run, tmp_path: Path) -> None:
    run_module(image_archive.main, **archive_options(tmp_path))
    options = {"archives": [str(tmp_path / "i.tar")], "address": str(tmp_path / "sock"), "timeout": 0}
    assert run_module(local_cluster_images.main, **options).failed
