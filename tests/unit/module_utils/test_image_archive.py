# SPDX-FileCopyrightText: 2026 The pachops.pachyderm contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Image archives: what is written is deterministic and complete, what others wrote is understood."""

from __future__ import annotations

import hashlib
import io
import json
import os
import socket
import tarfile
from typing import TYPE_CHECKING, Any

import pytest
from ansible_collections.pachops.pachyderm.plugins.module_utils import image_archive
from ansible_collections.pachops.pachyderm.plugins.module_utils.errors import ImageError
from ansible_collections.pachops.pachyderm.plugins.module_utils.image_archive import Entry, ImageConfig, tag

if TYPE_CHECKING:
    from pathlib import Path

CONFIG = ImageConfig(
    entrypoint=["/pause"],
    cmd=["-P"],
    env={"A": "1"},
    labels={"who": "test"},
    exposed_ports=["80/tcp"],
    user="1000",
    architecture="amd64",
)


def pack(path: Path, members: dict[str, Any], mode: str = "w") -> Path:
    with tarfile.open(path, mode) as archive:
        for name, content in members.items():
            member = tarfile.TarInfo(name)
            if isinstance(content, str):
                member.type, member.linkname = tarfile.SYMTYPE, content
                archive.addfile(member)
            else:
                data = content if isinstance(content, bytes) else json.dumps(content).encode()
                member.size = len(data)
                archive.addfile(member, io.BytesIO(data))
    return path


