# SPDX-FileCopyrightText: 2026 The pachops.pachyderm contributors
# SPDX-License-Identifier: BSD-2-Clause
"""The secret from which pachd 1.x learns where its objects are: keys, environment, validation.

pachd reads credentials, bucket and endpoint from files of the mounted secret, and the nine S3 tuning options only from
environment variables that are mapped from the same keys (``src/server/pkg/obj/obj.go`` at v1.13.4).  Both have to be
right: a secret without ``amazon-region`` sends pachd into a crash loop (pachyderm/pachyderm#2878), and one without
``reverse`` makes a bucket that ``pachctl deploy`` filled look empty.
"""

from __future__ import annotations

import difflib
import hashlib
import ipaddress
import json
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from urllib.parse import SplitResult, urlsplit

from ..errors import InputError
from ..findings import Finding, error, errors, warning

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

SECRET_NAME = "pachyderm-storage-secret"  # noqa: S105 - the object's name; fixed in pachd

ENVIRONMENT: Mapping[str, str] = {
    "google-bucket": "GOOGLE_BUCKET",
    "google-cred": "GOOGLE_CRED",
    "microsoft-container": "MICROSOFT_CONTAINER",
    "microsoft-id": "MICROSOFT_ID",
    "microsoft-secret": "MICROSOFT_SECRET",
    "minio-bucket": "MINIO_BUCKET",
    "minio-endpoint": "MINIO_ENDPOINT",
    "minio-id": "MINIO_ID",
    "minio-secret": "MINIO_SECRET",
    "minio-secure": "MINIO_SECURE",
    "minio-signature": "MINIO_SIGNATURE",
    "amazon-region": "AMAZON_REGION",
    "amazon-bucket": "AMAZON_BUCKET",
    "amazon-id": "AMAZON_ID",
    "amazon-secret": "AMAZON_SECRET",
    "amazon-token": "AMAZON_TOKEN",
    "amazon-vault-addr": "AMAZON_VAULT_ADDR",
    "amazon-vault-role": "AMAZON_VAULT_ROLE",
    "amazon-vault-token": "AMAZON_VAULT_TOKEN",
    "amazon-distribution": "AMAZON_DISTRIBUTION",
    "custom-endpoint": "CUSTOM_ENDPOINT",
    "retries": "RETRIES",
    "timeout": "TIMEOUT",
    "upload-acl": "UPLOAD_ACL",
    "reverse": "REVERSE",
    "part-size": "PART_SIZE",
    "max-upload-parts": "MAX_UPLOAD_PARTS",
    "disable-ssl": "DISABLE_SSL",
    "no-verify-ssl": "NO_VERIFY_SSL",
    "log-options": "OBJ_LOG_OPTS",
}
"""Secret key to environment variable, all 30; pachd, its sidecar and the workers need every one of them."""

TUNING: Mapping[str, str] = {
    "retries": "10",
    "timeout": "5m",
    "upload-acl": "bucket-owner-full-control",
    # What pachctl writes.  pachd's own default is false: left out, object keys would be spelt the other way round.
    "reverse": "true",
    "part-size": "5242880",
    "max-upload-parts": "10000",
    "disable-ssl": "false",
    "no-verify-ssl": "false",
    "log-options": "",
}
"""The nine S3 tuning keys with the values that ``pachctl deploy`` 1.13 writes."""

STORAGE_BACKEND: Mapping[str, str] = {"local": "LOCAL", "gcp": "GOOGLE", "aws": "AMAZON", "minio": "MINIO"}
"""Backend to pachd's ``STORAGE_BACKEND``."""

CONFIDENTIAL = frozenset(
    {
        "google-cred",
        "microsoft-secret",
        "minio-id",
        "minio-secret",
        "amazon-id",
        "amazon-secret",
        "amazon-token",
        "amazon-vault-token",
        "cloudfrontPrivateKey",
    }
)
"""Keys whose values are never shown; the others (bucket, region, tuning) are needed to understand an error."""

