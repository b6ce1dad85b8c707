# SPDX-FileCopyrightText: 2026 The pachops.pachyderm contributors
# SPDX-License-Identifier: BSD-2-Clause
"""The closed room in which a local cluster runs.

A cluster gets a network namespace and a mount namespace of its own, so that its ports, nftables rules and addresses
never meet the host's, and so that everything the kubelet mounts vanishes with the namespace.  Both are pinned as files
under the run directory (``ip netns`` is not used: it keeps its files in a directory that would stay behind, and
``ip netns exec`` remounts /sys and thereby hides the cgroups).  A veth pair leads to the host; an nftables table of the
cluster's own masquerades what leaves the machine and drops what other machines would forward into it.

Paths that container programs have hard-coded (``/var/lib/kubelet``, ``/run/containerd``, …) are bind mounts of the
cluster's own directories, seen inside only: a kubelet or containerd that the host runs for itself is not disturbed.
"""

from __future__ import annotations

import contextlib
import ipaddress
import json
import os
import re
import shutil
import signal
import stat
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from ..errors import ClusterError, InputError

CGROUPS = Path("/sys/fs/cgroup")
PROC = Path("/proc")
SYSCTL = Path("/proc/sys")
MOUNTINFO = Path("/proc/self/mountinfo")
NET_CLASS = Path("/sys/class/net")

# The interface inside; kube-proxy and the node's address hang on it.
UPLINK = "uplink"

# What the kubelet sets for the whole machine (kubernetes pkg/kubelet/cm, setupKernelTunables); put back at the end.
KERNEL_TUNABLES = (
    "vm/overcommit_memory",
    "vm/panic_on_oom",
    "kernel/panic",
    "kernel/panic_on_oops",
    "kernel/keys/root_maxkeys",
    "kernel/keys/root_maxbytes",
)

# Where programs look inside → where it is kept: "state" survives a reboot, "run" does not.
BIND_MOUNTS: Mapping[str, tuple[str, str]] = {
    "/var/lib/kubelet": ("state", "kubelet"),
    "/var/log/pods": ("state", "log/pods"),
    "/var/log/containers": ("state", "log/containers"),
    "/etc/cni/net.d": ("state", "config/cni"),
    "/var/lib/cni": ("run", "cni"),
    "/run/containerd": ("run", "shims"),
    # The pods' network namespaces: containerd mounts them on files here, which would outlive their namespaces outside.
    "/run/netns": ("run", "netns"),
}

_NAME = re.compile(r"[a-z]([a-z0-9-]{0,10}[a-z0-9])?\Z")
_PROGRAMS = re.compile(
    r"(kube-apiserver|kube-controller-manager|kube-scheduler|kube-proxy|kubelet|etcd|containerd|containerd-shim.*)\Z"
)
_KILL_SECONDS = 20.0


