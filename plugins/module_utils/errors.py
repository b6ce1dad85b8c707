# SPDX-FileCopyrightText: 2026 The pachops.pachyderm contributors
# SPDX-License-Identifier: BSD-2-Clause
"""The one exception hierarchy of the engine.

Every error that a user may meet says four things: what failed, where, why, and what to do next.  The engine raises, and
only a module's ``main`` turns an error into ``fail_json``.
"""

from __future__ import annotations


class PachopsError(Exception):
    """Base of all errors that the engine raises on purpose.

    :param what: what could not be done, as a short clause ("cannot reach the Kubernetes API").
    :param where: the object, address, file or variable concerned; empty where ``what`` names it already.
    :param why: the cause as far as it is known, in the words of the system that refused.
    :param fix: the next step for the reader, as an imperative sentence.
    """

    def __init__(self, what: str, *, where: str = "", why: str = "", fix: str = "") -> None:
        self.what = what
        self.where = where
        self.why = why
        self.fix = fix
        super().__init__(str(self))

    def __str__(self) -> str:
        message = f"{self.what} ({self.where})" if self.where else self.what
        if self.why:
            message = f"{message}: {self.why}"
        if not self.fix:
            return message
        separator = "" if message.endswith((".", "!", "?")) else "."
        return f"{message}{separator} {self.fix}"

    def as_result(self) -> dict[str, str]:
        """Return the arguments for ``fail_json``: ``msg`` for people, the parts for programs."""
        return {"msg": str(self), "what": self.what, "where": self.where, "why": self.why, "fix": self.fix}


class InputError(PachopsError):
    """A variable, option or file that the user gave is wrong; nothing was touched."""


class ClusterError(PachopsError):
    """The Kubernetes API could not be reached, refused, or answered with an error."""


class WaitError(ClusterError):
    """Something in the cluster did not become ready; ``why`` carries the cause, never only the time that passed."""


class ImageError(PachopsError):
    """A container image cannot be had, or an image archive cannot be read."""


class StorageError(PachopsError):
    """The object store refused, or holds something else than expected."""


class EtcdError(PachopsError):
    """etcd could not be reached or refused."""


class PachdError(PachopsError):
    """pachd could not be asked, or its answer is not what a sound installation gives."""


class CloudError(PachopsError):
    """A cloud provider's API could not be reached, refused, or answered with an error."""


class BackupError(PachopsError):
    """A backup set is damaged, incomplete, of an unknown form, or cannot be made."""


class MigrationError(PachopsError):
    """A migration cannot be made, or what it made is not what it has to be."""
