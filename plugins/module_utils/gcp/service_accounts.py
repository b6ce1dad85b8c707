# SPDX-FileCopyrightText: 2026 The pachops.pachyderm contributors
# SPDX-License-Identifier: BSD-2-Clause
"""Service accounts and their keys: create, rotate with overlap, revoke.

A key's private half exists once, in the answer that creates it.  It is written to a file that only its owner can read,
or handed to the caller; it is in no message.
"""

from __future__ import annotations

import base64
import binascii
import contextlib
import json
import os
import re
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from ..errors import CloudError, InputError
from ..replacing import replacing
from .client import SCOPE, UNKNOWN_PROJECT, ApiError, Gcp, segment, trust

# https://cloud.google.com/iam/docs/service-accounts-create
_ACCOUNT_ID = re.compile(r"^[a-z]([-a-z0-9]{4,28}[a-z0-9])$")
_EMAIL = re.compile(r"^[^@\s]+@[^@\s]+\.[^@\s]+$")
WORKLOAD_IDENTITY_ROLE = "roles/iam.workloadIdentityUser"
MOST_KEYS = 10


@dataclass(frozen=True)
class AccountSpec:
    """A service account as it is wanted; None means: leave it as it is."""

    account_id: str
    display_name: str | None = None
    description: str | None = None
    disabled: bool | None = None


@dataclass(frozen=True)
class AccountChange:
    """``before``/``after`` are ``email, unique_id, display_name, description, disabled``; {} for no account."""

    action: str  # created, updated, deleted, unchanged
    before: dict[str, Any]
    after: dict[str, Any]

    @property
    def changed(self) -> bool:
        """Whether anything differs from before."""
        return self.action != "unchanged"


def email_of(account_id: str, project: str) -> str:
    """``account_id`` in ``project`` as an address; a domain-scoped project ``example.com:p`` is turned around."""
    if ":" in project:
        domain, _colon, name = project.partition(":")
        project = f"{name}.{domain}"
    return f"{account_id}@{project}.iam.gserviceaccount.com"


def workload_member(pool: str, namespace: str, service_account: str) -> str:
    """The member by which a Kubernetes service account acts under GKE's Workload Identity."""
    return f"serviceAccount:{pool}[{namespace}/{service_account}]"


def view(body: Mapping[str, Any]) -> dict[str, Any]:
    """The account in the options' words."""
    return {
        "email": body.get("email", ""),
        "unique_id": body.get("uniqueId", ""),
        "display_name": body.get("displayName", ""),
        "description": body.get("description", ""),
        "disabled": bool(body.get("disabled", False)),
    }


def get(gcp: Gcp, email: str) -> dict[str, Any] | None:
    """The account's JSON, or None where there is none."""
    try:
        return gcp.iam(
            "GET",
            f"/projects/{segment(gcp.project or '-')}/serviceAccounts/{segment(email)}",
            "cannot read the service account",
            where=f"service account {email}",
            needs="iam.serviceAccounts.get",
        )
    except ApiError as error:
        if error.status == 404 and error.reason != UNKNOWN_PROJECT:
            return None
        raise


def ensure(
    gcp: Gcp, spec: AccountSpec, *, check_mode: bool = False, wait: bool = True, timeout: float = 120.0
) -> AccountChange:
    """Create the account or bring it to the wanted state.

    :param wait: until IAM shows a new account; other APIs refuse it as a member before that.
    :raises InputError: the name is not valid or no project is known.
    """
    if not _ACCOUNT_ID.match(spec.account_id):
        raise InputError(
            "the service account's name is not valid",
            where=spec.account_id,
            why="6 to 30 lower-case letters, digits and '-', starting with a letter and not ending with '-'",
        )
    if not gcp.project:
        raise InputError("no project is known", fix="Set project, or use credentials that name one.")
    email = email_of(spec.account_id, gcp.project)
    body = get(gcp, email)
    if body is None:
        return _create(gcp, spec, email, check_mode=check_mode, wait=wait, timeout=timeout)
    before = view(body)
    after = dict(before)
    for name in ("display_name", "description", "disabled"):
        value = getattr(spec, name)
        if value is not None:
            after[name] = value
    if after == before:
        return AccountChange("unchanged", before, before)
    if not check_mode:
        after = _set(gcp, email, before, spec)
    return AccountChange("updated", before, after)


