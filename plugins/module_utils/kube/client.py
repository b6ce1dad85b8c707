# SPDX-FileCopyrightText: 2026 The pachops.pachyderm contributors
# SPDX-License-Identifier: BSD-2-Clause
"""The Kubernetes API as the collection uses it: read, apply server-side, delete, and say clearly what was refused.

Objects are plain dictionaries as in a manifest.  Every call has a timeout; calls that may be repeated without harm are
repeated while the server is restarting, overloaded or drops the connection.
"""

from __future__ import annotations

import json
import re
import time
from typing import TYPE_CHECKING, Any, NamedTuple

from ..errors import ClusterError, WaitError
from . import apply as changes
from .apply import FIELD_MANAGER, Change, Object
from .kinds import Ref, collection_path, kind_of
from .transport import READ_TIMEOUT, Response, Transport, UnreachableError, load

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping, Sequence
    from contextlib import AbstractContextManager

__all__ = ["FIELD_MANAGER", "KUBE_ARGUMENT_SPEC", "Access", "Change", "Kube", "Object", "Objects", "Ref", "connect"]

Objects = list[Object]  # inside the class, "list" is a method

KUBE_ARGUMENT_SPEC: dict[str, Any] = {"kubeconfig": {"type": "path"}, "context": {"type": "str"}}

_MERGE = "application/merge-patch+json"
_APPLY = "application/apply-patch+yaml"
_TRANSIENT_STATUS = frozenset({429, 500, 502, 503, 504})
_PATIENCE_WITH_500 = 4.0  # seconds
_RACES = 8  # attempts to apply to an object that others keep writing
_PAGE = "500"
_ANONYMOUS = "system:anonymous"
_VERBS = {"GET": "get", "PATCH": "patch", "POST": "create", "DELETE": "delete"}
_RBAC = re.compile(r'User "(?P<user>[^"]*)" cannot (?P<verb>\S+) resource "(?P<resource>[^"]*)"')


class Access(NamedTuple):
    """One right to ask for; ``resource`` may name a subresource (``pods/log``), ``namespace`` None means everywhere."""

    verb: str
    group: str
    resource: str
    namespace: str | None


