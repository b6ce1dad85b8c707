# SPDX-FileCopyrightText: 2026 The pachops.pachyderm contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a port-forward has to outlive, done to one that runs.

    survive.py KUBECONFIG NAMESPACE DIRECTORY STEP...

Steps: pod (pachd's pod is replaced), kill (the program is killed), idle=SECONDS (nothing is sent for so long), big=MB
(pachd's pod is replaced under a file of that size), api=ROOT (the API server of the local cluster in that directory is
killed, and its supervisor starts another one).  DIRECTORY is the port-forward's own.  Each step prints one line of
figures, and ends the program where its limit is passed.
"""

from __future__ import annotations

import hashlib
import json
import os
import random
import signal
import sys
import threading
import time
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

import grpc

ROOT = Path(__file__).resolve().parents[3]
sys.path[:0] = [str(ROOT / ".cache" / "collections"), str(ROOT / "tests")]
from ansible_collections.pachops.pachyderm.plugins.module_utils.errors import PachopsError
from ansible_collections.pachops.pachyderm.plugins.module_utils.kube.client import Kube, connect
from ansible_collections.pachops.pachyderm.plugins.module_utils.kube.kinds import Ref
from ansible_collections.pachops.pachyderm.plugins.module_utils.pachd.client import Pachd
from e2e.harness import processes

LABELS = "suite=pachyderm,app=pachd"
# Seconds after the new pod is ready, on a machine that does nothing else.
BACK_WITHIN = 60.0 if os.environ.get("PACHOPS_CLUSTER_SHARED") else 5.0
REPO = "survive"


class Content:
    """A file of ``size`` bytes that no program compresses, read piece by piece and hashed on the way."""

    def __init__(self, size: int, stop: bool = False) -> None:
        """:param stop: give no more than a third away until :attr:`resume` is set."""
        self.left = size
        self.digest = hashlib.sha256()
        self._random = random.Random(size)  # noqa: S311 - the same bytes at every attempt
        self.sent = threading.Event()  # a third of it is on its way
        self.resume = threading.Event()
        self._size = size
        self._stop = stop

    def read(self, wanted: int) -> bytes:
        """Return at most ``wanted`` bytes."""
        piece = self._random.randbytes(min(wanted, self.left))
        self.left -= len(piece)
        self.digest.update(piece)
        if self.left < self._size * 2 / 3:
            self.sent.set()
            if self._stop:
                self.resume.wait(120)
        return piece


class Test:
    """The port-forward, and the cluster behind it."""

    def __init__(self, kube: Kube, namespace: str, directory: Path) -> None:
        self.kube = kube
        self.namespace = namespace
        self.directory = directory
        self.port = int(json.loads((directory / "config.json").read_text())["ports"]["grpc"])

    def status(self) -> dict[str, Any]:
        """Return what the port-forward says of itself."""
        found: dict[str, Any] = json.loads((self.directory / "status.json").read_text())
        return found

    def version(self, timeout: float = 90.0) -> str:
        """Ask pachd through the port-forward on a connection of its own."""
        with Pachd("127.0.0.1", self.port, timeout=timeout) as pachd:
            return pachd.version()

    def pods(self) -> list[dict[str, Any]]:
        """Return pachd's pods that are not being stopped."""
        found = self.kube.list("v1", "Pod", self.namespace, labels=LABELS)
        return [pod for pod in found if not pod["metadata"].get("deletionTimestamp")]

    def replace_pod(self) -> None:
        """Delete pachd's pod, as a node that is drained would."""
        for pod in self.pods():
            self.kube.delete(Ref("v1", "Pod", self.namespace, pod["metadata"]["name"]))

    def ready_since(self) -> float:
        """Return when the pod of now became ready, in seconds since the epoch, to the second."""
        (pod,) = self.pods()
        (moment,) = [each["lastTransitionTime"] for each in pod["status"]["conditions"] if each["type"] == "Ready"]
        return datetime.fromisoformat(moment.replace("Z", "+00:00")).timestamp()

    def pod(self) -> str:
        """A call right after pachd's pod was deleted is answered by the new one."""
        self.replace_pod()
        began = time.time()
        self.version()
        answered = time.time()
        late = answered - self.ready_since()
        want(late < BACK_WITHIN + 1, f"answered {late:.1f} s after the pod was ready")
        return f"answered {answered - began:.1f} s after the deletion, at most {late:.1f} s after the pod was ready"

    def kill(self) -> str:
        """The program that was killed is started again."""
        old = self.status()["pid"]
        os.kill(old, signal.SIGKILL)
        began = time.monotonic()
        until(lambda: self.status()["pid"] != old and self.status()["healthy"], 20.0, "the program to be back")
        self.version()
        return f"back {time.monotonic() - began:.1f} s after its process was killed"

    def idle(self, seconds: str) -> str:
        """A connection on which nothing was said for a while is the same connection."""
        states: list[grpc.ChannelConnectivity] = []
        options = [("grpc.enable_http_proxy", 0)]
        with grpc.insecure_channel(f"127.0.0.1:{self.port}", options=options) as channel:
            call = channel.unary_unary("/versionpb.API/GetVersion", bytes, bytes)
            call(b"", timeout=30)
            channel.subscribe(states.append)
            time.sleep(float(seconds))
            began = time.monotonic()
            call(b"", timeout=30)
            took = time.monotonic() - began
        want(set(states) <= {grpc.ChannelConnectivity.READY}, f"the connection was lost: {states}")
        return f"the same connection after {seconds} s of silence, answered in {took:.2f} s"

    def big(self, megabytes: str) -> str:
        """A file under which pachd's pod is replaced is there in the end, whole and once."""
        size = int(megabytes) << 20
        with Pachd("127.0.0.1", self.port) as pachd:
            if REPO not in pachd.repos():
                pachd.create_repo(REPO)
        failures: list[str] = []
        content = first = Content(size, stop=True)

        def disturb() -> None:
            # A fast connection would have brought all of it in before the pod is gone.
            first.sent.wait(120)
            old = [Ref("v1", "Pod", self.namespace, pod["metadata"]["name"]) for pod in self.pods()]
            self.replace_pod()
            until(lambda: not any(map(self.kube.get, old)), 90.0, "the old pod to be gone")
            first.resume.set()

        disturber = threading.Thread(target=disturb)
        disturber.start()
        began = time.monotonic()
        while True:
            try:
                with Pachd("127.0.0.1", self.port, timeout=120) as pachd:
                    pachd.put_file(REPO, "master", "/big", content)  # type: ignore[arg-type]
                break
            except PachopsError as error:
                failures.append(str(error))
                want(len(failures) < 5, f"five attempts failed: {failures}")
                content = Content(size)
        took = time.monotonic() - began
        disturber.join()
        digest, received = hashlib.sha256(), 0
        with Pachd("127.0.0.1", self.port, timeout=120) as pachd:
            self.version()
            for piece in pachd.get_file(REPO, "master", "/big"):
                digest.update(piece)
                received += len(piece)
        want(received == size, f"{received} bytes came back of {size}")
        want(digest.digest() == content.digest.digest(), "other bytes came back")
        want(bool(failures), "the pod was replaced, and nothing noticed: the test tests nothing")
        return f"{megabytes} MB there after {len(failures) + 1} attempts and {took:.1f} s, and back unchanged"

    def api(self, root: str) -> str:
        """An API server that restarts costs a wait at most."""

        def running() -> list[int]:
            return processes("kube-apiserver", Path(root))

        old = running()
        want(len(old) == 1, f"there are {len(old)} API servers of {root} on this host")
        os.kill(old[0], signal.SIGKILL)
        until(lambda: running() not in ([], old), 120.0, "another API server to run")
        began = time.monotonic()
        self.version()
        until(lambda: self.status()["healthy"], 60.0, "the health call to succeed again")
        return f"answered {time.monotonic() - began:.1f} s after the new API server was started"


def until(condition: Callable[[], bool], seconds: float, what: str) -> None:
    """Wait for a condition; a file that is being replaced counts as not yet."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        try:
            if condition():
                return
        except (OSError, ValueError, KeyError):
            pass
        time.sleep(0.1)
    want(False, f"{seconds:.0f} s were not enough for {what}")


def want(condition: bool, otherwise: str) -> None:
    """End the program where a condition does not hold."""
    if not condition:
        sys.exit(otherwise)


def main() -> None:
    """Do the steps that the command line names, in their order."""
    kubeconfig, namespace, directory, *steps = sys.argv[1:]
    test = Test(connect(kubeconfig, ""), namespace, Path(directory))
    for step in steps:
        name, _equals, argument = step.partition("=")
        method = getattr(test, name)
        line = method(argument) if argument else method()
        sys.stdout.write(f"{name}: {line}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
