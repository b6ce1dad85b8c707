# SPDX-FileCopyrightText: 2026 The pachops.pachyderm contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The Kubernetes API as pachd uses it: the core group, in pachd's own namespace, as the pod's service account."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import requests
import urllib3
from ansible_collections.pachops.pachyderm.plugins.module_utils.pachd.objects import new_id

from . import logs
from .config import Settings
from .errors import PachError

_ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")
_TIMEOUT = 10


class KubeError(PachError):
    """The API could not be reached or refused; ``status`` is 0 when it could not be reached."""

    def __init__(self, message: str, status: int = 0) -> None:
        super().__init__(message)
        self.status = status


class Kube:
    """A small client; the token is read anew for every call, since it is rotated."""

    def __init__(self, settings: Settings) -> None:
        self.namespace = settings.namespace
        self._session = requests.Session()
        self._token = _ACCOUNT / "token"
        port = settings.env.text("KUBERNETES_SERVICE_PORT", "443")
        host = settings.env.text("KUBERNETES_SERVICE_HOST", settings.kube_address)
        if self._token.exists():
            self._session.verify = str(_ACCOUNT / "ca.crt")
        else:
            logs.error(
                f"falling back to insecure kube client due to error from NewInCluster: open {self._token}: "
                "no such file or directory"
            )
            host, port = settings.kube_address, "443"
            self._session.verify = False
            urllib3.disable_warnings(urllib3.exceptions.InsecureRequestWarning)
        self._base = f"https://{host}:{port}/api/v1"

    def call(self, method: str, path: str, namespaced: bool = True, **arguments: Any) -> requests.Response:
        """Send one request.

        :raises KubeError: for everything but success.
        """
        headers = {"Accept": "application/json, */*"}
        if self._token.exists():
            headers["Authorization"] = f"Bearer {self._token.read_text().strip()}"
        url = f"{self._base}/namespaces/{self.namespace}/{path}" if namespaced else f"{self._base}/{path}"
        arguments.setdefault("timeout", _TIMEOUT)
        try:
            answer = self._session.request(method, url, headers=headers, **arguments)
        except requests.RequestException as error:
            raise KubeError(f"{method} {url}: {error}") from error
        if answer.status_code >= 300:
            try:
                message = answer.json()["message"]
            except (ValueError, KeyError):
                message = answer.text[:500]
            raise KubeError(message, answer.status_code)
        return answer

    def list(self, kind: str, selector: str) -> list[dict[str, Any]]:
        """Return the objects of one kind that have these labels."""
        return list(self.call("GET", kind, params={"labelSelector": selector}).json().get("items", ()))

    def create(self, kind: str, body: dict[str, Any]) -> None:
        """Create an object; one that exists already is left alone."""
        try:
            self.call("POST", kind, json=body)
        except KubeError as error:
            if error.status != 409:
                raise

    def delete(self, kind: str, name: str) -> None:
        """Delete an object with what depends on it; a missing one is no error."""
        try:
            self.call("DELETE", f"{kind}/{name}", json={"kind": "DeleteOptions", "propagationPolicy": "Background"})
        except KubeError as error:
            if error.status != 404:
                raise

    def scale(self, controller: dict[str, Any], replicas: int) -> None:
        """Set the number of pods of a replication controller, as pachd does: by writing the whole object."""
        controller["spec"]["replicas"] = replicas
        self.call("PUT", f"replicationcontrollers/{controller['metadata']['name']}", json=controller)

    def logs(self, pod: str, container: str, follow: bool, tail: int, since: int) -> Iterator[str]:
        """Yield the lines of a container's log."""
        parameters: dict[str, Any] = {"container": container, "follow": str(follow).lower(), "sinceSeconds": since}
        if tail > 0:
            parameters["tailLines"] = tail
        timeout = (_TIMEOUT, None) if follow else _TIMEOUT
        answer = self.call("GET", f"pods/{pod}/log", params=parameters, stream=True, timeout=timeout)
        for line in answer.iter_lines():
            yield line.decode(errors="replace")

    def self_test(self) -> None:
        """Try what pachd needs and log, in pachd's words, what does not work; nothing of it is fatal."""
        failed = False

        def attempt(message: str, action: Any) -> Any:
            nonlocal failed
            try:
                return action()
            except KubeError as error:
                failed = True
                logs.error(f"{message} error: {error}")
                return None

        attempt(
            "unable to access kubernetes nodeslist, Pachyderm will continue to work but it will not be possible to use "
            "COEFFICIENT parallelism.",
            lambda: self.call("GET", "nodes", namespaced=False),
        )
        attempt(
            "unable to access kubernetes pods, Pachyderm will continue to work but certain pipeline errors will result in "
            'pipelines being stuck indefinitely in "starting" state.',
            lambda: self.call("GET", "pods", params={"watch": "true", "timeoutSeconds": 1}),
        )
        no_logs = "Pachyderm will continue to work but 'pachctl logs' will not work."
        pods = attempt(f"unable to access kubernetes pods, {no_logs}", lambda: self.list("pods", "app=pachd"))
        if pods:
            name = pods[0]["metadata"]["name"]
            attempt(
                f"unable to access kubernetes logs, {no_logs}",
                lambda: self.call("GET", f"pods/{name}/log", params={"container": "pachd"}),
            )
        elif pods is not None:
            failed = True
            logs.error(f"unable to access kubernetes pods, {no_logs} error: <nil>")
        name = new_id()
        labels = {"app": name}
        container = {"name": "name", "image": "ubuntu:16.04", "command": ["true"]}
        controller = {
            "apiVersion": "v1",
            "kind": "ReplicationController",
            "metadata": {"name": name, "labels": labels},
            "spec": {
                "selector": labels,
                "replicas": 0,
                "template": {"metadata": {"name": name, "labels": labels}, "spec": {"containers": [container]}},
            },
        }
        attempt(
            "unable to create kubernetes replication controllers, Pachyderm will not function properly until this is "
            "fixed.",
            lambda: self.call("POST", "replicationcontrollers", json=controller),
        )
        attempt(
            "unable to delete kubernetes replication controllers, Pachyderm function properly but pipeline cleanup will "
            "not work.",
            lambda: self.call("DELETE", f"replicationcontrollers/{name}"),
        )
        if not failed:
            logs.info("validating kubernetes access returned no errors")