def sha(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


@pytest.mark.parametrize(
    ("name", "full"),
    [
        ("pachyderm/pachd:1.13.4", "docker.io/pachyderm/pachd:1.13.4"),
        ("debian", "docker.io/library/debian:latest"),
        ("docker.io/debian:12", "docker.io/library/debian:12"),
        ("index.docker.io/a/b", "docker.io/a/b:latest"),
        ("localhost/x:1", "localhost/x:1"),
        ("registry.example:5000/a/b/c:1", "registry.example:5000/a/b/c:1"),
        ("registry.example:5000/a", "registry.example:5000/a:latest"),
        ("a/b@sha256:" + "0" * 64, "docker.io/a/b@sha256:" + "0" * 64),
        ("a/b:1@sha256:" + "0" * 64, "docker.io/a/b:1@sha256:" + "0" * 64),
    ],
)
def test_full_name(name: str, full: str) -> None:
    assert image_archive.full_name(name) == full
    assert image_archive.full_name(full) == full


@pytest.mark.parametrize("name", ["", "UPPER/case", "a//b", "a/b:", "a/b:-x", "a b", "a@sha256:12", "http://x/y"])
def test_full_name_refuses(name: str) -> None:
    if name == "a/b:":
        # An empty tag reads as none.
        assert image_archive.full_name(name) == "docker.io/a/b:latest"
        return
    with pytest.raises(ImageError, match="not an image name"):
        image_archive.full_name(name)


def test_what_is_written_is_read_back(tmp_path: Path) -> None:
    binary = tmp_path / "binary"
    binary.write_bytes(b"\x7fELF")
    written = image_archive.write(
        tmp_path / "sub" / "i.tar",
        ["pachyderm/x:1", "registry.example/x:2"],
        [
            [Entry("/usr/bin/x", source=binary, mode=0o755), Entry("/bin", link="usr/bin")],
            [Entry("tmp", mode=0o1777), Entry("/etc/passwd", content=b"root\n")],
        ],
        CONFIG,
    )
    (read,) = image_archive.read(tmp_path / "sub" / "i.tar", "amd64")
    assert read == written
    assert read.names == ("docker.io/pachyderm/x:1", "registry.example/x:2")
    assert read.config["config"] == {
        "Entrypoint": ["/pause"],
        "Cmd": ["-P"],
        "Env": ["A=1"],
        "WorkingDir": "/",
        "User": "1000",
        "ExposedPorts": {"80/tcp": {}},
        "Labels": {"who": "test"},
    }
    assert [place.name for place in (tmp_path / "sub").iterdir()] == ["i.tar"], "no scratch files stay"


def test_every_blob_matches_its_name_and_both_forms_agree(tmp_path: Path) -> None:
    path = tmp_path / "i.tar"
    written = image_archive.write(path, "x:1", [[Entry("a/b/c", content=b"1")], [Entry("d", content=b"2")]], CONFIG)
    with tarfile.open(path) as archive:
        content = {member.name: archive.extractfile(member).read() for member in archive}  # type: ignore[union-attr]
    blobs = {name.rpartition("/")[2]: data for name, data in content.items() if name.startswith("blobs/")}
    assert all(sha(data) == name for name, data in blobs.items())
    (docker,) = json.loads(content["manifest.json"])
    assert docker["RepoTags"] == ["x:1"]
    assert docker["Config"] == "blobs/" + written.config_digest.replace(":", "/")
    (descriptor,) = json.loads(content["index.json"])["manifests"]
    manifest = json.loads(blobs[descriptor["digest"].removeprefix("sha256:")])
    assert ["blobs/" + layer["digest"].replace(":", "/") for layer in manifest["layers"]] == docker["Layers"]
    assert written.config["rootfs"]["diff_ids"] == [layer["digest"] for layer in manifest["layers"]]
    with tarfile.open(fileobj=io.BytesIO(content[docker["Layers"][0]])) as layer:
        members = layer.getmembers()
    assert [member.name for member in members] == ["a", "a/b", "a/b/c"]
    assert members[0].isdir()
    assert members[0].mode == 0o755
    assert {(member.mtime, member.uid, member.uname) for member in members} == {(0, 0, "")}


def test_same_inputs_give_the_same_bytes(tmp_path: Path) -> None:
    entries = [Entry("b", content=b"1"), Entry("a/x", content=b"2")]
    image_archive.write(tmp_path / "1.tar", "x:1", [entries], CONFIG)
    image_archive.write(tmp_path / "2.tar", "x:1", [entries[::-1]], CONFIG)
    assert (tmp_path / "1.tar").read_bytes() == (tmp_path / "2.tar").read_bytes()


def test_directory_layer(tmp_path: Path) -> None:
    root = tmp_path / "root"
    (root / "dir" / "deep").mkdir(parents=True)
    (root / "dir" / "deep" / "file").write_bytes(b"x" * 3_000_000)
    (root / "dir" / "deep" / "file").chmod(0o750)
    os.link(root / "dir" / "deep" / "file", root / "dir" / "hard")
    (root / "link").symlink_to("dir/deep")
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(os.path.relpath(root / "sock"))
    listener.close()
    image_archive.write(tmp_path / "i.tar", "x:1", [root], CONFIG)
    os.utime(root / "dir" / "deep" / "file", (1, 1))
    image_archive.write(tmp_path / "again.tar", "x:1", [root], CONFIG)
    assert (tmp_path / "i.tar").read_bytes() == (tmp_path / "again.tar").read_bytes()
    with tarfile.open(tmp_path / "i.tar") as archive:
        (docker,) = json.loads(archive.extractfile("manifest.json").read())  # type: ignore[union-attr]
        with tarfile.open(fileobj=archive.extractfile(docker["Layers"][0])) as layer:
            found = {member.name: member for member in layer}
    assert sorted(found) == ["dir", "dir/deep", "dir/deep/file", "dir/hard", "link"]
    assert found["dir/deep/file"].mode == 0o750
    assert found["dir/hard"].islnk()
    assert found["dir/hard"].linkname == "dir/deep/file"
    assert found["link"].linkname == "dir/deep"


def test_tar_layer_is_used_unchanged_and_once(tmp_path: Path) -> None:
    layer = pack(tmp_path / "layer.tar", {"file": b"x"})
    written = image_archive.write(tmp_path / "i.tar", "x:1", [layer, layer], CONFIG)
    assert written.config["rootfs"]["diff_ids"] == [f"sha256:{sha(layer.read_bytes())}"] * 2
    with tarfile.open(tmp_path / "i.tar") as archive:
        names = archive.getnames()
    assert len(names) == len(set(names))


def test_unusable_layers(tmp_path: Path) -> None:
    packed = pack(tmp_path / "layer.tgz", {"file": b"x"}, "w:gz")
    with pytest.raises(ImageError, match="uncompressed"):
        image_archive.write(tmp_path / "i.tar", "x:1", [packed], CONFIG)
    (tmp_path / "text").write_text("no tar")
    with pytest.raises(ImageError, match="directory or a tar file"):
        image_archive.write(tmp_path / "i.tar", "x:1", [tmp_path / "text"], CONFIG)
    with pytest.raises(ImageError, match="inside the image"):
        image_archive.write(tmp_path / "i.tar", "x:1", [[Entry("../etc/passwd", content=b"")]], CONFIG)
    with pytest.raises(ImageError, match="cannot write the image archive"):
        image_archive.write(tmp_path / "i.tar", "x:1", [[Entry("x", source=tmp_path / "missing")]], CONFIG)
    with pytest.raises(ImageError, match="at least one image name"):
        image_archive.write(tmp_path / "i.tar", [], [[Entry("x", content=b"")]], CONFIG)
    assert not (tmp_path / "i.tar").exists()


OLD_CONFIG = {"architecture": "amd64", "os": "linux", "config": {}}
OLD_DIGEST = f"sha256:{sha(json.dumps(OLD_CONFIG).encode())}"


@pytest.mark.parametrize("mode", ["w", "w:gz", "w:xz"])
def test_docker_archive_of_old(tmp_path: Path, mode: str) -> None:
    archive = pack(
        tmp_path / "d.tar",
        {
            "abc.json": OLD_CONFIG,
            "l1/layer.tar": b"x" * (5 << 20),
            "l2/layer.tar": "../l1/layer.tar",
            "manifest.json": [
                {"Config": "abc.json", "RepoTags": ["pachyderm/pachd:1.13.4"], "Layers": ["l1/layer.tar"]},
                {"Config": "abc.json", "RepoTags": None, "Layers": []},
            ],
        },
        mode,
    )
    first, second = image_archive.read(archive)
    assert (first.names, first.config_digest) == (("docker.io/pachyderm/pachd:1.13.4",), OLD_DIGEST)
    assert second.names == ()


def test_docker_archive_with_linked_config(tmp_path: Path) -> None:
    archive = pack(
        tmp_path / "d.tar",
        {"c.json": "blobs/c", "blobs/c": OLD_CONFIG, "manifest.json": [{"Config": "c.json", "RepoTags": ["a:1"]}]},
    )
    assert image_archive.read(archive)[0].config_digest == OLD_DIGEST


def layout(tmp_path: Path, annotations: dict[str, str], platforms: list[str]) -> Path:
    blobs: dict[str, Any] = {}

    def blob(document: Any, media_type: str) -> dict[str, Any]:
        content = json.dumps(document).encode()
        blobs[f"blobs/sha256/{sha(content)}"] = content
        return {"mediaType": media_type, "digest": f"sha256:{sha(content)}", "size": len(content)}

    children = []
    for architecture in platforms:
        config = blob({"architecture": architecture, "os": "linux"}, image_archive.CONFIG_TYPE)
        manifest = blob({"schemaVersion": 2, "config": config, "layers": []}, image_archive.MANIFEST_TYPE)
        children.append({**manifest, "platform": {"os": "linux", "architecture": architecture}})
    absent = {"mediaType": image_archive.MANIFEST_TYPE, "digest": "sha256:" + "0" * 64, "size": 1}
    nested = blob({"schemaVersion": 2, "manifests": [absent, *children]}, image_archive.INDEX_TYPE)
    index = {"schemaVersion": 2, "manifests": [{**nested, "annotations": annotations}]}
    return pack(tmp_path / "o.tar", {"oci-layout": {"imageLayoutVersion": "1.0.0"}, "index.json": index, **blobs})


@pytest.mark.parametrize(
    ("annotations", "names"),
    [
        ({image_archive.NAME_ANNOTATION: "a/b:1", image_archive.TAG_ANNOTATION: "1"}, ("docker.io/a/b:1",)),
        ({image_archive.TAG_ANNOTATION: "registry.example/a/b:1"}, ("registry.example/a/b:1",)),
        ({image_archive.TAG_ANNOTATION: "1"}, ()),
        ({}, ()),
    ],
)
def test_multi_platform_layout(tmp_path: Path, annotations: dict[str, str], names: tuple[str, ...]) -> None:
    path = layout(tmp_path, annotations, ["arm64", "amd64"])
    for architecture in ("amd64", "arm64"):
        (image,) = image_archive.read(path, architecture)
        assert (image.names, image.architecture) == (names, architecture)


def test_layout_without_this_architecture(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match="no linux/amd64 image"):
        image_archive.read(layout(tmp_path, {}, ["arm64"]), "amd64")


def test_unreadable_archives_say_why(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match=r"No such file.*Check the path"):
        image_archive.read(tmp_path / "missing.tar")
    (tmp_path / "text").write_text("hello, this is no tar file" * 100)
    with pytest.raises(ImageError, match="not an image archive"):
        image_archive.read(tmp_path / "text")
    with pytest.raises(ImageError, match="neither index"):
        image_archive.read(pack(tmp_path / "plain.tar", {"etc/passwd": b"root"}))
    (tmp_path / "z.tar.zst").write_bytes(b"\x28\xb5\x2f\xfd rest")
    with pytest.raises(ImageError, match="zstd -d"):
        image_archive.read(tmp_path / "z.tar.zst")
    for number, content in enumerate([b"{", b"{}", b"[]", b'{"manifests": [{"digest": "sha256:0"}]}']):
        with pytest.raises(ImageError, match="damaged image archive"):
            image_archive.read(pack(tmp_path / f"{number}.tar", {"index.json": content}))
    whole = image_archive.write(tmp_path / "whole.tar", "x:1", [[Entry("x", content=b"y" * 100_000)]], CONFIG)
    assert whole
    cut = tmp_path / "cut.tar"
    cut.write_bytes((tmp_path / "whole.tar").read_bytes()[:2_500])
    with pytest.raises(ImageError, match=r"damaged image archive|not an image archive"):
        image_archive.read(cut)


def test_tags() -> None:
    assert tag("docker.io/pachyderm/pachd:1.13.4") == "1.13.4"
    assert tag("localhost:5000/pachd") == ""
    assert tag("r/pachd:1@sha256:ab") == "1"
