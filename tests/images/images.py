# SPDX-FileCopyrightText: 2026 The pachops.pachyderm contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Pack the test bed's images: the pachd stand-in, its worker, and a small image for users' pipelines.

    python3 images.py plan CACHE VERSION                     what is to be built, as JSON
    python3 images.py pack CACHE VERSION                     the archives, from the root and the libraries

Names of archives end in a hash of all that goes into them, so an archive that exists is right.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
sys.path.insert(0, str(ROOT / ".cache" / "collections"))

from ansible_collections.pachops.pachyderm.plugins.module_utils.image_archive import (  # noqa: E402
    Entry,
    ImageConfig,
    write,
)

SUITE, PYTHON = "bookworm", "3.11"
#: dash, coreutils and friends are essential packages; Python is added to them, and what grpcio is linked with.
PACKAGES = ("python3-minimal", f"libpython{PYTHON}-stdlib", "libstdc++6")
USER_IMAGE = f"docker.io/pachops/python:{PYTHON}"
STANDIN = ROOT / "tests" / "emulators" / "pachd" / "standin"
UTILS = ROOT / "plugins" / "module_utils"
#: The parts of the engine that the stand-in uses.
ENGINE = (
    "errors.py",
    "protobuf.py",
    "etcd",
    "stores",
    "pachd/hashtree.py",
    "pachd/objects.py",
    "pachd/storage_secret.py",
)
ENGINE_FURTHER = ("findings.py",)
PACKAGE = "ansible_collections/pachops/pachyderm/plugins/module_utils"
#: boto3 describes every service of AWS; S3 and its sign-on need these.
BOTO_SERVICES = ("s3", "sts", "sso", "sso-oidc", "endpoints.json", "partitions.json", "sdk-default-configuration.json")
#: Where the worker's own Python ends up in every pod: an emptyDir that pachd mounts.
PACH_BIN = "/pach-bin"


def sources() -> list[tuple[str, Path]]:
    """Return the Python files of the stand-in, as (path in the image's library folder, file)."""
    found = [(f"standin/{path.name}", path) for path in sorted(STANDIN.glob("*.py"))]
    for name in (*ENGINE, *ENGINE_FURTHER):
        path = UTILS / name
        for file in sorted(path.glob("*.py")) if path.is_dir() else [path]:
            found.append((f"{PACKAGE}/{file.relative_to(UTILS).as_posix()}", file))
    return found


def locked() -> list[str]:
    """Return the wanted libraries with what they need, each with its version from the lock."""
    wanted = [line.strip() for line in (HERE / "requirements.txt").read_text().splitlines()]
    versions: dict[str, str] = {}
    for line in (ROOT / "requirements.txt").read_text().splitlines():
        name, separator, version = line.partition("==")
        if separator:
            versions[name.strip().lower().replace("_", "-")] = version.split()[0]
    missing = [name for name in wanted if name and not name.startswith("#") and name not in versions]
    if missing:
        raise SystemExit(f"requirements.txt does not lock {', '.join(missing)}. Run `make lock`.")
    return [f"{name}=={version}" for name, version in sorted(versions.items())]


def digest(*parts: str | bytes) -> str:
    """Return a short hash of the parts."""
    total = hashlib.sha256()
    for part in parts:
        data = part.encode() if isinstance(part, str) else part
        total.update(len(data).to_bytes(8, "big") + data)
    return total.hexdigest()[:12]


