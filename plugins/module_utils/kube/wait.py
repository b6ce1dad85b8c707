# SPDX-FileCopyrightText: 2026 The pachops.pachyderm contributors
# SPDX-License-Identifier: BSD-2-Clause
"""Wait until something in the cluster is ready, say what is being waited for, and fail early with the cause.

Each round looks at the object, its pods and claims, and the events about them.  A sign of trouble that will not heal by
itself ends the wait once it has stood for its grace period; everything else is waited out, and a timeout carries the
state of every pod, its last events and its last log lines.
"""

from __future__ import annotations

import re
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from ..errors import ClusterError, WaitError
from ..pachd.storage_secret import CONFIDENTIAL, SECRET_NAME
from ..progress import Progress
from .apply import scrub, spellings
from .client import Kube, Object, Ref, event_time
from .kinds import kind_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

LOG_LINES = 12

# Seconds for which a sign of trouble must stand before it ends the wait: each may also be a passing state.
_GRACE: Mapping[str, float] = {
    "absent": 3.0,
    "image-name": 3.0,
    "image": 10.0,
    "config": 6.0,
    "claim": 6.0,
    "provisioning": 45.0,
    "start": 10.0,
    "crash": 0.0,
    "quota": 12.0,
    "mount": 20.0,
    "unschedulable": 20.0,
    "probe": 180.0,
}
_READ_LINES = 400
_STACK = re.compile(r"\s|goroutine \d+ \[|created by |[\w./*()\[\]·@-]+\(.*\)$")
_CRASHES = 2  # restarts of one container, seen during the wait, that make a crash loop
_IMAGE_NAME = frozenset({"InvalidImageName", "ErrImageNeverPull"})
_IMAGE_PULL = frozenset({"ErrImagePull", "ImagePullBackOff", "ImageInspectError", "RegistryUnavailable"})
_START = frozenset({"CreateContainerError", "RunContainerError"})
# A node that is only just joining carries these, and an autoscaler says so when it is about to help.
_PASSING_TAINTS = (
    "node.kubernetes.io/not-ready",
    "node.kubernetes.io/unreachable",
    "node.kubernetes.io/network-unavailable",
    "node.cloudprovider.kubernetes.io/uninitialized",
    "no nodes available to schedule pods",
)
_PASSING_EVENTS = frozenset({"TriggeredScaleUp"})


@dataclass(frozen=True)
class Trouble:
    """One sign of trouble: ``kind`` picks the grace period, the rest is the error's text if it stands."""

    kind: str
    what: str
    where: str
    why: str
    fix: str
    pod: Object | None = None
    container: str = ""
    previous: bool = False

    def key(self) -> tuple[str, str, str]:
        """Return what makes two sightings the same trouble: kind, object, container."""
        return (self.kind, self.where, self.container)


@dataclass
class View:
    """What one round saw."""

    ref: Ref
    obj: Object | None
    pods: list[Object] = field(default_factory=list)
    claims: list[Object] = field(default_factory=list)
    events: list[Object] = field(default_factory=list)

    def about(self, obj: Object) -> list[Object]:
        """Return the events about this very object, oldest first; a predecessor of the same name does not count."""
        uid = obj["metadata"].get("uid")
        return [event for event in self.events if event.get("involvedObject", {}).get("uid") == uid]

    def about_controllers(self) -> list[Object]:
        """Return the events about the workload and what stands between it and its pods (ReplicaSets)."""
        name = self.ref.name
        return [
            event
            for event in self.events
            if (owner := event.get("involvedObject", {})).get("kind") not in ("Pod", "PersistentVolumeClaim")
            and (owner.get("name") == name or str(owner.get("name", "")).startswith(f"{name}-"))
        ]


def wait_for(
    kube: Kube,
    ref: Ref,
    timeout: float,
    progress: Progress | None = None,
    works: Callable[[], bool] = lambda: False,
) -> None:
    """Return when ``ref`` is ready: a rollout is complete, a pod is ready, a claim is bound, a job has completed.

    A claim whose class binds on first use counts as ready while nothing uses it.

    :param timeout: seconds.
    :param works: tells that it does its work already; the cluster learns of that a second or two later, by its probes.
    :raises WaitError: it failed, or the time is over; the message has the cause as far as the cluster tells it.
    """
    _Wait(kube, ref, timeout, progress or Progress()).until_ready(works)