_AMAZON_BASE = ("amazon-region", "amazon-bucket", "amazon-distribution", *TUNING)
KEYS: Mapping[tuple[str, str], tuple[str, ...]] = {
    ("local", ""): (),
    ("gcp", ""): ("google-bucket", "google-cred"),
    ("aws", "role"): (*_AMAZON_BASE, "custom-endpoint"),
    ("aws", "keys"): (*_AMAZON_BASE, "custom-endpoint", "amazon-id", "amazon-secret", "amazon-token"),
    ("aws", "vault"): (
        *_AMAZON_BASE,
        "custom-endpoint",
        "amazon-vault-addr",
        "amazon-vault-role",
        "amazon-vault-token",
    ),
    ("minio", ""): (
        "minio-bucket",
        "minio-endpoint",
        "minio-id",
        "minio-secret",
        "minio-secure",
        "minio-signature",
    ),
}
"""Keys that are written for each (backend, aws_auth); every one is present, and see :data:`MAY_BE_EMPTY`."""

MAY_BE_EMPTY = frozenset({"google-cred", "amazon-distribution", "custom-endpoint", "amazon-token", "log-options"})
"""Keys whose empty value means something: metadata server, no CloudFront, AWS itself, permanent key, no logging."""

_MAY_BE_ABSENT = frozenset({"amazon-distribution", "custom-endpoint", "amazon-token"})

CREDENTIAL_KEYS = frozenset(
    {"amazon-id", "amazon-secret", "amazon-token", "amazon-vault-addr", "amazon-vault-role", "amazon-vault-token"}
)
"""Keys that decide how pachd logs in to S3: an id wins over Vault, Vault over the SDK's default chain."""

_KEY_OF: Mapping[str, str] = {
    "gcp_bucket": "google-bucket",
    "gcp_credentials": "google-cred",
    "aws_bucket": "amazon-bucket",
    "aws_region": "amazon-region",
    "aws_id": "amazon-id",
    "aws_secret": "amazon-secret",
    "aws_token": "amazon-token",
    "aws_endpoint_url": "custom-endpoint",
    "vault_addr": "amazon-vault-addr",
    "vault_role": "amazon-vault-role",
    "vault_token": "amazon-vault-token",
}
_MINIO_KEY_OF: Mapping[str, str] = {
    "aws_bucket": "minio-bucket",
    "aws_id": "minio-id",
    "aws_secret": "minio-secret",
    "aws_endpoint_url": "minio-endpoint",
}

DEFAULT_S3_COMPATIBLE_REGION = "us-east-1"

_KNOWN = (*ENVIRONMENT, "cloudfrontPrivateKey", "cloudfrontKeyPairId")
_MIN_PART = 5 * 1024 * 1024  # bytes, S3's least size of a part
_MAX_PART = 5 * 1024 * 1024 * 1024
_MAX_PARTS = 10_000
_DURATION = re.compile(r"(\d+(\.\d*)?|\.\d+)(ns|us|µs|ms|s|m|h)")
_REGION = re.compile(r"[a-z]{2}(-[a-z]+){1,2}-\d{1,2}")
_ACLS = (
    "private",
    "public-read",
    "public-read-write",
    "authenticated-read",
    "aws-exec-read",
    "bucket-owner-read",
    "bucket-owner-full-control",
    "log-delivery-write",
    "",
)
_LOG_OPTIONS = ("debug", "signing", "httpbody", "requestretries", "requesterrors", "eventstreambody", "all")


@dataclass(frozen=True)
class StorageOptions:
    """What a user says about the object store; empty means "not given".

    ``aws_*`` options also describe S3-compatible stores (with ``aws_endpoint_url``) and the ``minio`` backend, which is
    pachd's older client for such stores and the only one that speaks signature version 2.
    """

    backend: str
    gcp_bucket: str = ""
    gcp_credentials: str = field(default="", repr=False)
    aws_bucket: str = ""
    aws_region: str = ""
    aws_auth: str = "role"
    aws_id: str = field(default="", repr=False)
    aws_secret: str = field(default="", repr=False)
    aws_token: str = field(default="", repr=False)
    aws_endpoint_url: str = ""
    vault_addr: str = ""
    vault_role: str = ""
    vault_token: str = field(default="", repr=False)
    minio_signature: str = "v4"
    tuning: Mapping[str, Any] = field(default_factory=dict)
    """Tuning keys, with ``-`` or ``_``, that differ from :data:`TUNING`."""