@dataclass(frozen=True)
class Sandbox:
    """One cluster's place on this machine.

    :param name: the cluster's name: up to 12 lower-case letters, digits and hyphens (it names interfaces, too).
    :param state: directory of what survives a reboot.
    :param run: directory of what does not: the namespaces' files, sockets.
    :param subnet: the veth pair's IPv4 network; its first address is the host's, the second the node's.
    :param pod_subnet: the pods' IPv4 network, seen inside only.
    :param masquerade: whether the inside reaches other machines (image registries, object stores).
    """

    name: str
    state: Path
    run: Path
    subnet: ipaddress.IPv4Network
    pod_subnet: ipaddress.IPv4Network
    masquerade: bool = True

    def __post_init__(self) -> None:
        if not _NAME.match(self.name):
            raise InputError(
                "not a name for a local cluster",
                where=repr(self.name),
                fix="Use 1 to 12 lower-case letters, digits and hyphens, a letter first.",
            )
        if self.subnet.num_addresses < 4:
            raise InputError(
                "the node subnet is too small", where=str(self.subnet), fix="Give a network of /30 or larger."
            )

    # Names and addresses.

    @property
    def interface(self) -> str:
        """The host's end of the veth pair."""
        return f"pc-{self.name}"

    @property
    def table(self) -> str:
        """The host's nftables table, family ip."""
        return f"pachops_{self.name.replace('-', '_')}"

    @property
    def host_address(self) -> str:
        """The host as seen from inside."""
        return str(self.subnet[1])

    @property
    def node_address(self) -> str:
        """The node as seen from the host."""
        return str(self.subnet[2])

    @property
    def net(self) -> Path:
        """The file that holds the network namespace."""
        return self.run / "ns" / "net"

    @property
    def mnt(self) -> Path:
        """The file that holds the mount namespace."""
        return self.run / "ns" / "mnt"

    @property
    def cgroup(self) -> str:
        """The cgroup of all pods, as a path from the hierarchy's root."""
        return f"/pachops/{self.name}"

    @property
    def mtu(self) -> int:
        """The largest packet, in bytes, that leaves this machine unfragmented; the link and the pods take it over."""
        sizes = [1500]
        for key in self._forwarding_keys():
            with contextlib.suppress(OSError, ValueError):
                sizes.append(int((NET_CLASS / key.split("/")[3] / "mtu").read_text()))
        return min(sizes)

    @property
    def enter(self) -> list[str]:
        """The command prefix that runs a program inside."""
        return ["nsenter", f"--net={self.net}", f"--mount={self.mnt}", "--"]

    # Looking.

    def missing(self) -> list[str]:
        """Return the parts that are not as they should be, in the order in which :meth:`up` makes them."""
        if not (_is_namespace(self.net) and _is_namespace(self.mnt)):
            return ["namespaces", "link", "filter", "cgroups"]
        parts = []
        if not self._link_is_up():
            parts.append("link")
        if not self._filter_is_set():
            parts.append("filter")
        if not all(place.is_dir() for place in self._cgroup_dirs()):
            parts.append("cgroups")
        return parts

    def remains(self) -> list[str]:
        """Return everything of this cluster that is still on the machine, one line each; empty when it is gone."""
        found = [f"process {pid}" for pid in self.processes()]
        found += [f"mount {place}" for place in self._host_mounts()]
        found += [f"cgroup {place}" for place in self._cgroup_dirs() if place.is_dir()]
        if (NET_CLASS / self.interface).exists():
            found.append(f"interface {self.interface}")
        if self._has_table():
            found.append(f"nft table ip {self.table}")
        found += [f"directory {place}" for place in (self.run, self.state) if place.exists()]
        return found

    def processes(self) -> list[int]:
        """Return the cluster's processes: those inside either namespace or in its cgroups, and its own programs
        wherever they run, so that leftovers are found after the namespaces' files are gone.
        """
        spaces = {("net", _inode(self.net)), ("mnt", _inode(self.mnt))} - {("net", 0), ("mnt", 0)}
        markers = (f"{self.state}/", f"{self.run}/")
        own = os.getpid()
        found = []
        for place in PROC.iterdir():
            if not place.name.isdigit() or int(place.name) == own:
                continue
            # A process may end at any moment of this.
            with contextlib.suppress(OSError):
                if _is_alive(int(place.name)) and (
                    any((space, _inode(place / "ns" / space)) in spaces for space in ("net", "mnt"))
                    or f"{self.cgroup}/" in (place / "cgroup").read_text()
                    or _is_program(place, markers)
                ):
                    found.append(int(place.name))
        return sorted(found)

    # Making.

    def up(self) -> list[str]:
        """Make what is missing, and return what was made.

        A sandbox whose namespaces are gone while its processes are not is cleared first: nothing can join it again.

        :raises ClusterError: when the kernel or a tool refuses.
        """
        missing = self.missing()
        if not missing:
            return []
        if "namespaces" in missing:
            self._clear()
            self._make_namespaces()
        if "link" in missing:
            self._make_link()
        if "filter" in missing:
            self._make_filter()
        if "cgroups" in missing:
            self._make_cgroups()
        left = self.missing()
        if left:
            raise ClusterError(
                "the local cluster's sandbox is incomplete",
                where=", ".join(left),
                why="the kernel accepted the commands, yet the result is not there",
                fix="Remove the cluster (local_cluster_state=absent) and create it again.",
            )
        return missing

    def stop_strays(self) -> list[int]:
        """End this cluster's own programs, leaving pods and their shims alone; for when their supervisor died.

        Returns the process ids that were ended.
        """
        markers = (f"{self.state}/", f"{self.run}/")
        strays = [
            pid
            for pid in self.processes()
            if _is_program(PROC / str(pid), markers) and not _executable(PROC / str(pid)).startswith("containerd-shim")
        ]
        _kill(lambda: [pid for pid in strays if _is_alive(pid)])
        return strays

    def down(self) -> list[str]:
        """Remove everything except the directories' files, and return what was there."""
        found = self.remains()
        self._clear()
        if self._has_table():
            _run("nft", "delete", "table", "ip", self.table)
        self._restore_settings()
        for place in (self.run, self.state):
            # Nothing may be mounted below by now: what follows deletes without looking.
            if mounted := self._host_mounts():
                raise ClusterError("cannot remove the local cluster", where=str(mounted[0]), why="it is still mounted")
            _remove_tree(place)
            with contextlib.suppress(OSError):
                place.parent.rmdir()
        self._remove_mount_points()
        left = self.remains()
        if left:
            raise ClusterError("something of the local cluster is still there", where="; ".join(left))
        return found

    # The parts.

    def _clear(self) -> None:
        """End all processes, then take away mounts, namespaces, the link and the cgroups."""
        _kill(self.processes)
        for place in self._host_mounts():
            _run("umount", "--lazy", str(place))
        shutil.rmtree(self.run, ignore_errors=True)
        self._remove_link()
        for place in self._cgroup_dirs():
            _remove_cgroup(place)

    def _make_namespaces(self) -> None:
        spaces = self.run / "ns"
        for place in (self.state, self.run, spaces):
            place.mkdir(mode=0o755, parents=True, exist_ok=True)
        for kind, where in BIND_MOUNTS.values():
            ((self.state if kind == "state" else self.run) / where).mkdir(parents=True, exist_ok=True)
        self._make_mount_points()
        self.net.touch()
        self.mnt.touch()
        # A mount namespace cannot be pinned on a mount that propagates: it would contain itself.
        _run("mount", "--bind", str(spaces), str(spaces))
        _run("mount", "--make-private", str(spaces))
        _run("unshare", f"--net={self.net}", "true")
        script = ["set -e", "mount --make-rshared /"]
        for inside, (kind, where) in BIND_MOUNTS.items():
            source = (self.state if kind == "state" else self.run) / where
            script += [f"mount --bind '{source}' '{inside}'"]
        script += [f"mount --bind '{self._resolver()}' /etc/resolv.conf"]
        # Slave: disks that the host mounts later are seen by pods; mounts made inside never reach the host.
        pin = ("unshare", f"--mount={self.mnt}", "--propagation=slave", "sh", "-c", "\n".join(script))
        # A namespace that counts as older than its maker's cannot be pinned, and Linux 6.18 numbers them per processor:
        # made inside a container, on one processor it is older, on another not.
        processors = sorted(os.sched_getaffinity(0))
        for processor in processors:
            try:
                _run("taskset", "--cpu-list", str(processor), *pin)
            except ClusterError:
                if processor == processors[-1]:
                    raise
            else:
                return

    def _resolver(self) -> Path:
        """Write the inside's resolv.conf and return it: the host's name servers without those on its loopback, which
        cannot be reached from inside.
        """
        stub = Path("/run/systemd/resolve/resolv.conf")
        source = stub if stub.exists() else Path("/etc/resolv.conf")
        lines = source.read_text().splitlines() if source.exists() else []
        kept = [line for line in lines if not re.match(r"\s*nameserver\s+(127\.|::1)", line)]
        target = self.state / "config" / "resolv.conf"
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text("\n".join(kept) + "\n")
        return target

    def _make_link(self) -> None:
        self._remove_link()
        prefix, mtu = self.subnet.prefixlen, str(self.mtu)
        _run(
            "ip",
            "link",
            "add",
            self.interface,
            "type",
            "veth",
            "peer",
            "name",
            UPLINK,
            "netns",
            str(self.net),
        )
        _run("ip", "address", "add", f"{self.host_address}/{prefix}", "dev", self.interface)
        _run("ip", "link", "set", self.interface, "mtu", mtu, "up")
        inside = (
            "set -e\n"
            "ip link set lo up\n"
            f"ip address replace {self.node_address}/{prefix} dev {UPLINK}\n"
            f"ip link set {UPLINK} mtu {mtu} up\n"
            f"ip route replace default via {self.host_address}\n"
            "echo 1 >/proc/sys/net/ipv4/ip_forward\n"
        )
        _run("nsenter", f"--net={self.net}", "sh", "-c", inside)
        # Pods leave through the node's address, whatever the CNI plugins do.
        _run(
            "nsenter",
            f"--net={self.net}",
            "nft",
            "-f",
            "-",
            stdin=(
                "table ip pachops\ndelete table ip pachops\n"
                "table ip pachops {\n"
                "  chain postrouting {\n"
                "    type nat hook postrouting priority srcnat; policy accept;\n"
                f'    ip saddr {self.pod_subnet} oifname "{UPLINK}" masquerade\n'
                "  }\n"
                "}\n"
            ),
        )

    def _remove_link(self) -> None:
        # The kernel removes it together with the namespace of its other end, at a moment of its own: also during this.
        try:
            if (NET_CLASS / self.interface).exists():
                _run("ip", "link", "delete", self.interface)
        except ClusterError:
            if (NET_CLASS / self.interface).exists():
                raise

    def _link_is_up(self) -> bool:
        shown = _run("ip", "-json", "address", "show", "dev", self.interface, check=False)
        if not shown:
            return False
        addresses = [entry.get("local") for link in json.loads(shown) for entry in link.get("addr_info", [])]
        # One side of a pair goes with the namespace; "UP" without "LOWER_UP" is a pair whose other end is down.
        return self.host_address in addresses and "LOWER_UP" in json.loads(shown)[0].get("flags", [])

    def _make_filter(self) -> None:
        self._change_settings()
        # "NOT established" keeps out what another machine routes here, though forwarding has to be on for the way out.
        rules = (
            f"table ip {self.table}\ndelete table ip {self.table}\n"
            f"table ip {self.table} {{\n"
            "  chain forward {\n"
            "    type filter hook forward priority filter; policy accept;\n"
            f'    oifname "{self.interface}" ct state established,related accept\n'
            f'    oifname "{self.interface}" drop\n'
            "  }\n"
        )
        if self.masquerade:
            rules += (
                "  chain postrouting {\n"
                "    type nat hook postrouting priority srcnat; policy accept;\n"
                f'    ip saddr {self.subnet} oifname != "{self.interface}" masquerade\n'
                "  }\n"
            )
        else:
            rules += (
                "  chain closed {\n"
                "    type filter hook forward priority filter; policy accept;\n"
                f'    iifname "{self.interface}" drop\n'
                "  }\n"
            )
        _run("nft", "-f", "-", stdin=rules + "}\n")

    def _filter_is_set(self) -> bool:
        listed = _run("nft", "list", "table", "ip", self.table, check=False)
        return (
            ("masquerade" in listed) == self.masquerade
            and self.interface in listed
            and str(self.subnet) in (listed if self.masquerade else str(self.subnet))
        )

    def _has_table(self) -> bool:
        return shutil.which("nft") is not None and bool(_run("nft", "list", "table", "ip", self.table, check=False))

    # Settings of the whole machine.

    def _forwarding_keys(self) -> list[str]:
        """Return the settings that let answers come in: forwarding on the interfaces that have a default route."""
        shown = _run("ip", "-json", "-4", "route", "show", "default", check=False)
        devices = {route["dev"] for route in json.loads(shown or "[]") if "dev" in route}
        return [f"net/ipv4/conf/{device}/forwarding" for device in sorted(devices)]

    @property
    def _settings_file(self) -> Path:
        return self.run.parent / "settings.json"

    def _change_settings(self) -> None:
        """Remember this machine's settings that a cluster changes, then turn forwarding on where it is needed.

        The file is shared by all clusters: the first writes it, the last puts the values back.
        """
        forwarding = self._forwarding_keys() if self.masquerade else []
        before: dict[str, str] = {}
        with contextlib.suppress(OSError, ValueError):
            before = json.loads(self._settings_file.read_text())
        for key in (*KERNEL_TUNABLES, *forwarding):
            with contextlib.suppress(OSError):
                before.setdefault(key, (SYSCTL / key).read_text().strip())
        self._settings_file.write_text(json.dumps(before, indent=1, sort_keys=True) + "\n")
        for key in (*forwarding, f"net/ipv4/conf/{self.interface}/forwarding"):
            _set(key, "1")

    def _others(self) -> bool:
        """Return whether another cluster is on this machine."""
        places = (self.run.parent, self.state.parent)
        return any(
            other.is_dir() and other not in (self.run, self.state)
            for place in places
            if place.is_dir()
            for other in place.iterdir()
        )

    def _restore_settings(self) -> None:
        if self._others():
            return
        with contextlib.suppress(OSError, ValueError):
            for key, value in json.loads(self._settings_file.read_text()).items():
                _set(key, value)
        self._settings_file.unlink(missing_ok=True)

    @property
    def _mount_points_file(self) -> Path:
        return self.state.parent / "mount-points.json"

    def _make_mount_points(self) -> None:
        """Make the directories that :data:`BIND_MOUNTS` covers, remembering which of them the host did not have."""
        made: list[str] = []
        with contextlib.suppress(OSError, ValueError):
            made = json.loads(self._mount_points_file.read_text())
        for inside in BIND_MOUNTS:
            for place in (*reversed(Path(inside).parents), Path(inside)):
                if not place.exists():
                    place.mkdir(mode=0o755)
                    made.append(str(place))
        resolver = Path("/etc/resolv.conf")
        if not resolver.exists():
            resolver.touch()
        self._mount_points_file.write_text(json.dumps(sorted(set(made))) + "\n")

    def _remove_mount_points(self) -> None:
        # Removing a directory detaches what is mounted there in every namespace, so the last cluster does it.
        if self._others():
            return
        made: list[str] = []
        with contextlib.suppress(OSError, ValueError):
            made = json.loads(self._mount_points_file.read_text())
        for made_here in sorted(made, reverse=True):
            # rmdir refuses what somebody else has filled meanwhile.
            with contextlib.suppress(OSError):
                Path(made_here).rmdir()
        self._mount_points_file.unlink(missing_ok=True)
        for place in (self.state.parent, self.run.parent):
            with contextlib.suppress(OSError):
                place.rmdir()

    # Cgroups.

    def _cgroup_dirs(self) -> list[Path]:
        """Return the cluster's cgroup in every hierarchy: one in version 2, one per controller in version 1."""
        if (CGROUPS / "cgroup.controllers").exists():
            hierarchies = [CGROUPS]
        else:
            hierarchies = sorted({place.resolve() for place in CGROUPS.iterdir()}) if CGROUPS.is_dir() else []
        return [place / self.cgroup.lstrip("/") for place in hierarchies if (place / "cgroup.procs").exists()]

    def _make_cgroups(self) -> None:
        for place in self._cgroup_dirs():
            for level in (place.parent, place):
                level.mkdir(exist_ok=True)
                # Version 1's cpusets begin empty, and a process cannot enter an empty one.
                for knob in ("cpuset.cpus", "cpuset.mems"):
                    if (level / knob).exists() and (level.parent / knob).exists() and (CGROUPS / "cpuset").exists():
                        (level / knob).write_text((level.parent / knob).read_text())
            controllers = place.parent.parent / "cgroup.controllers"
            if controllers.exists() and place.parent.parent == CGROUPS:
                for level in (CGROUPS, place.parent, place):
                    for controller in controllers.read_text().split():
                        # One that is missing is reported by the kubelet if it needs it.
                        with contextlib.suppress(OSError):
                            (level / "cgroup.subtree_control").write_text(f"+{controller}")

    # Mounts.

    def _host_mounts(self) -> list[Path]:
        """Return what is mounted below the cluster's directories in the host's namespace, deepest first."""
        tops = (str(self.run), str(self.state))
        points = [line.split()[4].encode().decode("unicode_escape") for line in MOUNTINFO.read_text().splitlines()]
        return [
            Path(point)
            for point in sorted(points, key=len, reverse=True)
            if any(point == top or point.startswith(f"{top}/") for top in tops)
        ]