def wait_gone(kube: Kube, ref: Ref, timeout: float, progress: Progress | None = None) -> None:
    """Return when ``ref`` no longer exists, for a workload together with its pods.

    :param timeout: seconds.
    :raises WaitError: it is still there; the message says what holds it.
    """
    _Wait(kube, ref, timeout, progress or Progress()).until_gone()


class _Wait:
    def __init__(self, kube: Kube, ref: Ref, timeout: float, progress: Progress) -> None:
        self.kube = kube
        self.ref = ref
        self.timeout = timeout
        self.progress = progress
        self.started = time.monotonic()
        self.since: dict[tuple[str, str, str], float] = {}
        self.restarts: dict[tuple[str, str], int] = {}
        self.selector = ""

    def until_ready(self, works: Callable[[], bool]) -> None:
        for pause in _pauses():
            view = self._look()
            if view.obj is not None and (ready(view.obj) or works()):
                return
            self._fail_on(self._troubles(view))
            if view.obj is not None and _bound_on_first_use(view):
                return
            self.progress.update(detail=f"{self.ref.name}: {describe(view)}")
            if self._over():
                raise self._timeout(view, "is not ready")
            time.sleep(min(pause, self._left()))

    def until_gone(self) -> None:
        view = self._look()
        self.selector = self.selector or _selector(view.obj)
        for pause in _pauses():
            if view.obj is None and not view.pods:
                return
            finalizers = (view.obj or {}).get("metadata", {}).get("finalizers") or []
            held = f"held by {', '.join(finalizers)}" if finalizers else ""
            stopping = f"{len(view.pods)} pods are stopping" if view.pods and self.ref.kind != "Pod" else ""
            self.progress.update(detail=f"{self.ref.name}: {held or stopping or 'being removed'}")
            if self._over():
                raise self._timeout(view, "is not gone", held)
            time.sleep(min(pause, self._left()))
            view = self._look()

    def _look(self) -> View:
        obj = self.kube.get(self.ref)
        view = View(self.ref, obj)
        if kind_of(self.ref.api_version, self.ref.kind).namespaced and not (obj and ready(obj)):
            namespace = self.ref.namespace
            self.selector = self.selector or _selector(obj)
            if self.ref.kind == "Pod":
                view.pods = [obj] if obj else []
            elif self.selector:
                view.pods = self.kube.list("v1", "Pod", namespace, labels=self.selector)
            view.claims = self._claims(view)
            view.events = sorted(self.kube.list("v1", "Event", namespace), key=event_time)
        return view

    def _claims(self, view: View) -> list[Object]:
        if self.ref.kind == "PersistentVolumeClaim":
            return [view.obj] if view.obj else []
        names = {
            volume["persistentVolumeClaim"]["claimName"]
            for pod in view.pods
            if not _condition(pod, "Ready")
            for volume in pod.get("spec", {}).get("volumes") or []
            if "persistentVolumeClaim" in volume
        }
        found = [self.kube.get(Ref("v1", "PersistentVolumeClaim", self.ref.namespace, name)) for name in sorted(names)]
        return [claim for claim in found if claim is not None]

    def _troubles(self, view: View) -> Iterator[Trouble]:
        if view.obj is None:
            yield Trouble(
                "absent", "it does not exist", str(self.ref), "nothing of this name is there", "Create it first."
            )
            return
        if self.ref.kind == "Job" and _condition(view.obj, "Failed"):
            yield self._failed_job(view)
        yield from _controller_troubles(view)
        for claim in view.claims:
            yield from _claim_troubles(claim, view.about(claim))
        for pod in view.pods:
            if _condition(pod, "Ready") or pod["metadata"].get("deletionTimestamp"):
                continue
            events = view.about(pod)
            yield from _scheduling_troubles(pod, events)
            yield from _mount_troubles(pod, events)
            for status in container_statuses(pod):
                yield from self._container_troubles(pod, status, events)

    def _container_troubles(
        self, pod: Object, status: Mapping[str, Any], events: Sequence[Object]
    ) -> Iterator[Trouble]:
        name, where = str(status["name"]), f"pod {pod['metadata']['namespace']}/{pod['metadata']['name']}"
        waiting = status.get("state", {}).get("waiting") or {}
        reason, message = waiting.get("reason", ""), waiting.get("message", "")
        image = _image(pod, name) or status.get("image", "")
        if reason in _IMAGE_NAME or reason in _IMAGE_PULL:
            kind = "image-name" if reason in _IMAGE_NAME else "image"
            yield Trouble(
                kind,
                f"the image {image} cannot be pulled",
                where,
                _pull_failure(events, image) or message or reason,
                "Name a registry that has it, import it from an archive, or correct the image's name.",
                pod,
                name,
            )
        elif reason == "CreateContainerConfigError":
            yield Trouble(
                "config", "the container cannot be configured", where, message, _config_fix(message), pod, name
            )
        elif reason in _START:
            fix = "Correct the command or the image."
            yield Trouble("start", f"the container {name} cannot be started", where, message, fix, pod, name)
        restarts = int(status.get("restartCount", 0))
        # A pod that crashed before may be one that a rollout is about to replace.
        first = self.restarts.setdefault((pod["metadata"]["uid"], name), restarts if restarts >= _CRASHES else 0)
        if restarts - first >= _CRASHES:
            yield self._crash(pod, status, where, events)
        elif not status.get("ready") and _runs(status) and _is_main(pod, name):
            failing = _last(events, "Unhealthy")
            if failing is not None:
                yield Trouble(
                    "probe",
                    f"the container {name} runs and does not become ready",
                    where,
                    str(failing.get("message", "")),
                    "Read its log.",
                    pod,
                    name,
                )

    def _crash(self, pod: Object, status: Mapping[str, Any], where: str, events: Sequence[Object]) -> Trouble:
        ended = status.get("state", {}).get("terminated") or status.get("lastState", {}).get("terminated") or {}
        killed = _last(events, "Unhealthy") if ended.get("exitCode") in (137, 143) else None
        end = f"{ended.get('reason', 'ended')}, exit code {ended.get('exitCode', 'unknown')}"
        words = [end, str(ended.get("message") or "").strip(), str(killed.get("message", "")) if killed else ""]
        fix = "Raise its memory limit." if ended.get("reason") == "OOMKilled" else "Read the lines above."
        what = f"the container {status['name']} crashes again and again"
        why = "; ".join(filter(None, words))
        # While it runs again, the crashed one's log is that of the previous container.
        again = _runs(status)
        return Trouble("crash", what, where, why, fix, pod, str(status["name"]), previous=again)

    def _failed_job(self, view: View) -> Trouble:
        condition = _condition_of(view.obj or {}, "Failed")
        pod = max(view.pods, key=lambda item: str(item["metadata"].get("creationTimestamp")), default=None)
        container = container_statuses(pod)[0]["name"] if pod and container_statuses(pod) else ""
        why = f"{condition.get('reason', '')}: {condition.get('message', '')}".strip(": ")
        return Trouble("crash", "the job failed", str(self.ref), why, "Read the lines above.", pod, container)

    def _fail_on(self, troubles: Iterable[Trouble]) -> None:
        """Raise for the first trouble that has stood for its grace period; forget those that went away."""
        now = time.monotonic()
        seen: dict[tuple[str, str, str], float] = {}
        for trouble in troubles:
            first = seen.setdefault(trouble.key(), self.since.get(trouble.key(), now))
            if now - first >= _GRACE[trouble.kind]:
                pods = [trouble.pod] if trouble.pod else []
                redactor = _Redactor(self.kube, pods)
                why = trouble.why
                if pods and trouble.kind in ("crash", "probe"):
                    why += self._log_tail(pods[0], trouble.container, redactor, previous=trouble.previous)
                raise WaitError(trouble.what, where=trouble.where, why=redactor.hide(why), fix=trouble.fix)
        self.since = seen

    def _timeout(self, view: View, what: str, held: str = "") -> WaitError:
        redactor = _Redactor(self.kube, view.pods)
        parts = [held] if held else []
        for pod in view.pods:
            part = f"pod {pod['metadata']['name']}: {pod_state(pod)}"
            events = [event_text(event) for event in view.about(pod)[-3:]]
            part += f"; last events: {' | '.join(events)}" if events else ""
            container = next((str(item["name"]) for item in container_statuses(pod) if not item.get("ready")), "")
            part += self._log_tail(pod, container, redactor) if container else ""
            parts.append(part)
        parts += [
            f"claim {claim['metadata']['name']}: {claim.get('status', {}).get('phase', 'Pending')}"
            + "".join(f"; {event_text(event)}" for event in view.about(claim)[-1:])
            for claim in view.claims
            if claim.get("status", {}).get("phase") != "Bound"
        ]
        if not parts:
            parts = ["it does not exist" if view.obj is None else describe(view)]
            parts += [event_text(event) for event in view.about_controllers()[-3:]]
        return WaitError(
            f"{self.ref.kind} {self.ref.name} {what} after {self.timeout:.0f} s",
            where=f"namespace {self.ref.namespace}" if self.ref.namespace else "",
            why=redactor.hide("\n".join(parts)),
            fix="If it only needs longer, raise the time-out.",
        )

    def _log_tail(self, pod: Object, container: str, redactor: _Redactor, *, previous: bool = False) -> str:
        if redactor.blind:
            return f"\n(the log is withheld: {redactor.blind} cannot be read, so nothing in it could be hidden)"
        namespace, name = pod["metadata"]["namespace"], pod["metadata"]["name"]
        text = ""
        for earlier in (previous, not previous):
            text = text or self.kube.logs(namespace, name, container, _READ_LINES, earlier)
        lines = "\n".join(f"  {line}" for line in telling_lines(text))
        return f"\nlast lines of {container}:\n{lines}\n" if lines else ""

    def _over(self) -> bool:
        return time.monotonic() - self.started >= self.timeout

    def _left(self) -> float:
        return max(0.05, self.timeout - (time.monotonic() - self.started))


