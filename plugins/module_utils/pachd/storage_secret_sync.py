# SPDX-FileCopyrightText: 2026 The pachops.pachyderm contributors
# SPDX-License-Identifier: BSD-2-Clause
"""Bring the storage secret in a cluster to what is wanted, or judge the one that somebody else keeps there."""

from __future__ import annotations

import base64
import configparser
import stat
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import InputError
from ..findings import Finding, warning
from ..kube.apply import FIELD_MANAGER, Change, Object, data_of
from ..kube.kinds import Ref
from .manifests import INSTALLATION_LABEL, MANAGED_BY, MANAGER, namespace_object
from .storage_secret import (
    CREDENTIAL_KEYS,
    SECRET_NAME,
    STORAGE_BACKEND,
    StorageOptions,
    check_existing,
    checksum,
    desired,
    gcp_project,
    raise_for,
    validate,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ..kube.client import Kube


@dataclass
class CredentialFiles:
    """Where credentials lie on the controller, so that they need not stand in variables; empty means "not given"."""

    gcp_credentials_file: str = ""
    aws_credentials_file: str = ""
    """INI as the AWS tools write it (``~/.aws/credentials``)."""
    aws_profile: str = "default"
    vault_token_file: str = ""


@dataclass
class Outcome:
    """What was done, or would be in check mode."""

    backend: str
    keys: list[str]
    """Keys that are written, or in existing mode: that are there."""
    kept: list[str] = field(default_factory=list)
    """Keys of other owners, which are left alone."""
    checksum: str = ""
    changes: list[Change] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)
    gcp_project: str = ""

    @property
    def storage_backend(self) -> str:
        """The value for pachd's STORAGE_BACKEND."""
        return STORAGE_BACKEND[self.backend]


def with_files(options: StorageOptions, files: CredentialFiles) -> tuple[StorageOptions, list[Finding]]:
    """Return ``options`` completed from the files that are given, and what is doubtful about these.

    :raises InputError: a file cannot be read or has not what is wanted, or is given next to the value itself.
    """
    findings: list[Finding] = []
    if files.gcp_credentials_file and options.backend == "gcp":
        _either(options.gcp_credentials, "gcp_credentials", "gcp_credentials_file")
        text = _read(files.gcp_credentials_file, "gcp_credentials_file", findings)
        options = replace(options, gcp_credentials=text)
    if files.aws_credentials_file and options.backend in ("aws", "minio"):
        _either(options.aws_id + options.aws_secret, "aws_id or aws_secret", "aws_credentials_file")
        options = _with_profile(options, files, findings)
    if files.vault_token_file and options.backend == "aws":
        _either(options.vault_token, "vault_token", "vault_token_file")
        token = _read(files.vault_token_file, "vault_token_file", findings).strip()
        options = replace(options, vault_token=token)
    return options, findings


def ensure(
    kube: Kube, namespace: str, options: StorageOptions, *, adopt: bool = False, check_mode: bool = False
) -> Outcome:
    """Create or update the secret, and the namespace where it does not exist.

    Keys that others added are kept; keys that were ours and are no longer wanted go.

    :param adopt: take over a secret, or single keys, that somebody else wrote.
    :raises InputError: ``options`` are not valid (everything at once); or the secret is somebody else's and ``adopt``
        is false.  Nothing was written.
    """
    findings = validate(options)
    wanted = desired(options)
    ref = secret_ref(namespace)
    before = kube.get(ref)
    if before is not None and not adopt:
        _refuse_foreign(before, ref)
    wanted |= _silenced_credentials(before, wanted, adopt=adopt)
    manifest = _manifest(ref, wanted)
    changes = [kube.ensure(namespace_object(namespace), check_mode)]
    changes.append(kube.apply(manifest, check_mode, force=adopt))
    content = _content_after(before, wanted)
    return Outcome(
        backend=options.backend,
        keys=sorted(wanted),
        kept=sorted(set(content) - set(wanted)),
        checksum=checksum(content),
        changes=changes,
        findings=findings,
        gcp_project=gcp_project(options.gcp_credentials) if options.backend == "gcp" else "",
    )


def inspect(kube: Kube, namespace: str, backend: str) -> Outcome:
    """Judge a secret that somebody else keeps; nothing is written.

    :raises InputError: it is missing, or not fit for ``backend``; the message names every key concerned.
    """
    ref = secret_ref(namespace)
    secret = kube.get(ref)
    if secret is None:
        raise InputError(
            "the storage secret does not exist",
            where=str(ref),
            why="mode existing leaves it to you, and pachd mounts it whatever the backend",
            fix="Create it, or let it be made: mode managed.",
        )
    content = data_of(secret)
    findings = check_existing(content, backend)
    raise_for(findings, str(ref))
    project = gcp_project(content.get("google-cred", b"").decode("utf-8", "replace"))
    return Outcome(
        backend=backend,
        keys=sorted(content),
        checksum=checksum(content),
        findings=findings,
        gcp_project=project if backend == "gcp" else "",
    )


def secret_ref(namespace: str) -> Ref:
    """Return the reference to the storage secret of an installation."""
    return Ref("v1", "Secret", namespace, SECRET_NAME)


