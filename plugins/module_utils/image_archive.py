# SPDX-FileCopyrightText: 2026 The pachops.pachyderm contributors
# SPDX-License-Identifier: BSD-2-Clause
"""Container image archives, written and read without a container engine.

What is written is an OCI image layout in one tar (OCI image specification 1.0, ``image-layout.md``) that carries
Docker's ``manifest.json`` too, so ``ctr images import``, ``podman load`` and ``docker load`` all take it.  The same
inputs give the same bytes: times are the epoch, members are sorted.  Read are both that form and the archives of
``docker save`` of any age, plain or compressed with gzip, bzip2 or xz.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import platform
import re
import stat
import tarfile
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import IO, Any, Union

from .errors import ImageError

INDEX_TYPE = "application/vnd.oci.image.index.v1+json"
MANIFEST_TYPE = "application/vnd.oci.image.manifest.v1+json"
CONFIG_TYPE = "application/vnd.oci.image.config.v1+json"
LAYER_TYPE = "application/vnd.oci.image.layer.v1.tar"
DOCKER_LIST_TYPE = "application/vnd.docker.distribution.manifest.list.v2+json"

# containerd names an imported image by this annotation; the specification's own carries no more than the tag.
NAME_ANNOTATION = "io.containerd.image.name"
TAG_ANNOTATION = "org.opencontainers.image.ref.name"

_EPOCH = "1970-01-01T00:00:00Z"
_BLOCK = 1 << 20
# Manifests and configurations are kilobytes; nothing larger is kept in memory while an archive is read.
_LARGEST_DOCUMENT = 4 << 20
_ARCHITECTURES = {"x86_64": "amd64", "amd64": "amd64", "aarch64": "arm64", "arm64": "arm64"}
_TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,127}\Z")
_REPOSITORY = re.compile(r"[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*(/[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*)*\Z")
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}\Z")


@dataclass(frozen=True)
class Entry:
    """One file of a layer: ``content`` or the file at ``source``, or with ``link`` a symbolic link, else a directory.

    ``path`` is the place in the image; missing parent directories are made with mode 0755.
    """

    path: str
    source: Path | None = None
    content: bytes | None = None
    link: str = ""
    mode: int = 0o644
    uid: int = 0
    gid: int = 0


# A layer is a list of entries, a directory that becomes the layer as it is, or an uncompressed tar file used unchanged.
Layer = Union[Sequence[Entry], Path]  # noqa: UP007  # ansible-test's pylint knows no other alias


@dataclass(frozen=True)
class ImageConfig:
    """How containers of an image are started; the fields are those of the OCI image configuration."""

    entrypoint: Sequence[str] = ()
    cmd: Sequence[str] = ()
    env: Mapping[str, str] = field(default_factory=dict)
    working_dir: str = "/"
    user: str = ""
    exposed_ports: Sequence[str] = ()
    volumes: Sequence[str] = ()
    labels: Mapping[str, str] = field(default_factory=dict)
    architecture: str = ""


@dataclass(frozen=True)
class ArchiveImage:
    """One image found in an archive.

    ``names`` are full (``docker.io/pachyderm/pachd:1.13.4``); ``config_digest`` is the image's identity (Docker's image
    id) and is the same however the archive is packed; ``config`` is the image's configuration document.
    """

    names: tuple[str, ...]
    config_digest: str
    architecture: str
    config: Mapping[str, Any]


def host_architecture() -> str:
    """Return this machine's architecture under the name that image configurations use."""
    machine = platform.machine().lower()
    return _ARCHITECTURES.get(machine, machine)


def full_name(name: str) -> str:
    """Return ``name`` as containerd and the kubelet spell it: with registry, and with a tag unless it has a digest.

    >>> full_name("pachyderm/pachd:1.13.4")
    'docker.io/pachyderm/pachd:1.13.4'
    >>> full_name("debian")
    'docker.io/library/debian:latest'

    :raises ImageError: when ``name`` is no image name.
    """
    rest, at, digest = name.partition("@")
    head, colon, tag = rest.rpartition(":")
    if not colon or "/" in tag:
        head, tag = rest, ""
    first, slash, path = head.partition("/")
    # A first part is a registry only when it cannot be a user's name: the rule of every engine.
    if slash and ("." in first or ":" in first or first == "localhost"):
        registry, repository = first, path
    else:
        registry, repository = "docker.io", head
    if registry in ("index.docker.io", "registry-1.docker.io"):
        registry = "docker.io"
    if registry == "docker.io" and "/" not in repository:
        repository = f"library/{repository}"
    if not _REPOSITORY.match(repository) or (tag and not _TAG.match(tag)) or (at and not _DIGEST.match(digest)):
        raise ImageError(
            "not an image name",
            where=repr(name),
            fix="Write it as registry/repository:tag, for example docker.io/pachyderm/pachd:1.13.4.",
        )
    suffix = f":{tag}" if tag else ""
    if at:
        return f"{registry}/{repository}{suffix}@{digest}"
    return f"{registry}/{repository}{suffix or ':latest'}"


