# SPDX-FileCopyrightText: 2026 The pachops.pachyderm contributors
# SPDX-License-Identifier: BSD-2-Clause
"""Cloud Storage buckets: wanted state, the patch that leads to it, and what is refused.

Three rules: an option that is not set never changes a bucket; what protects an existing bucket is never weakened unless
that is asked for by name; nothing but an empty bucket is deleted unless that is asked for by name.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from ..errors import InputError, StorageError
from ..progress import Progress
from .client import CONFLICT, ApiError, Gcp, pause_before, segment

STORAGE_CLASSES = ("STANDARD", "NEARLINE", "COLDLINE", "ARCHIVE")
PUBLIC_ACCESS = ("enforced", "inherited")
SOFT_DELETE_DAYS = (7, 90)
LONGEST_RETENTION = 3_155_760_000  # seconds, 100 years
MOST_LABELS = 64

# https://cloud.google.com/storage/docs/buckets#naming
_NAME = re.compile(r"^[a-z0-9][a-z0-9._-]{1,220}[a-z0-9]$")
_ADDRESS = re.compile(r"^\d{1,3}(\.\d{1,3}){3}$")
_LABEL_KEY = re.compile(r"^[a-z][a-z0-9_-]{0,62}$")
_LABEL_VALUE = re.compile(r"^[a-z0-9_-]{0,63}$")
_KMS_KEY = re.compile(r"^projects/[^/]+/locations/[^/]+/keyRings/[^/]+/cryptoKeys/[^/]+$")


@dataclass(frozen=True)
class BucketSpec:
    """A bucket as it is wanted; None means: leave it as it is.

    :param location: needed to create; compared with an existing bucket, never changed.
    :param retention: seconds for which an object can be neither deleted nor overwritten; 0 takes the policy away.
    :param soft_delete: seconds for which deleted objects can be had back; 0 switches soft delete off.
    :param kms_key: resource name of the default encryption key; "" goes back to Google's keys.
    :param labels: label key -> value; others stay unless ``purge_labels``.
    :param lifecycle: the rules of Cloud Storage's JSON (``{"action": …, "condition": …}``); [] takes all away.
    """

    name: str
    location: str | None = None
    storage_class: str | None = None
    uniform_access: bool | None = None
    public_access_prevention: str | None = None
    versioning: bool | None = None
    retention: int | None = None
    lock_retention: bool = False
    soft_delete: int | None = None
    labels: Mapping[str, str] | None = None
    purge_labels: bool = False
    kms_key: str | None = None
    lifecycle: list[dict[str, Any]] | None = None


def validate(spec: BucketSpec) -> list[str]:
    """Everything that is wrong with the wanted state, at once."""
    problems = validate_name(spec.name)
    for option, value, allowed in (
        ("storage_class", spec.storage_class, STORAGE_CLASSES),
        ("public_access_prevention", spec.public_access_prevention, PUBLIC_ACCESS),
    ):
        if value is not None and value not in allowed:
            problems.append(f"{option} {value!r} is none of {', '.join(allowed)}")
    if spec.kms_key and not _KMS_KEY.match(spec.kms_key):
        problems.append(
            f"kms_key {spec.kms_key!r} is no resource name; expected"
            " projects/PROJECT/locations/LOCATION/keyRings/RING/cryptoKeys/KEY"
        )
    problems += _validate_periods(spec)
    problems += _validate_labels(spec.labels or {})
    problems += [
        f"lifecycle rule {number} needs an action with a type, and a condition"
        for number, rule in enumerate(spec.lifecycle or [], start=1)
        if not isinstance(rule.get("action"), dict) or not rule["action"].get("type") or not rule.get("condition")
    ]
    return problems


def _validate_periods(spec: BucketSpec) -> list[str]:
    problems = []
    if spec.retention is not None and not 0 <= spec.retention <= LONGEST_RETENTION:
        problems.append(f"retention {spec.retention} s is not between 0 and {LONGEST_RETENTION} s (100 years)")
    if spec.lock_retention and not spec.retention:
        problems.append("lock_retention needs a retention above 0")
    least, most = (days * 86400 for days in SOFT_DELETE_DAYS)
    if spec.soft_delete and not least <= spec.soft_delete <= most:
        problems.append(
            f"soft_delete {spec.soft_delete} s is neither 0 nor between {least} s (7 days) and {most} s (90 days)"
        )
    return problems


def _validate_labels(labels: Mapping[str, str]) -> list[str]:
    problems = [
        f"label {key}={value}: lower-case letters, digits, _ and - only, the key starting with a letter"
        for key, value in labels.items()
        if not _LABEL_KEY.match(key) or not _LABEL_VALUE.match(value)
    ]
    if len(labels) > MOST_LABELS:
        problems.append(f"{len(labels)} labels are more than the {MOST_LABELS} that a bucket can have")
    return problems


def validate_name(name: str) -> list[str]:
    """What Google's naming rules say against a bucket's name."""
    whole = f"bucket name {name!r}"
    if not _NAME.match(name):
        return [
            f"{whole}: 3 to 222 lower-case letters, digits, '-', '_' or '.', starting and ending with a letter or digit"
        ]
    problems = []
    if "." not in name and len(name) > 63:
        problems.append(f"{whole}: more than 63 characters are allowed only in names with dots")
    if any(len(part) > 63 or not part for part in name.split(".")):
        problems.append(f"{whole}: each part between dots has 1 to 63 characters")
    if _ADDRESS.match(name):
        problems.append(f"{whole}: looks like an IP address")
    if name.startswith("goog") or "google" in name or "g00gle" in name:
        problems.append(f"{whole}: names that start with goog or contain google are reserved")
    return problems


@dataclass(frozen=True)
class View:
    """A bucket's settings in the options' terms; what a diff shows and what plans are made from."""

    settings: dict[str, Any]

    @classmethod
    def of(cls, body: Mapping[str, Any]) -> View:
        """Read Google's JSON."""
        access = body.get("iamConfiguration") or {}
        retention = body.get("retentionPolicy") or {}
        return cls(
            {
                "name": body.get("name", ""),
                "location": body.get("location", ""),
                "storage_class": body.get("storageClass", ""),
                "uniform_access": bool((access.get("uniformBucketLevelAccess") or {}).get("enabled", False)),
                "public_access_prevention": access.get("publicAccessPrevention", "inherited"),
                "versioning": bool((body.get("versioning") or {}).get("enabled", False)),
                "retention": int(retention.get("retentionPeriod", 0)),
                "retention_locked": bool(retention.get("isLocked", False)),
                "soft_delete": int((body.get("softDeletePolicy") or {}).get("retentionDurationSeconds", 0)),
                "labels": dict(body.get("labels") or {}),
                "kms_key": (body.get("encryption") or {}).get("defaultKmsKeyName", ""),
                "lifecycle": (body.get("lifecycle") or {}).get("rule", []),
            }
        )


