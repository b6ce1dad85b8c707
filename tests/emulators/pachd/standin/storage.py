# SPDX-FileCopyrightText: 2026 The pachops.pachyderm contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The object store that pachd would use: chosen by STORAGE_BACKEND, described by the storage secret, tested at start."""

from __future__ import annotations

import os
import re
import ssl
import tempfile
from pathlib import Path

from ansible_collections.pachops.pachyderm.plugins.module_utils.errors import StorageError
from ansible_collections.pachops.pachyderm.plugins.module_utils.pachd.objects import Objects, new_id
from ansible_collections.pachops.pachyderm.plugins.module_utils.stores.base import ObjectMissing, Store
from ansible_collections.pachops.pachyderm.plugins.module_utils.stores.directory import DirectoryStore
from ansible_collections.pachops.pachyderm.plugins.module_utils.stores.gcs import GcsStore
from ansible_collections.pachops.pachyderm.plugins.module_utils.stores.keys import Spelling
from ansible_collections.pachops.pachyderm.plugins.module_utils.stores.s3 import S3Options, S3Store

from . import config, logs
from .errors import PachError

_UNITS = {"ns": 1e-9, "us": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}


#: What pachd knows as STORAGE_BACKEND.
BACKENDS = ("AMAZON", "GOOGLE", "LOCAL", "MICROSOFT", "MINIO")


def certificates() -> bool | str:
    """Return the CA file to trust, made from what SSL_CERT_FILE and SSL_CERT_DIR name, as Go programs understand them."""
    sources = [Path(each) for each in [os.environ.get("SSL_CERT_FILE", "")] if each]
    for directory in filter(None, os.environ.get("SSL_CERT_DIR", "").split(":")):
        if Path(directory).is_dir():
            sources += sorted(path for path in Path(directory).iterdir() if path.is_file())
    if not sources:
        return True
    default = ssl.get_default_verify_paths().cafile
    texts = [path.read_text() for path in [*sources, *([Path(default)] if default else [])]]
    with tempfile.NamedTemporaryFile("w", suffix=".pem", delete=False) as bundle:
        bundle.write("\n".join(text for text in texts if "BEGIN CERTIFICATE" in text))
    return bundle.name


def _wanted(name: str, message: str = "") -> str:
    value = config.secret(name)
    if value is None:
        raise PachError(message or f"open {config.SECRET}/{name}: no such file or directory")
    return value


def _seconds(duration: str) -> float:
    parts = re.findall(r"(\d+(?:\.\d*)?)(ns|us|ms|s|m|h)", duration)
    if not parts or "".join(number + unit for number, unit in parts) != duration:
        raise PachError(f"time: invalid duration {duration}")
    return sum(float(number) * _UNITS[unit] for number, unit in parts)


def _amazon(env: config.Environment) -> tuple[Store, Spelling]:
    region = _wanted("amazon-region", "amazon-region not found")
    bucket = _wanted("amazon-bucket")
    if not region:
        raise PachError("unable to write to object storage: MissingRegion: could not find region configuration")
    if config.secret("amazon-vault-addr") and not config.secret("amazon-id"):
        raise PachError("the pachd stand-in does not read credentials from Vault; it is a test double, not Pachyderm")
    if config.secret("amazon-distribution"):
        _wanted("cloudfrontPrivateKey")
        _wanted("cloudfrontKeyPairId")
        raise PachError("the pachd stand-in does not read through CloudFront; it is a test double, not Pachyderm")
    endpoint = config.secret("custom-endpoint") or ""
    if endpoint and "://" not in endpoint:
        endpoint = ("http://" if env.flag("DISABLE_SSL", False) else "https://") + endpoint
    trusted = certificates()
    if isinstance(trusted, str):
        # The chain's own clients (STS for a web identity) take no option, only this variable.
        os.environ["AWS_CA_BUNDLE"] = trusted
    store = S3Store(
        S3Options(
            bucket=bucket,
            region=region,
            endpoint=endpoint,
            access_key=config.secret("amazon-id") or "",
            secret_key=config.secret("amazon-secret") or "",
            session_token=config.secret("amazon-token") or "",
            verify=False if env.flag("NO_VERIFY_SSL", False) else trusted,
            retries=env.number("RETRIES", 10),
            timeout=_seconds(env.text("TIMEOUT", "5m")),
            part_size=env.number("PART_SIZE", 5 << 20),
            acl=env.text("UPLOAD_ACL", "bucket-owner-full-control"),
        )
    )
    return store, Spelling.REVERSED if env.flag("REVERSE", False) else Spelling.PLAIN


def _minio() -> tuple[Store, Spelling]:
    bucket, endpoint = _wanted("minio-bucket"), _wanted("minio-endpoint")
    access_key, secret_key = _wanted("minio-id"), _wanted("minio-secret")
    secure, version2 = _wanted("minio-secure") == "1", _wanted("minio-signature") == "1"
    logs.warning("DEPRECATED: Support for the S3V2 option is being deprecated. It will be removed in a future version")
    options = S3Options(
        bucket=bucket,
        region="us-east-1",
        endpoint=f"{'https' if secure else 'http'}://{endpoint}",
        access_key=access_key,
        secret_key=secret_key,
        verify=certificates(),
        part_size=8 << 20,
        signature_version="s3" if version2 else "s3v4",
    )
    return S3Store(options), Spelling.PLAIN


def _google() -> tuple[Store, Spelling]:
    bucket = _wanted("google-bucket", "google-bucket not found")
    credentials = _wanted("google-cred", "google-cred not found")
    path = str(Path(os.environ.get("STANDIN_STORAGE_SECRET") or config.SECRET) / "google-cred")
    try:
        return GcsStore(bucket, path if credentials else "", certificates()), Spelling.SLASH
    except StorageError as error:
        raise PachError(f"dialing: {error}") from error


def connect(settings: config.Settings) -> Objects:
    """Return the installation's content store.

    :raises PachError: when the environment or the secret lacks what pachd needs.
    """
    if not settings.backend:
        raise PachError("storage backend environment variable not found")
    if settings.backend == "AMAZON":
        store, spelling = _amazon(settings.env)
    elif settings.backend == "MINIO":
        store, spelling = _minio()
    elif settings.backend == "GOOGLE":
        store, spelling = _google()
    elif settings.backend == "LOCAL":
        store, spelling = DirectoryStore(settings.root), Spelling.DIRECTORY
    elif settings.backend == "MICROSOFT":
        raise PachError("the pachd stand-in does not know Azure; it is a test double, not Pachyderm")
    else:
        raise PachError(f"unrecognized storage backend: {settings.backend}")
    return Objects(store, spelling, settings.root)


def test(objects: Objects) -> None:
    """Write, read and delete an object, then read a missing one, as pachd does at every start.

    :raises PachError: when any of it fails.
    """
    name = objects.raw(new_id())
    for step, action in (
        ("unable to write to object storage", lambda: objects.store.write(name, [b"test"])),
        ("unable to read from object storage", lambda: b"".join(objects.store.read(name))),
        ("unable to delete from object storage", lambda: objects.store.delete(name)),
    ):
        try:
            action()
        except StorageError as error:
            raise PachError(f"{step}: {error}") from error
    try:
        b"".join(objects.store.read(objects.raw(new_id())))
    except ObjectMissing:
        return
    except StorageError as error:
        raise PachError(f"storage is unable to discern NotExist errors, should count as NotExist: {error}") from error
    raise PachError("storage is unable to discern NotExist errors, should count as NotExist")