class Kube:
    """One cluster, seen with one identity."""

    def __init__(self, transport: Transport, *, patience: float = 30.0) -> None:
        """:param patience: seconds for which a call is repeated while the API server is away or overloaded."""
        self.transport = transport
        self.patience = patience
        self._version = ""

    def get(self, ref: Ref) -> Object | None:
        """Return the object, None where it (or its namespace) does not exist."""
        response = self.request("GET", ref.path())
        if response.status == 404 and _served(response):
            return None
        return _object(self._checked(response, "GET", str(ref)))

    def list(
        self,
        api_version: str,
        kind: str,
        namespace: str | None = None,
        labels: str | None = None,
        fields: str | None = None,
    ) -> Objects:
        """Return all objects of a kind, in one namespace or (None) in all.

        :param labels: a label selector as kubectl writes it, e.g. ``suite=pachyderm,app=pachd``.
        :param fields: a field selector, e.g. ``involvedObject.name=pachd-0``.
        """
        path = collection_path(api_version, kind, namespace)
        base = [("limit", _PAGE)]
        base += [("labelSelector", labels)] if labels else []
        base += [("fieldSelector", fields)] if fields else []
        where = f"{kind_of(api_version, kind).plural} in {namespace or 'all namespaces'}"
        found: Objects = []
        token = ""
        while True:
            query = [*base, ("continue", token)] if token else base
            page = self._checked(self.request("GET", path, query=query), "GET", where).json()
            # Items of a list carry neither field.
            found += [{"apiVersion": api_version, "kind": kind, **item} for item in page.get("items") or []]
            token = page.get("metadata", {}).get("continue") or ""
            if not token:
                return found

    def apply(
        self,
        obj: Mapping[str, Any],
        dry_run: bool = False,
        *,
        force: bool | Collection[str] = False,
    ) -> Change:
        """Apply a manifest server-side as :data:`FIELD_MANAGER` and return what changed.

        :param dry_run: the server does everything but store it.  Where the namespace does not exist yet, the change is
            the creation of ``obj`` as given, without the server's defaults.
        :param force: what to do about fields that another manager owns with another value: False refuses, True takes
            all over, a collection of field paths (``.spec.replicas``; a path covers what is below it) takes over those.
        :raises ClusterError: refused, in conflict, or unreachable; a Secret's values are never part of it.
        """
        manifest = changes.prepare(obj)
        ref = Ref.of(manifest)
        for _attempt in range(_RACES):
            before = self.get(ref)
            hidden = changes.secret_values(manifest) + changes.secret_values(before or {})
            response = self._patch(ref, manifest, before, dry_run=dry_run, force=force is True)
            conflicts = _conflicts(response)
            if conflicts and all(_ours_to_take(*conflict, force) for conflict in conflicts):
                response = self._patch(ref, manifest, before, dry_run=dry_run, force=True)
                conflicts = _conflicts(response)
            if conflicts:
                raise _conflict_error(ref, conflicts)
            if not _outrun(response):
                break
        if dry_run and _namespace_missing(response):
            return changes.compare(ref, None, manifest)
        after = _object(self._checked(response, "PATCH", str(ref), hidden))
        if dry_run:
            after = changes.without_allocations(manifest, before, after)
        return changes.compare(ref, before, after)

    def _patch(self, ref: Ref, manifest: Object, before: Object | None, *, dry_run: bool, force: bool) -> Response:
        """Apply on top of ``before`` and nothing else: what a controller writes in between must not pass for ours."""
        query = [("fieldManager", FIELD_MANAGER), ("force", "true" if force else "false")]
        query += [("dryRun", "All")] if dry_run else []
        version = {"resourceVersion": before["metadata"]["resourceVersion"]} if before else {}
        body = json.dumps({**manifest, "metadata": {**manifest["metadata"], **version}})
        return self.request("PATCH", ref.path(), query=query, body=body, content_type=_APPLY)

    def ensure(self, obj: Mapping[str, Any], dry_run: bool = False) -> Change:
        """Apply a manifest only where nothing of its name exists; what exists belongs to somebody else.

        An identity that may not read the object is taken to know that it exists: namespaces are often hidden from
        their own users.
        """
        ref = Ref.of(obj)
        response = self.request("GET", ref.path())
        if response.status == 404 and _served(response):
            return self.apply(obj, dry_run)
        if response.status == 403:
            return changes.compare(ref, None, None)
        found = _object(self._checked(response, "GET", str(ref)))
        return changes.compare(ref, found, found)

    def delete(self, ref: Ref, dry_run: bool = False, *, wait: float = 0.0, propagation: str = "Background") -> Change:
        """Delete an object and return the change; ``unchanged`` where there was none.

        :param wait: seconds to wait until it is really gone (finalizers, pods that are stopping); 0 does not wait.
        :param propagation: what happens to dependents: ``Background``, ``Foreground`` or ``Orphan``.
        :raises WaitError: it was still there after ``wait`` seconds; the message names its finalizers.
        """
        before = self.get(ref)
        if before is None:
            return changes.compare(ref, None, None)
        uid = before["metadata"].get("uid")
        options: dict[str, Any] = {"kind": "DeleteOptions", "apiVersion": "v1", "propagationPolicy": propagation}
        if uid:
            options["preconditions"] = {"uid": uid}
        if dry_run:
            options["dryRun"] = ["All"]
        response = self.request("DELETE", ref.path(), body=json.dumps(options))
        # 409: the precondition failed, so the object that we saw is gone and another one took its name.
        if response.status not in (404, 409):
            self._checked(response, "DELETE", str(ref))
        change = changes.compare(ref, before, None)
        if wait and not dry_run:
            self._wait_gone(ref, uid, wait)
        return change

    def merge(self, ref: Ref, patch: Mapping[str, Any]) -> None:
        """Change an existing object by a JSON merge patch; None removes a field; an apply only its own."""
        query = [("fieldManager", FIELD_MANAGER)]
        response = self.request("PATCH", ref.path(), query=query, body=json.dumps(patch), content_type=_MERGE)
        self._checked(response, "PATCH", str(ref))

    def scale(self, ref: Ref, replicas: int, dry_run: bool = False) -> Change:
        """Set the number of replicas of a Deployment, StatefulSet or ReplicationController, and nothing else."""
        before = self.get(ref)
        if before is None:
            raise ClusterError("there is nothing to scale", where=str(ref), fix="Check the name and the namespace.")
        query = [("fieldManager", FIELD_MANAGER)] + ([("dryRun", "All")] if dry_run else [])
        body = json.dumps({"spec": {"replicas": replicas}})
        path = f"{ref.path()}/scale"
        self._checked(self.request("PATCH", path, query=query, body=body, content_type=_MERGE), "PATCH", str(ref))
        after = {**before, "spec": {**before["spec"], "replicas": replicas}}
        return changes.compare(ref, before, after)

    def logs(
        self, namespace: str, pod: str, container: str | None = None, tail: int = 50, previous: bool = False
    ) -> str:
        """Return the last ``tail`` lines of a container; empty where the container has not started or is gone."""
        query = [("tailLines", str(tail)), ("limitBytes", str(1 << 20))]
        query += [("container", container)] if container else []
        query += [("previous", "true")] if previous else []
        path = f"{Ref('v1', 'Pod', namespace, pod).path()}/log"
        response = self.request("GET", path, query=query)
        if response.status in (400, 404):
            return ""
        text = self._checked(response, "GET", f"log of pod {namespace}/{pod}").body.decode("utf-8", "replace")
        # The kubelet's answer for a container that it has removed already, with status 200.
        return "" if text.startswith("unable to retrieve container logs for ") else text

    def events(self, namespace: str, name: str) -> Objects:
        """Return the events about the object ``name``, oldest first."""
        found = self.list("v1", "Event", namespace, fields=f"involvedObject.name={name}")
        return sorted(found, key=event_time)

    def can_i(self, accesses: Iterable[Sequence[str | None]]) -> Sequence[Access]:
        """Return those of ``accesses`` (verb, API group, resource, namespace) that this identity lacks."""
        denied = []
        for access in (Access(*item) for item in accesses):  # type: ignore[arg-type]
            resource, _slash, subresource = access.resource.partition("/")
            attributes = {"verb": access.verb, "group": access.group, "resource": resource}
            attributes |= {"subresource": subresource} if subresource else {}
            attributes |= {"namespace": access.namespace} if access.namespace else {}
            review = {
                "apiVersion": "authorization.k8s.io/v1",
                "kind": "SelfSubjectAccessReview",
                "spec": {"resourceAttributes": attributes},
            }
            path = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"
            response = self.request("POST", path, body=json.dumps(review))
            answer = self._checked(response, "POST", "selfsubjectaccessreviews").json()
            if not answer.get("status", {}).get("allowed"):
                denied.append(access)
        return denied

    def server_version(self) -> str:
        """Return the cluster's version without the leading v, e.g. ``1.34.4``."""
        if not self._version:
            answer = self._checked(self.request("GET", "/version"), "GET", "/version").json()
            self._version = str(answer["gitVersion"]).removeprefix("v")
        return self._version

    def portforward(self, namespace: str, pod: str, port: int) -> AbstractContextManager[tuple[str, int]]:
        """Return a context manager that yields a local (host, port) leading to ``port`` of the pod."""
        from .portforward import PortForward

        return PortForward(self, namespace, port, pod=pod)

    def close(self) -> None:
        """Close pooled connections."""
        self.transport.close()

    def _wait_gone(self, ref: Ref, uid: str | None, timeout: float) -> None:
        deadline = time.monotonic() + timeout
        pause = 0.1
        while True:
            left = self.get(ref)
            if left is None or left["metadata"].get("uid") != uid:
                return
            if time.monotonic() >= deadline:
                finalizers = ", ".join(left["metadata"].get("finalizers") or [])
                raise WaitError(
                    f"not gone after {timeout:.0f} s",
                    where=str(ref),
                    why=f"it still has the finalizers {finalizers}" if finalizers else "it is still being stopped",
                    fix="Find out what uses it; the deletion itself was accepted and goes on.",
                )
            time.sleep(min(pause, max(0.0, deadline - time.monotonic())))
            pause = min(pause * 1.5, 2.0)

    def request(
        self,
        method: str,
        path: str,
        *,
        query: Sequence[tuple[str, str]] = (),
        body: str | None = None,
        content_type: str = "application/json",
    ) -> Response:
        """Return the answer, repeating the call while its failure is transient.

        All calls of this class may be repeated: an apply, a merge patch, a delete with the object's uid, or a review.
        """
        started = time.monotonic()
        deadline = started + self.patience
        pause = 0.2
        while True:
            try:
                response = self.transport.request(
                    method, path, query=query, body=body, content_type=content_type, timeout=READ_TIMEOUT
                )
            except UnreachableError as failure:
                if not failure.transient or time.monotonic() + pause >= deadline:
                    raise unreachable_error(self.transport.host, failure) from None
                delay = pause
            else:
                if response.status == 500:  # more often a bug than a passing state
                    deadline = min(deadline, started + _PATIENCE_WITH_500)
                if not _transient(response) or time.monotonic() + pause >= deadline:
                    return response
                delay = max(pause, _retry_after(response))
            time.sleep(min(delay, max(0.0, deadline - time.monotonic())))
            pause = min(pause * 2, 5.0)

    def _checked(self, response: Response, method: str, where: str, hidden: Iterable[str] = ()) -> Response:
        if 200 <= response.status < 300:
            return response
        raise refusal(response, method, where, self.transport.host, hidden)


