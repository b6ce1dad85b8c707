# SPDX-FileCopyrightText: 2026 The pachops.pachyderm contributors
# SPDX-License-Identifier: BSD-2-Clause
"""Images in the local cluster's containerd, where the kubelet finds them without any registry."""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from ..errors import ClusterError, ImageError
from ..image_archive import ArchiveImage, host_architecture
from ..image_archive import read as read_archive

# The kubelet never removes an image that carries this label (containerd, pkg/cri/labels).
PIN_LABEL = "io.cri-containerd.pinned"
PINNED = "pinned"

_IMPORT_SECONDS = 1800


@dataclass(frozen=True)
class StoredImage:
    """One image that containerd has: what its name leads to, and its labels."""

    digest: str
    labels: Mapping[str, str]

    @property
    def pinned(self) -> bool:
        """Whether the kubelet's garbage collection spares it."""
        return self.labels.get(PIN_LABEL) == PINNED


class Containerd:
    """One containerd, asked through its own client ``ctr``.

    :param address: its socket.
    :param namespace: containerd's namespace; the kubelet's is ``k8s.io``.
    """

    def __init__(self, address: Path, namespace: str = "k8s.io") -> None:
        self.address = address
        self.namespace = namespace

    def wait(self, seconds: float) -> None:
        """Wait until containerd answers.

        :raises ClusterError: when it does not within ``seconds``.
        """
        deadline = time.monotonic() + seconds
        while True:
            try:
                self._ctr("version")
            except ClusterError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.2)
            else:
                return

    def stored(self) -> dict[str, StoredImage]:
        """Return all images by name."""
        found: dict[str, StoredImage] = {}
        # REF  TYPE  DIGEST  SIZE (two words)  PLATFORMS  LABELS
        for line in self._ctr("images", "list").splitlines()[1:]:
            words = line.split()
            if len(words) >= 3:
                pairs = (pair.partition("=") for pair in words[-1].split(",") if "=" in pair)
                found[words[0]] = StoredImage(words[2], {key: value for key, _equals, value in pairs})
        return found

    def config_digest(self, digest: str) -> str:
        """Return the configuration's digest of the image for this machine behind a manifest's or index's digest."""
        document = json.loads(self._ctr("content", "get", digest))
        if "config" in document:
            return str(document["config"]["digest"])
        for child in document.get("manifests", []):
            place = child.get("platform", {})
            if place.get("os", "linux") == "linux" and place.get("architecture") in (host_architecture(), None):
                return self.config_digest(child["digest"])
        return ""

    def wanting(self, images: Sequence[ArchiveImage]) -> list[str]:
        """Return the names of ``images`` that are missing, lead to another image, or are not pinned."""
        stored = self.stored()
        return [
            name
            for image in images
            for name in image.names
            if name not in stored or not stored[name].pinned or not self._leads_to(stored[name], image)
        ]

    def load(self, archive: Path, images: Sequence[ArchiveImage]) -> None:
        """Import ``archive`` and pin its images.

        :raises ImageError: when containerd refuses the archive, or it lacks a name that the archive promised.
        """
        self._import(archive)
        stored = self.stored()
        for image in images:
            for name in image.names:
                if name not in stored or not self._leads_to(stored[name], image):
                    self._name(archive, image, name)
                self._ctr("images", "label", name, f"{PIN_LABEL}={PINNED}")

    def _leads_to(self, stored: StoredImage, image: ArchiveImage) -> bool:
        return self.config_digest(stored.digest) == image.config_digest

    def _name(self, archive: Path, image: ArchiveImage, name: str) -> None:
        """Give the image its name where ``ctr`` did not understand the archive's spelling of it."""
        prefix = f"pachops-import-{os.getpid()}"
        self._import(archive, "--digests", "--base-name", prefix)
        try:
            for temporary, stored in self.stored().items():
                if temporary.startswith(prefix) and self._leads_to(stored, image):
                    self._ctr("images", "tag", "--force", temporary, name)
                    return
        finally:
            for temporary in self.stored():
                if temporary.startswith(prefix):
                    self._ctr("images", "remove", temporary)
        raise ImageError("containerd imported the archive without this image", where=f"{archive}: {name}")

    def _import(self, archive: Path, *options: str) -> None:
        try:
            self._ctr("images", "import", *options, str(archive), timeout=_IMPORT_SECONDS)
        except ClusterError as error:
            raise ImageError("containerd cannot import the image archive", where=str(archive), why=error.why) from error

    def _ctr(self, *words: str, timeout: float = 120) -> str:
        command = ["ctr", "--address", str(self.address), "--namespace", self.namespace, *words]
        try:
            done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=timeout)
        except (OSError, subprocess.TimeoutExpired) as error:
            raise ClusterError(
                "cannot ask containerd",
                where=str(self.address),
                why=str(error),
                fix="Run the local_cluster role to bring the local cluster up.",
            ) from error
        if done.returncode != 0:
            raise ClusterError(
                f"containerd refused: ctr {' '.join(words[:2])}",
                where=str(self.address),
                why=done.stderr.strip()[-500:] or f"exit status {done.returncode}",
                fix="Run the local_cluster role to bring the local cluster up.",
            )
        return done.stdout


def archive_images(archive: Path) -> list[ArchiveImage]:
    """Return the archive's images.

    :raises ImageError: when it cannot be read, or an image in it has no name that a pod could use.
    """
    images = read_archive(archive)
    if not images or not all(image.names for image in images):
        raise ImageError(
            "the image archive names no image",
            where=str(archive),
            why="an image without a name cannot be used by a pod",
            fix="Save the image by its name, for example: docker save -o FILE pachyderm/pachd:1.13.4",
        )
    return images
