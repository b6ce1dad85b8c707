# SPDX-FileCopyrightText: 2026 The pachops.pachyderm contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Use an installation as people do.

``seed KUBECONFIG NAMESPACE IMAGE``, ``write KUBECONFIG NAMESPACE SECONDS``, ``settle KUBECONFIG NAMESPACE -``, or
``held KUBECONFIG NAMESPACE JOB_RUNNING|JOB_SUCCESS``.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Any

import python_pachyderm
from python_pachyderm.service import pps_proto

sys.path.insert(0, str(Path(__file__).resolve().parents[3] / ".cache" / "collections"))

from ansible_collections.pachops.pachyderm.plugins.module_utils.installation import observe
from ansible_collections.pachops.pachyderm.plugins.module_utils.kube.client import connect

HELD = "held"


def seed(client: python_pachyderm.Client, image: str) -> None:
    """Make repos, two branches, commits that change and delete files, a pipeline with its job, and an open commit."""
    client.create_repo("ticks")
    for day in range(3):
        with client.commit("ticks", "master") as commit:
            client.put_file_bytes(commit, f"/2020/01/{day:02}.csv", b"a,b\n1,2\n" * (1000 * (day + 1)))
    with client.commit("ticks", "master") as commit:
        client.delete_file(commit, "/2020/01/00.csv")
    with client.commit("ticks", "staging") as commit:
        client.put_file_bytes(commit, "/note", b"staged")
    transform = pps_proto.Transform(cmd=["sh"], image=image, stdin=["cp -r /pfs/ticks/* /pfs/out/"])
    wanted = pps_proto.Input(pfs=pps_proto.PFSInput(repo="ticks", glob="/"))
    client.create_pipeline("copy", transform=transform, input=wanted)
    # Its job runs until somebody makes /tmp/go in its pod.
    client.create_repo("gate")
    client.put_file_bytes("gate/master", "/pass", b"passed")
    script = ["while [ ! -e /tmp/go ]; do sleep 0.2; done", "cp /pfs/gate/pass /pfs/out/"]
    transform = pps_proto.Transform(cmd=["sh"], image=image, stdin=script)
    client.create_pipeline(
        HELD, transform=transform, input=pps_proto.Input(pfs=pps_proto.PFSInput(repo="gate", glob="/"))
    )
    client.create_repo("open")
    commit = client.start_commit("open", "master")
    client.put_file_bytes(commit, "/unfinished", b"not yet")


def write(client: python_pachyderm.Client, seconds: float) -> None:
    """Commit a file about twice a second; each commit is a job of the pipeline too."""
    end = time.monotonic() + seconds
    number = 0
    while time.monotonic() < end:
        with client.commit("ticks", "master") as commit:
            client.put_file_bytes(commit, f"/live/{number}", str(number).encode() * 1000)
        number += 1
        time.sleep(0.4)
    sys.stdout.write(f"{number}\n")


def settle(client: python_pachyderm.Client) -> None:
    """Wait until the pipeline has done all that was committed."""
    for commit in client.flush_commit([("ticks", "master")]):
        sys.stdout.write(f"{commit.commit.repo.name}\n")


def held(client: python_pachyderm.Client, state: str) -> None:
    """Wait until the only job of the pipeline that is held is in that state, and print its id."""
    end = time.monotonic() + 90
    jobs: list[Any] = []
    while time.monotonic() < end:
        jobs = list(client.list_job(HELD))
        if [pps_proto.JobState.Name(each.state) for each in jobs] == [state]:
            sys.stdout.write(jobs[0].job.id)
            return
        time.sleep(0.5)
    sys.exit(f"not {state}: {jobs}")


def main() -> None:
    """Do what the command line says."""
    command, kubeconfig, namespace, argument = sys.argv[1:]
    kube = connect(kubeconfig)
    pod = observe(kube, namespace).ready_pod("pachd")
    with kube.portforward(namespace, pod, 650) as (host, port):
        client = python_pachyderm.Client(host=host, port=port)
        if command == "seed":
            seed(client, argument)
        elif command == "write":
            write(client, float(argument))
        elif command == "held":
            held(client, argument)
        else:
            settle(client)


if __name__ == "__main__":
    main()