def connect(kubeconfig: str | None = None, context: str | None = None) -> Kube:
    """Return a client whose cluster answered and knows who asks.

    :param kubeconfig: path; default: the environment's, see :func:`.transport.load`.
    :param context: name in the kubeconfig; default: its current one.
    :raises ClusterError: no usable configuration, or within ten seconds: unreachable, not trusted, not authorised.
    """
    transport = load(kubeconfig, context)
    probe = Kube(transport, patience=0.0)
    review = {"apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview"}
    response = probe.request("POST", "/apis/authentication.k8s.io/v1/selfsubjectreviews", body=json.dumps(review))
    answer = response.json() or {}
    user = ((answer.get("status") or {}) if response.status == 201 else {}).get("userInfo") or {}
    anonymous = user.get("username") == _ANONYMOUS or (
        response.status == 403 and f'User "{_ANONYMOUS}"' in answer.get("message", "")
    )
    if response.status == 401 or anonymous:
        raise ClusterError(
            "the cluster does not accept the credentials",
            where=transport.host,
            why="they are missing, expired, or belong to another cluster",
            fix="Log in again or fetch a new kubeconfig; `kubectl auth whoami` must name you.",
        )
    # 403 and 404 are left to the calls that matter: reviews may be closed while the real work is allowed.
    if response.status >= 500 or response.json() is None:
        raise refusal(response, "POST", "selfsubjectreviews", transport.host)
    return Kube(transport)


