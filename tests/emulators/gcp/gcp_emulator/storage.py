# SPDX-FileCopyrightText: 2026 The pachops.pachyderm contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Cloud Storage: buckets, their policies, and objects with generations, preconditions and resumable uploads."""

from __future__ import annotations

import base64
import hashlib
import re
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timezone
from typing import Any

import google_crc32c

from .discovery import Call
from .errors import Refusal, service_disabled
from .iam import require_version
from .state import Bucket, Object, Policy, Project, State

CHUNK = 256 * 1024  # every piece of a resumable upload but the last is a multiple of this
TAKEN = (
    "The requested bucket name is not available. The bucket namespace is shared by all users of the system."
    " Please select a different name and try again."
)
OWNED = "Your previous request to create the named bucket succeeded and you already own it."


@dataclass
class Upload:
    """A resumable upload under way."""

    bucket: str
    metadata: dict[str, Any]
    query: dict[str, str]
    data: bytearray = field(default_factory=bytearray)
    done: dict[str, Any] | None = None


def stamp(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, timezone.utc).strftime("%Y-%m-%dT%H:%M:%S.%f")[:-3] + "Z"


def crc32c(data: bytes) -> str:
    return base64.b64encode(google_crc32c.Checksum(data).digest()).decode()


def md5(data: bytes) -> str:
    return base64.b64encode(hashlib.md5(data, usedforsecurity=False).digest()).decode()


