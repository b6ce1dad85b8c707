# SPDX-FileCopyrightText: 2026 The pachops.pachyderm contributors
# SPDX-License-Identifier: BSD-2-Clause
"""Google's REST APIs as the engine uses them: credentials, retries, and errors that name the cause.

The APIs' shapes are those of the discovery documents ``storage:v1``, ``iam:v1``, ``iamcredentials:v1`` and ``sts:v1``.
Every endpoint can be replaced: by a private or regional one, or by an emulator.
"""

from __future__ import annotations

import email.utils
import json
import random
import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from ..errors import CloudError, InputError

SCOPE = "https://www.googleapis.com/auth/cloud-platform"

# What a later try may cure.  409 and 412 are conflicts: the caller has to read again before it tries again.
TRANSIENT = frozenset({408, 429, 500, 502, 503, 504})
CONFLICT = frozenset({409, 412})
UNKNOWN_PROJECT = "unknownProject"  # our own reason: Google gives this case no common one

FIRST_PAUSE = 0.5
LONGEST_PAUSE = 32.0


@dataclass(frozen=True)
class Endpoints:
    """Base addresses without a trailing slash; ``token`` is empty where the credentials' own is right."""

    storage: str = "https://storage.googleapis.com"
    iam: str = "https://iam.googleapis.com"
    token: str = ""
    sts: str = "https://sts.googleapis.com"
    iam_credentials: str = "https://iamcredentials.googleapis.com"


class ApiError(CloudError):
    """An answer of Google's that is no success.

    :param status: HTTP status.
    :param reason: Google's machine-readable reason (``SERVICE_DISABLED``, ``forbidden``, ``conditionNotMet`` …) or "".
    :param message: Google's own words.
    :param permission: the permission that was missing, where that is the cause; else "".
    """

    def __init__(
        self,
        what: str,
        *,
        status: int,
        reason: str = "",
        message: str = "",
        permission: str = "",
        where: str = "",
        why: str = "",
        fix: str = "",
    ) -> None:
        self.status = status
        self.reason = reason
        self.message = message
        self.permission = permission
        super().__init__(what, where=where, why=why, fix=fix)


@dataclass(frozen=True)
class Answer:
    """The parts of Google's error body, whichever of its two shapes it has."""

    message: str
    reason: str
    metadata: Mapping[str, str]


def read_error(text: str) -> Answer:
    """Take an error body apart.

    Storage's JSON API has its reason in ``error.errors[0].reason``; IAM has it in a ``google.rpc.ErrorInfo`` among
    ``error.details``, and its status name (``PERMISSION_DENIED``) in ``error.status``.
    """
    try:
        error = json.loads(text)["error"]
    except (ValueError, TypeError, KeyError):
        return Answer(" ".join(text.split())[:300], "", {})
    if isinstance(error, str):  # the token endpoint's shape
        description = json.loads(text).get("error_description", "")
        return Answer(description or error, error, {})
    reason = str(error.get("status", ""))
    metadata: dict[str, str] = {}
    for item in error.get("errors") or []:
        reason = str(item.get("reason", reason))
        break
    for detail in error.get("details") or []:
        if str(detail.get("@type", "")).endswith("google.rpc.ErrorInfo"):
            reason = str(detail.get("reason", reason))
            metadata = {str(key): str(value) for key, value in (detail.get("metadata") or {}).items()}
        for violation in detail.get("violations") or []:
            metadata.setdefault("violation", str(violation.get("type", "")))
    return Answer(str(error.get("message", "")), reason, metadata)


_PERMISSION = re.compile(r"(?:Permission '|does not have |Required ')((?:storage|iam|resourcemanager)\.[A-Za-z.]+)")
_SERVICE = re.compile(r"([a-z]+\.googleapis\.com)")


