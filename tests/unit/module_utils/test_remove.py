# SPDX-FileCopyrightText: 2026 The pachops.pachyderm contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What goes, what stays, what is never touched, and in which order."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.pachops.pachyderm.plugins.module_utils import remove
from ansible_collections.pachops.pachyderm.plugins.module_utils.errors import InputError, StorageError, WaitError
from ansible_collections.pachops.pachyderm.plugins.module_utils.installation import observe
from ansible_collections.pachops.pachyderm.plugins.module_utils.kube.client import Ref
from ansible_collections.pachops.pachyderm.plugins.module_utils.progress import Progress
from ansible_collections.pachops.pachyderm.plugins.module_utils.remove import (
    LEVELS,
    Plan,
    carry_out,
    check_confirmation,
    check_directories,
    plan,
    this_host,
)
from doubles.kube import FakeKube, claim, installation, node, pod, worker

NAMESPACE = "pachyderm"
# Never the default path: on the host of an installation the tests would meet its data there.
NO_DIRECTORY = "/nonexistent/tests/pachyderm"
FOREIGN = {
    "apiVersion": "v1",
    "kind": "ConfigMap",
    "metadata": {"name": "theirs", "namespace": NAMESPACE},
    "data": {},
}


def cluster(**options: Any) -> FakeKube:
    options.setdefault("host_path", NO_DIRECTORY)
    return FakeKube([*installation(NAMESPACE, **options), *worker(NAMESPACE, "rebin")])


def planned(kube: Any, level: Any, **options: Any) -> Plan:
    return plan(observe(kube, NAMESPACE), level, **options)


def kinds(chosen: Plan) -> set[str]:
    return {ref.kind for ref in chosen.removes}


def run(kube: Any, level: Any, **options: Any) -> Plan:
    # On this host there is no such directory, so none is planned.
    chosen = planned(kube, level, nodes=[local_node()])
    carry_out(kube, chosen, Progress(""), **options)
    for ref in list(kube.objects):
        # The garbage collector of a real cluster.
        if ref.kind == "Pod":
            kube.objects.pop(ref)
    return chosen


