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
import zipfile
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
    "pachd/paths.py",
    "pachd/records.py",
    "pachd/storage_secret.py",
    "pachd/writes.py",
)
ENGINE_FURTHER = ("findings.py",)
PACKAGE = "ansible_collections/pachops/pachyderm/plugins/module_utils"
#: boto3 describes every service of AWS; S3 and its sign-on need these.
BOTO_SERVICES = ("s3", "sts", "sso", "sso-oidc", "endpoints.json", "partitions.json", "sdk-default-configuration.json")
#: What a worker imports.
OF_WORKER = ("standin", "ansible_collections", "google", "grpc", "python_pachyderm", "typing_extensions.pyc")
#: Parts of Python's library that nothing here imports.
UNUSED = (
    "distutils",
    "ensurepip",
    "idlelib",
    "lib2to3",
    "pydoc_data",
    "test",
    "tkinter",
    "turtledemo",
    "unittest",
    "venv",
)
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
        "user": images / f"pipeline-user-{PYTHON}-{root_key}.tar",
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


def _tree(directory: Path, prefix: str) -> list[Entry]:
    entries = []
    for path in sorted(directory.rglob("*")):
        target = f"{prefix}/{path.relative_to(directory).as_posix()}"
        if path.is_file():
            entries.append(Entry(target, source=path, mode=0o755 if os.access(path, os.X_OK) else 0o644))
    return entries


def _is_needed(relative: str) -> bool:
    """Return whether the images need a file of the Python libraries."""
    parts = relative.split("/")
    if parts[:2] == ["botocore", "data"] and len(parts) > 2:
        return parts[2] in BOTO_SERVICES
    if parts[:2] == ["boto3", "data"] and len(parts) > 2:
        return parts[2] == "s3"
    return parts[0] != "bin" and not relative.endswith((".pyi", ".proto")) and ".dist-info/" not in relative


def _program(path: str, interpreter: str, library: str, call: str) -> Entry:
    text = (
        f"#!{interpreter} -ISB\n# A test double, not Pachyderm.\nimport sys\nsys.path.insert(0, '{library}')\n{call}\n"
    )
    return Entry(path, content=text.encode(), mode=0o755)


PACHD = """if '--readiness' in sys.argv:
    from standin.readiness import main
else:
    from standin.__main__ import main
main()"""

WORKER = "from standin.worker import main; main()"

INIT = f"""#!/app/pach-bin/python/bin/init -ISB
# A test double, not Pachyderm: gives the user's container a Python of its own, whatever that image has.
import os, shutil
for name in os.listdir("/app/pach-bin"):
    source, target = os.path.join("/app/pach-bin", name), os.path.join("{PACH_BIN}", name)
    if os.path.isdir(source):
        shutil.rmtree(target, ignore_errors=True)
        shutil.copytree(source, target, symlinks=True)
    else:
        shutil.copy2(source, target)
"""


