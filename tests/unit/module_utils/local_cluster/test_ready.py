# SPDX-FileCopyrightText: 2026 The pachops.pachyderm contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Waiting for a cluster, against a TLS server that answers as an API server does."""

from __future__ import annotations

import datetime
import json
import ssl
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.pachops.pachyderm.plugins.module_utils.errors import WaitError
from ansible_collections.pachops.pachyderm.plugins.module_utils.local_cluster import ready
from ansible_collections.pachops.pachyderm.plugins.module_utils.local_cluster.pki import Pki
from ansible_collections.pachops.pachyderm.plugins.module_utils.local_cluster.ready import Cluster
from ansible_collections.pachops.pachyderm.plugins.module_utils.progress import Progress

LEASE = "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases"
NODE = "/api/v1/nodes/dev"
PODS = "/api/v1/namespaces/kube-system/pods"
DNS = f"{PODS}?labelSelector=k8s-app%3Dkube-dns"
PROVISIONER = f"{PODS}?labelSelector=app%3Dlocal-path-provisioner"
PROXY = f"{PODS}/http:pod:8181/proxy/ready"


def renewed(seconds_ago: float) -> dict[str, Any]:
    moment = datetime.datetime.now(datetime.timezone.utc) - datetime.timedelta(seconds=seconds_ago)
    return {"items": [{"metadata": {"name": "dev"}, "spec": {"renewTime": moment.strftime("%Y-%m-%dT%H:%M:%S.%fZ")}}]}


def pods(**changes: Any) -> dict[str, Any]:
    pod = {"metadata": {"name": "pod"}, "status": {"conditions": [{"type": "Ready", "status": "True"}]}}
    return {"items": [{**pod, **changes}]}


def good() -> dict[str, Any]:
    return {
        "/readyz": "ok",
        LEASE: renewed(1),
        NODE: {"status": {"conditions": [{"type": "Ready", "status": "True"}]}},
        DNS: pods(),
        PROVISIONER: pods(),
        PROXY: "OK",
    }


@pytest.fixture
def answers() -> dict[str, Any]:
    return good()


@pytest.fixture
def cluster(tmp_path: Path, answers: dict[str, Any]) -> Iterator[Cluster]:
    Pki(tmp_path / "pki", "dev", "127.0.0.1", "10.96.0.1", tmp_path / "kubeconfig").ensure()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            answer = answers.get(self.path, 404)
            answer = answer() if callable(answer) else answer
            refusal = b'{"kind":"Status","message":"no such thing"}' if self.path == LEASE else b"first\nno such thing"
            body = refusal if isinstance(answer, int) else json.dumps(answer).encode()
            self.send_response(answer if isinstance(answer, int) else 200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_arguments: Any) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "pki/kube-apiserver.crt", tmp_path / "pki/kube-apiserver.key")
    context.load_verify_locations(tmp_path / "pki/ca.crt")
    # Without the administrator's certificate nothing is answered.
    context.verify_mode = ssl.CERT_REQUIRED
    server.socket = context.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield Cluster("127.0.0.1", "dev", tmp_path / "pki", server.server_port)
    server.shutdown()
    server.server_close()


def wait(cluster: Cluster, *, addons: bool = True, since: float = 0, seconds: float = 0) -> None:
    ready.wait(cluster, addons=addons, since=since, seconds=seconds, progress=Progress(""))


def test_working_cluster(cluster: Cluster) -> None:
    wait(cluster)


def test_environment_s_proxy_is_not_asked(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:9")
    wait(cluster)


@pytest.mark.parametrize(
    ("path", "answer", "message"),
    [
        ("/readyz", 500, "/readyz: 500 no such thing"),
        (LEASE, {"items": []}, "the kubelet has not registered the node"),
        (LEASE, 403, "leases: 403 no such thing"),
        (LEASE, renewed(3600), "the kubelet has not reported yet"),
        (
            NODE,
            {"status": {"conditions": [{"type": "Ready", "status": "False", "message": "cni missing"}]}},
            "cni missing",
        ),
        (NODE, {"status": {}}, "no condition"),
        (DNS, {"items": []}, "cluster DNS has no pod"),
        (PROXY, 503, "proxy/ready: 503"),
        (PROVISIONER, pods(status={"phase": "Pending"}), "the volume provisioner is not ready: Pending"),
        (
            DNS,
            pods(status={"conditions": [{"type": "PodScheduled", "status": "False", "message": "0/1 nodes"}]}),
            "cluster DNS is not ready: 0/1 nodes",
        ),
        (
            DNS,
            pods(status={"containerStatuses": [{"state": {"waiting": {"reason": "ErrImagePull"}}}, {"state": {}}]}),
            "cluster DNS is not ready: ErrImagePull",
        ),
        (DNS, pods(metadata={"name": "pod", "deletionTimestamp": "x"}), "cluster DNS is not ready"),
    ],
)
def test_what_is_missing_is_said(
    cluster: Cluster, answers: dict[str, Any], path: str, answer: Any, message: str
) -> None:
    answers[path] = answer
    with pytest.raises(WaitError) as failure:
        wait(cluster)
    assert message in str(failure.value)


def test_what_the_kubelet_said_before_it_was_killed_counts_for_nothing(cluster: Cluster) -> None:
    with pytest.raises(WaitError, match="has not reported yet"):
        wait(cluster, since=time.time())


def test_api_server_alone(cluster: Cluster, answers: dict[str, Any]) -> None:
    answers[LEASE] = 404
    wait(cluster, addons=False)


def test_it_waits(cluster: Cluster, answers: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ready, "_SECONDS_BETWEEN", 0.01)
    left = iter([500, 500, "ok"])
    answers["/readyz"] = lambda: next(left, "ok")
    wait(cluster, seconds=20)
    assert next(left, None) is None


def test_nobody_there(tmp_path: Path) -> None:
    Pki(tmp_path, "dev", "127.0.0.1", "10.96.0.1", tmp_path / "kubeconfig").ensure()
    with pytest.raises(WaitError, match="API server does not answer"):
        wait(Cluster("127.0.0.1", "dev", tmp_path, 9))