def _inode(place: Path) -> int:
    """Return the namespace's number, or 0 where there is none."""
    try:
        return place.stat().st_ino
    except OSError:
        return 0


def _is_namespace(place: Path) -> bool:
    """Return whether a namespace is mounted on ``place``: a plain file of that name is what a reboot leaves."""
    try:
        return place.stat().st_dev == (PROC / "self" / "ns" / "net").stat().st_dev
    except OSError:
        return False


def _is_alive(pid: int) -> bool:
    """Return whether the process exists and is more than an entry that its parent has not read yet."""
    try:
        # The command's name stands in parentheses and may hold any character; the state follows.
        return (PROC / str(pid) / "stat").read_text().rpartition(")")[2].split()[0] not in ("Z", "X")
    except OSError:
        return False


def _executable(process: Path) -> str:
    try:
        return Path(str((process / "exe").readlink()).removesuffix(" (deleted)")).name
    except OSError:
        return ""


def _is_program(process: Path, markers: Sequence[str]) -> bool:
    """Return whether ``process`` is a program of a cluster whose directories are ``markers``."""
    words = (process / "cmdline").read_bytes().decode(errors="replace").split("\0")
    known = _PROGRAMS.match(_executable(process)) or any(word.endswith("/supervisord") for word in words[:3])
    return bool(known) and any(marker in word for word in words for marker in markers)