class _Redactor:
    """Hides, in logs and messages, what the secrets of some pods hold; ``blind`` names one that could not be read."""

    def __init__(self, kube: Kube, pods: Iterable[Object]) -> None:
        self.blind = ""
        values: set[str] = set()
        for namespace, name in sorted({(pod["metadata"]["namespace"], name) for pod in pods for name in _secrets(pod)}):
            try:
                secret = kube.get(Ref("v1", "Secret", namespace, name))
            except ClusterError:
                self.blind = f"secret {name}"
                continue
            for key, encoded in ((secret or {}).get("data") or {}).items():
                if name != SECRET_NAME or key in CONFIDENTIAL:
                    values.update(spellings(encoded))
        self._values = sorted(values, key=len, reverse=True)

    def hide(self, text: str) -> str:
        return scrub(text, self._values)


def ready(obj: Object) -> bool:
    """Return whether an object is as asked for; kinds without a state of their own are ready once they exist."""
    phase = (obj.get("status") or {}).get("phase")
    kinds: Mapping[str, Callable[[], bool]] = {
        "Pod": lambda: phase == "Succeeded" or _condition(obj, "Ready"),
        "PersistentVolumeClaim": lambda: phase == "Bound",
        "Namespace": lambda: phase == "Active",
        "Job": lambda: _condition(obj, "Complete"),
        "Deployment": lambda: _rolled_out(obj, ("replicas", "updatedReplicas", "availableReplicas")),
        "ReplicationController": lambda: _rolled_out(obj, ("replicas", "readyReplicas")),
        "StatefulSet": lambda: _rolled_out(obj, ("replicas", "readyReplicas")),
    }
    return kinds.get(obj["kind"], lambda: True)()