class Runtime:
    """A Python with libraries that needs nothing of the image it runs in: it brings its own loader and C library."""

    def __init__(self, root: Path, libraries: Path, target: Path) -> None:
        """:param root: the tar of a Debian root that has Python.
        :param libraries: a directory of Python libraries.
        :param target: where to build; what is there is removed.
        """
        shutil.rmtree(target, ignore_errors=True)
        self.python, self.site = target / "python", target / "site"
        self._standard = self.python / "lib" / f"python{PYTHON}"
        self._program = self.python / "bin" / f"python{PYTHON}"
        self._unpack(root, libraries)
        self._compile()
        for name, home in ((self._program.name, f"{PACH_BIN}/python"), ("init", f"/app{PACH_BIN}/python")):
            self._patch(self._program.parent / name, home)

    def _unpack(self, root: Path, libraries: Path) -> None:
        prefix = f"usr/lib/python{PYTHON}/"
        with tarfile.open(root) as archive:
            for member in archive:
                name = member.name.removeprefix("./")
                if name == f"usr/bin/python{PYTHON}":
                    _save(archive, member, self._program, 0o755)
                elif name.startswith(prefix) and member.isfile():
                    first = name.removeprefix(prefix).split("/")[0]
                    if first not in UNUSED and "__pycache__" not in name:
                        _save(archive, member, self.python / name.removeprefix("usr/"), 0o644)
            for path in sorted(libraries.rglob("*")):
                relative = path.relative_to(libraries).as_posix()
                if path.is_file() and "__pycache__" not in relative and _is_needed(relative):
                    (self.site / relative).parent.mkdir(parents=True, exist_ok=True)
                    shutil.copyfile(path, self.site / relative)
            # Its own loads the client with every earlier version's messages, which takes longer than all else together.
            (self.site / "python_pachyderm" / "__init__.py").write_text("")
            for name, path in sources():
                (self.site / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(path, self.site / name)
            found = [self._program, *self._standard.rglob("*.so"), *self.site.rglob("*.so")]
            self.loader = _libraries(archive, found, self.python / "so")

    def _compile(self) -> None:
        """Compile all modules, so that no start does it, and put the standard ones into one file."""
        call = [
            str(self.python / "so" / self.loader),
            "--library-path",
            str(self.python / "so"),
            str(self._program),
            "-IS",
        ]
        for directory in (self._standard, self.site):
            subprocess.run([*call, "-m", "compileall", "-b", "-q", "-j", "2", str(directory)], check=True)
        for directory in (self._standard, self.site):
            for path in directory.rglob("*.py"):
                path.unlink()
        with zipfile.ZipFile(self.python / "lib" / f"python{PYTHON.replace('.', '')}.zip", "w") as archive:
            for path in sorted(self._standard.rglob("*.pyc")):
                relative = path.relative_to(self._standard).as_posix()
                archive.writestr(zipfile.ZipInfo(relative, (1980, 1, 1, 0, 0, 0)), path.read_bytes())
                if relative != "os.pyc":  # which is how Python finds its home
                    path.unlink()

    def _patch(self, program: Path, home: str) -> None:
        if program != self._program:
            shutil.copy2(self._program, program)
        loader = f"{home}/so/{self.loader}"
        options = ["--set-interpreter", loader, "--force-rpath", "--set-rpath", f"{home}/so"]
        subprocess.run(["patchelf", *options, str(program)], check=True)


def _libraries(archive: tarfile.TarFile, programs: list[Path], target: Path) -> str:
    """Copy the C libraries that programs need out of a Debian root, and return the loader's name."""
    # A library and the link to it in another directory may have one name: the library is the one to take.
    listed = sorted((each for each in archive.getmembers() if ".so" in each.name), key=lambda each: each.isreg())
    members = {each.name.rpartition("/")[2]: each for each in listed}
    copied: set[str] = set()
    left = list(programs)
    while left:
        needed = subprocess.run(
            ["patchelf", "--print-needed", str(left.pop())], check=True, capture_output=True, text=True
        )
        for name in set(needed.stdout.split()) & set(members) - copied:
            copied.add(name)
            member = members[name]
            while member.issym():
                member = members[member.linkname.rpartition("/")[2]]
            _save(archive, member, target / name, 0o755)
            left.append(target / name)
    return next(name for name in copied if name.startswith("ld-linux"))


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
    if archives["pachd"].exists() and archives["worker"].exists():
        return
    target = Path(str(wanted["parts"])) / "runtime"
    runtime = Runtime(root, libraries, target)
    versioned = Entry(f"{PACH_BIN}/lib/standin/VERSION", content=f"{version}\n".encode())
    python = f"{PACH_BIN}/python/bin/python{PYTHON}"
    pachd = [
        _program("/pachd", python, f"{PACH_BIN}/lib", PACHD),
        *_tree(runtime.python, f"{PACH_BIN}/python"),
        *_tree(runtime.site, f"{PACH_BIN}/lib"),
        versioned,
        *(Entry(path, mode=0o777) for path in ("/tmp", "/pach", "/pach-cache")),
    ]
    names = [f"docker.io/pachyderm/pachd:{version}"]
    write(archives["pachd"], names, [pachd], ImageConfig(entrypoint=["/pachd"], labels=LABELS))
    site = [each for each in _tree(runtime.site, f"/app{PACH_BIN}/lib") if each.path.split("/")[4] in OF_WORKER]
    worker = [
        Entry("/app/init", content=INIT.encode(), mode=0o755),
        _program(f"/app{PACH_BIN}/worker", python, f"{PACH_BIN}/lib", WORKER),
        *_tree(runtime.python, f"/app{PACH_BIN}/python"),
        *site,
    ]
    names = [f"docker.io/pachyderm/worker:{version}"]
    write(archives["worker"], names, [worker], ImageConfig(entrypoint=["/app/init"], labels=LABELS))
    shutil.rmtree(target)
    for path in archives.values():  # what an older recipe or older sources gave
        for old in path.parent.glob(f"{path.name.rpartition('-')[0]}-*.tar"):
            if old != path:
                old.unlink()


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
