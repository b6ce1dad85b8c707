# SPDX-FileCopyrightText: 2026 The pachops.pachyderm contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the scenario asks the cluster, as JSON; one program, because each module call would load a client of its own.

``cluster.py run KUBECONFIG NAMESPACE``: make the CronJob's job at once, as kubectl create job --from does.
``cluster.py look KUBECONFIG NAMESPACE``: the CronJob, and the Events about pachd.
``cluster.py left KUBECONFIG NAMESPACE``: wait until nothing has the schedule's label, and fail after half a minute.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[3] / ".cache" / "collections"))

from ansible_collections.pachops.pachyderm.plugins.module_utils.kube.client import Kube, Ref, connect

LABEL = "app.kubernetes.io/part-of=pachyderm-backup"
KINDS = (
    ("v1", "ServiceAccount"),
    ("v1", "Secret"),
    ("v1", "Pod"),
    ("rbac.authorization.k8s.io/v1", "Role"),
    ("rbac.authorization.k8s.io/v1", "RoleBinding"),
    ("batch/v1", "CronJob"),
    ("batch/v1", "Job"),
)
JOB = "now"


def cronjob(kube: Kube, namespace: str) -> dict[str, Any]:
    """Return the only CronJob."""
    (found,) = kube.list("batch/v1", "CronJob", namespace, LABEL)
    return found


def run(kube: Kube, namespace: str) -> dict[str, Any]:
    """Run the job, and return whether it succeeded and what it said."""
    parent = cronjob(kube, namespace)
    template = parent["spec"]["jobTemplate"]
    owner = {
        "apiVersion": "batch/v1",
        "kind": "CronJob",
        "name": parent["metadata"]["name"],
        "uid": parent["metadata"]["uid"],
        "controller": True,
    }
    metadata = {
        "name": JOB,
        "namespace": namespace,
        "labels": template["metadata"]["labels"],
        "annotations": {"cronjob.kubernetes.io/instantiate": "manual"},
        "ownerReferences": [owner],
    }
    job = {"apiVersion": "batch/v1", "kind": "Job", "metadata": metadata, "spec": template["spec"]}
    kube.apply(job)
    end = time.monotonic() + 600
    status: dict[str, Any] = {}
    while not (status.get("succeeded") or status.get("failed")) and time.monotonic() < end:
        time.sleep(1)
        status = (kube.get(Ref.of(job)) or {}).get("status") or {}
    pods = kube.list("v1", "Pod", namespace, f"job-name={JOB}")
    logs = [kube.logs(namespace, each["metadata"]["name"], tail=400) for each in pods]
    return {"succeeded": status.get("succeeded") == 1, "log": logs or pods}


def look(kube: Kube, namespace: str) -> dict[str, Any]:
    """Return what there is."""
    events = [each for each in kube.events(namespace, "pachd") if each["source"]["component"] == "pachops-backup"]
    return {"cronjob": cronjob(kube, namespace)["spec"], "events": events}


def left(kube: Kube, namespace: str) -> dict[str, Any]:
    """Exit with what is left, if anything is."""
    end = time.monotonic() + 30
    while found := [str(Ref.of(each)) for kind in KINDS for each in kube.list(*kind, namespace, LABEL)]:
        if time.monotonic() > end:
            sys.exit(f"left: {', '.join(found)}")
        time.sleep(1)
    return {}


def main() -> None:
    """Do what the command line says."""
    command, kubeconfig, namespace = sys.argv[1:]
    done = {"run": run, "look": look, "left": left}[command](connect(kubeconfig), namespace)
    sys.stdout.write(json.dumps(done, default=str))


if __name__ == "__main__":
    main()
