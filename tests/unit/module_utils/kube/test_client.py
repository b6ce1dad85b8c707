# SPDX-FileCopyrightText: 2026 The pachops.pachyderm contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The client over an API server in memory: what it changes, what it reports, what it refuses to print."""

from __future__ import annotations

import base64
from typing import Any

import pytest
from ansible_collections.pachops.pachyderm.plugins.module_utils.errors import ClusterError, WaitError
from ansible_collections.pachops.pachyderm.plugins.module_utils.kube import client as client_module
from ansible_collections.pachops.pachyderm.plugins.module_utils.kube.apply import (
    clean,
    scrub,
    secret_values,
    spellings,
)
from ansible_collections.pachops.pachyderm.plugins.module_utils.kube.client import Kube, Ref, event_time
from ansible_collections.pachops.pachyderm.plugins.module_utils.kube.kinds import collection_path, kind_of
from ansible_collections.pachops.pachyderm.plugins.module_utils.kube.transport import Response, UnreachableError
from doubles.api import FakeApi, answer, status

SECRET = "hunter2-hunter2"  # any value that must never be printed


@pytest.fixture
def api() -> FakeApi:
    return FakeApi(["default", "pachyderm"])


@pytest.fixture
def kube(api: FakeApi) -> Kube:
    return Kube(api, patience=0.0)


def config_map(**data: str) -> dict[str, Any]:
    metadata = {"name": "settings", "namespace": "pachyderm"}
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": data}