def desired(options: StorageOptions) -> dict[str, str]:
    """Return the secret's content for ``options``.

    :raises InputError: with everything that is wrong, not only the first thing.
    """
    raise_for(validate(options))
    if options.backend == "gcp":
        return {"google-bucket": options.gcp_bucket.strip(), "google-cred": options.gcp_credentials.strip()}
    if options.backend == "minio":
        endpoint = _endpoint(options.aws_endpoint_url)
        return {
            "minio-bucket": options.aws_bucket.strip(),
            "minio-endpoint": endpoint.netloc,
            "minio-id": options.aws_id.strip(),
            "minio-secret": options.aws_secret.strip(),
            "minio-secure": "1" if endpoint.scheme == "https" else "0",
            "minio-signature": "1" if options.minio_signature == "v2" else "0",
        }
    return _desired_s3(options) if options.backend == "aws" else {}


def _desired_s3(options: StorageOptions) -> dict[str, str]:
    endpoint = options.aws_endpoint_url.strip()
    tuning = {**TUNING, **{key: _text(value) for key, value in _normalised(options.tuning).items()}}
    if "disable-ssl" not in _normalised(options.tuning) and endpoint:
        tuning["disable-ssl"] = _text(_endpoint(endpoint).scheme == "http")
    result = {
        "amazon-region": options.aws_region.strip() or DEFAULT_S3_COMPATIBLE_REGION,
        "amazon-bucket": options.aws_bucket.strip(),
        "amazon-distribution": "",
        **tuning,
        "custom-endpoint": endpoint,
    }
    if options.aws_auth == "keys":
        result |= {
            "amazon-id": options.aws_id.strip(),
            "amazon-secret": options.aws_secret.strip(),
            "amazon-token": options.aws_token.strip(),
        }
    elif options.aws_auth == "vault":
        result |= {
            "amazon-vault-addr": options.vault_addr.strip(),
            "amazon-vault-role": options.vault_role.strip(),
            "amazon-vault-token": options.vault_token.strip(),
        }
    return result


def validate(options: StorageOptions) -> list[Finding]:
    """Return everything that is wrong or doubtful about ``options``; no value of a credential is part of it."""
    checks: Mapping[str, Callable[[StorageOptions], Iterable[Finding]]] = {
        "local": lambda _options: (),
        "gcp": _check_gcp,
        "aws": _check_aws,
        "minio": _check_minio,
    }
    if options.backend not in checks:
        return [
            error(
                "backend",
                f"backend is {options.backend!r}{_did_you_mean(options.backend, checks)}",
                f"one of {', '.join(checks)}",
                "Set backend to the store you use.",
            )
        ]
    return list(checks[options.backend](options))


def check_existing(data: Mapping[str, bytes | str], backend: str) -> list[Finding]:
    """Return everything that is wrong or doubtful about a secret that somebody else keeps.

    :param data: the secret's decoded content.
    :param backend: ``local``, ``gcp``, ``aws`` or ``minio``: what pachd will be told to use.
    """
    values = {key: _decoded(value).strip() for key, value in data.items()}
    auth = _auth_of(values) if backend == "aws" else ""
    wanted = KEYS.get((backend, auth))
    if wanted is None:
        return validate(StorageOptions(backend=backend))
    findings = [*_check_presence(values, wanted), *_check_spelling(values, wanted)]
    judged = validate(_options_of(values, backend, auth))
    # What is missing has been said, by its key's name.
    findings += [_in_terms_of_keys(item, backend) for item in judged if not item.found.endswith(" is missing")]
    findings += [
        error("secret-keys", f"key {key} is {values[key]!r}", "0 or 1", f"Correct {key}.")
        for key in ("minio-secure", "minio-signature")
        if backend == "minio" and values.get(key) not in (None, "", "0", "1")
    ]
    if values.get("amazon-distribution"):
        findings.append(_check_cloudfront(values))
    return findings


