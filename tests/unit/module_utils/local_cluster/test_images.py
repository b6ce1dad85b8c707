# SPDX-FileCopyrightText: 2026 The pachops.pachyderm contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Images in containerd, asked through a double of ``ctr`` that keeps its store in a JSON file."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.pachops.pachyderm.plugins.module_utils import image_archive
from ansible_collections.pachops.pachyderm.plugins.module_utils.errors import ClusterError, ImageError
from ansible_collections.pachops.pachyderm.plugins.module_utils.image_archive import Entry, ImageConfig
from ansible_collections.pachops.pachyderm.plugins.module_utils.local_cluster.images import Containerd, archive_images

# Prints and keeps what ctr 1.6 does for the few commands that are used; `misnames` makes it name images wrongly.
CTR = """#!{python}
import json, sys, tarfile
from pathlib import Path
state = Path({state!r}); store = json.loads(state.read_text())
words = sys.argv[5:]
assert sys.argv[1:5] == ["--address", {address!r}, "--namespace", "k8s.io"], sys.argv
store["calls"].append(words)
if store["down"] > 0:
    store["down"] -= 1; state.write_text(json.dumps(store)); sys.exit("ctr: failed to dial: connection refused")
if words == ["images", "list"]:
    print("REF TYPE DIGEST SIZE PLATFORMS LABELS")
    for name, image in store["images"].items():
        labels = ",".join(f"{{k}}={{v}}" for k, v in image["labels"].items()) or "-"
        print(name, "application/vnd.oci.image.manifest.v1+json", image["digest"], "1.0 MiB linux/amd64", labels)
elif words[:2] == ["content", "get"]:
    print(store["content"][words[2]])
elif words[:2] == ["images", "import"]:
    with tarfile.open(words[-1]) as archive:
        for item in json.load(archive.extractfile("index.json"))["manifests"]:
            blob = archive.extractfile("blobs/" + item["digest"].replace(":", "/")).read().decode()
            store["content"][item["digest"]] = blob
            name = item["annotations"]["io.containerd.image.name"]
            if "--digests" in words: name = words[words.index("--base-name") + 1] + "@" + item["digest"]
            elif store["misnames"]: name = "import-2026-01-01:" + name.rpartition(":")[2]
            if store["forgets"]: continue
            store["images"][name] = {{"digest": item["digest"], "labels": {{}}}}
elif words[:2] == ["images", "label"]:
    key, _, value = words[3].partition("="); store["images"][words[2]]["labels"][key] = value
elif words[:2] == ["images", "tag"]:
    store["images"][words[4]] = dict(store["images"][words[3]], labels={{}})
elif words[:2] == ["images", "remove"]:
    del store["images"][words[2]]
state.write_text(json.dumps(store))
"""


class Store:
    """The double's store."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.change(calls=[], images={}, content={}, misnames=False, forgets=False, down=0)

    def change(self, **values: Any) -> None:
        before = json.loads(self.path.read_text()) if self.path.exists() else {}
        self.path.write_text(json.dumps({**before, **values}))

    def __getitem__(self, key: str) -> Any:
        return json.loads(self.path.read_text())[key]

    def imports(self) -> int:
        return sum(call[:2] == ["images", "import"] for call in self["calls"])


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    store = Store(tmp_path / "store.json")
    program = tmp_path / "bin" / "ctr"
    program.parent.mkdir()
    program.write_text(CTR.format(python=sys.executable, state=str(store.path), address=str(tmp_path / "sock")))
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(program.parent), prepend=":")
    return store


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    image_archive.write(tmp_path / "i.tar", ["a/b:1", "a/b:2"], [[Entry("f", content=b"1")]], ImageConfig())
    return tmp_path / "i.tar"


def test_import_pins_and_is_done_once(tmp_path: Path, store: Store, archive: Path) -> None:
    containerd = Containerd(tmp_path / "sock")
    images = archive_images(archive)
    assert containerd.wanting(images) == ["docker.io/a/b:1", "docker.io/a/b:2"]
    containerd.load(archive, images)
    assert containerd.wanting(images) == []
    assert store.imports() == 1
    assert all(image.pinned for image in containerd.stored().values())


def test_same_image_packed_differently_is_the_same(tmp_path: Path, store: Store, archive: Path) -> None:
    containerd = Containerd(tmp_path / "sock")
    containerd.load(archive, archive_images(archive))
    index = {"manifests": [{"platform": {"os": "windows"}, "digest": "sha256:w"}]}
    for name, image in store["images"].items():
        index["manifests"].append(
            {"platform": {"os": "linux", "architecture": image_archive.host_architecture()}, "digest": image["digest"]}
        )
        store.change(images={**store["images"], name: {**image, "digest": "sha256:index"}})
    store.change(content={**store["content"], "sha256:index": json.dumps(index)})
    assert containerd.wanting(archive_images(archive)) == []
    store.change(content={**store["content"], "sha256:index": json.dumps({"manifests": index["manifests"][:1]})})
    assert containerd.wanting(archive_images(archive)) == ["docker.io/a/b:1", "docker.io/a/b:2"]


def test_changed_image_and_lost_pin_are_noticed(tmp_path: Path, store: Store, archive: Path) -> None:
    containerd = Containerd(tmp_path / "sock")
    containerd.load(archive, archive_images(archive))
    images = store["images"]
    images["docker.io/a/b:1"]["labels"] = {}
    store.change(images=images)
    assert containerd.wanting(archive_images(archive)) == ["docker.io/a/b:1"]
    image_archive.write(archive, ["a/b:1", "a/b:2"], [[Entry("f", content=b"2")]], ImageConfig())
    assert containerd.wanting(archive_images(archive)) == ["docker.io/a/b:1", "docker.io/a/b:2"]


def test_image_that_ctr_names_otherwise_gets_its_name(tmp_path: Path, store: Store, archive: Path) -> None:
    store.change(misnames=True)
    containerd = Containerd(tmp_path / "sock")
    containerd.load(archive, archive_images(archive))
    assert containerd.wanting(archive_images(archive)) == []
    assert not [name for name in containerd.stored() if "pachops-import" in name], "no temporary name stays"


def test_image_that_never_arrives(tmp_path: Path, store: Store, archive: Path) -> None:
    store.change(forgets=True)
    with pytest.raises(ImageError, match="without this image"):
        Containerd(tmp_path / "sock").load(archive, archive_images(archive))


def test_refused_archive_says_why(tmp_path: Path, store: Store, archive: Path) -> None:
    images = archive_images(archive)
    store.change(down=1)
    with pytest.raises(ImageError, match=r"cannot import the image archive .*i\.tar.*connection refused"):
        Containerd(tmp_path / "sock").load(archive, images)


def test_wait_until_containerd_answers(tmp_path: Path, store: Store) -> None:
    store.change(down=2)
    Containerd(tmp_path / "sock").wait(10)
    store.change(down=1000)
    with pytest.raises(ClusterError, match=r"connection refused.*Run the local_cluster role"):
        Containerd(tmp_path / "sock").wait(0.1)


def test_no_ctr_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ClusterError, match="cannot ask containerd"):
        Containerd(tmp_path / "sock").stored()


def test_archive_without_names_is_refused(tmp_path: Path) -> None:
    import tarfile

    with tarfile.open(tmp_path / "empty.tar", "w") as archive:
        member = tarfile.TarInfo("manifest.json")
        member.size = 2
        import io

        archive.addfile(member, io.BytesIO(b"[]"))
    with pytest.raises(ImageError, match="names no image"):
        archive_images(tmp_path / "empty.tar")