def plan(cache: Path, version: str) -> dict[str, object]:
    """Return names and places of all that is built; ``missing`` lists the archives that do not exist yet."""
    recipe = Path(__file__).read_bytes()
    root_key = digest(SUITE, *PACKAGES)
    libraries_key = digest(root_key, (HERE / "requirements.txt").read_bytes(), *locked())
    image_key = digest(
        recipe, libraries_key, version, *(part for name, path in sources() for part in (name, path.read_bytes()))
    )
    images = cache / "images"
    archives = {
        "pachd": images / f"pachd-standin-{version}-{image_key}.tar",
        "worker": images / f"worker-standin-{version}-{image_key}.tar",
        "user": images / f"pipeline-user-{PYTHON}-{digest(recipe, root_key)}.tar",
    }
    parts = images / "parts"
    host = dict(line.split("=", 1) for line in Path("/etc/os-release").read_text().splitlines() if "=" in line)
    mirrors = []
    if host.get("VERSION_CODENAME", "").strip('"') == SUITE:
        listed = [Path("/etc/apt/sources.list"), *sorted(Path("/etc/apt/sources.list.d").glob("*.sources"))]
        mirrors = [str(path) for path in listed if path.exists() and "debian" in path.read_text()]
    return {
        "root": str(parts / f"root-{root_key}.tar"),
        "libraries": str(parts / f"libraries-{libraries_key}"),
        "constraints": str(parts / f"constraints-{libraries_key}.txt"),
        "parts": str(parts),
        "suite": SUITE,
        "python": PYTHON,
        "packages": ",".join(PACKAGES),
        "mirrors": mirrors,
        "lock": locked(),
        "archives": {name: str(path) for name, path in archives.items()},
        "missing": [name for name, path in archives.items() if not path.exists()],
    }


def _tree(directory: Path, prefix: str, skip: tuple[str, ...] = ()) -> list[Entry]:
    entries = []
    for path in sorted(directory.rglob("*")):
        relative = path.relative_to(directory).as_posix()
        if relative.startswith(skip) or "__pycache__" in relative:
            continue
        if path.is_symlink():
            entries.append(Entry(f"{prefix}/{relative}", link=os.readlink(path)))
        elif path.is_file():
            entries.append(
                Entry(f"{prefix}/{relative}", source=path, mode=0o755 if os.access(path, os.X_OK) else 0o644)
            )
    return entries


def _is_needed(relative: str) -> bool:
    parts = relative.split("/")
    if parts[:2] == ["botocore", "data"] and len(parts) > 2:
        return parts[2] in BOTO_SERVICES
    return not (parts[:2] == ["boto3", "data"] and len(parts) > 2 and parts[2] != "s3") and parts[0] != "bin"


def _libraries(directory: Path, prefix: str) -> list[Entry]:
    return [each for each in _tree(directory, prefix) if _is_needed(each.path.removeprefix(f"{prefix}/"))]


def _program(path: str, interpreter: str, library: str, call: str) -> Entry:
    text = (
        f"#!{interpreter} -ISB\n"
        "# A test double, not Pachyderm.\n"
        "import sys\n"
        f"sys.path[:0] = ['{library}', '{library}/site']\n"
        f"{call}\n"
    )
    return Entry(path, content=text.encode(), mode=0o755)


def _app(version: str, libraries: Path, prefix: str) -> list[Entry]:
    entries = [Entry(f"{prefix}/{name}", source=path) for name, path in sources()]
    entries.append(Entry(f"{prefix}/standin/VERSION", content=f"{version}\n".encode()))
    return entries + _libraries(libraries, f"{prefix}/site")


INIT = f"""#!/usr/bin/python3 -ISB
# A test double, not Pachyderm: gives the user's container a Python of its own, whatever that image has.
import os, shutil
for name in os.listdir("/app/pach-bin"):
    target = os.path.join("{PACH_BIN}", name)
    source = os.path.join("/app/pach-bin", name)
    if os.path.isdir(source):
        shutil.rmtree(target, ignore_errors=True)
        shutil.copytree(source, target, symlinks=True)
    else:
        shutil.copy2(source, target)
"""


