# SPDX-FileCopyrightText: 2026 The pachops.pachyderm contributors
# SPDX-License-Identifier: BSD-2-Clause
"""Encryption of backups with age, in two steps so that recipients can change.

Everything is encrypted to a *data key*, an age key pair of the cluster's own.  Its secret half is in
``<cluster id>/keys/<public key>.age``, encrypted to the recipients, whose public keys are in
``<public key>.recipients`` beside it.  A backup needs public keys only, and a change of recipients rewrites these small
files and nothing else.  All of it can be undone by hand with the program ``age``.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import datetime, timezone
from typing import Any

from ..errors import BackupError, InputError
from ..stores.base import ObjectMissing, Store
from .manifest import AGE, utc
from .streams import large, piped

_RECIPIENTS = ".recipients"
_CREATED = "# created "


def pyrage() -> Any:
    """Return the library, or say how to get it.

    :raises InputError: it is missing.
    """
    try:
        import pyrage as library
    except ImportError as error:
        raise InputError(
            "the Python library pyrage is missing", why=str(error), fix="Install the collection's requirements.txt."
        ) from error
    return library


class Cipher:
    """Encrypts to one data key; safe for use by many threads."""

    def __init__(self, key: str) -> None:
        """:param key: the public half, ``age1…``."""
        self.key = key
        self._recipients = [_recipient(key)]

    def encrypt(self, chunks: Iterable[bytes]) -> Iterator[bytes]:
        """Yield ``chunks`` encrypted, a piece at a time."""
        return large(piped(self._run, chunks))

    def encrypt_small(self, data: bytes) -> bytes:
        """Return ``data`` encrypted."""
        return bytes(pyrage().encrypt(data, self._recipients))

    def _run(self, source: Iterator[bytes], put: Callable[[bytes], None]) -> None:
        reader = _Reader(source)
        try:
            pyrage().encrypt_io(reader, _Writer(put), self._recipients)
        except Exception:
            if reader.error is not None:
                raise reader.error from None
            raise


class Decipher:
    """Decrypts what any of a cluster's data keys has encrypted."""

    def __init__(self, secrets: Sequence[str]) -> None:
        """:param secrets: the secret halves, ``AGE-SECRET-KEY-1…``."""
        self._identities = [pyrage().x25519.Identity.from_str(each) for each in secrets]

    def decrypt(self, chunks: Iterable[bytes], where: str) -> Iterator[bytes]:
        """Yield the content of ``chunks``, a piece at a time, each proven to be what was encrypted.

        :raises BackupError: when it is damaged, cut short, or encrypted to none of the keys.
        """
        library = pyrage()

        def run(source: Iterator[bytes], put: Callable[[bytes], None]) -> None:
            reader = _Reader(source)
            try:
                library.decrypt_io(reader, _Writer(put), self._identities)
            except (library.DecryptError, OSError) as error:
                if reader.error is not None:
                    raise reader.error from error
                raise BackupError("cannot decrypt", where=where, why=str(error)) from error

        return large(piped(run, chunks))


def identities_of(texts: Iterable[str]) -> list[Any]:
    """Return the identities in ``texts``, each the content of an age identity file or of an SSH private key.

    :raises InputError: when one holds none.
    """
    library = pyrage()
    found: list[Any] = []
    for text in texts:
        try:
            if "-----BEGIN" in text:
                found.append(library.ssh.Identity.from_buffer(text.encode()))
                continue
            lines = [line.strip() for line in text.splitlines() if line.strip() and not line.startswith("#")]
            found += [library.x25519.Identity.from_str(line) for line in lines]
        except library.IdentityError as error:
            # The text itself is a secret.
            raise InputError("not an age identity", why=str(error), fix="Give the file that age-keygen made.") from None
    return found


def _recipient(text: str) -> Any:
    library = pyrage()
    try:
        if text.startswith("ssh-"):
            return library.ssh.Recipient.from_str(text)
        return library.x25519.Recipient.from_str(text)
    except library.RecipientError as error:
        raise InputError(
            "not a public key to encrypt to", where=text, why=str(error), fix="Give age1… or an SSH public key."
        ) from error