def explain(
    what: str, status: int, text: str, *, needs: str, project: str, principal: str, where: str = ""
) -> ApiError:
    """Turn an answer into an error that names the cause and the way out.

    :param needs: the permission that this call is documented to need, for answers that name none.
    """
    answer = read_error(text)
    lower = answer.message.lower()
    why, fix, permission, reason = answer.message, "", "", answer.reason
    if status == 401:
        why = "the access token has expired or is not valid"
        fix = "Get a new token, or use a service account or application default credentials, which renew theirs."
    elif answer.reason in ("SERVICE_DISABLED", "accessNotConfigured"):
        found = _SERVICE.search(answer.metadata.get("service", "") or answer.message)
        service = found.group(1) if found else "the API"
        why = f"the API {service} is not enabled in project {project or '(unknown)'}"
        enable = f"gcloud services enable {service} --project {project or 'PROJECT'}"
        fix = f"Enable it: {enable}; it takes a minute to have effect."
    elif "billing" in lower and status in (402, 403):
        why = f"billing is not active for project {project or '(unknown)'}: {answer.message}"
        fix = "Link an active billing account to the project, or name another project."
    elif "cloud kms" in lower or "cloudkms" in lower:
        fix = (
            "Grant roles/cloudkms.cryptoKeyEncrypterDecrypter on the key to the project's Cloud Storage service agent "
            "(gcloud storage service-agent --project PROJECT), and keep the key in the bucket's location."
        )
    elif "constraints/" in lower or "organization policy" in lower or "org policy" in lower:
        why = f"an organisation policy forbids it: {answer.message}"
        fix = "Ask the organisation's administrator, or choose a way without it (keyless: workload identity)."
    elif status == 403:
        found = _PERMISSION.search(answer.message)
        permission = answer.metadata.get("permission") or (found.group(1) if found else needs)
        permission = permission or ("(not named)" if "permission" in lower or "access" in lower else "")
        why = f"{principal} lacks the permission {permission}" if permission else answer.message
        fix = "Grant a role that has it (docs/gcp.md lists the operator's permissions), or use other credentials."
    elif status in (400, 404) and ("unknown project" in lower or re.search(r"project .*not (found|exist)", lower)):
        reason = UNKNOWN_PROJECT
        why = f"project {project or '(unknown)'} does not exist or {principal} cannot see it"
        fix = "Check the project's ID (not its name, not its number)."
    elif status == 429:
        why = answer.message or "the quota is used up"
        fix = "Wait, or raise the quota."
    return ApiError(
        what,
        status=status,
        reason=reason,
        message=answer.message,
        permission=permission,
        where=where,
        why=why or f"HTTP status {status}",
        fix=fix,
    )


def pause_before(attempt: int, retry_after: str | None, now: Callable[[], float] = time.time) -> float:
    """Seconds to wait before try ``attempt`` + 1: what the server asked for, else doubling with jitter."""
    if retry_after:
        if retry_after.strip().isdigit():
            return float(retry_after)
        moment = email.utils.parsedate_tz(retry_after)
        if moment:
            return max(0.0, email.utils.mktime_tz(moment) - now())
    ceiling: float = min(LONGEST_PAUSE, FIRST_PAUSE * 2**attempt)
    return ceiling * (0.5 + random.random() / 2)  # noqa: S311 jitter is no secret