def _create(gcp: Gcp, spec: AccountSpec, email: str, *, check_mode: bool, wait: bool, timeout: float) -> AccountChange:
    new = {"displayName": spec.display_name, "description": spec.description}
    new = {key: value for key, value in new.items() if value is not None}
    if check_mode:
        return AccountChange("created", {}, {**view({**new, "email": email}), "disabled": bool(spec.disabled)})
    body: dict[str, Any] | None = {"email": email, **new}
    try:
        body = gcp.iam(
            "POST",
            f"/projects/{segment(gcp.project)}/serviceAccounts",
            "cannot create the service account",
            where=f"service account {email}",
            needs="iam.serviceAccounts.create",
            body={"accountId": spec.account_id, "serviceAccount": new},
        )
    except ApiError as error:
        if error.status != 409:  # 409: a try before this one did create it, or somebody was faster
            raise
    if wait:
        gcp.until(
            lambda: get(gcp, email) is not None,
            "the new service account does not show up",
            why=f"IAM still does not know {email}",
            timeout=timeout,
            fix="Run again.",
        )
        body = get(gcp, email)
    after = view(body or {})
    return AccountChange("created", {}, _set(gcp, email, after, spec) if spec.disabled else after)


def _set(gcp: Gcp, email: str, before: Mapping[str, Any], spec: AccountSpec) -> dict[str, Any]:
    path = f"/projects/{segment(gcp.project)}/serviceAccounts/{segment(email)}"
    where = f"service account {email}"
    after = dict(before)
    wanted = {"displayName": spec.display_name, "description": spec.description}
    names = {"displayName": "display_name", "description": "description"}
    patch = {key: value for key, value in wanted.items() if value is not None and value != before[names[key]]}
    if patch:
        gcp.iam(
            "PATCH",
            path,
            "cannot change the service account",
            where=where,
            needs="iam.serviceAccounts.update",
            body={"serviceAccount": patch, "updateMask": ",".join(sorted(patch))},
        )
        after.update({names[key]: value for key, value in patch.items()})
    if spec.disabled is not None and spec.disabled != before["disabled"]:
        verb = "disable" if spec.disabled else "enable"
        gcp.iam(
            "POST",
            f"{path}:{verb}",
            f"cannot {verb} the service account",
            where=where,
            needs=f"iam.serviceAccounts.{verb}",
            body={},
        )
        after["disabled"] = spec.disabled
    return after


def absent(gcp: Gcp, email: str, *, check_mode: bool = False) -> AccountChange:
    """Delete the account; Google keeps it for 30 days, and a new one of the same name is another one."""
    body = get(gcp, email)
    if body is None:
        return AccountChange("unchanged", {}, {})
    if not check_mode:
        try:
            gcp.iam(
                "DELETE",
                f"/projects/{segment(gcp.project or '-')}/serviceAccounts/{segment(email)}",
                "cannot delete the service account",
                where=f"service account {email}",
                needs="iam.serviceAccounts.delete",
            )
        except ApiError as error:
            if error.status != 404:
                raise
    return AccountChange("deleted", view(body), {})


# ---------------------------------------------------------------------------------------------------------------- keys


@dataclass(frozen=True)
class Key:
    """One user-managed key; times in seconds since the epoch, ``expires`` 0 where there is no end."""

    id: str
    created: float
    expires: float
    disabled: bool

    @classmethod
    def parse(cls, body: Mapping[str, Any]) -> Key:
        """Read Google's JSON."""
        return cls(
            id=str(body["name"]).rsplit("/", 1)[-1],
            created=_seconds(body.get("validAfterTime")),
            expires=_seconds(body.get("validBeforeTime")),
            disabled=bool(body.get("disabled", False)),
        )

    def usable(self, now: float) -> bool:
        """Whether Google takes it."""
        return not self.disabled and (not self.expires or self.expires > now)

    def summary(self) -> dict[str, Any]:
        """What may be shown of it."""
        return {"id": self.id, "created": _text(self.created), "disabled": self.disabled}


