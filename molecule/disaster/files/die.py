# SPDX-FileCopyrightText: 2026 The pachops.pachyderm contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Restore as the module does, and die without a word before etcd's data is exchanged.

``die.py KUBECONFIG NAMESPACE STORE IMAGE``; the exit status is 9.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[3] / ".cache" / "collections"))

from ansible_collections.pachops.pachyderm.plugins.module_utils.backup.catalogue import read_catalogue
from ansible_collections.pachops.pachyderm.plugins.module_utils.backup.options import choose_cluster
from ansible_collections.pachops.pachyderm.plugins.module_utils.backup.sets import OpenedSet
from ansible_collections.pachops.pachyderm.plugins.module_utils.kube.client import connect
from ansible_collections.pachops.pachyderm.plugins.module_utils.restore.engine import Options, Restorer
from ansible_collections.pachops.pachyderm.plugins.module_utils.restore.volumes import Volumes
from ansible_collections.pachops.pachyderm.plugins.module_utils.stores.location import open_location


def main() -> None:
    """Do it."""
    kubeconfig, namespace, place, image = sys.argv[1:]
    Volumes.swap = lambda _self, *_arguments, **_options: os._exit(9)  # type: ignore[method-assign]
    store = open_location(place)
    backup = read_catalogue(store, choose_cluster(store, "")).find("latest-verified")
    Restorer(connect(kubeconfig), namespace, Options(image=image)).restore(OpenedSet(store, backup.manifest))


if __name__ == "__main__":
    main()