def secret(**data: str) -> dict[str, Any]:
    metadata = {"name": "credentials", "namespace": "pachyderm"}
    return {"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "stringData": data}


def test_first_apply_creates_and_the_second_changes_nothing(api: FakeApi, kube: Kube) -> None:
    created = kube.apply(config_map(a="1"))
    assert (created.action, created.before, created.changed) == ("created", None, True)
    assert created.after is not None
    assert created.after["data"] == {"a": "1"}
    assert "resourceVersion" not in created.after["metadata"]
    writes = api.writes
    again = kube.apply(config_map(a="1"))
    assert again.action == "unchanged"
    assert not again.changed
    assert api.writes == writes


def test_keys_no_longer_applied_go_and_those_of_others_stay(api: FakeApi, kube: Kube) -> None:
    ref = Ref.of(config_map())
    kube.apply(config_map(a="1", b="2"))
    api.stored(ref)["data"]["theirs"] = "3"
    api.owners[ref]["kubectl-edit"] = {("data", "theirs")}
    change = kube.apply(config_map(a="1"))
    assert change.action == "updated"
    assert api.stored(ref)["data"] == {"a": "1", "theirs": "3"}


def test_dry_run_predicts_and_writes_nothing(api: FakeApi, kube: Kube) -> None:
    kube.apply(config_map(a="1"))
    writes = api.writes
    predicted = kube.apply(config_map(a="2"), dry_run=True)
    assert api.writes == writes
    assert predicted == kube.apply(config_map(a="2"))
    assert predicted.diff()["before"]["data"] == {"a": "1"}
    assert predicted.diff()["after"]["data"] == {"a": "2"}
    assert predicted.diff()["after_header"] == "ConfigMap pachyderm/settings (updated)"


def test_dry_run_in_a_namespace_that_does_not_exist_yet(api: FakeApi, kube: Kube) -> None:
    manifest = config_map(a="1")
    manifest["metadata"]["namespace"] = "tomorrow"
    change = kube.apply(manifest, dry_run=True)
    assert change.action == "created"
    assert change.after == manifest
    assert api.writes == 0
    with pytest.raises(ClusterError, match="the namespace does not exist"):
        kube.apply(manifest)


def test_secret_values_never_leave(kube: Kube) -> None:
    created = kube.apply(secret(password=SECRET, user="jane"))
    assert created.diff()["after"]["data"] == {"password": "(hidden, changed)", "user": "(hidden, changed)"}
    updated = kube.apply(secret(password=SECRET + "x", user="jane"))
    assert updated.diff()["after"]["data"] == {"password": "(hidden, changed)", "user": "(hidden, same)"}
    removed = kube.apply(secret(password=SECRET + "x"))
    assert removed.diff()["before"]["data"] == {"password": "(hidden, same)", "user": "(hidden, changed)"}
    assert removed.diff()["after"]["data"] == {"password": "(hidden, same)"}
    deleted = kube.delete(Ref.of(secret()))
    for change in (created, updated, removed, deleted):
        assert SECRET not in str(change)
        assert base64.b64encode(SECRET.encode()).decode() not in str(change)


def test_a_refusal_never_repeats_a_secret_value(api: FakeApi, kube: Kube) -> None:
    encoded = base64.b64encode(SECRET.encode()).decode()
    refusal = status(422, "Invalid", f'data[password]: Invalid value: "{SECRET}" ({encoded})')
    api.failures = [status(404, "NotFound", "secret not found", kind="secrets"), refusal]
    with pytest.raises(ClusterError) as caught:
        kube.apply(secret(password=SECRET))
    assert SECRET not in str(caught.value)
    assert encoded not in str(caught.value)
    assert "data[password]" in str(caught.value)


def test_conflict_names_fields_and_managers(api: FakeApi, kube: Kube) -> None:
    api.put(config_map(a="theirs", b="same"), manager="kubectl-client-side-apply")
    with pytest.raises(ClusterError) as caught:
        kube.apply(config_map(a="ours", b="same"))
    assert '"kubectl-client-side-apply" using v1 owns .data.a' in str(caught.value)
    assert ".data.b" not in str(caught.value)
    assert kube.apply(config_map(a="ours", b="same"), force=True).action == "updated"


def test_conflict_is_forced_for_the_fields_that_are_ours_only(api: FakeApi, kube: Kube) -> None:
    api.put(config_map(a="1", b="1"), manager="kubectl")
    with pytest.raises(ClusterError, match=r"\.data\.b"):
        kube.apply(config_map(a="2", b="2"), force=[".data.a"])
    assert api.stored(Ref.of(config_map()))["data"] == {"a": "1", "b": "1"}
    assert kube.apply(config_map(a="2", b="2"), force=[".data"]).action == "updated"
    with pytest.raises(ClusterError):
        api.put(config_map(ab="1"), manager="kubectl")
        kube.apply(config_map(ab="2"), force=[".data.a"])


def test_what_a_controller_writes_meanwhile_is_not_our_change(api: FakeApi, kube: Kube) -> None:
    kube.apply(config_map(a="1"))
    rivals = iter(["first", "second"])

    def interfere(ref: Ref) -> None:
        name = next(rivals, None)
        if name:
            api.stored(ref)["metadata"].setdefault("annotations", {})[name] = "x"
            api.stored(ref)["metadata"]["resourceVersion"] = name

    api.on_apply = interfere
    assert kube.apply(config_map(a="1")).action == "unchanged"


def test_own_change_through_a_subresource_is_no_conflict(api: FakeApi, kube: Kube) -> None:
    api.put(config_map(a="1"), manager='pachops.pachyderm" with subresource "scale')
    assert kube.apply(config_map(a="2")).action == "updated"


def test_service_dry_run_does_not_invent_addresses(api: FakeApi, kube: Kube) -> None:
    numbers = iter(range(1, 100))

    def allocate(obj: dict[str, Any]) -> None:
        if obj["kind"] == "Service":
            number = next(numbers)
            obj["spec"].setdefault("clusterIP", f"10.0.0.{number}")
            for port in obj["spec"]["ports"]:
                port.setdefault("nodePort", 30000 + number)

    api.defaults = allocate
    metadata = {"name": "pachd", "namespace": "pachyderm"}
    manifest = {"apiVersion": "v1", "kind": "Service", "metadata": metadata, "spec": {"ports": [{"port": 650}]}}
    predicted = kube.apply(manifest, dry_run=True)
    assert predicted.after is not None
    assert predicted.after["spec"] == {"ports": [{"port": 650}]}
    real = kube.apply(manifest)
    assert real.after is not None
    assert real.after["spec"]["clusterIP"].startswith("10.0.0.")


def test_ensure_leaves_what_exists(api: FakeApi, kube: Kube) -> None:
    namespace = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "pachyderm", "labels": {"a": "b"}}}
    assert kube.ensure(namespace).action == "unchanged"
    assert "labels" not in api.stored(Ref.of(namespace))["metadata"]
    fresh = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "fresh", "labels": {"a": "b"}}}
    assert kube.ensure(fresh, dry_run=True).action == "created"
    assert kube.ensure(fresh).action == "created"
    assert api.stored(Ref.of(fresh))["metadata"]["labels"] == {"a": "b"}
    api.denied = {("get", "namespaces")}
    hidden = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "hidden"}}
    assert kube.ensure(hidden).action == "unchanged"


def test_delete_reports_and_waits(api: FakeApi, kube: Kube) -> None:
    ref = api.put(config_map(a="1"))
    assert kube.delete(ref, dry_run=True).action == "deleted"
    assert ref in api.objects
    assert kube.delete(ref, wait=1).action == "deleted"
    assert kube.delete(ref).action == "unchanged"


