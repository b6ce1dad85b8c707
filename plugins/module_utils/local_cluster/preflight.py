# SPDX-FileCopyrightText: 2026 The pachops.pachyderm contributors
# SPDX-License-Identifier: BSD-2-Clause
"""Whether this machine can serve a local cluster: every finding at once, before anything is changed."""

from __future__ import annotations

import ipaddress
import os
import platform
import re
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ..findings import Finding, error, ok, warning
from ..image_archive import host_architecture
from .sandbox import other_interfaces

GIB = 1 << 30
ARCHITECTURES = ("amd64", "arm64")
# linux/capability.h: what namespaces, mounts, interfaces and nftables need.
CAPABILITIES = {"CAP_NET_ADMIN": 12, "CAP_SYS_PTRACE": 19, "CAP_SYS_ADMIN": 21}

WAY_OUT = "or use a cluster that you have: give its kubeconfig (-e kubeconfig=/path/to/kubeconfig)."


@dataclass(frozen=True)
class Host:
    """What is known of this machine; a test makes one up.

    Sizes are in bytes; ``packages`` are the installed distribution packages; ``capabilities`` is the effective set as
    the kernel prints it; ``go`` is the version on PATH ("1.26.8"), empty where there is none.
    """

    system: str
    architecture: str
    euid: int
    has_apt: bool
    memory: int
    disk_free: int
    capabilities: int
    packages: frozenset[str]
    go: str
    go_path: str
    systemd: bool


def examine(directory: Path) -> Host:
    """Return this machine, with the free disk space of the file system on which ``directory`` is or would be."""
    place = directory
    while not place.exists():
        place = place.parent
    go_path = shutil.which("go") or ""
    return Host(
        system=platform.system(),
        architecture=host_architecture(),
        euid=os.geteuid(),
        has_apt=shutil.which("apt-get") is not None and shutil.which("dpkg-query") is not None,
        memory=_memory(),
        disk_free=shutil.disk_usage(place).free,
        capabilities=_capabilities(),
        packages=_packages(),
        go=_go_version(go_path),
        go_path=go_path,
        systemd=Path("/run/systemd/system").is_dir(),
    )


def version_key(version: str) -> tuple[int, ...]:
    """Return a version as numbers for comparison; what is no number ends it.

    >>> version_key("1.26rc2") < version_key("1.26.3")
    True
    """
    return tuple(int(number) for number in re.match(r"[0-9.]*", version).group().split(".") if number)  # type: ignore[union-attr]


def check(
    host: Host,
    *,
    disk: int,
    memory: int,
    subnet: ipaddress.IPv4Network,
    interface: str,
    others: Sequence[str] | None = None,
) -> list[Finding]:
    """Return what speaks for and against a local cluster on ``host``.

    :param disk: bytes that have to be free.
    :param memory: bytes of memory that the machine has to have.
    :param subnet: the network of the veth pair, ``interface`` the pair's name on the host.
    """
    findings = []
    if host.system != "Linux":
        findings.append(error("system", host.system, "Linux", f"Run this on a Linux machine, {WAY_OUT}"))
    if host.architecture not in ARCHITECTURES:
        findings.append(
            error(
                "architecture", host.architecture, " or ".join(ARCHITECTURES), f"Run this on another machine, {WAY_OUT}"
            )
        )
    if host.euid != 0:
        findings.append(error("root", f"user id {host.euid}", "root", f"Run ansible-playbook as root, {WAY_OUT}"))
    else:
        lacking = [name for name, bit in CAPABILITIES.items() if not host.capabilities >> bit & 1]
        if lacking:
            findings.append(
                error(
                    "capabilities",
                    f"root without {', '.join(lacking)}",
                    "root that may make namespaces",
                    f"Run this outside the container, or in a privileged one, {WAY_OUT}",
                )
            )
    if not host.has_apt:
        findings.append(
            error("packages", "no apt", "Debian 12, Ubuntu 22.04 or later", f"Run this on one of them, {WAY_OUT}")
        )
    if host.memory < memory:
        findings.append(
            error(
                "memory",
                f"{host.memory / GIB:.1f} GiB",
                f"{memory / GIB:.1f} GiB (local_cluster_required_memory)",
                f"Give the machine more memory, {WAY_OUT}",
            )
        )
    if host.disk_free < disk:
        findings.append(
            error(
                "disk",
                f"{host.disk_free / GIB:.1f} GiB free",
                f"{disk / GIB:.1f} GiB free (local_cluster_required_disk)",
                f"Free some, or set local_cluster_root_dir and local_cluster_cache_dir to a larger disk, {WAY_OUT}",
            )
        )
    findings += [
        error(
            "node-subnet",
            f"{taken} overlaps {subnet}",
            "a network that this machine does not use",
            "Set local_cluster_node_subnet to a free /24.",
        )
        for taken in (other_interfaces(subnet, interface) if others is None else others)
    ]
    if not findings:
        size = f"{host.memory / GIB:.0f} GiB of memory, {host.disk_free / GIB:.0f} GiB of disk free"
        findings.append(ok("host", f"{host.system} {host.architecture}, {size}"))
        if host.memory < 2 * memory:
            findings.append(
                warning(
                    "memory",
                    f"{host.memory / GIB:.1f} GiB",
                    f"{2 * memory / GIB:.0f} GiB for builds",
                    "Expect a slow build.",
                )
            )
    return findings


def _memory() -> int:
    try:
        text = Path("/proc/meminfo").read_text(encoding="ascii")
    except OSError:
        return 0
    found = re.search(r"^MemTotal:\s+(\d+) kB", text, re.MULTILINE)
    return int(found.group(1)) * 1024 if found else 0


def _capabilities() -> int:
    try:
        text = Path("/proc/self/status").read_text(encoding="ascii", errors="replace")
    except OSError:
        return 0
    found = re.search(r"^CapEff:\s+([0-9a-f]+)", text, re.MULTILINE)
    return int(found.group(1), 16) if found else 0


def _packages() -> frozenset[str]:
    try:
        done = subprocess.run(
            ["dpkg-query", "-W", "-f", "${db:Status-Abbrev} ${Package}\n"],
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )
    except (OSError, subprocess.TimeoutExpired):
        return frozenset()
    words = (line.split() for line in done.stdout.splitlines())
    return frozenset(word[1] for word in words if len(word) == 2 and word[0].startswith("ii"))


def _go_version(path: str) -> str:
    if not path:
        return ""
    try:
        # GOTOOLCHAIN=local: ask this one, never let it fetch another.
        done = subprocess.run(
            [path, "env", "GOVERSION"],
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
            env={**os.environ, "GOTOOLCHAIN": "local", "GOFLAGS": ""},
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip().removeprefix("go").partition(" ")[0]