def tag(image: str) -> str:
    """Return the tag of an image reference, empty where it has none (a digest alone)."""
    return image.partition("@")[0].rpartition("/")[2].partition(":")[2]


def write(path: str | Path, names: str | Sequence[str], layers: Sequence[Layer], config: ImageConfig) -> ArchiveImage:
    """Write one image as the archive ``path``, atomically, and return what :func:`read` would.

    :param names: one or several names for the image; short names are completed by :func:`full_name`.
    :param layers: the file system, lowest layer first; see :data:`Layer`.  Memory stays bounded whatever their size.
    :raises ImageError: when a name is malformed, a source is missing, or the archive cannot be written.
    """
    target = Path(path)
    images = [full_name(name) for name in ([names] if isinstance(names, str) else names)]
    if not images:
        raise ImageError("an image archive needs at least one image name", where=str(target))
    architecture = config.architecture or host_architecture()
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f".{target.name}.", dir=target.parent) as scratch:
            blobs = [_layer_blob(layer, Path(scratch) / f"layer{number}.tar") for number, layer in enumerate(layers)]
            document = _config_document(config, architecture, [digest for _file, digest, _size in blobs])
            partial = Path(scratch) / "archive"
            with partial.open("wb") as stream:
                digest = _write_archive(stream, images, document, blobs)
                stream.flush()
                os.fsync(stream.fileno())
            partial.replace(target)
    except OSError as error:
        raise ImageError("cannot write the image archive", where=str(target), why=str(error)) from error
    return ArchiveImage(tuple(images), digest, architecture, document)


def read(path: str | Path, architecture: str = "") -> list[ArchiveImage]:
    """Return the images in the archive ``path``, in its order; images without any name are included.

    :param architecture: which of a multi-platform image to return; default: this machine's.
    :raises ImageError: when the file is missing, is no image archive, is damaged, or lacks that architecture.
    """
    source = Path(path)
    try:
        documents = _documents(source)
        if "index.json" in documents:
            return _from_layout(source, documents, architecture or host_architecture())
        if "manifest.json" in documents:
            return _from_docker(documents)
    except OSError as error:
        raise ImageError(
            "cannot read the image archive", where=str(source), why=error.strerror or str(error), fix="Check the path."
        ) from error
    except (tarfile.TarError, EOFError) as error:
        raise ImageError(
            "not an image archive",
            where=str(source),
            why=str(error),
            fix="Save the image again (docker save, or OCI layout as tar).",
        ) from error
    except (KeyError, TypeError, ValueError, AttributeError, IndexError) as error:
        raise ImageError("damaged image archive", where=str(source), why=f"{type(error).__name__}: {error}") from error
    raise ImageError(
        "not an image archive",
        where=str(source),
        why="it holds neither index.json (OCI) nor manifest.json (Docker)",
        fix="Save the image again (docker save, or OCI layout as tar).",
    )


# --- writing ----------------------------------------------------------------------------------------------------------


def _layer_blob(layer: Layer, scratch: Path) -> tuple[Path, str, int]:
    """Return the layer as a tar file with its SHA-256 and size in bytes."""
    if isinstance(layer, Path):
        if layer.is_dir():
            _tar_directory(layer, scratch)
        elif tarfile.is_tarfile(layer):
            with layer.open("rb") as stream:
                # A compressed layer has two digests; keeping to plain ones keeps one.
                if stream.read(6).startswith((b"\x1f\x8b", b"BZh", b"\xfd7zXZ")):
                    raise ImageError("a layer must be an uncompressed tar file", where=str(layer))
            scratch = layer
        else:
            raise ImageError("a layer must be a directory or a tar file", where=str(layer))
    else:
        _tar_entries(layer, scratch)
    digest = hashlib.sha256()
    with scratch.open("rb") as stream:
        while block := stream.read(_BLOCK):
            digest.update(block)
    return scratch, f"sha256:{digest.hexdigest()}", scratch.stat().st_size


