# SPDX-FileCopyrightText: 2026 The pachops.pachyderm contributors
# SPDX-License-Identifier: BSD-2-Clause
"""The probe's view of a Cloud Storage bucket."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from ..errors import CloudError
from ..gcp.client import ApiError, Gcp, explain, segment
from .probe import Refused, Target


class GcsTarget(Target):
    """A bucket through the JSON API, with the credentials of the session."""

    def __init__(self, gcp: Gcp, bucket: str) -> None:
        self.permissions = {
            "list": "storage.objects.list",
            "read-missing": "storage.objects.list",
            "write": "storage.objects.create",
            "read": "storage.objects.get",
            "delete": "storage.objects.delete",
        }
        self.where = f"gs://{bucket}"
        self.gcp = gcp
        self.path = f"/b/{segment(bucket)}/o"

    def write(self, key: str, data: bytes) -> None:
        """Store an object."""
        self._raw("POST", f"/upload/storage/v1{self.path}", {"uploadType": "media", "name": key}, data)

    def read(self, key: str) -> bytes:
        """Return an object's content."""
        content: bytes = self._raw("GET", f"/storage/v1{self.path}/{segment(key)}", {"alt": "media"}, None).content
        return content

    def delete(self, key: str) -> None:
        """Remove an object; one that is not there was perhaps never written."""
        try:
            self._json("DELETE", f"{self.path}/{segment(key)}", {})
        except Refused as refusal:
            if refusal.kind != "missing":
                raise

    def list(self, prefix: str, limit: int) -> Iterator[str]:
        """Yield keys, a page at a time."""
        token = ""
        while limit > 0:
            params = {"prefix": prefix, "maxResults": min(limit, 1000), "fields": "items(name),nextPageToken"}
            page = self._json("GET", self.path, {**params, **({"pageToken": token} if token else {})})
            names = [str(item["name"]) for item in page.get("items") or ()]
            yield from names[:limit]
            limit -= len(names)
            token = page.get("nextPageToken", "")
            if not token:
                return

    def _json(self, method: str, path: str, params: dict[str, Any]) -> dict[str, Any]:
        try:
            return self.gcp.storage(method, path, "the probe failed", params=params, where=self.where)
        except ApiError as error:
            raise self._refused(error) from error
        except CloudError as error:
            raise Refused("other", f"{self.where}: {error.why}", error.fix) from error

    def _raw(self, method: str, path: str, params: dict[str, Any], data: bytes | None) -> Any:
        from google.auth.exceptions import GoogleAuthError
        from requests.exceptions import RequestException

        url = f"{self.gcp.endpoints.storage}{path}"
        try:
            response = self.gcp.session.request(method, url, params=params, data=data, timeout=30)
        except (GoogleAuthError, RequestException) as error:
            raise self._refused(self.gcp.transport_error("the probe failed", url, error)) from error
        if response.status_code >= 300:
            raise self._refused(
                explain(
                    "the probe failed",
                    response.status_code,
                    response.text,
                    needs="",
                    project=self.gcp.project,
                    principal=self.gcp.principal,
                )
            )
        return response

    def _refused(self, error: ApiError) -> Refused:
        if error.status == 401:
            return Refused("credentials", error.why, error.fix)
        if error.status == 404 and "bucket does not exist" in error.message:
            return Refused("bucket", f"{self.where} does not exist", "Create it, or correct the bucket's name.")
        if error.status == 404:
            return Refused("missing", "there is no such object", "")
        if error.status == 403 and error.permission:
            # Overwriting and reading a missing object are refused under another permission's name.
            return Refused("denied", error.why, "")
        kind = "tls" if error.why.startswith("TLS") else "unreachable" if error.status == 0 else "other"
        return Refused(kind, f"{self.where}: {error.why}", error.fix)