def wanted(spec: BucketSpec, current: Mapping[str, Any]) -> dict[str, Any]:
    """The settings after the change: the current ones with the spec's over them."""
    result = dict(current)
    for name in (
        "storage_class",
        "uniform_access",
        "public_access_prevention",
        "versioning",
        "retention",
        "soft_delete",
    ):
        value = getattr(spec, name)
        if value is not None:
            result[name] = value
    if spec.kms_key is not None:
        result["kms_key"] = spec.kms_key
    if spec.lifecycle is not None:
        result["lifecycle"] = [dict(rule) for rule in spec.lifecycle]
    if spec.lock_retention:
        result["retention_locked"] = True
    if spec.labels is not None:
        result["labels"] = dict(spec.labels) if spec.purge_labels else {**current["labels"], **spec.labels}
    return result


def weakened(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[str]:
    """The protections that the change would take away or shorten."""
    losses = [
        f"{name} would be switched off" for name in ("uniform_access", "versioning") if before[name] and not after[name]
    ]
    if before["public_access_prevention"] == "enforced" != after["public_access_prevention"]:
        losses.append("public_access_prevention would no longer be enforced")
    losses += [
        f"{name} would shrink from {before[name]} s to {after[name]} s"
        for name in ("retention", "soft_delete")
        if after[name] < before[name]
    ]
    if before["kms_key"] and not after["kms_key"]:
        losses.append("the customer-managed encryption key would be dropped")
    return losses


def _or_nothing(name: str, value: Any) -> dict[str, Any] | None:
    """An object with one field; null, which takes the whole object away in a patch, where the field would be empty."""
    return {name: value} if value else None


# Setting -> (field of the JSON, the field's value).
_FIELDS: dict[str, tuple[str, Callable[[Any], Any]]] = {
    "storage_class": ("storageClass", lambda value: value),
    "versioning": ("versioning", lambda value: {"enabled": value}),
    "retention": ("retentionPolicy", lambda value: _or_nothing("retentionPeriod", str(value) if value else "")),
    "soft_delete": ("softDeletePolicy", lambda value: {"retentionDurationSeconds": str(value)}),
    "kms_key": ("encryption", lambda value: _or_nothing("defaultKmsKeyName", value)),
    "lifecycle": ("lifecycle", lambda value: _or_nothing("rule", value)),
}
_ACCESS_FIELDS: dict[str, tuple[str, Callable[[Any], Any]]] = {
    "uniform_access": ("uniformBucketLevelAccess", lambda value: {"enabled": value}),
    "public_access_prevention": ("publicAccessPrevention", lambda value: value),
}


def resource(settings: Mapping[str, Any], before: Mapping[str, Any] | None) -> dict[str, Any]:
    """The JSON that leads from ``before`` (None: no bucket yet) to ``settings``: only what differs."""

    def fields(table: Mapping[str, tuple[str, Callable[[Any], Any]]]) -> dict[str, Any]:
        result = {}
        for name, (field, convert) in table.items():
            if settings[name] is not None and (before is None or settings[name] != before[name]):
                result[field] = convert(settings[name])
        return result

    body = fields(_FIELDS)
    access = fields(_ACCESS_FIELDS)
    if access:
        body["iamConfiguration"] = access
    if before is None:
        body = {key: value for key, value in body.items() if value is not None}
        body.update(name=settings["name"], location=settings["location"])
    labels = {} if before is None else before["labels"]
    if settings["labels"] != labels:
        body["labels"] = {**settings["labels"], **{key: None for key in labels if key not in settings["labels"]}}
    return body


# What a spec is laid over where there is no bucket: None stands for Google's own default, which the answer will tell.
_NOTHING: dict[str, Any] = {
    "location": None,
    "storage_class": None,
    "uniform_access": None,
    "public_access_prevention": None,
    "versioning": None,
    "retention": None,
    "retention_locked": False,
    "soft_delete": None,
    "labels": {},
    "kms_key": None,
    "lifecycle": None,
}


@dataclass(frozen=True)
class BucketChange:
    """What was, or in check mode would be, done; ``before``/``after`` are settings, {} for no bucket."""

    action: str  # created, updated, deleted, unchanged
    before: dict[str, Any]
    after: dict[str, Any]
    warnings: tuple[str, ...] = ()

    @property
    def changed(self) -> bool:
        """Whether anything differs from before."""
        return self.action != "unchanged"


def get(gcp: Gcp, name: str) -> dict[str, Any] | None:
    """The bucket's JSON, or None where there is none.

    :raises StorageError: the name exists but belongs to somebody who does not let the caller see it.
    """
    try:
        return gcp.storage(
            "GET",
            f"/b/{segment(name)}",
            "cannot read the bucket",
            where=f"bucket {name}",
            needs="storage.buckets.get",
            params={"projection": "noAcl"},
        )
    except ApiError as error:
        if error.status == 404:
            return None
        raise


def in_project(gcp: Gcp, name: str) -> bool | None:
    """Whether the bucket belongs to the session's project; None where the caller may not list the project's buckets."""
    try:
        answer = gcp.storage(
            "GET",
            "/b",
            "cannot list the project's buckets",
            needs="storage.buckets.list",
            params={"project": gcp.project, "prefix": name, "maxResults": 1000, "fields": "items/name"},
        )
    except ApiError as error:
        if error.status == 403 and error.permission:
            return None
        raise
    return any(item.get("name") == name for item in answer.get("items") or [])


def ensure(gcp: Gcp, spec: BucketSpec, *, allow_weaker: bool = False, check_mode: bool = False) -> BucketChange:
    """Create the bucket or bring it to the wanted state.

    :raises InputError: the wanted state is not valid.
    :raises StorageError: the name is somebody else's, the location differs, or protections would be weakened.
    :raises ApiError: Google refused.
    """
    problems = validate(spec)
    if problems:
        raise InputError("the bucket's options are not valid", where=spec.name, why="; ".join(problems))
    start, attempt = gcp.clock(), 0
    while True:
        body = _visible(gcp, spec.name)
        try:
            if body is None:
                return _create(gcp, spec, check_mode)
            return _update(gcp, spec, body, allow_weaker, check_mode)
        except ApiError as error:
            # Somebody was faster, or an answer got lost on its way: what is there now decides.
            if error.status not in CONFLICT or gcp.clock() - start > gcp.patience or "organi" in error.why:
                raise
            gcp.sleep(pause_before(attempt, None))
            attempt += 1


def _visible(gcp: Gcp, name: str) -> dict[str, Any] | None:
    try:
        return get(gcp, name)
    except ApiError as error:
        # Google answers 403 for another's bucket, and for the caller's own without the permission.
        if error.status == 403 and gcp.project and error.permission and in_project(gcp, name) is False:
            raise _taken(name, gcp.project) from None
        raise


def _create(gcp: Gcp, spec: BucketSpec, check_mode: bool) -> BucketChange:
    missing = [text for text, value in (("project", gcp.project), ("location", spec.location)) if not value]
    if missing:
        raise InputError(
            "the bucket does not exist, and cannot be created",
            where=spec.name,
            why=f"{' and '.join(missing)} not given",
            fix="Set it; location is for instance europe-west3, EU or US, best the one that the cluster is in.",
        )
    settings = wanted(spec, {**_NOTHING, "name": spec.name, "location": str(spec.location).upper()})
    if check_mode:
        return BucketChange("created", {}, {key: value for key, value in settings.items() if value is not None})
    try:
        body = gcp.storage(
            "POST",
            "/b",
            "cannot create the bucket",
            where=f"bucket {spec.name}",
            needs="storage.buckets.create",
            params={"project": gcp.project, "projection": "noAcl"},
            body=resource(settings, None),
        )
    except ApiError as error:
        if error.status == 409 and get(gcp, spec.name) is None:
            raise _taken(spec.name, gcp.project) from None
        raise
    if spec.lock_retention:
        body = _lock(gcp, spec.name, body)
    return BucketChange("created", {}, View.of(body).settings)


def _update(gcp: Gcp, spec: BucketSpec, body: dict[str, Any], allow_weaker: bool, check_mode: bool) -> BucketChange:
    where, warnings = f"bucket {spec.name}", []
    if gcp.project:
        own = in_project(gcp, spec.name)
        if own is False:
            raise _taken(spec.name, gcp.project)
        if own is None:
            warnings.append(
                f"whether bucket {spec.name} belongs to project {gcp.project} could not be checked:"
                f" {gcp.principal} lacks storage.buckets.list"
            )
    before = View.of(body).settings
    if spec.location and spec.location.upper() != before["location"].upper():
        raise StorageError(
            "the bucket is in another location",
            where=where,
            why=f"it is in {before['location']}, wanted is {spec.location.upper()}; a location cannot be changed",
            fix="Set the location to where the bucket is, or choose another name.",
        )
    after = wanted(spec, before)
    losses = weakened(before, after)
    if losses and not allow_weaker:
        raise StorageError(
            "the change would weaken what protects the bucket",
            where=where,
            why="; ".join(losses),
            fix="Leave the option out to keep the bucket as it is, or set allow_weaker: true.",
        )
    if before["retention_locked"] and after["retention"] < before["retention"]:
        raise StorageError(
            "the bucket's retention policy is locked", where=where, why="a locked policy can only become longer"
        )
    if after == before:
        return BucketChange("unchanged", before, before, tuple(warnings))
    if not check_mode:
        patch = resource(after, before)
        if patch:
            body = gcp.storage(
                "PATCH",
                f"/b/{segment(spec.name)}",
                "cannot change the bucket",
                where=where,
                needs="storage.buckets.update",
                params={"ifMetagenerationMatch": body["metageneration"], "projection": "noAcl"},
                body=patch,
            )
        if after["retention_locked"] and not before["retention_locked"]:
            body = _lock(gcp, spec.name, body)
        after = View.of(body).settings
    return BucketChange("updated", before, after, tuple(warnings))


def _lock(gcp: Gcp, name: str, body: Mapping[str, Any]) -> dict[str, Any]:
    return gcp.storage(
        "POST",
        f"/b/{segment(name)}/lockRetentionPolicy",
        "cannot lock the bucket's retention policy",
        where=f"bucket {name}",
        needs="storage.buckets.update",
        params={"ifMetagenerationMatch": body["metageneration"]},
    )


def _taken(name: str, project: str) -> StorageError:
    return StorageError(
        "the bucket's name is taken",
        where=f"bucket {name}",
        why=f"it belongs to another project than {project}; bucket names are unique in all of Google Cloud",
        fix="Choose another name, or name the project that the bucket belongs to.",
    )


def absent(
    gcp: Gcp, name: str, *, delete_objects: bool = False, check_mode: bool = False, progress: Progress | None = None
) -> BucketChange:
    """Delete the bucket.

    :param delete_objects: first delete every object in it, all versions; without it only an empty bucket goes.
    :raises StorageError: the bucket is not empty, or belongs to another project.
    """
    body = get(gcp, name)
    if body is None:
        return BucketChange("unchanged", {}, {})
    if gcp.project and in_project(gcp, name) is False:
        raise _taken(name, gcp.project)
    before = View.of(body).settings
    path = f"/b/{segment(name)}"
    if not delete_objects and next(iter(objects(gcp, name, page=1)), None):
        raise StorageError(
            "the bucket is not empty",
            where=f"bucket {name}",
            why="it holds objects, and deleting them was not asked for",
            fix="Set delete_objects: true where the data may be lost for good.",
        )
    if check_mode:
        return BucketChange("deleted", before, {})
    if delete_objects:
        events = progress or Progress()
        events.stage("delete objects", name)
        for count, item in enumerate(objects(gcp, name), start=1):
            try:
                gcp.storage(
                    "DELETE",
                    f"{path}/o/{segment(item['name'])}",
                    "cannot delete an object",
                    where=f"gs://{name}/{item['name']}",
                    needs="storage.objects.delete",
                    params={"generation": item["generation"]},
                )
            except ApiError as error:
                if error.status != 404:
                    raise
            events.update(count, unit="objects")
    try:
        gcp.storage("DELETE", path, "cannot delete the bucket", where=f"bucket {name}", needs="storage.buckets.delete")
    except ApiError as error:
        if error.status != 404:
            raise
    return BucketChange("deleted", before, {})


def objects(gcp: Gcp, name: str, *, prefix: str = "", page: int = 1000) -> Any:
    """Every object of the bucket, all versions, one page of ``page`` at a time."""
    token = ""
    while True:
        params = {"versions": "true", "maxResults": page, "fields": "items(name,generation,size),nextPageToken"}
        if prefix:
            params["prefix"] = prefix
        if token:
            params["pageToken"] = token
        answer = gcp.storage(
            "GET",
            f"/b/{segment(name)}/o",
            "cannot list the bucket's objects",
            where=f"bucket {name}",
            needs="storage.objects.list",
            params=params,
        )
        yield from answer.get("items") or []
        token = answer.get("nextPageToken", "")
        if not token:
            return
