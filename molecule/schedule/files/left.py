# SPDX-FileCopyrightText: 2026 The pachops.pachyderm contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Wait until a namespace has nothing of a backup schedule: ``left.py KUBECONFIG NAMESPACE``; fails after half a minute."""

from __future__ import annotations

import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[3] / ".cache" / "collections"))

from ansible_collections.pachops.pachyderm.plugins.module_utils.kube.client import Ref, connect

KINDS = (
    ("v1", "ServiceAccount"),
    ("v1", "Secret"),
    ("v1", "Pod"),
    ("rbac.authorization.k8s.io/v1", "Role"),
    ("rbac.authorization.k8s.io/v1", "RoleBinding"),
    ("batch/v1", "CronJob"),
    ("batch/v1", "Job"),
)


def main() -> None:
    """Exit with what is left, if anything is."""
    kubeconfig, namespace = sys.argv[1:]
    kube = connect(kubeconfig)
    end = time.monotonic() + 30
    while True:
        labels = "app.kubernetes.io/part-of=pachyderm-backup"
        left = [str(Ref.of(each)) for kind in KINDS for each in kube.list(*kind, namespace, labels)]
        if not left:
            return
        if time.monotonic() > end:
            sys.exit(f"left: {', '.join(left)}")
        time.sleep(1)


if __name__ == "__main__":
    main()