def _relocatable(root: Path, further: Path, target: Path) -> None:
    """Make a Python from a Debian root that needs nothing of the image it runs in, with its own loader at PACH_BIN.

    :param further: a directory of Python libraries whose needs are met too.
    """
    shutil.rmtree(target, ignore_errors=True)
    (target / "bin").mkdir(parents=True)
    (target / "so").mkdir()
    python = target / "bin" / f"python{PYTHON}"
    standard = target / "lib" / f"python{PYTHON}"
    with tarfile.open(root) as archive:
        for member in archive:
            name = member.name.removeprefix("./")
            if name == f"usr/bin/python{PYTHON}":
                _save(archive, member, python, 0o755)
            elif name.startswith(f"usr/lib/python{PYTHON}/") and member.isfile() and "__pycache__" not in name:
                _save(archive, member, target / name.removeprefix("usr/"), 0o644)
        libraries = {
            each.name.rpartition("/")[2]: each
            for each in archive.getmembers()
            if "/x86_64-linux-gnu/" in each.name and ".so" in each.name
        }
        needed = [python, *standard.rglob("*.so"), *further.rglob("*.so")]
        copied: set[str] = set()
        while needed:
            for name in _needs(needed.pop()):
                if name in copied or name not in libraries:
                    continue
                copied.add(name)
                member = libraries[name]
                while member.issym():
                    member = libraries[member.linkname.rpartition("/")[2]]
                _save(archive, member, target / "so" / name, 0o755)
                needed.append(target / "so" / name)
    loader = next(name for name in copied if name.startswith("ld-linux"))
    home = f"{PACH_BIN}/python"
    subprocess.run(
        [
            "patchelf",
            "--set-interpreter",
            f"{home}/so/{loader}",
            "--force-rpath",
            "--set-rpath",
            f"{home}/so",
            str(python),
        ],
        check=True,
    )


def _needs(file: Path) -> list[str]:
    answer = subprocess.run(["patchelf", "--print-needed", str(file)], check=True, capture_output=True, text=True)
    return answer.stdout.split()


def _save(archive: tarfile.TarFile, member: tarfile.TarInfo, target: Path, mode: int) -> None:
    source = archive.extractfile(member)
    if source is None:
        raise SystemExit(f"{member.name} of the root is no file")
    target.parent.mkdir(parents=True, exist_ok=True)
    with source, target.open("wb") as file:
        shutil.copyfileobj(source, file)
    target.chmod(mode)


def pack(cache: Path, version: str) -> None:
    """Write the archives that are missing."""
    wanted = plan(cache, version)
    archives = {name: Path(path) for name, path in dict(wanted["archives"]).items()}  # type: ignore[call-overload]
    root, libraries = Path(str(wanted["root"])), Path(str(wanted["libraries"]))
    if not archives["user"].exists():
        write(archives["user"], [USER_IMAGE], [root], ImageConfig(cmd=["/usr/bin/python3"]))
    if not archives["pachd"].exists():
        call = "from standin.__main__ import main; main()"
        layer = [
            _program("/pachd", "/usr/bin/python3", "/app", call),
            *_app(version, libraries, "/app"),
            Entry("/pach-cache", mode=0o777),
            Entry("/pach", mode=0o777),
        ]
        names = [f"docker.io/pachyderm/pachd:{version}"]
        write(archives["pachd"], names, [root, layer], ImageConfig(entrypoint=["/pachd"], labels=LABELS))
    if not archives["worker"].exists():
        tree = Path(str(wanted["parts"])) / "relocatable"
        _relocatable(root, libraries, tree)
        library = f"{PACH_BIN}/lib"
        interpreter = f"{PACH_BIN}/python/bin/python{PYTHON}"
        call = "from standin.worker import main; main()"
        layer = [
            Entry("/app/init", content=INIT.encode(), mode=0o755),
            _program("/app/pach-bin/worker", interpreter, library, call),
            *_tree(tree, "/app/pach-bin/python"),
            *_app(version, libraries, "/app/pach-bin/lib"),
        ]
        names = [f"docker.io/pachyderm/worker:{version}"]
        write(archives["worker"], names, [root, layer], ImageConfig(entrypoint=["/app/init"], labels=LABELS))
        shutil.rmtree(tree)


LABELS = {"io.pachops.standin": "a test double, not Pachyderm"}


def main() -> None:
    command, cache, version = sys.argv[1:]
    if command == "plan":
        print(json.dumps(plan(Path(cache), version)))
    elif command == "pack":
        pack(Path(cache), version)
    else:
        raise SystemExit(f"unknown command {command}")


if __name__ == "__main__":
    main()