def _tar_entries(entries: Iterable[Entry], target: Path) -> None:
    members: dict[str, Entry] = {}
    for entry in entries:
        place = PurePosixPath("/", entry.path).relative_to("/")
        if ".." in place.parts or not place.parts:
            raise ImageError("a layer's entry must lie inside the image", where=entry.path)
        for parent in reversed(place.parents[:-1]):
            members.setdefault(str(parent), Entry(str(parent), mode=0o755))
        members[str(place)] = entry
    with tarfile.open(target, "w", format=tarfile.GNU_FORMAT) as layer:
        for place_name in sorted(members):
            entry = members[place_name]
            member = tarfile.TarInfo(place_name)
            member.mode, member.uid, member.gid = entry.mode, entry.uid, entry.gid
            if entry.link:
                member.type, member.linkname, member.mode = tarfile.SYMTYPE, entry.link, 0o777
                layer.addfile(member)
            elif entry.content is not None:
                member.size = len(entry.content)
                layer.addfile(member, io.BytesIO(entry.content))
            elif entry.source is not None:
                with entry.source.open("rb") as stream:
                    member.size = os.fstat(stream.fileno()).st_size
                    layer.addfile(member, stream)
            else:
                member.type = tarfile.DIRTYPE
                layer.addfile(member)


def _tar_directory(root: Path, target: Path) -> None:
    with tarfile.open(target, "w", format=tarfile.GNU_FORMAT) as layer:
        for place in _walk(root):
            member = layer.gettarinfo(str(place), arcname=str(place.relative_to(root)))
            member.mtime, member.uname, member.gname = 0, "", ""
            if member.isreg():
                with place.open("rb") as stream:
                    layer.addfile(member, stream)
            else:
                layer.addfile(member)


def _walk(root: Path) -> Iterator[Path]:
    for place in sorted(root.iterdir()):
        mode = place.lstat().st_mode
        # Sockets exist only while their owner runs.
        if not stat.S_ISSOCK(mode):
            yield place
        if stat.S_ISDIR(mode):
            yield from _walk(place)


def _config_document(config: ImageConfig, architecture: str, layers: Sequence[str]) -> dict[str, Any]:
    execution: dict[str, Any] = {
        "Entrypoint": list(config.entrypoint),
        "Cmd": list(config.cmd),
        "Env": [f"{name}={value}" for name, value in config.env.items()],
        "WorkingDir": config.working_dir,
        "User": config.user,
        "ExposedPorts": {port: {} for port in config.exposed_ports},
        "Volumes": {volume: {} for volume in config.volumes},
        "Labels": dict(config.labels),
    }
    return {
        "architecture": architecture,
        "os": "linux",
        "created": _EPOCH,
        "config": {key: value for key, value in execution.items() if value},
        "rootfs": {"type": "layers", "diff_ids": list(layers)},
        "history": [{"created": _EPOCH, "created_by": "pachops.pachyderm"} for _layer in layers],
    }


def _write_archive(
    stream: IO[bytes], names: Sequence[str], document: Mapping[str, Any], layers: Sequence[tuple[Path, str, int]]
) -> str:
    """Write the layout's members to ``stream`` and return the configuration's digest."""
    config = _canonical(document)
    manifest = _canonical(
        {
            "schemaVersion": 2,
            "mediaType": MANIFEST_TYPE,
            "config": _descriptor(CONFIG_TYPE, _digest(config), len(config)),
            "layers": [_descriptor(LAYER_TYPE, digest, size) for _file, digest, size in layers],
        }
    )
    reference = _descriptor(MANIFEST_TYPE, _digest(manifest), len(manifest))
    reference["platform"] = {"architecture": document["architecture"], "os": "linux"}
    index = {
        "schemaVersion": 2,
        "mediaType": INDEX_TYPE,
        "manifests": [
            {**reference, "annotations": {NAME_ANNOTATION: name, TAG_ANNOTATION: name.rpartition(":")[2]}}
            for name in names
        ],
    }
    docker = [
        {
            "Config": _blob_path(_digest(config)),
            "RepoTags": [name.removeprefix("docker.io/").removeprefix("library/") for name in names],
            "Layers": [_blob_path(digest) for _file, digest, _size in layers],
        }
    ]
    with tarfile.open(fileobj=stream, mode="w", format=tarfile.GNU_FORMAT) as archive:
        # Documents first, so that reading the names of a large archive ends early in a stream.
        for place, content in {
            "oci-layout": _canonical({"imageLayoutVersion": "1.0.0"}),
            "index.json": _canonical(index),
            "manifest.json": _canonical(docker),
            _blob_path(_digest(manifest)): manifest,
            _blob_path(_digest(config)): config,
        }.items():
            member = tarfile.TarInfo(place)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
        written: set[str] = set()
        for file, digest, size in layers:
            if digest in written:
                continue
            written.add(digest)
            member = tarfile.TarInfo(_blob_path(digest))
            member.size = size
            with file.open("rb") as layer:
                archive.addfile(member, layer)
    return _digest(config)


