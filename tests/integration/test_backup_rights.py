# SPDX-FileCopyrightText: 2026 The pachops.pachyderm contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A scheduled backup's own rights suffice, and each of them is needed: one fewer fails with a message that names it."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
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
from ansible_collections.pachops.pachyderm.plugins.module_utils.kube.kinds import KINDS
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
    unseen: list[str] = field(default_factory=list)

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
def own_config(site: Site, tmp_path: Path) -> Path:
    """A kubeconfig of the run's service account."""
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
    return path


@pytest.fixture
def run(site: Site, own_config: Path, tmp_path: Path) -> Iterator[Callable[[], Site]]:
    """One scheduled run, with the rights of its own service account."""
    source = DirectoryStore(tmp_path / "source")
    for name, content in real_objects().items():
        source.write(name, [content])
    own = connect(str(own_config))

    def once() -> Site:
        store = DirectoryStore(tmp_path / f"store-{time.monotonic_ns()}")
        installation = observe(own, site.namespace, NAMESPACED)
        # So short-lived that it has to be renewed while the backup runs.
        lock = Lock(own, site.namespace, "backup", duration=3.0)
        with lock, etcd_of(own, installation, EtcdAccess("port_forward")) as (etcd, _transport):
            origin = origin_of(own, installation, etcd, None, str(tmp_path / "source"))
            begun = lock._renewed
            while lock._renewed == begun:
                lock.check()
                time.sleep(0.1)
            outcome = back_up(origin, store, Wishes(), lock=lock)
        assert outcome.made
        # What the run could not see is written down where the backup describes its cluster.
        site.unseen = list(origin.cluster["not_readable"])
        lease = own.get(lock._ref)
        assert lease is None or not lease["spec"].get("holderIdentity"), "the lock was given back"
        stages = tuple(report.Stage(name) for name in report.STAGES)
        report.emit_event(own, report.Run(CLUSTER, site.namespace, NOW, NOW, stages, "x"))
        return site

    yield once
    own.close()


#: What becomes of a run that lacks one verb: it fails and says so, or its description of the cluster lacks a kind.
FAILS, UNSEEN = "fails", "unseen"
EXPECTED: dict[tuple[str, str], str] = {
    ("pods", "list"): FAILS,
    ("pods", "get"): FAILS,
    ("deployments", "list"): FAILS,
    ("statefulsets", "list"): UNSEEN,
    ("configmaps", "list"): UNSEEN,
    ("replicationcontrollers", "list"): UNSEEN,
    ("persistentvolumeclaims", "list"): UNSEEN,
    # Which of the two is asked for depends on the API server's version.
    ("pods/portforward", "get"): FAILS,
    ("pods/portforward", "create"): "",
    # With the backend local the secret says nothing that a backup needs.
    ("secrets", "get"): "",
    ("leases", "create"): FAILS,
    ("leases", "get"): FAILS,
    ("leases", "patch"): FAILS,
    # A lock that may not be deleted is left without a holder.
    ("leases", "delete"): "",
    ("events", "create"): FAILS,
}
KIND_OF = {kind.plural: name for (_version, name), kind in KINDS.items()}


def without(resource: str, verb: str) -> list[dict[str, Any]]:
    rules = []
    for rule in RULES:
        # One rule per resource, so that the others of the same rule keep the verb.
        for each in rule["resources"]:
            verbs = [every for every in rule["verbs"] if (each, every) != (resource, verb)]
            if verbs:
                rules.append({**rule, "resources": [each], "verbs": verbs})
    return rules


def test_the_rights_suffice_and_each_is_needed(site: Site, run: Callable[[], Site]) -> None:
    site.grant(RULES)
    usual = set(run().unseen)
    given = {(resource, verb) for rule in RULES for resource in rule["resources"] for verb in rule["verbs"]}
    assert given == set(EXPECTED)
    for (resource, verb), ending in EXPECTED.items():
        site.grant(without(resource, verb))
        if ending == FAILS:
            with pytest.raises(PachopsError) as refused:
                run()
            said = str(refused.value)
            assert resource in said, f"without {verb} {resource}: {said}"
            assert f'cannot {verb} resource "{resource}"' in said, f"without {verb} {resource}: {said}"
            assert f"the verb {verb} on {resource}" in said, f"the fix is not named: {said}"
        else:
            more = {KIND_OF[resource]} if ending == UNSEEN else set()
            assert set(run().unseen) - usual == more, f"without {verb} {resource}"
        for each in site.admin.list("coordination.k8s.io/v1", "Lease", site.namespace):
            site.admin.delete(Ref.of(each))


def test_no_rule_is_wider_than_its_purpose() -> None:
    for rule in RULES:
        assert "*" not in [*rule["apiGroups"], *rule["resources"], *rule["verbs"]]
        if "secrets" in rule["resources"]:
            assert rule["resourceNames"] == ["pachyderm-storage-secret"]
            assert rule["verbs"] == ["get"]
        if "leases" in rule["resources"] and rule["verbs"] != ["create"]:
            assert rule["resourceNames"] == ["pachops-lock"]