def _seconds(text: Any) -> float:
    if not text:
        return 0.0
    stamp = datetime.fromisoformat(re.sub(r"\.\d+", "", str(text)).replace("Z", "+00:00"))
    # Google writes year 9999 for keys without an end.
    return 0.0 if stamp.year >= 9999 else stamp.timestamp()


def _text(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ") if seconds else ""


def list_keys(gcp: Gcp, email: str) -> list[Key]:
    """The account's user-managed keys, oldest first; Google's own, system-managed ones are left out."""
    answer = gcp.iam(
        "GET",
        f"/projects/{segment(gcp.project or '-')}/serviceAccounts/{segment(email)}/keys",
        "cannot list the service account's keys",
        where=f"service account {email}",
        needs="iam.serviceAccountKeys.list",
        params={"keyTypes": "USER_MANAGED"},
    )
    return sorted((Key.parse(item) for item in answer.get("keys") or []), key=lambda key: (key.created, key.id))


def create_key(gcp: Gcp, email: str) -> str:
    """A new key as the JSON document that Google's clients read.

    :raises ApiError: refused; or the outcome is unknown, and then ``fix`` tells what to look for: such a request is not
        repeated, because each one that arrived makes a key that nobody holds.
    """
    where = f"service account {email}"
    known = {key.id for key in list_keys(gcp, email)}
    try:
        answer = gcp.iam(
            "POST",
            f"/projects/{segment(gcp.project or '-')}/serviceAccounts/{segment(email)}/keys",
            "cannot create a key",
            where=where,
            needs="iam.serviceAccountKeys.create",
            body={"privateKeyType": "TYPE_GOOGLE_CREDENTIALS_FILE", "keyAlgorithm": "KEY_ALG_RSA_2048"},
            retry=False,
        )
    except ApiError as error:
        if "maximum number" in error.message.lower() or error.reason == "FAILED_PRECONDITION":
            raise ApiError(
                "cannot create a key",
                status=error.status,
                reason=error.reason,
                message=error.message,
                where=where,
                why=f"the account has {len(known)} keys, and Google allows {MOST_KEYS}: {error.message}",
                fix="Revoke keys that nobody uses (state: absent with key_ids), then run again.",
            ) from None
        if error.status == 0 or error.status >= 500:
            with contextlib.suppress(CloudError):
                lost = sorted({key.id for key in list_keys(gcp, email)} - known)
                if lost:
                    error.fix = (
                        f"A key came into being whose private half got lost: {', '.join(lost)}."
                        " Revoke it (state: absent with key_ids), and run again."
                    )
                    error.args = (str(error),)
        raise
    try:
        return base64.b64decode(answer["privateKeyData"], validate=True).decode("utf-8")
    except (KeyError, binascii.Error, UnicodeDecodeError) as error:
        raise CloudError("the new key came without a private half", where=where, why=type(error).__name__) from error


def delete_key(gcp: Gcp, email: str, key_id: str) -> None:
    """Revoke a key; one that is gone already is no error."""
    try:
        gcp.iam(
            "DELETE",
            f"/projects/{segment(gcp.project or '-')}/serviceAccounts/{segment(email)}/keys/{segment(key_id)}",
            "cannot revoke the key",
            where=f"key {key_id} of service account {email}",
            needs="iam.serviceAccountKeys.delete",
        )
    except ApiError as error:
        if error.status != 404:
            raise


@dataclass(frozen=True)
class KeyDocument:
    """A key as it is held: the JSON text and what can be told of it."""

    text: str = field(repr=False)
    key_id: str
    email: str
    project: str

    @classmethod
    def parse(cls, text: str, where: str) -> KeyDocument:
        """:raises InputError: the text is no service account's key."""
        cause: Exception | None
        try:
            body = json.loads(text)
            held = cls(text, body["private_key_id"], body["client_email"], body.get("project_id", ""))
            sound = body["type"] == "service_account" and bool(body["private_key"])
        except (ValueError, KeyError, TypeError) as error:
            sound, cause = False, error
        else:
            cause = None
        if not sound:
            raise InputError(
                "this is no service account's key",
                where=where,
                why=f"{cause} is missing" if isinstance(cause, KeyError) else "it is no JSON of type service_account",
                fix="Give the JSON file as Google wrote it, or another path for a new one.",
            ) from cause
        return held


@dataclass(frozen=True)
class KeyPlan:
    """What is to be done: ``create`` and why, and the keys to revoke."""

    create: bool
    reason: str
    revoke: tuple[Key, ...]


def plan_keys(
    keys: Sequence[Key],
    held: KeyDocument | None,
    *,
    now: float,
    max_age: float = 0.0,
    rotate: bool = False,
    revoke_superseded: bool = False,
    overlap: float = 0.0,
) -> KeyPlan:
    """Decide about keys without touching any.

    :param held: the key that the user has; None where there is none yet.
    :param max_age: seconds after which the held key is replaced; 0: never.
    :param revoke_superseded: whether keys older than the held one go; only right where the account is for one purpose.
    :param overlap: seconds that a key's successor must have existed before the key is revoked, so that whoever
        still uses it has had time to change.
    """
    current = next((key for key in keys if held and key.id == held.key_id), None)
    if held is None:
        create, reason = True, "there is no key yet"
    elif current is None:
        create, reason = True, "the key that is held was revoked"
    elif not current.usable(now):
        create, reason = True, "the key that is held is disabled or expired"
    elif rotate:
        create, reason = True, "rotation was asked for"
    elif max_age and now - current.created >= max_age:
        create, reason = True, f"the key is {int((now - current.created) // 86400)} days old"
    else:
        create, reason = False, ""
    revoke: tuple[Key, ...] = ()
    if revoke_superseded and current and current.usable(now):
        older = [key for key in keys if key.created < current.created]
        if not create and now - current.created >= overlap:
            revoke = tuple(older)
        elif create and overlap <= 0:
            revoke = (*older, current)
    return KeyPlan(create, reason, revoke)


def read_key_file(path: str) -> str | None:
    """The file's text, or None where there is no file."""
    try:
        with open(path, encoding="utf-8") as file:
            return file.read()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise InputError("the key file cannot be read", where=path, why=error.strerror or str(error)) from error


def write_key_file(path: str, text: str) -> None:
    """Put the key into place in one step, readable by its owner alone from the first byte on."""
    try:
        with replacing(Path(path), durable=True) as file:
            file.write(text.encode())
    except OSError as error:
        raise InputError(
            "the key file cannot be written",
            where=path,
            why=error.strerror or str(error),
            fix="Create the directory, and let only its owner write there.",
        ) from error


def check_writable(path: str) -> None:
    """Find out before a key is made whether it can be kept.

    :raises InputError: it cannot.
    """
    directory = os.path.dirname(os.path.abspath(path))
    if not os.path.isdir(directory):
        raise InputError("the key file's directory does not exist", where=directory, fix="Create it, mode 0700.")
    if not os.access(directory, os.W_OK | os.X_OK) or os.path.isdir(path):
        raise InputError("the key file cannot be written", where=path, fix="Choose a path that the user may write.")


def accepted(gcp: Gcp, text: str) -> bool:
    """Whether the token endpoint takes the key already; a new one needs seconds to a minute."""
    import google.auth.transport.requests as transport
    import requests
    from google.auth.exceptions import GoogleAuthError
    from google.oauth2 import service_account

    document = json.loads(text)
    if gcp.endpoints.token:
        document["token_uri"] = gcp.endpoints.token
    session = requests.Session()
    if gcp.ca_file:
        trust(session, gcp.ca_file)
    credentials = service_account.Credentials.from_service_account_info(document, scopes=[SCOPE])
    try:
        credentials.refresh(transport.Request(session=session))
    except GoogleAuthError:
        return False
    return True


@dataclass(frozen=True)
class KeyChange:
    """``key`` is the document that is valid after the change, None in check mode where a new one would come."""

    created: bool
    reason: str
    revoked: list[str]
    key: KeyDocument | None
    before: list[dict[str, Any]]
    after: list[dict[str, Any]]

    @property
    def changed(self) -> bool:
        """Whether anything differs from before."""
        return self.created or bool(self.revoked)


def ensure_key(
    gcp: Gcp,
    email: str,
    *,
    held: str | None,
    where: str,
    keep: Callable[[str], None],
    max_age: float = 0.0,
    rotate: bool = False,
    revoke_superseded: bool = False,
    overlap: float = 0.0,
    wait: bool = True,
    timeout: float = 120.0,
    check_mode: bool = False,
    now: Callable[[], float] = time.time,
) -> KeyChange:
    """Make sure that a valid key is held; make a new one where it is not, or where it is due.

    The order is: new key made, kept, accepted by the token endpoint; only then are old ones revoked.

    :param held: the JSON that is held now, or None.
    :param where: name of the place that the key is held in, for messages.
    :param keep: puts a new key into that place.
    """
    _check_email(email)
    document = KeyDocument.parse(held, where) if held else None
    if document and document.email != email:
        raise InputError(
            "the key belongs to another service account",
            where=where,
            why=f"it is a key of {document.email} (project {document.project}), wanted is {email}",
            fix="Choose another place for this account's key, or name the account that the key is for.",
        )
    keys = list_keys(gcp, email)
    plan = plan_keys(
        keys,
        document,
        now=now(),
        max_age=max_age,
        rotate=rotate,
        revoke_superseded=revoke_superseded,
        overlap=overlap,
    )
    before = [key.summary() for key in keys]
    gone = {key.id for key in plan.revoke}
    after = [item for item in before if item["id"] not in gone]
    if check_mode:
        if plan.create:
            after = [*after, {"id": "(new)", "created": "(now)", "disabled": False}]
        return KeyChange(plan.create, plan.reason, sorted(gone), None if plan.create else document, before, after)
    if plan.create:
        text = create_key(gcp, email)
        document = KeyDocument.parse(text, "Google's answer")
        try:
            keep(text)
        except BaseException:
            delete_key(gcp, email, document.key_id)  # nobody holds it
            raise
        if wait:
            gcp.until(
                lambda: accepted(gcp, text),
                "the new key is not accepted",
                why=f"the token endpoint refuses key {document.key_id} of {email}",
                timeout=timeout,
                fix="Run again; the key is kept, and no older one was revoked. Check the clock where it goes on.",
            )
    for key in plan.revoke:
        delete_key(gcp, email, key.id)
    if plan.create or plan.revoke:
        after = [key.summary() for key in list_keys(gcp, email)]
    return KeyChange(plan.create, plan.reason, sorted(gone), document, before, after)


def revoke_keys(gcp: Gcp, email: str, key_ids: Sequence[str], *, check_mode: bool = False) -> KeyChange:
    """Revoke the named keys; those that are gone already are fine."""
    _check_email(email)
    keys = list_keys(gcp, email)
    before = [key.summary() for key in keys]
    gone = sorted({key.id for key in keys} & set(key_ids))
    if not check_mode:
        for key_id in gone:
            delete_key(gcp, email, key_id)
    return KeyChange(False, "", gone, None, before, [item for item in before if item["id"] not in gone])


def _check_email(email: str) -> None:
    if not _EMAIL.match(email):
        raise InputError(
            "the service account is no e-mail address",
            where=email,
            fix="Expected NAME@PROJECT.iam.gserviceaccount.com.",
        )