def test_delete_names_the_finalizer_that_holds_the_object(api: FakeApi, kube: Kube) -> None:
    held = config_map(a="1")
    held["metadata"]["finalizers"] = ["example.com/hold"]
    with pytest.raises(WaitError, match=r"example\.com/hold"):
        kube.delete(api.put(held), wait=0.3)


def test_delete_is_done_when_another_object_took_the_name(api: FakeApi, kube: Kube) -> None:
    ref = api.put(config_map(a="1"))

    def replaced(_ref: Ref) -> None:
        if any(method == "DELETE" for method, _path in api.calls):
            api.stored(ref)["metadata"]["uid"] = "another"

    api.stored(ref)["metadata"]["finalizers"] = ["x"]
    api.on_get = replaced
    assert kube.delete(ref, wait=1).action == "deleted"
    assert ref in api.objects


def test_scale_changes_the_replicas_alone(api: FakeApi, kube: Kube) -> None:
    metadata = {"name": "pachd", "namespace": "pachyderm"}
    ref = api.put(
        {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": metadata, "spec": {"replicas": 1, "x": 2}}
    )
    change = kube.scale(ref, 0)
    assert change.action == "updated"
    assert api.stored(ref)["spec"] == {"replicas": 0, "x": 2}
    assert kube.scale(ref, 0).action == "unchanged"
    with pytest.raises(ClusterError, match="nothing to scale"):
        kube.scale(Ref("apps/v1", "Deployment", "pachyderm", "absent"), 0)


def test_list_follows_pages_and_selectors(api: FakeApi, kube: Kube) -> None:
    api.page = 2
    for number in range(5):
        metadata = {"name": f"m{number}", "namespace": "pachyderm", "labels": {"even": str(number % 2 == 0)}}
        api.put({"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata})
    found = kube.list("v1", "ConfigMap", "pachyderm")
    assert [item["metadata"]["name"] for item in found] == ["m0", "m1", "m2", "m3", "m4"]
    assert {item["kind"] for item in found} == {"ConfigMap"}
    assert len(kube.list("v1", "ConfigMap", labels="even=True")) == 3
    assert len(kube.list("v1", "ConfigMap", "pachyderm", fields="metadata.name=m3")) == 1


def test_logs_are_empty_before_the_start_and_cut_to_the_tail(api: FakeApi, kube: Kube) -> None:
    assert kube.logs("pachyderm", "pachd-0") == ""
    api.logs[("pachd-0", "pachd", True)] = "one\ntwo\nthree\n"
    assert kube.logs("pachyderm", "pachd-0", "pachd", tail=2, previous=True) == "two\nthree\n"


def test_events_are_in_the_order_of_time(api: FakeApi, kube: Kube) -> None:
    for name, stamp in (("late", "2026-01-01T00:00:02Z"), ("early", "2026-01-01T00:00:01Z")):
        metadata = {"name": name, "namespace": "pachyderm"}
        involved = {"name": "pachd-0"}
        api.put(
            {
                "apiVersion": "v1",
                "kind": "Event",
                "metadata": metadata,
                "involvedObject": involved,
                "lastTimestamp": stamp,
            }
        )
    assert [event["metadata"]["name"] for event in kube.events("pachyderm", "pachd-0")] == ["early", "late"]
    assert event_time({"series": {"lastObservedTime": "b"}, "lastTimestamp": "a"}) == "b"
    assert event_time({"metadata": {"creationTimestamp": "c"}}) == "c"


def test_can_i_returns_what_is_denied(api: FakeApi, kube: Kube) -> None:
    api.denied = {("create", "pods/portforward"), ("get", "secrets")}
    asked = [
        ("get", "", "secrets", "pachyderm"),
        ("get", "", "pods", None),
        ("create", "", "pods/portforward", "pachyderm"),
    ]
    assert list(kube.can_i(asked)) == [asked[0], asked[2]]


def test_missing_right_is_named(api: FakeApi, kube: Kube) -> None:
    api.denied = {("patch", "configmaps")}
    with pytest.raises(ClusterError) as caught:
        kube.apply(config_map(a="1"))
    message = str(caught.value)
    assert "not allowed to patch configmaps" in message
    assert "ConfigMap pachyderm/settings" in message
    assert "grant jane the verb patch" in message


@pytest.mark.parametrize(
    ("code", "message", "expected"),
    [
        (401, "Unauthorized", "does not accept the credentials"),
        (403, 'pods "x" is forbidden: exceeded quota: q', "ResourceQuota"),
        (
            403,
            "x is forbidden: unable to create: it is being terminated because it is being terminated",
            "namespace is gone",
        ),
        (403, "user is attempting to grant RBAC permissions not currently held", "more than they hold"),
        (403, 'violates PodSecurity "restricted:latest"', "Pod Security level"),
        (403, "admission webhook said no", "admission rule"),
        (422, 'Service "x" is invalid: spec.ports: Required value', "does not accept the object"),
        (418, "", "answered 418"),
    ],
)
def test_every_refusal_has_a_next_step(api: FakeApi, kube: Kube, code: int, message: str, expected: str) -> None:
    api.failures = [status(code, "", message, kind="configmaps")]
    with pytest.raises(ClusterError) as caught:
        kube.get(Ref.of(config_map()))
    assert expected in str(caught.value)
    assert caught.value.fix


def test_an_api_that_is_not_served_is_no_missing_object(api: FakeApi, kube: Kube) -> None:
    api.failures = [Response(404, b"404 page not found", {})]
    with pytest.raises(ClusterError, match="does not serve this kind"):
        kube.get(Ref.of(config_map()))
    assert kube.get(Ref.of(config_map())) is None


def test_transient_failures_are_repeated(api: FakeApi, monkeypatch: pytest.MonkeyPatch) -> None:
    slept: list[float] = []
    monkeypatch.setattr(client_module.time, "sleep", slept.append)
    api.failures = [
        UnreachableError("Connection reset by peer", transient=True),
        Response(429, b"{}", {"retry-after": "3"}),
        Response(503, b"", {"retry-after": "soon"}),
    ]
    assert Kube(api, patience=60).apply(config_map(a="1")).action == "created"
    assert slept[1] == 3
    assert len(slept) == 3


def test_lasting_failures_are_reported_after_the_patience(api: FakeApi) -> None:
    api.failures = [UnreachableError("Connection refused", transient=True)] * 3
    with pytest.raises(ClusterError, match="Connection refused"):
        Kube(api, patience=0.5).get(Ref.of(config_map()))
    assert len(api.failures) < 3
    api.failures = [Response(500, b'{"message": "etcdserver: request timed out"}', {})] * 9
    with pytest.raises(ClusterError, match=r"answered 500.*etcdserver: request timed out"):
        Kube(api, patience=0.3).get(Ref.of(config_map()))


def test_server_version_has_no_v(kube: Kube) -> None:
    assert kube.server_version() == "1.34.4"
    assert kube.server_version() == "1.34.4"
    kube.close()


def test_references() -> None:
    assert str(Ref("v1", "Node", None, "n")) == "Node n"
    assert Ref.of(config_map()).path() == "/api/v1/namespaces/pachyderm/configmaps/settings"
    role = Ref("rbac.authorization.k8s.io/v1", "ClusterRole", None, "system:node")
    assert role.path() == "/apis/rbac.authorization.k8s.io/v1/clusterroles/system%3Anode"
    assert collection_path("v1", "Pod", None) == "/api/v1/pods"
    bare = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p"}}
    assert Ref.of(bare, "there").namespace == "there"
    with pytest.raises(ValueError, match="needs a namespace"):
        Ref.of(bare).path()
    with pytest.raises(ValueError, match="not in the table"):
        kind_of("v1", "Pood")


def test_clean_drops_what_the_server_and_kubectl_keep() -> None:
    metadata = {
        "name": "x",
        "uid": "1",
        "annotations": {"kubectl.kubernetes.io/last-applied-configuration": "{}"},
    }
    assert clean({"kind": "X", "metadata": metadata, "status": {}}) == {"kind": "X", "metadata": {"name": "x"}}
    assert clean(None) is None
    assert metadata["uid"] == "1"


def test_secrets_are_found_in_every_spelling() -> None:
    key = '{"private_key": "-----BEGIN\\nAAAABBBBCCCCDDDDEEEE\\n-----END", "project_id": "p1234"}'
    found = spellings(base64.b64encode(key.encode()).decode())
    assert "AAAABBBBCCCCDDDDEEEE" in found
    assert "-----BEGIN\\nAAAABBBBCCCCDDDDEEEE\\n-----END" in found
    assert "p1234" not in found
    assert spellings("!!!") == {"!!!"}
    assert secret_values({"kind": "ConfigMap", "data": {"a": "b"}}) == []
    assert scrub("the key is abcd, on", ["abcd", "on"]) == "the key is (hidden), on"


def test_answer_without_json_is_no_crash() -> None:
    assert Response(200, b"<html>").json() is None
    assert answer({"a": 1}).json() == {"a": 1}