def gcp_project(credentials: str) -> str:
    """Return the project that a service account's JSON key belongs to; empty where it does not say."""
    try:
        document = json.loads(credentials)
    except ValueError:
        return ""
    return str(document.get("project_id") or "") if isinstance(document, dict) else ""


def credentials_of(values: Mapping[str, str], backend: str) -> str:
    """Return how pachd logs in: ``none``, ``keys``, ``role``, ``vault``, ``key_file`` or ``metadata_server``.

    ``role`` is whatever the SDK's default chain finds: a role of the nodes, of kube2iam or of the service account.
    """
    if backend == "aws":
        return _auth_of(values)
    if backend == "gcp":
        return "key_file" if values.get("google-cred", "").strip() else "metadata_server"
    return "keys" if backend in ("minio", "azure") else "none"


def checksum(data: Mapping[str, bytes | str]) -> str:
    """Return a digest of the keys that pachd reads, for the pod template: pachd restarts when one of them changes.

    Keys that pachd does not read do not count.  128 bits of SHA-256, in hexadecimal.
    """
    content = {key: _decoded(data[key]) for key in sorted(data) if key in _KNOWN}
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:32]


def raise_for(findings: Iterable[Finding], where: str = SECRET_NAME) -> None:
    """Raise :class:`InputError` with every error among ``findings``; return when there is none."""
    wrong = errors(findings)
    if not wrong:
        return
    lines = [f"{item.found} (wanted: {item.wanted})" for item in wrong]
    fixes = dict.fromkeys(item.fix for item in wrong if item.fix)
    raise InputError(
        "the object storage settings are not valid",
        where=where,
        why=lines[0] if len(lines) == 1 else "; ".join(f"{number}. {line}" for number, line in enumerate(lines, 1)),
        fix=" ".join(fixes),
    )


def _check_gcp(options: StorageOptions) -> Iterable[Finding]:
    yield from _check_bucket("gcp_bucket", options.gcp_bucket, _gcs_bucket_problem)
    text = options.gcp_credentials.strip()
    if text:
        yield from _check_gcp_key(text)


def _check_gcp_key(text: str) -> Iterable[Finding]:
    wanted = "the JSON key of a service account, or nothing for Workload Identity and the node's own account"
    again = "Create a key with `gcloud iam service-accounts keys create`, or leave gcp_credentials empty."
    try:
        document = json.loads(text)
    except ValueError as problem:
        position = f"line {problem.lineno}" if isinstance(problem, json.JSONDecodeError) else "start"
        yield error("gcp-credentials", f"gcp_credentials is no JSON ({position})", wanted, again)
        return
    if not isinstance(document, dict):
        yield error("gcp-credentials", "gcp_credentials is JSON, but no object", wanted, again)
        return
    kind = document.get("type")
    if kind != "service_account":
        found = f"gcp_credentials is of type {kind!r}" if isinstance(kind, str) else "gcp_credentials names no type"
        yield error("gcp-credentials", found, wanted, again)
        return
    for name in ("client_email", "token_uri", "private_key"):
        if not isinstance(document.get(name), str) or not document[name]:
            yield error("gcp-credentials", f"gcp_credentials has no {name}", f"a key with {name}", again)
    key, token_uri = document.get("private_key"), document.get("token_uri")
    if isinstance(key, str) and key and not re.match(r"-----BEGIN (RSA )?PRIVATE KEY-----\s", key):
        yield error("gcp-credentials", "private_key in gcp_credentials is no PEM key", "a PEM private key", again)
    if isinstance(token_uri, str) and token_uri and not _is_url(token_uri):
        yield error("gcp-credentials", "token_uri in gcp_credentials is no URL", "an http or https URL", again)


