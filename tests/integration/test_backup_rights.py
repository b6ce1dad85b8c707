# SPDX-FileCopyrightText: 2026 The pachops.pachyderm contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A scheduled backup's own rights suffice, and each of them is needed: one fewer fails with a message that names it."""

from __future__ import annotations

import copy
import json
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible_collections.pachops.pachyderm.plugins.module_utils.backup import report
from ansible_collections.pachops.pachyderm.plugins.module_utils.backup.create import Wishes, back_up
from ansible_collections.pachops.pachyderm.plugins.module_utils.backup.lock import Lock
from ansible_collections.pachops.pachyderm.plugins.module_utils.backup.origin import EtcdAccess, etcd_of, origin_of
from ansible_collections.pachops.pachyderm.plugins.module_utils.errors import PachopsError
from ansible_collections.pachops.pachyderm.plugins.module_utils.installation import NAMESPACED, observe
from ansible_collections.pachops.pachyderm.plugins.module_utils.kube.client import Kube, Ref, connect
from ansible_collections.pachops.pachyderm.plugins.module_utils.stores.directory import DirectoryStore
from doubles.backups import CLUSTER, NOW, real_objects
from servers.outline import outline

ROOT = Path(__file__).resolve().parents[2]
RULES = yaml.safe_load((ROOT / "roles/backup_schedule/vars/main.yml").read_text())["__backup_schedule_rules"]
NAME = "pachyderm-backup"


@dataclass
class Site:
    """An installation's outline in a namespace: a real etcd, and a pachd that is scaled to zero."""

    admin: Kube
    namespace: str
    server: str
    token: str
    authority: str

    def grant(self, rules: list[dict[str, Any]]) -> None:
        role = {"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "Role"}
        self.admin.apply({**role, "metadata": {"name": NAME, "namespace": self.namespace}, "rules": rules}, force=True)


@pytest.fixture
def site(kube: Kube, kubeconfig: str, namespace: str) -> Site:
    outline(kube, namespace, CLUSTER)
    cluster = yaml.safe_load(Path(kubeconfig).read_text())["clusters"][0]["cluster"]
    account = {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": NAME, "namespace": namespace}}
    kube.apply(account)
    binding = {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "RoleBinding",
        "metadata": {"name": NAME, "namespace": namespace},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": NAME},
        "subjects": [{"kind": "ServiceAccount", "name": NAME, "namespace": namespace}],
    }
    kube.apply(binding)
    path = f"/api/v1/namespaces/{namespace}/serviceaccounts/{NAME}/token"
    body = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {"expirationSeconds": 600}}
    token = kube.request("POST", path, body=json.dumps(body)).json()["status"]["token"]
    return Site(kube, namespace, cluster["server"], token, cluster["certificate-authority-data"])


@pytest.fixture
def run(site: Site, tmp_path: Path) -> Iterator[Callable[[], None]]:
    """One scheduled run, with the rights of its own service account."""
    config = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "run",
        "clusters": [{"name": "run", "cluster": {"server": site.server, "certificate-authority-data": site.authority}}],
        "users": [{"name": "run", "user": {"token": site.token}}],
        "contexts": [{"name": "run", "context": {"cluster": "run", "user": "run"}}],
    }
    path = tmp_path / "kubeconfig"
    path.write_text(json.dumps(config))
    path.chmod(0o600)
    source = DirectoryStore(tmp_path / "source")
    for name, content in real_objects().items():
        source.write(name, [content])
    own = connect(str(path))

    def once() -> None:
        store = DirectoryStore(tmp_path / f"store-{time.monotonic_ns()}")
        installation = observe(own, site.namespace, NAMESPACED)
        lock = Lock(own, site.namespace, "backup")
        with lock, etcd_of(own, installation, EtcdAccess("port_forward")) as (etcd, _transport):
            origin = origin_of(own, installation, etcd, None, str(tmp_path / "source"))
            outcome = back_up(origin, store, Wishes(), lock=lock)
        assert outcome.made
        assert own.get(lock._ref) is None, "the lock was given back"
        stages = tuple(report.Stage(name) for name in report.STAGES)
        report.emit_event(own, report.Run(CLUSTER, site.namespace, NOW, NOW, stages, "x"))

    yield once
    own.close()


#: What is needed for certain; the rest only makes the description fuller, and its absence is noted there.
NEEDED = [
    ("pods", "list"),
    ("pods", "get"),
    ("deployments", "list"),
    ("leases", "create"),
    ("leases", "get"),
    ("leases", "delete"),
    ("events", "create"),
]


def without(resource: str, verb: str) -> list[dict[str, Any]]:
    rules = copy.deepcopy(RULES)
    for rule in rules:
        if resource in rule["resources"] and verb in rule["verbs"]:
            if len(rule["resources"]) > 1:
                rule["resources"].remove(resource)
            else:
                rule["verbs"].remove(verb)
    return [rule for rule in rules if rule["verbs"]]


def test_the_rights_suffice_and_each_is_needed(site: Site, run: Callable[[], None]) -> None:
    site.grant(RULES)
    run()
    for resource, verb in NEEDED:
        site.grant(without(resource, verb))
        with pytest.raises((PachopsError, AssertionError)) as refused:
            run()
        # Without the right to give it back, a lock is left to expire; that is the assertion of the run itself.
        words = "the lock was given back" if verb == "delete" else resource
        assert words in str(refused.value), f"without {verb} {resource}: {refused.value}"
        for each in site.admin.list("coordination.k8s.io/v1", "Lease", site.namespace):
            site.admin.delete(Ref.of(each))
    site.grant([rule for rule in RULES if rule["resources"] != ["pods/portforward"]])
    with pytest.raises(PachopsError, match=r"port-?forward"):
        run()


def test_no_rule_is_wider_than_its_purpose() -> None:
    for rule in RULES:
        assert "*" not in [*rule["apiGroups"], *rule["resources"], *rule["verbs"]]
        if "secrets" in rule["resources"]:
            assert rule["resourceNames"] == ["pachyderm-storage-secret"]
            assert rule["verbs"] == ["get"]
        if "leases" in rule["resources"] and rule["verbs"] != ["create"]:
            assert rule["resourceNames"] == ["pachops-lock"]