class StorageApi:
    """Answers the calls whose id begins with ``storage.``, uploads and XML reads."""

    def __init__(self, state: State) -> None:
        self.state = state
        self.handlers: dict[str, Callable[..., Any]] = {
            "storage.buckets.insert": self.insert_bucket,
            "storage.buckets.get": self.get_bucket,
            "storage.buckets.list": self.list_buckets,
            "storage.buckets.patch": self.patch_bucket,
            "storage.buckets.delete": self.delete_bucket,
            "storage.buckets.getIamPolicy": self.get_policy,
            "storage.buckets.setIamPolicy": self.set_policy,
            "storage.buckets.testIamPermissions": self.held_permissions,
            "storage.buckets.lockRetentionPolicy": self.lock_retention,
            "storage.objects.get": self.get_object,
            "storage.objects.list": self.list_objects,
            "storage.objects.delete": self.delete_object,
            "storage.objects.copy": self.copy_object,
            "storage.objects.rewrite": self.rewrite_object,
        }

    def handle(self, call: Call, query: dict[str, str], body: dict[str, Any], principal: str) -> Any:
        handler = self.handlers.get(call.id)
        if handler is None:
            raise Refusal(501, "notImplemented", f"the emulator does not do {call.id}")
        return handler(call.arguments, query, body, principal)

    # ------------------------------------------------------------------------------------------------------- helpers

    def bucket(self, name: str) -> Bucket:
        bucket = self.state.buckets.get(name)
        if bucket is None:
            raise Refusal(404, "notFound", "The specified bucket does not exist.")
        self._enabled(bucket.project)
        return bucket

    def require(
        self, principal: str, permission: str, bucket: Bucket, thing: str = "the Google Cloud Storage bucket"
    ) -> None:
        if not self.state.allowed(principal, permission, bucket.project, (bucket.policy,)):
            who = principal.split(":", 1)[-1]
            raise Refusal(
                403,
                "forbidden",
                f"{who} does not have {permission} access to {thing}. Permission '{permission}' denied on resource"
                " (or it may not exist).",
            )

    def _project(self, project_id: str, principal: str, permission: str) -> Project:
        project = self.state.project(project_id)
        self._enabled(project)
        if not self.state.allowed(principal, permission, project):
            who = principal.split(":", 1)[-1]
            raise Refusal(
                403,
                "forbidden",
                f"{who} does not have {permission} access to the Google Cloud project. Permission '{permission}' denied"
                " on resource (or it may not exist).",
            )
        return project

    @staticmethod
    def _enabled(project: Project) -> None:
        if "storage.googleapis.com" in project.disabled_services:
            raise service_disabled("storage.googleapis.com", project.id)

    @staticmethod
    def _metageneration(query: dict[str, str], current: str) -> None:
        wanted = query.get("ifMetagenerationMatch")
        if wanted is not None and wanted != current:
            raise Refusal(412, "conditionNotMet", "At least one of the pre-conditions you specified did not hold.")

    # ------------------------------------------------------------------------------------------------------- buckets

    def insert_bucket(
        self, _arguments: Any, query: dict[str, str], body: dict[str, Any], principal: str
    ) -> dict[str, Any]:
        project = self._project(query["project"], principal, "storage.buckets.create")
        name = body.get("name", "")
        if not re.fullmatch(r"[a-z0-9][a-z0-9._-]{1,220}[a-z0-9]", name):
            raise Refusal(400, "invalid", f"Invalid bucket name: '{name}'")
        taken = self.state.buckets.get(name)
        if taken:
            raise Refusal(409, "conflict", OWNED if taken.project is project else TAKEN)
        now = stamp(time.time())
        location = body.get("location", "US").upper()
        new: dict[str, Any] = {
            "kind": "storage#bucket",
            "id": name,
            "name": name,
            "projectNumber": project.number,
            "metageneration": "1",
            "generation": str(self.state.next_generation()),
            "location": location,
            "locationType": "multi-region" if location in ("US", "EU", "ASIA") else "region",
            "storageClass": "STANDARD",
            "etag": "CAE=",
            "timeCreated": now,
            "updated": now,
            "softDeletePolicy": {"retentionDurationSeconds": "604800", "effectiveTime": now},
            "iamConfiguration": {
                "bucketPolicyOnly": {"enabled": False},
                "uniformBucketLevelAccess": {"enabled": False},
                "publicAccessPrevention": "inherited",
            },
            "rpo": "DEFAULT",
        }
        self._merge(new, {key: value for key, value in body.items() if key not in ("name", "location")})
        owner = {"role": "roles/storage.legacyBucketOwner", "members": [f"projectOwner:{project.id}"]}
        self.state.buckets[name] = Bucket(name, project, new, Policy(bindings=[owner], enforced=[owner]))
        return new

    @staticmethod
    def _merge(bucket: dict[str, Any], change: dict[str, Any]) -> None:
        for key, value in change.items():
            if value is None:
                bucket.pop(key, None)
            elif key == "labels":
                labels = {**bucket.get("labels", {}), **value}
                bucket["labels"] = {name: text for name, text in labels.items() if text is not None}
            elif key == "iamConfiguration":
                bucket[key] = {**bucket[key], **value}
            elif key == "retentionPolicy":
                bucket[key] = {"isLocked": False, "effectiveTime": stamp(time.time()), **value}
            else:
                bucket[key] = value

    def get_bucket(self, arguments: Any, _query: Any, _body: Any, principal: str) -> dict[str, Any]:
        bucket = self.bucket(arguments["bucket"])
        self.require(principal, "storage.buckets.get", bucket)
        return bucket.body

    def list_buckets(self, _arguments: Any, query: dict[str, str], _body: Any, principal: str) -> dict[str, Any]:
        project = self._project(query["project"], principal, "storage.buckets.list")
        prefix = query.get("prefix", "")
        found = [
            item.body
            for name, item in sorted(self.state.buckets.items())
            if item.project is project and name.startswith(prefix)
        ]
        return {"kind": "storage#buckets", "items": found} if found else {"kind": "storage#buckets"}

    def patch_bucket(
        self, arguments: Any, query: dict[str, str], body: dict[str, Any], principal: str
    ) -> dict[str, Any]:
        bucket = self.bucket(arguments["bucket"])
        self.require(principal, "storage.buckets.update", bucket)
        self._metageneration(query, bucket.body["metageneration"])
        locked = bucket.body.get("retentionPolicy", {})
        if "retentionPolicy" in body and locked.get("isLocked"):
            period = int((body["retentionPolicy"] or {}).get("retentionPeriod", 0))
            if period < int(locked["retentionPeriod"]):
                raise Refusal(403, "forbidden", "Cannot reduce retention duration of a locked Retention Policy.")
            body = {**body, "retentionPolicy": {**body["retentionPolicy"], "isLocked": True}}
        self._merge(bucket.body, body)
        bucket.body["metageneration"] = str(int(bucket.body["metageneration"]) + 1)
        bucket.body["updated"] = stamp(time.time())
        return bucket.body

    def delete_bucket(self, arguments: Any, query: dict[str, str], _body: Any, principal: str) -> None:
        bucket = self.bucket(arguments["bucket"])
        self.require(principal, "storage.buckets.delete", bucket)
        self._metageneration(query, bucket.body["metageneration"])
        if bucket.objects or bucket.noncurrent:
            raise Refusal(409, "conflict", "The bucket you tried to delete is not empty.")
        del self.state.buckets[bucket.name]

    def lock_retention(self, arguments: Any, query: dict[str, str], _body: Any, principal: str) -> dict[str, Any]:
        bucket = self.bucket(arguments["bucket"])
        self.require(principal, "storage.buckets.update", bucket)
        self._metageneration(query, bucket.body["metageneration"])
        if "retentionPolicy" not in bucket.body:
            raise Refusal(400, "invalid", "The bucket has no retention policy.")
        bucket.body["retentionPolicy"]["isLocked"] = True
        bucket.body["metageneration"] = str(int(bucket.body["metageneration"]) + 1)
        return bucket.body

    def get_policy(self, arguments: Any, query: dict[str, str], _body: Any, principal: str) -> dict[str, Any]:
        bucket = self.bucket(arguments["bucket"])
        self.require(principal, "storage.buckets.getIamPolicy", bucket)
        if any("condition" in item for item in bucket.policy.bindings):
            require_version(query.get("optionsRequestedPolicyVersion"))
        return {"kind": "storage#policy", "resourceId": f"projects/_/buckets/{bucket.name}", **bucket.policy.body()}

    def set_policy(self, arguments: Any, _query: Any, body: dict[str, Any], principal: str) -> dict[str, Any]:
        bucket = self.bucket(arguments["bucket"])
        self.require(principal, "storage.buckets.setIamPolicy", bucket)
        if body.get("etag") not in (None, bucket.policy.etag):
            raise Refusal(412, "conditionNotMet", "At least one of the pre-conditions you specified did not hold.")
        uniform = bucket.body["iamConfiguration"]["uniformBucketLevelAccess"]["enabled"]
        for binding in body.get("bindings") or []:
            if "condition" in binding and (not uniform or body.get("version") != 3):
                raise Refusal(400, "invalid", "Conditions need uniform bucket-level access and policy version 3.")
            for member in binding["members"]:
                self._known_member(member)
        bucket.policy.replace(body.get("bindings") or [], self.state.limits.propagation)
        return {"kind": "storage#policy", "resourceId": f"projects/_/buckets/{bucket.name}", **bucket.policy.body()}

    def _known_member(self, member: str) -> None:
        kind, _colon, name = member.partition(":")
        if kind == "serviceAccount" and name.endswith(".iam.gserviceaccount.com"):
            account = self.state.accounts.get(name)
            if account is None or time.monotonic() < account.visible_from:
                raise Refusal(400, "invalid", f"Service account {name} does not exist.")

    def held_permissions(self, arguments: Any, query: dict[str, Any], _body: Any, principal: str) -> dict[str, Any]:
        bucket = self.bucket(arguments["bucket"])
        asked = query["permissions"].split("\n")
        held = [item for item in asked if self.state.allowed(principal, item, bucket.project, (bucket.policy,))]
        return {"kind": "storage#testIamPermissionsResponse", "permissions": held}

    # ------------------------------------------------------------------------------------------------------- objects

    def describe(self, bucket: Bucket, item: Object) -> dict[str, Any]:
        return {
            "kind": "storage#object",
            "id": f"{bucket.name}/{item.name}/{item.generation}",
            "name": item.name,
            "bucket": bucket.name,
            "generation": str(item.generation),
            "metageneration": str(item.metageneration),
            "contentType": item.attributes.get("contentType", "application/octet-stream"),
            "storageClass": bucket.body["storageClass"],
            "size": str(len(item.data)),
            "md5Hash": md5(item.data),
            "crc32c": crc32c(item.data),
            "etag": f"CO{item.generation}",
            "timeCreated": stamp(item.created),
            "updated": stamp(item.created),
            **({"metadata": item.attributes["metadata"]} if "metadata" in item.attributes else {}),
        }

    def live(self, bucket: Bucket, name: str, principal: str) -> Object:
        """The object; a missing one is 403 to those who may not list, as at Google."""
        item = bucket.objects.get(name)
        if item is None:
            if not self.state.allowed(principal, "storage.objects.list", bucket.project, (bucket.policy,)):
                self.require(principal, "storage.objects.list", bucket)
            raise Refusal(404, "notFound", f"No such object: {bucket.name}/{name}")
        return item

    def read(self, bucket_name: str, name: str, query: dict[str, str], principal: str) -> Object:
        bucket = self.bucket(bucket_name)
        self.require(principal, "storage.objects.get", bucket, "the Google Cloud Storage object")
        item = self.live(bucket, name, principal)
        self._preconditions(query, item)
        return item

    def get_object(self, arguments: Any, query: dict[str, str], _body: Any, principal: str) -> dict[str, Any]:
        item = self.read(arguments["bucket"], arguments["object"], query, principal)
        return self.describe(self.bucket(arguments["bucket"]), item)

    def list_objects(self, arguments: Any, query: dict[str, str], _body: Any, principal: str) -> dict[str, Any]:
        bucket = self.bucket(arguments["bucket"])
        self.require(principal, "storage.objects.list", bucket)
        prefix, delimiter = query.get("prefix", ""), query.get("delimiter", "")
        items = sorted(bucket.objects.values(), key=lambda item: item.name)
        if query.get("versions") == "true":
            items = sorted([*items, *bucket.noncurrent], key=lambda item: (item.name, item.generation))
        names: list[Any] = []
        prefixes: set[str] = set()
        after = query.get("startOffset", "")
        for item in items:
            if not item.name.startswith(prefix) or item.name < after:
                continue
            rest = item.name[len(prefix) :]
            if delimiter and delimiter in rest:
                prefixes.add(prefix + rest.split(delimiter)[0] + delimiter)
            else:
                names.append(item)
        start = int(query.get("pageToken") or 0)
        size = int(query.get("maxResults") or 1000)
        answer: dict[str, Any] = {"kind": "storage#objects"}
        page = names[start : start + size]
        if page:
            answer["items"] = [self.describe(bucket, item) for item in page]
        if prefixes:
            answer["prefixes"] = sorted(prefixes)
        if start + size < len(names):
            answer["nextPageToken"] = str(start + size)
        return answer

    def delete_object(self, arguments: Any, query: dict[str, str], _body: Any, principal: str) -> None:
        bucket = self.bucket(arguments["bucket"])
        self.require(principal, "storage.objects.delete", bucket, "the Google Cloud Storage object")
        generation = query.get("generation")
        if generation:
            for item in bucket.noncurrent:
                if item.name == arguments["object"] and str(item.generation) == generation:
                    bucket.noncurrent.remove(item)
                    return
        item = self.live(bucket, arguments["object"], principal)
        if generation and str(item.generation) != generation:
            raise Refusal(404, "notFound", f"No such object: {bucket.name}/{item.name}#{generation}")
        self._preconditions(query, item)
        self._retained(bucket, item)
        del bucket.objects[item.name]
        if (bucket.body.get("versioning") or {}).get("enabled") and not generation:
            bucket.noncurrent.append(item)

    def copy_object(
        self, arguments: Any, query: dict[str, str], body: dict[str, Any], principal: str
    ) -> dict[str, Any]:
        source = self.read(arguments["sourceBucket"], arguments["sourceObject"], {}, principal)
        metadata = {"contentType": source.attributes.get("contentType"), **body, "name": arguments["destinationObject"]}
        return self.write(arguments["destinationBucket"], metadata, source.data, query, principal)

    def rewrite_object(
        self, arguments: Any, query: dict[str, str], body: dict[str, Any], principal: str
    ) -> dict[str, Any]:
        resource = self.copy_object(arguments, query, body, principal)
        return {
            "kind": "storage#rewriteResponse",
            "totalBytesRewritten": resource["size"],
            "objectSize": resource["size"],
            "done": True,
            "resource": resource,
        }

    def _preconditions(self, query: dict[str, str], item: Object | None) -> None:
        generation = str(item.generation) if item else "0"
        for name, holds in (
            ("ifGenerationMatch", lambda wanted: wanted == generation),
            ("ifGenerationNotMatch", lambda wanted: wanted != generation),
            ("ifMetagenerationMatch", lambda wanted: item is not None and wanted == str(item.metageneration)),
        ):
            if name in query and not holds(query[name]):
                raise Refusal(412, "conditionNotMet", "At least one of the pre-conditions you specified did not hold.")

    @staticmethod
    def _retained(bucket: Bucket, item: Object) -> None:
        period = int(bucket.body.get("retentionPolicy", {}).get("retentionPeriod", 0))
        if period and time.time() - item.created < period:
            raise Refusal(
                403,
                "retentionPolicyNotMet",
                f"Object '{bucket.name}/{item.name}' is subject to bucket's retention policy.",
            )

    def write(
        self, bucket_name: str, metadata: dict[str, Any], data: bytes, query: dict[str, str], principal: str
    ) -> dict[str, Any]:
        """Store an object whole, or not at all."""
        bucket = self.bucket(bucket_name)
        name = metadata.get("name") or query.get("name", "")
        if not name:
            raise Refusal(400, "required", "Required object name")
        self.require(principal, "storage.objects.create", bucket)
        old = bucket.objects.get(name)
        self._preconditions(query, old)
        if old:
            self.require(principal, "storage.objects.delete", bucket, "the Google Cloud Storage object")
            self._retained(bucket, old)
        for key, computed in (("md5Hash", md5), ("crc32c", crc32c)):
            if metadata.get(key) and metadata[key] != computed(data):
                raise Refusal(400, "invalid", f'Provided {key} "{metadata[key]}" doesn\'t match calculated one.')
        if old and (bucket.body.get("versioning") or {}).get("enabled"):
            bucket.noncurrent.append(old)
        kept = {key: metadata[key] for key in ("contentType", "metadata") if metadata.get(key)}
        item = Object(name, bytes(data), self.state.next_generation(), attributes=kept)
        bucket.objects[name] = item
        return self.describe(bucket, item)

    # ----------------------------------------------------------------------------------------------------- resumable

    def begin_upload(self, bucket_name: str, metadata: dict[str, Any], query: dict[str, str], principal: str) -> str:
        bucket = self.bucket(bucket_name)
        self.require(principal, "storage.objects.create", bucket)
        name = metadata.get("name") or query.get("name", "")
        self._preconditions(query, bucket.objects.get(name))
        upload_id = secrets.token_urlsafe(30)
        self.state.uploads[upload_id] = Upload(bucket_name, metadata, query)
        return upload_id

    def continue_upload(
        self, upload_id: str, content_range: str | None, data: bytes, principal: str
    ) -> tuple[Any, int]:
        """Take a piece; gives (the object, bytes) when done, (None, bytes held) before.

        :raises Refusal: 404 for an unknown session, 400 for a piece that does not fit.
        """
        upload = self.state.uploads.get(upload_id)
        if upload is None:
            raise Refusal(404, "notFound", "Upload session not found")
        if upload.done is not None:
            return upload.done, len(upload.data)
        first, last, total = self._parse_range(content_range, len(data))
        if first is not None:
            if first > len(upload.data):
                raise Refusal(
                    400,
                    "invalid",
                    f"Invalid request. According to the Content-Range header, the upload offset is {first} byte(s),"
                    f" which exceeds already uploaded size of {len(upload.data)} byte(s).",
                )
            final = total is not None and last is not None and last + 1 == total
            if not final and len(data) % CHUNK:
                raise Refusal(400, "invalid", f"Invalid request. A piece must be a multiple of {CHUNK} bytes.")
            upload.data[first:] = data
        if total is None or len(upload.data) < total:
            return None, len(upload.data)
        upload.done = self.write(upload.bucket, upload.metadata, bytes(upload.data), upload.query, principal)
        return upload.done, len(upload.data)

    @staticmethod
    def _parse_range(text: str | None, size: int) -> tuple[int | None, int | None, int | None]:
        """(first, last, total) of ``Content-Range``; None for what is open."""
        if text is None:
            return 0, size - 1, size
        found = re.fullmatch(r"bytes (?:(\d+)-(\d+)|\*)/(\d+|\*)", text.strip())
        if not found:
            raise Refusal(400, "invalid", f"Failed to parse Content-Range header: {text}")
        first, last, total = found.groups()
        if first is not None and int(last) - int(first) + 1 != size:
            raise Refusal(400, "invalid", "Content-Range does not fit the body's size")
        return (
            None if first is None else int(first),
            None if last is None else int(last),
            None if total == "*" else int(total),
        )