def _kill(find: Callable[[], list[int]]) -> None:
    """End the processes that ``find()`` returns, until it returns none."""
    deadline = time.monotonic() + _KILL_SECONDS
    while pids := find():
        if time.monotonic() > deadline:
            raise ClusterError(
                "cannot end the local cluster's processes",
                where=", ".join(str(pid) for pid in pids),
                why=f"they survived SIGKILL for {_KILL_SECONDS:.0f} s",
                fix="Look at what they wait for: cat /proc/PID/stack",
            )
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(0.1)


def _remove_cgroup(place: Path) -> None:
    if not place.is_dir():
        return
    for child in sorted((child for child in place.rglob("*") if child.is_dir()), reverse=True):
        with contextlib.suppress(OSError):
            child.rmdir()
    for level in (place, place.parent):
        with contextlib.suppress(OSError):
            level.rmdir()


def _remove_tree(place: Path) -> None:
    if place.is_dir() and not place.is_symlink() and not stat.S_ISLNK(place.lstat().st_mode):
        shutil.rmtree(place)


def _set(key: str, value: str) -> None:
    # A setting that does not exist here, or is read-only in a container, was not changed either.
    with contextlib.suppress(OSError):
        if (SYSCTL / key).read_text().strip() != value:
            (SYSCTL / key).write_text(value)


def _run(*command: str, stdin: str | None = None, check: bool = True) -> str:
    try:
        done = subprocess.run(command, input=stdin, capture_output=True, text=True, check=False, timeout=60)
    except (OSError, subprocess.TimeoutExpired) as error:
        if not check:
            return ""
        raise ClusterError("cannot run a command of the local cluster", where=command[0], why=str(error)) from error
    if done.returncode != 0:
        if not check:
            return ""
        raise ClusterError(
            "a command of the local cluster failed",
            where=" ".join(command)[:200],
            why=(done.stderr or done.stdout).strip()[-500:] or f"exit status {done.returncode}",
        )
    return done.stdout


def other_interfaces(subnet: ipaddress.IPv4Network, own: str) -> Iterator[str]:
    """Yield the host's interfaces, except ``own``, whose networks overlap ``subnet``, as ``eth0 10.0.0.5/24``."""
    for link in json.loads(_run("ip", "-json", "-4", "address", "show", check=False) or "[]"):
        for entry in link.get("addr_info", []):
            network = ipaddress.ip_network(f"{entry['local']}/{entry['prefixlen']}", strict=False)
            if link["ifname"] != own and network.overlaps(subnet):
                yield f"{link['ifname']} {entry['local']}/{entry['prefixlen']}"