def event_time(event: Mapping[str, Any]) -> str:
    """Return when an event was last seen, as the API writes times (UTC, so that text order is time order)."""
    series = event.get("series") or {}
    return str(
        series.get("lastObservedTime")
        or event.get("lastTimestamp")
        or event.get("eventTime")
        or event.get("firstTimestamp")
        or event.get("metadata", {}).get("creationTimestamp")
        or ""
    )


def unreachable_error(host: str, failure: UnreachableError) -> ClusterError:
    """Return the error for a server that gave no answer."""
    if failure.tls:
        return ClusterError(
            "the API server's certificate is not the one that the kubeconfig trusts",
            where=host,
            why=failure.reason,
            fix="Fetch a new kubeconfig: its certificate-authority-data or server address belongs to another cluster.",
        )
    return ClusterError(
        "cannot reach the Kubernetes API",
        where=host,
        why=failure.reason,
        fix="Check that the cluster runs and that the kubeconfig's server address leads to it.",
    )


def refusal(response: Response, method: str, where: str, host: str, hidden: Iterable[str] = ()) -> ClusterError:
    """Return the error for an answer that is not a success, in the server's words and with the next step."""
    status = response.json()
    text = status.get("message", "") if isinstance(status, dict) else ""
    text = changes.scrub(text or response.body.decode("utf-8", "replace").strip()[:300], hidden)
    if response.status == 401:
        return ClusterError(
            "the cluster does not accept the credentials",
            where=host,
            why=text,
            fix="Log in again or fetch a new kubeconfig; `kubectl auth whoami` must name you.",
        )
    if response.status == 403:
        return _forbidden(text, method, where)
    if response.status == 404 and not _served(response):
        return ClusterError(
            "the cluster does not serve this kind of object",
            where=where,
            why=text or "the path is unknown to the API server",
            fix="Use Kubernetes 1.28 to 1.34, and check that the server address is an API server's.",
        )
    if _namespace_missing(response):
        return ClusterError("the namespace does not exist", where=where, why=text, fix="Create it first.")
    if response.status in (400, 409, 422):
        return ClusterError(
            "the API server does not accept the object",
            where=where,
            why=text,
            fix="Correct the setting that the message names.",
        )
    return ClusterError(
        f"the API server answered {response.status}",
        where=where,
        why=text or "no message",
        fix="Look at the API server's state; the call may be repeated.",
    )