class Gcp:
    """An authorised session with retries.

    :param session: a ``google.auth.transport.requests.AuthorizedSession`` or what looks like one.
    :param project: ID of the project that new things belong to; "" where only existing things are named.
    :param principal: whose credentials these are, for messages.
    :param patience: seconds that one operation may take, all its tries and pauses included.
    """

    def __init__(
        self,
        session: Any,
        endpoints: Endpoints,
        *,
        project: str = "",
        principal: str = "the caller",
        patience: float = 120.0,
        ca_file: str = "",
        sleep: Callable[[float], None] = time.sleep,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.session = session
        self.endpoints = endpoints
        self.project = project
        self.principal = principal
        self.patience = patience
        self.ca_file = ca_file
        self.sleep = sleep
        self.clock = clock

    def storage(self, method: str, path: str, what: str, **options: Any) -> dict[str, Any]:
        """Call the Storage JSON API; ``path`` follows ``/storage/v1``."""
        return self.call(method, f"{self.endpoints.storage}/storage/v1{path}", what, **options)

    def iam(self, method: str, path: str, what: str, **options: Any) -> dict[str, Any]:
        """Call the IAM API; ``path`` follows ``/v1``."""
        return self.call(method, f"{self.endpoints.iam}/v1{path}", what, **options)

    def call(
        self,
        method: str,
        url: str,
        what: str,
        *,
        needs: str = "",
        params: Mapping[str, Any] | None = None,
        body: Mapping[str, Any] | None = None,
        where: str = "",
        retry: bool = True,
    ) -> dict[str, Any]:
        """Send one request and give back its JSON.

        :param what: the clause for an error's message: "cannot create the bucket".
        :param needs: the permission that the call needs.
        :param retry: whether a try whose outcome is unknown may be repeated.
        :raises ApiError: with the cause; after the last try for what a later try might have cured.
        """
        start = self.clock()
        attempt = 0
        while True:
            try:
                response = self.request(method, url, params=params, body=body)
            except _unreachable() as error:
                pause, failure = pause_before(attempt, None), self.transport_error(what, url, error)
                if not retry or not _transient(error):
                    raise failure from error
            else:
                if response.status_code < 300:
                    return self._json(response, what, url)
                failure = explain(
                    what,
                    response.status_code,
                    response.text,
                    needs=needs,
                    project=self.project,
                    principal=self.principal,
                    where=where,
                )
                again = response.status_code in TRANSIENT and "maximum number" not in failure.message.lower()
                if not again or (not retry and response.status_code != 429):
                    raise failure
                pause = pause_before(attempt, response.headers.get("Retry-After"))
            spent = self.clock() - start
            if spent + pause > self.patience:
                failure.why = f"{failure.why} (still so after {attempt + 1} tries in {spent:.0f} s)"
                failure.args = (str(failure),)
                raise failure
            attempt += 1
            self.sleep(pause)

    def request(self, method: str, url: str, *, params: Mapping[str, Any] | None, body: Any) -> Any:
        """One try, no judgement."""
        return self.session.request(method, url, params=params, json=body, timeout=min(60.0, self.patience))

    def until(self, done: Callable[[], bool], what: str, *, why: str, timeout: float, fix: str = "") -> None:
        """Wait until ``done`` says so; IAM's changes take seconds to minutes to be seen everywhere."""
        start, attempt = self.clock(), 0
        while not done():
            pause = min(8.0, pause_before(attempt, None))
            if self.clock() - start + pause > timeout:
                raise CloudError(what, why=f"{why} (waited {timeout:.0f} s)", fix=fix)
            attempt += 1
            self.sleep(pause)

    def _json(self, response: Any, what: str, url: str) -> dict[str, Any]:
        if not response.text:
            return {}
        try:
            data = response.json()
        except ValueError as error:
            raise CloudError(what, where=url, why="the answer is no JSON", fix="Check the endpoint option.") from error
        return data if isinstance(data, dict) else {}

    def transport_error(self, what: str, url: str, error: Exception) -> ApiError:
        """What a request that got no answer means."""
        name = type(error).__name__
        detail = " ".join(str(error.args[0] if error.args else error).split())[:300]
        if "necessary fields need to refresh" in detail:  # a bare access token, refused with 401
            return ApiError(
                what,
                status=401,
                where=url,
                why="the access token has expired or is not valid",
                fix="Get a new token, or use a service account or application default credentials, which renew theirs.",
            )
        if name in ("RefreshError", "ReauthFailError"):
            return ApiError(
                what,
                status=401,
                where=url,
                why=f"no access token for {self.principal}: {detail}",
                fix="The key may be revoked or the clock wrong by minutes; check both, or use other credentials.",
            )
        if "SSL" in name or "CERTIFICATE_VERIFY" in detail:
            return ApiError(
                what, status=0, where=url, why=f"TLS: {detail}", fix="Name the authority's certificate in ca_file."
            )
        return ApiError(
            what, status=0, where=url, why=detail, fix="Check the network, the proxy and the endpoint option."
        )


def _unreachable() -> tuple[type[Exception], ...]:
    from google.auth.exceptions import GoogleAuthError
    from requests.exceptions import RequestException

    return (GoogleAuthError, RequestException)


def _transient(error: Exception) -> bool:
    from requests import exceptions

    if isinstance(error, exceptions.SSLError):
        return False
    if isinstance(error, (exceptions.ConnectionError, exceptions.Timeout)):
        return True
    # google-auth wraps both; it marks a token endpoint's 5xx as retryable.
    if type(error).__name__ == "TransportError":
        return "SSL" not in str(error)
    return bool(getattr(error, "retryable", False))


def segment(name: str) -> str:
    """``name`` as one segment of a path."""
    return quote(name, safe="")


def trust(session: Any, ca_file: str) -> None:
    """Make a requests session trust the file's authorities; ``REQUESTS_CA_BUNDLE`` would override plain ``verify``."""
    merge = session.merge_environment_settings

    def with_authorities(*arguments: Any, **options: Any) -> Any:
        settings = merge(*arguments, **options)
        settings["verify"] = ca_file
        return settings

    session.merge_environment_settings = with_authorities
    session.verify = ca_file


def connect(
    *,
    project: str = "",
    access_token: str = "",
    credentials_file: str = "",
    credentials_json: str = "",
    anonymous: bool = False,
    endpoints: Endpoints = Endpoints(),
    ca_file: str = "",
    patience: float = 120.0,
) -> Gcp:
    """Build a session from the first of: access token, credentials' JSON, credentials file, application default.

    :param anonymous: use no credentials at all.
    :param credentials_json: a service account's key, or any other credentials document that google-auth reads.
    :raises InputError: google-auth is missing, or the credentials cannot be read.
    """
    try:
        import google.auth
        import google.auth.transport.requests as transport
        import requests
        from google.auth.credentials import AnonymousCredentials
        from google.auth.exceptions import DefaultCredentialsError, GoogleAuthError
        from google.oauth2.credentials import Credentials
    except ImportError as error:
        raise InputError(
            "the Python packages google-auth and requests are needed",
            why=str(error),
            fix="Install them for the interpreter that Ansible uses: pip install google-auth requests",
        ) from error

    plain = requests.Session()
    if ca_file:
        trust(plain, ca_file)
    token_request = transport.Request(session=plain)
    credentials: Any
    try:
        if anonymous:
            credentials = AnonymousCredentials()
        elif access_token:
            credentials = Credentials(token=access_token)
        elif credentials_json or credentials_file:
            document = _document(credentials_json, credentials_file)
            if endpoints.token:
                document["token_uri"] = endpoints.token
            credentials = _load(document)
        else:
            credentials, found = google.auth.default(scopes=[SCOPE], request=token_request)
            project = project or str(found or "")
    except DefaultCredentialsError as error:
        raise InputError(
            "no Google credentials found",
            why=" ".join(str(error).split())[:200],
            fix="Run gcloud auth application-default login, or set credentials_file, credentials_json or access_token.",
        ) from error
    except (GoogleAuthError, ValueError) as error:
        raise InputError(
            "the Google credentials cannot be used",
            where=credentials_file,
            why=" ".join(str(error).split())[:200],
            fix="Give a service account's JSON key as Google wrote it.",
        ) from error
    session = transport.AuthorizedSession(credentials, auth_request=token_request)
    if ca_file:
        trust(session, ca_file)
    principal = str(getattr(credentials, "service_account_email", "") or "the caller")
    return Gcp(session, endpoints, project=project, principal=principal, patience=patience, ca_file=ca_file)


def _load(document: dict[str, Any]) -> Any:
    """Credentials of the document's type; google-auth's one loader for all types is deprecated."""
    from google.auth import identity_pool
    from google.oauth2 import credentials, service_account

    kind = document["type"]
    if kind == "service_account":
        return service_account.Credentials.from_service_account_info(document, scopes=[SCOPE])
    if kind == "authorized_user":
        return credentials.Credentials.from_authorized_user_info(document, scopes=[SCOPE])
    if kind == "external_account":
        return identity_pool.Credentials.from_info(document, scopes=[SCOPE])
    raise InputError(
        "the Google credentials cannot be used",
        why=f"their type is {kind!r}",
        fix="Give a service account's key, or credentials of type authorized_user or external_account.",
    )


def _document(text: str, path: str) -> dict[str, Any]:
    try:
        if not text:
            with open(path, encoding="utf-8") as file:
                text = file.read()
        document = json.loads(text)
    except OSError as error:
        raise InputError("the credentials file cannot be read", where=path, why=error.strerror or str(error)) from error
    except ValueError as error:
        raise InputError(
            "the Google credentials are no JSON",
            where=path or "credentials_json",
            fix="Give a service account's JSON key as Google wrote it.",
        ) from error
    if not isinstance(document, dict) or "type" not in document:
        raise InputError(
            "the Google credentials have no type",
            where=path or "credentials_json",
            fix="Give a service account's JSON key as Google wrote it.",
        )
    return document


def endpoints_from(options: Mapping[str, Any]) -> Endpoints:
    """Take the endpoints from a module's options; those that it does not have are Google's own."""
    return Endpoints(
        storage=options["storage_endpoint"].rstrip("/"),
        iam=options["iam_endpoint"].rstrip("/"),
        token=options.get("token_endpoint") or "",
        sts=(options.get("sts_endpoint") or Endpoints.sts).rstrip("/"),
        iam_credentials=(options.get("iam_credentials_endpoint") or Endpoints.iam_credentials).rstrip("/"),
    )


def from_options(options: Mapping[str, Any]) -> Gcp:
    """Connect as a module's options say; their names are those of :data:`GCP_ARGUMENT_SPEC`."""
    return connect(
        project=options.get("project") or "",
        access_token=options.get("access_token") or "",
        credentials_file=options.get("credentials_file") or "",
        credentials_json=options.get("credentials_json") or "",
        endpoints=endpoints_from(options),
        ca_file=options.get("ca_file") or "",
        patience=float(options["api_timeout"]),
    )


GCP_ARGUMENT_SPEC: dict[str, dict[str, Any]] = {
    "project": {"type": "str"},
    "access_token": {"type": "str", "no_log": True},
    "credentials_file": {"type": "path"},
    "credentials_json": {"type": "jsonarg", "no_log": True},
    "storage_endpoint": {"type": "str", "default": Endpoints.storage},
    "iam_endpoint": {"type": "str", "default": Endpoints.iam},
    "token_endpoint": {"type": "str", "no_log": False},
    "ca_file": {"type": "path"},
    "api_timeout": {"type": "int", "default": 120},
}
GCP_MUTUALLY_EXCLUSIVE = [("access_token", "credentials_file", "credentials_json")]