@pytest.fixture(autouse=True)
def controllers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let pods go with their controllers, and never sleep."""
    original = FakeKube.delete

    def delete(self: FakeKube, ref: Ref, dry_run: bool = False, **options: Any) -> Any:
        change = original(self, ref, dry_run, **options)
        if not dry_run and ref.kind in ("Deployment", "StatefulSet", "ReplicationController"):
            for item in [item for item in self.objects if item.kind == "Pod" and item.name != "stuck"]:
                if self.objects[item]["metadata"]["labels"]["app"] == ref.name:
                    del self.objects[item]
        return change

    monkeypatch.setattr(FakeKube, "delete", delete)
    monkeypatch.setattr(remove.time, "sleep", lambda _seconds: None)


def test_app_takes_what_runs_and_keeps_what_is_needed_to_come_back() -> None:
    kube = cluster(etcd_storage={"type": "claim"})
    chosen = run(kube, "app")
    left = {(ref.kind, ref.name) for ref in kube.objects}
    assert left == {
        ("Namespace", NAMESPACE),
        ("ConfigMap", "kube-root-ca.crt"),
        ("ConfigMap", "pachops-installation"),
        ("Secret", "pachyderm-storage-secret"),
        ("PersistentVolumeClaim", "etcd-storage-etcd-0"),
    }
    assert chosen.keeps == (
        "etcd's claim etcd-storage-etcd-0",
        "ConfigMap pachops-installation with the deployment id d3pl0y",
        "Secret pachyderm-storage-secret",
        f"the objects in local:{NO_DIRECTORY}/pachd",
    )
    assert chosen.foreign == ()
    assert planned(kube, "app").empty
    assert "nothing is there any more" in planned(kube, "app").lines()[0]


def test_metadata_after_app_takes_the_claims() -> None:
    kube = cluster(etcd_storage={"type": "claim"})
    run(kube, "app")
    chosen = run(kube, "metadata")
    assert [(ref.kind, ref.name) for ref in chosen.removes] == [
        ("PersistentVolumeClaim", "etcd-storage-etcd-0"),
    ]
    assert "ConfigMap pachops-installation with the deployment id d3pl0y" in chosen.keeps
    assert {ref.kind for ref in kube.objects} == {"Namespace", "ConfigMap", "Secret"}
    assert planned(kube, "metadata").empty


def test_data_takes_the_rest_and_the_namespace_that_we_made() -> None:
    kube = cluster()
    chosen = run(kube, "data")
    assert {(ref.kind, ref.name) for ref in kube.objects} == {("ConfigMap", "kube-root-ca.crt")}
    assert chosen.removes[-1].kind == "Namespace"
    assert planned(kube, "data").empty


def test_pachd_goes_before_workers_and_the_record_last() -> None:
    kube = cluster()
    run(kube, "data")
    order = [entry.split()[1] for entry in kube.writes]
    assert order[0] == "Deployment/pachd"
    assert order.index("ReplicationController/pipeline-rebin-v1") < order.index("StatefulSet/etcd")
    assert order[-2:] == ["ConfigMap/pachops-installation", f"Namespace/{NAMESPACE}"]


def test_a_worker_that_pachd_makes_meanwhile_goes_as_well() -> None:
    kube = cluster()

    def react(ref: Ref) -> None:
        if ref.name == "pachd" and ref.kind == "Deployment":
            for obj in worker(NAMESPACE, "late")[:2]:
                kube.put(obj)

    kube.on_delete = react
    run(kube, "app")
    assert not [ref for ref in kube.objects if "late" in ref.name]


def test_other_peoples_objects_are_named_and_left_alone() -> None:
    kube = cluster()
    kube.put(FOREIGN)
    for ref in list(kube.objects):
        if ref.kind == "Secret":
            kube.objects[ref]["metadata"]["labels"] = {}
    chosen = run(kube, "data")
    left = {(ref.kind, ref.name) for ref in kube.objects}
    assert {("ConfigMap", "theirs"), ("Secret", "pachyderm-storage-secret"), ("Namespace", NAMESPACE)} <= left
    assert chosen.foreign == ("ConfigMap theirs",)
    assert "Secret pachyderm-storage-secret, which you keep yourself" in chosen.keeps
    assert any("leave alone ConfigMap theirs" in line for line in chosen.lines())


def test_a_namespace_that_somebody_else_made_stays() -> None:
    kube = cluster()
    kube.objects[Ref("v1", "Namespace", None, NAMESPACE)]["metadata"]["labels"] = {}
    assert "Namespace" not in kinds(planned(kube, "data"))


def test_workers_of_a_foreign_pachd_are_not_ours() -> None:
    kube = FakeKube([*worker(NAMESPACE, "theirs")])
    chosen = planned(kube, "app")
    assert chosen.empty
    assert chosen.foreign == ("ReplicationController pipeline-theirs-v1", "Service pipeline-theirs-v1")


def test_somebody_elses_pachyderm_is_refused() -> None:
    kube = cluster()
    kube.objects[Ref("apps/v1", "Deployment", NAMESPACE, "pachd")]["metadata"]["labels"] = {}
    with pytest.raises(InputError, match="not deployed by this collection"):
        planned(kube, "app")


def test_an_etcd_claim_without_an_installation_of_ours_stays() -> None:
    kube = FakeKube([claim(NAMESPACE)])
    assert planned(kube, "data").empty


def test_missing_rights_make_no_half_plan() -> None:
    kube = cluster()
    kube.forbidden = {"Secret", "ReplicationController"}
    with pytest.raises(InputError, match="may not list ReplicationController, Secret"):
        planned(kube, "app")


def test_buckets_are_refused_by_name_and_only_for_data() -> None:
    kube = cluster(backend="gcp")
    kube.objects[Ref("v1", "Secret", NAMESPACE, "pachyderm-storage-secret")]["data"] = {"google-bucket": "bXktYnVja2V0"}
    with pytest.raises(InputError, match=r"gcp bucket my-bucket.*remove_level=metadata"):
        planned(kube, "data")
    assert not planned(kube, "metadata").empty


def test_cluster_wide_roles_of_this_installation_only() -> None:
    kube = cluster(cluster_roles=True)
    for obj in installation("other", cluster_roles=True):
        kube.put(obj)
    chosen = planned(kube, "app")
    assert {ref.name for ref in chosen.removes if ref.kind.startswith("ClusterRole")} == {"pachyderm-pachyderm"}
    assert {ref.namespace for ref in chosen.removes} == {NAMESPACE, None}


def test_check_mode_asks_and_writes_nothing() -> None:
    kube = cluster()
    before = dict(kube.objects)
    changes = carry_out(kube, planned(kube, "data", nodes=[local_node()]), Progress(""), check_mode=True)
    assert kube.objects == before
    assert kube.writes == []
    assert {change.action for change in changes} == {"deleted"}


@pytest.mark.parametrize("level", LEVELS)
def test_the_name_is_asked_for_where_something_is_lost(level: Any) -> None:
    chosen = planned(cluster(), level, context="prod")
    assert chosen.names == (NAMESPACE, "prod")
    for typed in chosen.names:
        check_confirmation(chosen, typed)
    if level == "app":
        check_confirmation(chosen, "")
        return
    with pytest.raises(InputError, match=f"destroys {level} for good.*remove_confirm=pachyderm or prod"):
        check_confirmation(chosen, "")
    with pytest.raises(InputError, match="remove_confirm=dev"):
        check_confirmation(chosen, "dev")


def test_nothing_to_lose_needs_no_name() -> None:
    check_confirmation(planned(FakeKube(), "data"), "")


def local_node() -> dict[str, Any]:
    local = node("here")
    local["status"]["nodeInfo"] = {
        "bootID": Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip(),
        "machineID": Path("/etc/machine-id").read_text(encoding="ascii").strip()
        if Path("/etc/machine-id").exists()
        else "",
    }
    return local


def test_this_host_is_known_by_kernel_and_machine() -> None:
    local = local_node()
    assert this_host(local)
    local["status"]["nodeInfo"]["machineID"] = "a-container-of-this-host"
    assert not this_host(local)
    assert not this_host(node("there"))


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    base = tmp_path / "srv" / NAMESPACE
    (base / "etcd" / "member" / "snap").mkdir(parents=True)
    # What a restore has set aside.
    (base / "etcd" / "pachops-restore-20260304t120000-08d0" / "old").mkdir(parents=True)
    (base / "pachd" / "block").mkdir(parents=True)
    (base / "pachd" / "block" / "aa").write_bytes(b"x" * 10)
    (base / "pachd" / "0a1b2c3d-0000-0000-0000-000000000000").touch()
    return base


def test_directories_on_this_host_go_with_their_level(directory: Path) -> None:
    kube = FakeKube([*installation(NAMESPACE, host_path=str(directory)), local_node()])
    nodes = kube.list("v1", "Node")
    chosen = planned(kube, "metadata", nodes=nodes)
    assert [(item.part, item.path, item.here) for item in chosen.directories] == [
        ("metadata", f"{directory}/etcd", True)
    ]
    check_directories(chosen)
    carry_out(kube, chosen, Progress(""))
    assert not (directory / "etcd").exists()
    assert (directory / "pachd" / "block" / "aa").exists()
    kube = FakeKube([*installation(NAMESPACE, host_path=str(directory)), local_node()])
    chosen = planned(kube, "data", nodes=nodes)
    assert [item.part for item in chosen.directories] == ["data"], "what is gone is not planned again"
    check_directories(chosen)
    carry_out(kube, chosen, Progress(""))
    assert not (directory / "pachd").exists()
    assert any("delete directory" in line for line in chosen.lines())
    assert chosen.as_dict()["directories"][0]["here"] is True


def test_directories_elsewhere_are_never_removed_here(directory: Path) -> None:
    kube = FakeKube([*installation(NAMESPACE, host_path=str(directory)), node("there")])
    chosen = planned(kube, "data", nodes=kube.list("v1", "Node"))
    with pytest.raises(InputError, match="not on this host"):
        carry_out(kube, chosen, Progress(""))
    assert (directory / "pachd" / "block" / "aa").exists()
    assert kube.writes == []


def test_directories_elsewhere_are_refused_with_the_node_named(directory: Path) -> None:
    kube = FakeKube(installation(NAMESPACE, host_path=str(directory)))
    chosen = planned(kube, "data", nodes=[node("node-1")])
    with pytest.raises(InputError, match="node node-1"):
        check_directories(chosen)
    several = planned(kube, "data", nodes=[node("node-1"), node("node-2")])
    with pytest.raises(InputError, match="a node of the cluster"):
        check_directories(several)
    check_directories(planned(kube, "app", nodes=[node("node-1")]))


def strange_file(base: Path) -> None:
    (base / "pachd" / "thesis.tex").touch()


def a_link(base: Path) -> None:
    (base / "pachd").rename(base / "elsewhere")
    (base / "pachd").symlink_to(base / "elsewhere")


@pytest.mark.parametrize(("spoil", "why"), [(strange_file, "thesis.tex"), (a_link, "link")])
def test_a_directory_that_is_not_pachyderms_is_left_alone(
    directory: Path, spoil: Callable[[Path], None], why: str
) -> None:
    spoil(directory)
    kube = FakeKube([*installation(NAMESPACE, host_path=str(directory)), local_node()])
    chosen = planned(kube, "data", nodes=kube.list("v1", "Node"))
    with pytest.raises(StorageError, match=why):
        check_directories(chosen)


def test_a_directory_that_cannot_be_removed(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kube = FakeKube([*installation(NAMESPACE, host_path=str(directory)), local_node()])
    chosen = planned(kube, "data", nodes=kube.list("v1", "Node"))

    def refuse(path: Path) -> None:
        raise PermissionError(13, "Permission denied", str(path / "member"))

    monkeypatch.setattr(remove.shutil, "rmtree", refuse)
    with pytest.raises(StorageError, match=r"member.*Permission denied.*as root"):
        carry_out(kube, chosen, Progress(""))
    assert Ref("v1", "ConfigMap", NAMESPACE, "pachops-installation") in kube.objects, "the next run still knows where"


def test_pods_that_do_not_stop_are_named() -> None:
    kube = cluster()
    kube.put(pod(NAMESPACE, "stuck", "pachd"))
    with pytest.raises(WaitError, match="still there: stuck"):
        carry_out(kube, planned(kube, "app"), Progress(""), timeout=0)


def test_objects_that_are_held_are_waited_for() -> None:
    kube = cluster(etcd_storage={"type": "claim"})
    held = Ref("v1", "PersistentVolumeClaim", NAMESPACE, "etcd-storage-etcd-0")
    kube.lingering[held] = 4
    run(kube, "metadata")
    assert held not in kube.objects