class Keyring:
    """The data keys of one cluster in one store."""

    def __init__(self, store: Store, cluster_id: str) -> None:
        self._store = store
        self._base = f"{cluster_id}/keys/"

    def recipients(self) -> dict[str, tuple[str, ...]]:
        """Return the recipients of every data key, the newest key last."""
        found = []
        for each in self._store.list(self._base):
            if each.key.endswith(_RECIPIENTS):
                lines = b"".join(self._store.read(each.key)).decode().splitlines()
                created = next((line for line in lines if line.startswith(_CREATED)), "")
                recipients = tuple(line for line in lines if line and not line.startswith("#"))
                found.append((created, each.key[len(self._base) :].removesuffix(_RECIPIENTS), recipients))
        return {key: recipients for _created, key, recipients in sorted(found)}

    def cipher(self, recipients: Sequence[str], identities: Sequence[str] = (), *, check: bool = False) -> Cipher:
        """Return what encrypts for ``recipients``; makes the first data key, and changes recipients, where needed.

        :param identities: texts of identity files, needed only where recipients have changed.
        :param check: change nothing; the cipher of a key that is to be made is not for use.
        :raises BackupError: when recipients have changed and no identity of an old one is given.
        """
        wanted = tuple(sorted(set(recipients)))
        for each in wanted:
            _recipient(each)
        known = self.recipients()
        if not known:
            return Cipher(self._make(wanted, check))
        if all(set(each) == set(wanted) for each in known.values()):
            return Cipher(list(known)[-1])
        if not identities:
            raise BackupError(
                "the recipients of the encryption have changed",
                where=f"{self._store.where}/{self._base}",
                why="objects of earlier backups would stay unreadable for the new ones",
                fix="Give the identity of one of the earlier recipients too, once: then all keys are handed on.",
            )
        return Cipher(self.rotate(wanted, identities, check=check))

    def rotate(self, recipients: Sequence[str], identities: Sequence[str], *, check: bool = False) -> str:
        """Hand every data key on to ``recipients``, and return the key for new data.

        That is a fresh one where a recipient was dropped, who may have kept the old one.
        """
        known = self.recipients()
        secrets = self._secrets(identities)
        dropped = any(set(each) - set(recipients) for each in known.values())
        for key, secret in secrets.items():
            if not check and set(known[key]) != set(recipients):
                self._write(key, secret, recipients)
        return self._make(recipients, check) if dropped else list(known)[-1]

    def decipher(self, identities: Sequence[str]) -> Decipher:
        """Return what decrypts everything of this cluster that ``identities`` may read.

        :raises BackupError: when none of them is a recipient.
        """
        return Decipher(list(self._secrets(identities).values()))

    def _secrets(self, identities: Sequence[str]) -> dict[str, str]:
        library = pyrage()
        known = identities_of(identities)
        keys = self.recipients()
        secrets = {}
        for key in keys:
            where = f"{self._base}{key}{AGE}"
            try:
                sealed = b"".join(self._store.read(where))
                secrets[key] = library.decrypt(sealed, known).decode().strip()
            except (library.DecryptError, ObjectMissing):
                continue
        if not secrets or set(keys) - set(secrets):
            fix = "Give the identity of one of: " + ", ".join(sorted({each for some in keys.values() for each in some}))
            raise BackupError(
                "the backup cannot be decrypted with the identities given" if known else "the backup is encrypted",
                where=f"{self._store.where}/{self._base}",
                why=f"{len(secrets)} of {len(keys)} data keys can be read with {len(known)} identities",
                fix=fix,
            )
        return secrets

    def _make(self, recipients: Sequence[str], check: bool) -> str:
        identity = pyrage().x25519.Identity.generate()
        key = str(identity.to_public())
        if not check:
            self._write(key, str(identity), recipients)
        return key

    def _write(self, key: str, secret: str, recipients: Sequence[str]) -> None:
        sealed = pyrage().encrypt(f"{secret}\n".encode(), [_recipient(each) for each in recipients])
        self._store.write(f"{self._base}{key}{AGE}", [sealed])
        lines = [_CREATED + self._created(key), *sorted(recipients)]
        self._store.write(f"{self._base}{key}{_RECIPIENTS}", ["\n".join([*lines, ""]).encode()])

    def _created(self, key: str) -> str:
        try:
            text = b"".join(self._store.read(f"{self._base}{key}{_RECIPIENTS}")).decode()
        except ObjectMissing:
            return utc(datetime.now(timezone.utc))
        return text.splitlines()[0].removeprefix(_CREATED)


class _Reader(io.RawIOBase):
    """A file over chunks; keeps the exception that ended them, which the library makes a text of."""

    def __init__(self, chunks: Iterator[bytes]) -> None:
        self._chunks = chunks
        self._rest = memoryview(b"")
        self.error: BaseException | None = None

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        try:
            while not self._rest:
                self._rest = memoryview(next(self._chunks))
        except StopIteration:
            return b""
        except BaseException as error:
            self.error = error
            raise
        part = self._rest[:size] if size >= 0 else self._rest
        self._rest = self._rest[len(part) :]
        return bytes(part)


class _Writer(io.RawIOBase):
    """A file that hands on what is written."""

    def __init__(self, put: Callable[[bytes], None]) -> None:
        self._put = put

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        self._put(bytes(data))
        return len(data)