def _rolled_out(obj: Object, counts: Sequence[str]) -> bool:
    spec, status = obj.get("spec") or {}, obj.get("status") or {}
    if status.get("observedGeneration", 0) < obj["metadata"].get("generation", 0):
        return False
    if any(status.get(name, 0) != spec.get("replicas", 1) for name in counts):
        return False
    by_itself = spec.get("updateStrategy", {}).get("type") != "OnDelete"
    return status.get("currentRevision") == status.get("updateRevision") or not by_itself


def describe(view: View) -> str:
    """Return one line: how far it is, and what the youngest unready pod (or the claim) is about."""
    obj, pods = view.obj, view.pods
    if obj is None:
        return "not there yet"
    if view.ref.kind == "PersistentVolumeClaim":
        events = view.about(obj)
        return f"{obj.get('status', {}).get('phase', 'Pending')}{_last_words(events)}"
    unready = [pod for pod in pods if not _condition(pod, "Ready")]
    head = ""
    if view.ref.kind in ("Deployment", "StatefulSet", "ReplicationController"):
        wanted = (obj.get("spec") or {}).get("replicas", 1)
        head = f"{len(pods) - len(unready)} of {wanted} ready"
    if not unready:
        return head or "no pod yet"
    youngest = max(unready, key=lambda pod: str(pod["metadata"].get("creationTimestamp", "")))
    line = f"{youngest['metadata']['name']} {pod_state(youngest)}{_last_words(view.about(youngest))}"
    return f"{head}; {line}" if head else line