def _canonical(document: Any) -> bytes:
    return json.dumps(document, sort_keys=True, separators=(",", ":")).encode()


def _digest(content: bytes) -> str:
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


def _descriptor(media_type: str, digest: str, size: int) -> dict[str, Any]:
    return {"mediaType": media_type, "digest": digest, "size": size}


def _blob_path(digest: str) -> str:
    return f"blobs/{digest.replace(':', '/', 1)}"


# --- reading ----------------------------------------------------------------------------------------------------------


def _documents(source: Path) -> dict[str, bytes]:
    """Return the archive's small members by name, in one pass, so that compressed archives are unpacked once."""
    documents: dict[str, bytes] = {}
    links: dict[str, str] = {}
    with _open(source) as archive:
        for member in archive:
            name = str(PurePosixPath(member.name))
            if member.isreg() and member.size <= _LARGEST_DOCUMENT:
                content = archive.extractfile(member)
                if content is not None:
                    documents[name] = content.read()
            elif member.issym() or member.islnk():
                base = PurePosixPath(name).parent if member.issym() else PurePosixPath()
                links[name] = os.path.normpath(base / member.linkname)
    for name, target in links.items():
        if target in documents:
            documents[name] = documents[target]
    return documents


@contextmanager
def _open(source: Path) -> Iterator[tarfile.TarFile]:
    with source.open("rb") as stream:
        if stream.read(4) == b"\x28\xb5\x2f\xfd":
            raise ImageError(
                "cannot read the image archive",
                where=str(source),
                why="it is compressed with zstd",
                fix="Decompress it first: zstd -d FILE.",
            )
    with tarfile.open(source, "r:*") as archive:
        yield archive


def _from_layout(source: Path, documents: Mapping[str, bytes], architecture: str) -> list[ArchiveImage]:
    found: dict[str, ArchiveImage] = {}
    tags = _docker_tags(documents)
    for descriptor in json.loads(documents["index.json"])["manifests"]:
        manifest = _manifest(documents, descriptor, architecture)
        if manifest is None:
            raise ImageError(
                "the image archive holds nothing for this machine",
                where=str(source),
                why=f"no linux/{architecture} image in it",
                fix=f"Save the image for linux/{architecture}.",
            )
        digest = manifest["config"]["digest"]
        config = json.loads(documents[_blob_path(digest)])
        annotations = descriptor.get("annotations") or {}
        names = [annotations[NAME_ANNOTATION]] if NAME_ANNOTATION in annotations else []
        # Some writers put the whole name where the specification wants the tag.
        tag = annotations.get(TAG_ANNOTATION, "")
        if not names and ("/" in tag or ":" in tag):
            names = [tag]
        names += tags.get(digest, [])
        before = found[digest].names if digest in found else ()
        unique = dict.fromkeys([*before, *(full_name(name) for name in names)])
        found[digest] = ArchiveImage(tuple(unique), digest, config.get("architecture", ""), config)
    return list(found.values())


def _manifest(
    documents: Mapping[str, bytes], descriptor: Mapping[str, Any], architecture: str
) -> dict[str, Any] | None:
    """Follow indexes down to the manifest for ``architecture``; one that names no platform fits every machine."""
    wanted = descriptor.get("platform")
    if wanted and (wanted.get("os", "linux"), wanted.get("architecture")) != ("linux", architecture):
        return None
    document: dict[str, Any] = json.loads(documents[_blob_path(descriptor["digest"])])
    if descriptor.get("mediaType", document.get("mediaType")) not in (INDEX_TYPE, DOCKER_LIST_TYPE):
        return document
    for child in document["manifests"]:
        # A multi-platform archive may carry only some of its platforms.
        if _blob_path(child["digest"]) in documents and (manifest := _manifest(documents, child, architecture)):
            return manifest
    return None


def _docker_tags(documents: Mapping[str, bytes]) -> dict[str, list[str]]:
    """Return the names in Docker's ``manifest.json`` by configuration digest."""
    images = json.loads(documents.get("manifest.json", b"[]"))
    return {_digest(documents[image["Config"]]): image.get("RepoTags") or [] for image in images}


def _from_docker(documents: Mapping[str, bytes]) -> list[ArchiveImage]:
    found: list[ArchiveImage] = []
    for image in json.loads(documents["manifest.json"]):
        content = documents[image["Config"]]
        config = json.loads(content)
        names = tuple(full_name(name) for name in image.get("RepoTags") or [])
        found.append(ArchiveImage(names, _digest(content), config.get("architecture", ""), config))
    return found