def _check_aws(options: StorageOptions) -> Iterable[Finding]:
    compatible = bool(options.aws_endpoint_url.strip())
    yield from _check_bucket(
        "aws_bucket", options.aws_bucket, _plain_bucket_problem if compatible else _s3_bucket_problem
    )
    yield from _check_region(options.aws_region.strip(), compatible)
    if compatible:
        yield from _check_endpoint(options.aws_endpoint_url)
    yield from _check_tuning(options)
    yield from _check_auth(options, compatible)


def _check_region(region: str, compatible: bool) -> Iterable[Finding]:
    if not region:
        if not compatible:
            yield error(
                "aws-region",
                "aws_region is missing",
                "the bucket's region: without amazon-region pachd exits at start",
                "Set aws_region, e.g. eu-central-1.",
            )
    elif re.fullmatch(f"{_REGION.pattern}[a-z]", region):
        yield error(
            "aws-region",
            f"aws_region is {region!r}, which is an availability zone",
            f"a region, e.g. {region[:-1]}",
            "Leave off the last letter.",
        )
    elif not compatible and not _REGION.fullmatch(region):
        yield error(
            "aws-region",
            f"aws_region is {region!r}",
            "a region such as eu-central-1",
            "Set aws_region to the bucket's region.",
        )


def _check_auth(options: StorageOptions, compatible: bool) -> Iterable[Finding]:
    given = [name for name in ("aws_id", "aws_secret", "aws_token") if getattr(options, name).strip()]
    vault = [name for name in ("vault_addr", "vault_role", "vault_token") if getattr(options, name).strip()]
    if options.aws_auth not in ("role", "keys", "vault"):
        yield error(
            "aws-auth",
            f"aws_auth is {options.aws_auth!r}{_did_you_mean(options.aws_auth, ('role', 'keys', 'vault'))}",
            "one of role, keys, vault",
            "Say how pachd logs in to the store.",
        )
        return
    foreign = {"role": [*given, *vault], "keys": vault, "vault": given}[options.aws_auth]
    if foreign:
        yield error(
            "aws-auth",
            f"aws_auth is {options.aws_auth}, but {', '.join(foreign)} given too",
            "one way to log in",
            "Set aws_auth to keys or vault, or remove what belongs to the other way.",
        )
    if options.aws_auth == "keys":
        yield from _check_keys(options, compatible)
    elif options.aws_auth == "vault":
        for name in ("vault_addr", "vault_role", "vault_token"):
            if name not in vault:
                yield error("aws-vault", f"{name} is missing", "Vault's address, role and token", f"Set {name}.")
        if "vault_addr" in vault and not _is_url(options.vault_addr.strip()):
            yield error(
                "aws-vault",
                f"vault_addr is {options.vault_addr!r}",
                "a URL such as https://vault.example.com:8200",
                "Write vault_addr with its scheme.",
            )


def _check_keys(options: StorageOptions, compatible: bool) -> Iterable[Finding]:
    yield from _check_pair(options)
    token = options.aws_token.strip()
    if compatible:
        return
    key_id = options.aws_id.strip()
    if key_id.startswith("ASIA") and not token:
        yield error(
            "aws-keys",
            "aws_id is a temporary key (ASIA…) and aws_token is missing",
            "the session token that was issued with it",
            "Set aws_token, or use a permanent key or aws_auth=role.",
        )
    elif key_id.startswith("AKIA") and token:
        yield error(
            "aws-keys",
            "aws_id is a permanent key (AKIA…) and aws_token is given",
            "no token: S3 refuses the pair",
            "Remove aws_token.",
        )
    elif token:
        yield warning(
            "aws-keys",
            "the credentials are temporary",
            "credentials that outlive the session: pachd stops working when they expire",
            "Prefer aws_auth=role.",
        )


def _check_pair(options: StorageOptions) -> Iterable[Finding]:
    for name in ("aws_id", "aws_secret"):
        value = getattr(options, name).strip()
        if not value:
            yield error("aws-keys", f"{name} is missing", "an access key id and its secret", f"Set {name}.")
        elif re.search(r"\s", value):
            yield error("aws-keys", f"{name} contains white space", "the key as it was issued", f"Copy {name} again.")