def pod_state(pod: Object) -> str:
    """Return a pod's state in a few words: phase, restarts, what each container that is not ready waits for."""
    status = pod.get("status", {})
    if pod["metadata"].get("deletionTimestamp"):
        return "stopping"
    words = [str(status.get("reason") or status.get("phase", "Unknown"))]
    if status.get("message"):
        words.append(str(status["message"]))
    scheduled = _condition_of(pod, "PodScheduled")
    if scheduled.get("status") == "False":
        words.append(str(scheduled.get("message", "")))
    for item in container_statuses(pod):
        waiting = item.get("state", {}).get("waiting")
        ended = item.get("state", {}).get("terminated")
        if waiting and waiting.get("reason") not in (None, "ContainerCreating", "PodInitializing"):
            words.append(f"{item['name']} {waiting['reason']}")
        elif ended and ended.get("exitCode"):
            words.append(f"{item['name']} ended with exit code {ended['exitCode']}")
        elif _runs(item) and not item.get("ready"):
            words.append(f"{item['name']} runs, not ready")
        if item.get("restartCount"):
            words.append(f"{item['restartCount']} restarts")
    return ", ".join(filter(None, words))


def container_statuses(pod: Object) -> list[dict[str, Any]]:
    """Return the states of a pod's containers, init containers first."""
    status = pod.get("status", {})
    return [*(status.get("initContainerStatuses") or []), *(status.get("containerStatuses") or [])]


def event_text(event: Object) -> str:
    """Return an event as one line."""
    message = " ".join(str(event.get("message", "")).split())
    return f"{event.get('reason', '')}: {message[:400]}"


def telling_lines(log: str, most: int = LOG_LINES) -> list[str]:
    """Return a log's last lines without Go's stack dumps: pachd prints hundreds of such lines before the reason."""
    lines = [line.rstrip() for line in log.splitlines()]
    return [line for line in lines if line.strip() and not _STACK.match(line)][-most:]


def _pauses() -> Iterator[float]:
    pause = 0.15
    while True:
        yield pause
        pause = min(pause * 1.1, 0.6)


def _controller_troubles(view: View) -> Iterator[Trouble]:
    obj = view.obj or {}
    wanted = (obj.get("spec") or {}).get("replicas", 1)
    if len(view.pods) >= wanted or view.ref.kind in ("Pod", "PersistentVolumeClaim"):
        return
    failure = _condition_of(obj, "ReplicaFailure")
    event = _last(view.about_controllers(), "FailedCreate")
    message = (
        str(failure.get("message", "")) if failure.get("status") == "True" else str((event or {}).get("message", ""))
    )
    if message:
        fix = "Correct what the message names: quota, admission rule, service account."
        yield Trouble("quota", "the cluster refuses to create the pod", str(view.ref), message, fix)


def _claim_troubles(claim: Object, events: Sequence[Object]) -> Iterator[Trouble]:
    phase = claim.get("status", {}).get("phase", "Pending")
    where = f"claim {claim['metadata']['namespace']}/{claim['metadata']['name']}"
    if phase == "Lost":
        fix = "Bring the volume back, or remove the claim and restore its content from a backup."
        yield Trouble("claim", "the claim has lost its volume", where, "the volume that it was bound to is gone", fix)
    if phase != "Pending":
        return
    for reason, kind in (("FailedBinding", "claim"), ("ProvisioningFailed", "provisioning")):
        event = _last(events, reason)
        if event is None:
            continue
        message = str(event.get("message", ""))
        if "no storage class is set" in message:
            fix = "Mark a StorageClass as the default one, or name a class in the deployment's settings."
        else:
            fix = "Name a StorageClass that exists and whose provisioner runs."
        sure = kind == "claim" or "not found" in message
        yield Trouble("claim" if sure else kind, "no volume can be had for the claim", where, message, fix)
        return