def _forbidden(text: str, method: str, where: str) -> ClusterError:
    match = _RBAC.search(text)
    if match:
        verb, resource, user = match["verb"], match["resource"], match["user"]
        return ClusterError(
            f"not allowed to {verb} {resource}",
            where=where,
            why=text,
            fix=f"Let an administrator grant {user} the verb {verb} on {resource} there.",
        )
    if "is being terminated" in text:
        fix = "Wait until the namespace is gone, or choose another one."
    elif "exceeded quota" in text:
        fix = "Lower the requests, or raise the namespace's ResourceQuota."
    elif "attempting to grant" in text:
        fix = "Nobody can grant more than they hold: use an identity that holds these rights."
    elif "PodSecurity" in text:
        fix = "Label the namespace with a Pod Security level that allows this pod."
    else:
        fix = "Ask the cluster's administrator about the admission rule that the message names."
    return ClusterError(
        f"the cluster refused to {_VERBS.get(method, method)} the object", where=where, why=text, fix=fix
    )


def _conflicts(response: Response) -> list[tuple[str, str]]:
    """Return (field, manager) of every field that another manager holds with another value."""
    if response.status != 409:
        return []
    causes = ((response.json() or {}).get("details") or {}).get("causes") or []
    return [
        (str(cause.get("field", "")), str(cause.get("message", "")).removeprefix("conflict with "))
        for cause in causes
        if cause.get("reason") == "FieldManagerConflict"
    ]


def _conflict_error(ref: Ref, conflicts: Sequence[tuple[str, str]]) -> ClusterError:
    by_manager: dict[str, list[str]] = {}
    for field, manager in conflicts:
        by_manager.setdefault(manager, []).append(field)
    why = "; ".join(f"{manager} owns {', '.join(fields)}" for manager, fields in by_manager.items())
    return ClusterError(
        "another manager set fields that this deployment sets differently",
        where=str(ref),
        why=why,
        fix="Take its change back or give these settings the same value here; nothing of this object was changed.",
    )


def _ours_to_take(field: str, manager: str, force: bool | Collection[str]) -> bool:
    """Return whether a conflict may be forced: by the caller's leave, or because the other one is this client itself.

    A change through a subresource (:meth:`Kube.scale`) is booked under the same manager, but apart.
    """
    if manager.startswith(f'"{FIELD_MANAGER}"'):
        return True
    return not isinstance(force, bool) and any(
        field == path or field.startswith((f"{path}.", f"{path}[")) for path in force
    )


def _served(response: Response) -> bool:
    """Tell "no such object" from "no such API": only the former's answer names a kind in its details."""
    status = response.json()
    return isinstance(status, dict) and bool((status.get("details") or {}).get("kind"))


def _namespace_missing(response: Response) -> bool:
    details = ((response.json() or {}).get("details") or {}) if response.status == 404 else {}
    return bool(details.get("kind") == "namespaces")


def _transient(response: Response) -> bool:
    return response.status in _TRANSIENT_STATUS


def _outrun(response: Response) -> bool:
    """Return whether somebody else wrote the object since it was read."""
    return response.status == 409 and b"the object has been modified" in response.body


def _retry_after(response: Response) -> float:
    try:
        return min(float(response.headers.get("retry-after", "0")), 10.0)
    except ValueError:
        return 0.0


def _object(response: Response) -> Object:
    obj: Object = response.json()
    return obj