def _check_minio(options: StorageOptions) -> Iterable[Finding]:
    yield from _check_bucket("aws_bucket", options.aws_bucket, _plain_bucket_problem)
    if options.aws_endpoint_url.strip():
        yield from _check_endpoint(options.aws_endpoint_url)
    else:
        yield error(
            "aws-endpoint-url",
            "aws_endpoint_url is missing",
            "the address of the S3-compatible store",
            "Set aws_endpoint_url, e.g. http://minio.example.com:9000.",
        )
    yield from _check_pair(options)
    if options.minio_signature not in ("v2", "v4"):
        yield error(
            "minio-signature",
            f"minio_signature is {options.minio_signature!r}",
            "v2 or v4",
            "Set the signature version that the store speaks.",
        )


def _check_bucket(name: str, value: str, problem_of: Callable[[str], str]) -> Iterable[Finding]:
    bucket = value.strip()
    check = name.replace("_", "-")
    if not bucket:
        yield error(check, f"{name} is missing", "an existing bucket's name", f"Set {name}.")
        return
    match = re.match(r"(?:gs|s3|https?)://([^/]+)", bucket)
    if match:
        yield error(check, f"{name} is {bucket!r}", "the name alone, no URL", f"Write {match[1]}.")
        return
    problem = problem_of(bucket)
    if problem:
        yield error(check, f"{name} is {bucket!r}: {problem}", "a legal bucket name", f"Correct {name}.")


def _s3_bucket_problem(bucket: str) -> str:
    if not 3 <= len(bucket) <= 63:
        return "it must have 3 to 63 characters"
    if not re.fullmatch(r"[a-z0-9][a-z0-9.-]*[a-z0-9]", bucket):
        return "only lower-case letters, digits, dots and hyphens, with a letter or digit at both ends"
    if ".." in bucket:
        return "two dots stand side by side"
    if _is_address(bucket):
        return "it looks like an IP address"
    if bucket.startswith(("xn--", "sthree-", "amzn-s3-demo-")) or bucket.endswith(("-s3alias", "--ol-s3", "--x-s3")):
        return "the prefix or suffix is reserved by S3"
    return ""


def _gcs_bucket_problem(bucket: str) -> str:
    longest = 222 if "." in bucket else 63
    if not 3 <= len(bucket) <= longest or any(len(part) > 63 for part in bucket.split(".")):
        return "it must have 3 to 63 characters (between dots)"
    if not re.fullmatch(r"[a-z0-9][a-z0-9._-]*[a-z0-9]", bucket):
        return "only lower-case letters, digits, dots, hyphens and underscores, with a letter or digit at both ends"
    if _is_address(bucket):
        return "it looks like an IP address"
    if bucket.startswith("goog") or "google" in bucket:
        return "it must not begin with goog or contain google"
    return ""


def _plain_bucket_problem(bucket: str) -> str:
    """S3-compatible stores differ; what none of them can take is what would break the URL."""
    return "" if re.fullmatch(r"[A-Za-z0-9._-]{1,255}", bucket) else "only letters, digits, dots, hyphens, underscores"


def _check_endpoint(url: str) -> Iterable[Finding]:
    try:
        parts = _endpoint(url)
        sound = bool(parts.hostname) and parts.scheme in ("http", "https") and (parts.port is None or parts.port > 0)
    except ValueError:
        sound, parts = False, urlsplit("")
    if not sound or " " in url.strip():
        yield error(
            "aws-endpoint-url",
            f"aws_endpoint_url is {_without_user(url)!r}",
            "http:// or https://, a host, and a port where it is not the usual one",
            "Correct aws_endpoint_url.",
        )
    elif parts.username or parts.password:
        yield error(
            "aws-endpoint-url",
            "aws_endpoint_url contains a user or password",
            "the address alone",
            "Move the credentials to aws_id and aws_secret.",
        )
    elif parts.path not in ("", "/") or parts.query or parts.fragment:
        yield error(
            "aws-endpoint-url",
            f"aws_endpoint_url is {url!r}",
            "the address alone: the bucket is added behind it",
            "Remove what follows the host and the port.",
        )