def _scheduling_troubles(pod: Object, events: Sequence[Object]) -> Iterator[Trouble]:
    scheduled = _condition_of(pod, "PodScheduled")
    if scheduled.get("status") != "False" or scheduled.get("reason") != "Unschedulable":
        return
    message = str(scheduled.get("message", ""))
    if any(word in message for word in _PASSING_TAINTS) or any(_last(events, reason) for reason in _PASSING_EVENTS):
        return
    where = f"pod {pod['metadata']['namespace']}/{pod['metadata']['name']}"
    fix = "Lower the requests, adjust node selector and tolerations, or add a node."
    yield Trouble("unschedulable", "no node can take the pod", where, message, fix, pod)


def _mount_troubles(pod: Object, events: Sequence[Object]) -> Iterator[Trouble]:
    if any(_runs(item) for item in container_statuses(pod)):
        return
    event = _last(events, "FailedMount")
    message = str((event or {}).get("message", ""))
    if "not found" in message or "references non-existent" in message:
        where = f"pod {pod['metadata']['namespace']}/{pod['metadata']['name']}"
        yield Trouble("mount", "a volume of the pod cannot be mounted", where, message, _config_fix(message), pod)


def _config_fix(message: str) -> str:
    if "secret" in message.lower():
        return "Create the secret, or add the key that it lacks."
    return "Create the ConfigMap or the key that the message names."


def _bound_on_first_use(view: View) -> bool:
    if view.ref.kind != "PersistentVolumeClaim" or view.obj is None:
        return False
    return _last(view.about(view.obj), "WaitForFirstConsumer") is not None


def _last(events: Sequence[Object], reason: str) -> Object | None:
    return next((event for event in reversed(events) if event.get("reason") == reason), None)


def _last_words(events: Sequence[Object]) -> str:
    return f" ({event_text(events[-1])})" if events else ""


def _pull_failure(events: Sequence[Object], image: str) -> str:
    """Return the registry's words: the event has them even while the container only reports its back-off."""
    for event in reversed(events):
        message = str(event.get("message", ""))
        if event.get("reason") == "Failed" and message.startswith("Failed to pull image") and image in message:
            return message
    return ""


def _condition_of(obj: Object, name: str) -> Mapping[str, Any]:
    conditions = (obj.get("status") or {}).get("conditions") or []
    return next((item for item in conditions if item.get("type") == name), {})


def _condition(obj: Object, name: str) -> bool:
    return _condition_of(obj, name).get("status") == "True"


def _runs(status: Mapping[str, Any]) -> bool:
    return status.get("state", {}).get("running") is not None


def _is_main(pod: Object, name: str) -> bool:
    return any(item.get("name") == name for item in pod.get("spec", {}).get("containers") or [])


def _image(pod: Object, name: str) -> str:
    spec = pod.get("spec", {})
    for item in [*(spec.get("initContainers") or []), *(spec.get("containers") or [])]:
        if item.get("name") == name:
            return str(item.get("image", ""))
    return ""


def _selector(obj: Object | None) -> str:
    """Return the label selector of a workload's pods, empty for objects that have none."""
    selector = ((obj or {}).get("spec") or {}).get("selector") or {}
    labels = selector.get("matchLabels", selector) if isinstance(selector, dict) else {}
    if (obj or {}).get("kind") == "PersistentVolumeClaim":
        return ""
    return ",".join(f"{key}={value}" for key, value in sorted(labels.items()) if isinstance(value, str))


def _secrets(pod: Object) -> set[str]:
    """Return the names of all secrets that a pod's containers can see."""
    spec = pod.get("spec", {})
    names: set[str] = set()
    for container in [*(spec.get("initContainers") or []), *(spec.get("containers") or [])]:
        for item in container.get("env") or []:
            names.add(((item.get("valueFrom") or {}).get("secretKeyRef") or {}).get("name", ""))
        for item in container.get("envFrom") or []:
            names.add((item.get("secretRef") or {}).get("name", ""))
    for volume in spec.get("volumes") or []:
        names.add((volume.get("secret") or {}).get("secretName", ""))
        for source in (volume.get("projected") or {}).get("sources") or []:
            names.add((source.get("secret") or {}).get("name", ""))
    return names - {""}