def owners(secret: Mapping[str, object]) -> dict[str, set[str]]:
    """Return, for each key of a Secret's data, the field managers that own it."""
    found: dict[str, set[str]] = {}
    metadata = secret.get("metadata")
    entries = metadata.get("managedFields") or [] if isinstance(metadata, dict) else []
    for entry in entries:
        for name in (entry.get("fieldsV1") or {}).get("f:data") or {}:
            if name.startswith("f:"):
                found.setdefault(name[2:], set()).add(str(entry.get("manager", "")))
    return found


def _refuse_foreign(before: Object, ref: Ref) -> None:
    metadata = before["metadata"]
    managers = sorted({str(entry.get("manager", "")) for entry in metadata.get("managedFields") or []})
    if FIELD_MANAGER in managers:
        return
    held = ", ".join(sorted(data_of(before))) or "no keys"
    raise InputError(
        "the storage secret is somebody else's",
        where=str(ref),
        why=f"it was written by {', '.join(managers) or 'an unknown manager'} and holds {held}",
        fix="Set adopt to take it over (its other keys stay), or use mode existing to leave it as it is.",
    )


def _silenced_credentials(before: Object | None, wanted: Mapping[str, str], *, adopt: bool) -> dict[str, str]:
    """Return empty values for credentials of another owner that would win over the wanted way to log in.

    pachd takes ``amazon-id`` wherever it is set, so a key left over from ``pachctl deploy --credentials`` would make an
    IAM role ineffective; empty counts as absent.
    """
    if before is None or "amazon-region" not in wanted:
        return {}
    content, owner = data_of(before), owners(before)
    left = {
        key
        for key in CREDENTIAL_KEYS - set(wanted)
        if content.get(key, b"").strip() and owner.get(key, set()) != {FIELD_MANAGER}
    }
    if left and not adopt:
        raise InputError(
            "the storage secret holds credentials that would win over the configured ones",
            where=str(secret_ref(str(before["metadata"]["namespace"]))),
            why=f"{', '.join(sorted(left))} are set by somebody else, and pachd uses what it finds there",
            fix="Remove these keys, or set adopt to let them be emptied.",
        )
    # Ours already and emptied by an earlier adoption: keep them so.
    emptied = {key for key in CREDENTIAL_KEYS - set(wanted) if key in content and not content[key].strip()}
    return dict.fromkeys(left | {key for key in emptied if FIELD_MANAGER in owner.get(key, set())}, "")


def _manifest(ref: Ref, content: Mapping[str, str]) -> Object:
    labels = {"suite": "pachyderm", "app": SECRET_NAME, MANAGED_BY: MANAGER, INSTALLATION_LABEL: str(ref.namespace)}
    return {
        "apiVersion": ref.api_version,
        "kind": ref.kind,
        "metadata": {"name": ref.name, "namespace": ref.namespace, "labels": labels},
        "type": "Opaque",
        "data": {key: base64.b64encode(value.encode()).decode() for key, value in sorted(content.items())},
    }


def _content_after(before: Object | None, wanted: Mapping[str, str]) -> dict[str, bytes]:
    """Return the whole content that the secret has, or will have, after ``wanted`` is applied."""
    content = data_of(before) if before is not None else {}
    owner = owners(before) if before is not None else {}
    kept = {key: value for key, value in content.items() if owner.get(key, set()) != {FIELD_MANAGER}}
    return {**kept, **{key: value.encode() for key, value in wanted.items()}}


def _with_profile(options: StorageOptions, files: CredentialFiles, findings: list[Finding]) -> StorageOptions:
    path, profile = files.aws_credentials_file, files.aws_profile
    parser = configparser.RawConfigParser()
    try:
        parser.read_string(_read(path, "aws_credentials_file", findings))
        section = parser[profile]
    except configparser.Error as error:
        # The parser's own message quotes the line.
        raise InputError(
            "the AWS credentials file cannot be understood",
            where=path,
            why=f"line {getattr(error, 'lineno', '?')} is no INI",
            fix="Write it as `aws configure` does.",
        ) from None
    except KeyError:
        known = ", ".join(parser.sections()) or "none"
        raise InputError(
            f"the AWS credentials file has no profile {profile!r}",
            where=path,
            why=f"its profiles are: {known}",
            fix="Set aws_profile to one of them.",
        ) from None
    return replace(
        options,
        aws_id=section.get("aws_access_key_id", ""),
        aws_secret=section.get("aws_secret_access_key", ""),
        aws_token=section.get("aws_session_token", ""),
    )


def _read(path: str, option: str, findings: list[Finding]) -> str:
    place = Path(path).expanduser()
    try:
        mode = place.stat().st_mode
        text = place.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        why = str(getattr(error, "strerror", None) or "it is not text")
        raise InputError(f"cannot read {option}", where=str(place), why=why, fix="Correct the path.") from None
    if mode & (stat.S_IRGRP | stat.S_IROTH):
        findings.append(
            warning(
                "file-mode",
                f"{place} can be read by other users (mode {stat.S_IMODE(mode):04o})",
                "mode 0600",
                f"chmod 600 {place}",
            )
        )
    return text


def _either(value: str, option: str, file_option: str) -> None:
    if value.strip():
        raise InputError(
            f"{option} and {file_option} are both given", why="one of them would be ignored", fix="Keep one of them."
        )