def _check_tuning(options: StorageOptions) -> Iterable[Finding]:
    tuning = _normalised(options.tuning)
    for key in tuning:
        if key not in TUNING:
            yield error(
                "tuning",
                f"tuning has {key!r}{_did_you_mean(key, TUNING)}",
                f"keys among {', '.join(TUNING)}",
                "Correct or remove the key.",
            )
    for key in TUNING:
        wanted = _tuning_problem(key, _text(tuning[key])) if key in tuning else ""
        if wanted:
            yield error("tuning", f"{key} is {_text(tuning[key])!r}", wanted, f"Correct {key}.")
    scheme = urlsplit(options.aws_endpoint_url.strip()).scheme
    if "disable-ssl" in tuning and scheme in ("http", "https"):
        plain = _text(tuning["disable-ssl"]) == "true"
        if plain != (scheme == "http"):
            yield error(
                "tuning",
                f"disable-ssl is {_text(tuning['disable-ssl'])!r}, but aws_endpoint_url begins with {scheme}://",
                "the same in both: the scheme of the endpoint decides",
                "Leave disable-ssl out; it follows the endpoint.",
            )
    if _text(tuning.get("upload-acl", "")).startswith("public-"):
        yield warning("tuning", "upload-acl makes every object public", "private objects", "Remove upload-acl.")


def _tuning_problem(key: str, value: str) -> str:
    """Return what is wanted where ``value`` is not it, empty where it is."""
    rules: Mapping[str, tuple[Callable[[str], bool], str]] = {
        "retries": (lambda text: _integer(text, 0, 1000), "a number from 0 to 1000"),
        "timeout": (_is_duration, "a Go duration above zero such as 90s or 5m"),
        "upload-acl": (_ACLS.__contains__, f"a canned ACL: {', '.join(filter(None, _ACLS))}"),
        "part-size": (lambda text: _integer(text, _MIN_PART, _MAX_PART), f"bytes, from {_MIN_PART} to {_MAX_PART}"),
        "max-upload-parts": (lambda text: _integer(text, 1, _MAX_PARTS), f"a number from 1 to {_MAX_PARTS}"),
        "log-options": (
            lambda text: not text or all(part.lower() in _LOG_OPTIONS for part in text.split(",")),
            f"a comma-separated list of {', '.join(_LOG_OPTIONS)}",
        ),
    }
    sound, wanted = rules.get(key, (("true", "false").__contains__, "true or false"))
    return "" if sound(value) else wanted


def _check_presence(values: Mapping[str, str], wanted: Iterable[str]) -> Iterable[Finding]:
    for key in wanted:
        if values.get(key) or (key in values and key in MAY_BE_EMPTY) or key in _MAY_BE_ABSENT:
            continue
        if key in values:
            yield error("secret-keys", f"key {key} is empty", "a value: pachd needs it", f"Set {key} in the secret.")
        elif key in TUNING and key != "reverse":
            yield warning(
                "secret-keys",
                f"key {key} is missing",
                "all nine tuning keys: pachd's own default applies",
                f"Add {key}: {TUNING[key]!r} is what pachctl writes.",
            )
        else:
            because = "object keys are spelt the other way round without it" if key == "reverse" else "pachd needs it"
            yield error("secret-keys", f"key {key} is missing", because, f"Add the key {key} to the secret.")


def _check_spelling(values: Mapping[str, str], wanted: Iterable[str]) -> Iterable[Finding]:
    absent = [key for key in wanted if key not in values]
    for key in values:
        close = [] if key in _KNOWN else difflib.get_close_matches(key, absent, n=1, cutoff=0.75)
        if close:
            found = f"key {key}, did you mean {close[0]}?"
            yield error("secret-keys", found, close[0], "Rename the key in the secret.")


def _check_cloudfront(values: Mapping[str, str]) -> Finding:
    missing = [key for key in ("cloudfrontPrivateKey", "cloudfrontKeyPairId") if not values.get(key)]
    if missing:
        return error(
            "cloudfront",
            f"amazon-distribution is set, and {' and '.join(missing)} missing",
            "both CloudFront keys, or no distribution: pachd does not start otherwise",
            "Empty amazon-distribution.",
        )
    return warning(
        "cloudfront",
        "reads go through CloudFront over plain HTTP",
        "no distribution: it is not supported here",
        "Empty amazon-distribution.",
    )


def _options_of(values: Mapping[str, str], backend: str, auth: str) -> StorageOptions:
    """Return the options that would have written ``values``; only what is present is judged."""
    get = values.get
    if backend == "minio":
        host = get("minio-endpoint", "")
        scheme = "https" if get("minio-secure") == "1" else "http"
        return StorageOptions(
            backend,
            aws_bucket=get("minio-bucket", ""),
            aws_id=get("minio-id", ""),
            aws_secret=get("minio-secret", ""),
            aws_endpoint_url=f"{scheme}://{host}" if host else "",
        )
    endpoint = get("custom-endpoint", "")
    tuning = {key: values[key] for key in TUNING if key in values}
    if "://" in endpoint:
        tuning.pop("disable-ssl", None)  # pachd lets the endpoint's scheme decide
    elif endpoint:
        endpoint = f"{'http' if tuning.get('disable-ssl') == 'true' else 'https'}://{endpoint}"
    return StorageOptions(
        backend,
        gcp_bucket=get("google-bucket", ""),
        gcp_credentials=get("google-cred", ""),
        aws_bucket=get("amazon-bucket", ""),
        # pachd has no default: a store of one's own needs the key as well.
        aws_region=get("amazon-region", ""),
        aws_auth=auth or "role",
        aws_id=get("amazon-id", "") if auth == "keys" else "",
        aws_secret=get("amazon-secret", "") if auth == "keys" else "",
        aws_token=get("amazon-token", "") if auth == "keys" else "",
        aws_endpoint_url=endpoint,
        vault_addr=get("amazon-vault-addr", "") if auth == "vault" else "",
        vault_role=get("amazon-vault-role", "") if auth == "vault" else "",
        vault_token=get("amazon-vault-token", "") if auth == "vault" else "",
        tuning=tuning,
    )


def _in_terms_of_keys(finding: Finding, backend: str) -> Finding:
    """Return a finding about options as one about the keys of a secret that nobody wrote from options."""
    names = _MINIO_KEY_OF if backend == "minio" else _KEY_OF
    pattern = re.compile("|".join(rf"\b{name}\b" for name in names))

    def translated(text: str) -> str:
        return pattern.sub(lambda match: names[match[0]], text)

    return Finding(
        finding.check,
        finding.severity,
        translated(finding.found),
        translated(finding.wanted),
        translated(finding.fix),
    )


def _auth_of(values: Mapping[str, str]) -> str:
    """Return how pachd would log in with ``values``."""
    if values.get("amazon-id"):
        return "keys"
    return "vault" if values.get("amazon-vault-addr") else "role"


def _normalised(tuning: Mapping[str, Any]) -> dict[str, Any]:
    return {key.replace("_", "-"): value for key, value in tuning.items() if value is not None}


def _text(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value).strip()


def _decoded(value: bytes | str) -> str:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else value


def _endpoint(url: str) -> SplitResult:
    return urlsplit(url.strip())


def _without_user(url: str) -> str:
    return re.sub(r"//[^/@]*@", "//", url)


def _is_url(text: str) -> bool:
    try:
        parts = urlsplit(text)
    except ValueError:
        return False
    return parts.scheme in ("http", "https") and bool(parts.hostname)


def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


def _is_duration(text: str) -> bool:
    return bool(re.fullmatch(f"({_DURATION.pattern})+", text)) and any(
        float(match[1]) > 0 for match in _DURATION.finditer(text)
    )


def _integer(text: str, least: int, most: int) -> bool:
    return text.isascii() and text.isdigit() and least <= int(text) <= most


def _did_you_mean(word: str, known: Iterable[str]) -> str:
    close = difflib.get_close_matches(word, list(known), n=1, cutoff=0.6)
    return f", did you mean {close[0]}?" if close else ""
