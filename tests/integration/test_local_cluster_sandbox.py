# SPDX-FileCopyrightText: 2026 The pachops.pachyderm contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The room of a local cluster, made for real and looked at through the kernel's own lists."""

from __future__ import annotations

import fcntl
import ipaddress
import json
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.pachops.pachyderm.plugins.module_utils.errors import ClusterError, InputError
from ansible_collections.pachops.pachyderm.plugins.module_utils.local_cluster import sandbox as module
from ansible_collections.pachops.pachyderm.plugins.module_utils.local_cluster.sandbox import Sandbox

pytestmark = [
    pytest.mark.host,
    pytest.mark.skipif(os.geteuid() != 0, reason="namespaces, interfaces and mounts need root"),
]

SUBNET = ipaddress.IPv4Network("198.18.254.0/29")
PODS = ipaddress.IPv4Network("10.244.0.0/16")


@pytest.fixture(autouse=True)
def _one_at_a_time(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Interfaces, tables and cgroups are the host's, and there may be several workers."""
    with (tmp_path_factory.getbasetemp().parent / "sandbox.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def make(tmp_path: Path, **changes: bool) -> Sandbox:
    return Sandbox("it-sandbox", tmp_path / "state/it", tmp_path / "run/it", SUBNET, PODS, **changes)


@pytest.fixture
def sandbox(tmp_path: Path) -> Iterator[Sandbox]:
    sandbox = make(tmp_path)
    yield sandbox
    sandbox.down()


def output(*command: str) -> str:
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def kernel(tmp_path: Path) -> dict[str, object]:
    """Return what the kernel lists that may be of a cluster below ``tmp_path``."""
    return {
        "interfaces": [link["ifname"] for link in json.loads(output("ip", "-json", "link"))],
        "tables": output("nft", "list", "tables"),
        "mounts": [line for line in Path("/proc/self/mountinfo").read_text().splitlines() if str(tmp_path) in line],
        "cgroups": output("find", "/sys/fs/cgroup", "-type", "d", "-name", "it-sandbox"),
        "directories": [place.name for place in tmp_path.iterdir()],
        "forwarding": output("sysctl", "-a", "--pattern", r"ipv4\.conf\.[^v][^.]*\.forwarding"),
        "tunables": [(Path("/proc/sys") / key).read_text() for key in module.KERNEL_TUNABLES],
    }


def test_up_and_down_leave_the_kernel_as_it_was(sandbox: Sandbox, tmp_path: Path) -> None:
    before = kernel(tmp_path)
    assert sandbox.missing() == ["namespaces", "link", "filter", "cgroups"]
    assert sandbox.remains() == []
    assert sandbox.up() == ["namespaces", "link", "filter", "cgroups"]
    assert sandbox.up() == []
    assert kernel(tmp_path) != before
    found = sandbox.down()
    assert f"interface {sandbox.interface}" in found
    assert f"nft table ip {sandbox.table}" in found
    assert sandbox.remains() == []
    assert kernel(tmp_path) == before
    assert sandbox.down() == []


def test_inside_is_apart_and_reaches_the_host(sandbox: Sandbox, tmp_path: Path) -> None:
    sandbox.up()
    inside = json.loads(output(*sandbox.enter, "ip", "-json", "-4", "address"))
    addresses = {entry["local"] for link in inside for entry in link["addr_info"]}
    assert addresses == {"127.0.0.1", sandbox.node_address}
    route = json.loads(output(*sandbox.enter, "ip", "-json", "route", "get", sandbox.host_address))
    assert route[0]["dev"] == module.UPLINK
    # A file below the kubelet's usual directory is in the cluster's own.
    subprocess.run([*sandbox.enter, "touch", "/var/lib/kubelet/mark"], check=True)
    assert (sandbox.state / "kubelet" / "mark").exists()
    assert not Path("/var/lib/kubelet/mark").exists()
    # A pod's network namespace is mounted on a file, as containerd does it; neither is seen outside.
    pin = "touch /run/netns/cni-mark; mount --bind /proc/self/ns/net /var/run/netns/cni-mark"
    subprocess.run([*sandbox.enter, "sh", "-c", pin], check=True)
    assert (sandbox.run / "netns" / "cni-mark").exists()
    assert not Path("/run/netns/cni-mark").exists()
    # What is mounted inside is not seen outside; what the host mounts later is seen inside.
    subprocess.run([*sandbox.enter, "mount", "-t", "tmpfs", "none", str(sandbox.state / "kubelet")], check=True)
    assert str(sandbox.state) not in Path("/proc/self/mountinfo").read_text()


def test_only_answers_are_forwarded_in(sandbox: Sandbox) -> None:
    sandbox.up()
    rules = output("nft", "list", "table", "ip", sandbox.table)
    assert f'oifname "{sandbox.interface}" drop' in rules
    assert f"ip saddr {SUBNET}" in rules
    assert "masquerade" in rules


def test_closed_sandbox_has_no_way_out(tmp_path: Path) -> None:
    sandbox = make(tmp_path, masquerade=False)
    try:
        sandbox.up()
        rules = output("nft", "list", "table", "ip", sandbox.table)
        assert "masquerade" not in rules
        assert f'iifname "{sandbox.interface}" drop' in rules
        assert make(tmp_path).missing() == ["filter"]
    finally:
        sandbox.down()


def test_each_part_is_repaired_alone(sandbox: Sandbox) -> None:
    sandbox.up()
    namespace = sandbox.net.stat().st_ino
    subprocess.run(["nft", "delete", "table", "ip", sandbox.table], check=True)
    assert sandbox.up() == ["filter"]
    subprocess.run(["ip", "link", "delete", sandbox.interface], check=True)
    assert "link" in sandbox.missing()
    sandbox.up()
    assert sandbox.missing() == []
    subprocess.run(["ip", "link", "set", sandbox.interface, "down"], check=True)
    assert sandbox.up() == ["link"]
    assert sandbox.net.stat().st_ino == namespace


def program(sandbox: Sandbox, name: str) -> subprocess.Popen[bytes]:
    """Start a program called ``name`` inside, from the state directory, so that its arguments name that."""
    directory = sandbox.state / "bin"
    directory.mkdir(exist_ok=True)
    (directory / name).write_bytes(Path("/bin/sleep").read_bytes())
    (directory / name).chmod(0o755)
    return subprocess.Popen([*sandbox.enter, str(directory / name), "1000"], start_new_session=True)


def appear(sandbox: Sandbox, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 10
    while process.pid not in sandbox.processes():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_down_ends_whatever_runs_inside(sandbox: Sandbox) -> None:
    sandbox.up()
    process = program(sandbox, "sleeper")
    appear(sandbox, process)
    assert f"process {process.pid}" in sandbox.down()
    assert process.wait(10) == -signal.SIGKILL


def test_what_a_reboot_leaves_is_made_anew(sandbox: Sandbox) -> None:
    sandbox.up()
    for place in (sandbox.net, sandbox.mnt, sandbox.run / "ns"):
        subprocess.run(["umount", str(place)], check=True)
    sandbox.net.touch()
    assert sandbox.missing()[0] == "namespaces"
    sandbox.up()
    assert sandbox.missing() == []


def test_processes_of_a_lost_namespace_are_ended_first(sandbox: Sandbox) -> None:
    sandbox.up()
    process = program(sandbox, "sleeper")
    appear(sandbox, process)
    subprocess.run(["umount", str(sandbox.net)], check=True)
    sandbox.up()
    assert process.wait(10) == -signal.SIGKILL
    assert sandbox.missing() == []


def test_strays_are_ended_and_pods_left_alone(sandbox: Sandbox) -> None:
    sandbox.up()
    started = {name: program(sandbox, name) for name in ("etcd", "containerd-shim-runc-v2", "sleeper")}
    for process in started.values():
        appear(sandbox, process)
    assert sandbox.stop_strays() == [started["etcd"].pid]
    assert started["etcd"].wait(10) == -signal.SIGKILL
    assert started["containerd-shim-runc-v2"].poll() is None
    assert started["sleeper"].poll() is None
    sandbox.down()
    assert all(process.wait(10) == -signal.SIGKILL for process in started.values())


def test_two_side_by_side(tmp_path: Path, sandbox: Sandbox) -> None:
    other = Sandbox(
        "it-other", tmp_path / "state/other", tmp_path / "run/other", ipaddress.IPv4Network("198.18.254.8/29"), PODS
    )
    try:
        sandbox.up()
        other.up()
        settings = json.loads((tmp_path / "run/settings.json").read_text())
    finally:
        other.down()
    assert sandbox.missing() == []
    assert json.loads((tmp_path / "run/settings.json").read_text()) == settings
    subprocess.run([*sandbox.enter, "touch", "/var/lib/kubelet/still-mounted"], check=True)
    assert (sandbox.state / "kubelet" / "still-mounted").exists()


def test_refusal_of_the_kernel_is_told(tmp_path: Path) -> None:
    sandbox = make(tmp_path)
    subprocess.run(["ip", "link", "add", "it-taken", "type", "veth", "peer", "name", "it-taken-peer"], check=True)
    try:
        subprocess.run(["ip", "address", "add", f"{sandbox.host_address}/29", "dev", "it-taken"], check=True)
        assert list(module.other_interfaces(SUBNET, sandbox.interface)) == [f"it-taken {sandbox.host_address}/29"]
    finally:
        subprocess.run(["ip", "link", "delete", "it-taken"], check=True)
    with pytest.raises(ClusterError, match=r"a command of the local cluster failed .*no-such-option"):
        module._run("ip", "--no-such-option")
    with pytest.raises(ClusterError, match="cannot run a command"):
        module._run("no-such-program")
    assert module._run("no-such-program", check=False) == ""


def test_link_that_the_kernel_removes_first(sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    run = module._run
    late = 0

    def run_late(*command: str, **options: Any) -> str:
        nonlocal late
        if command == ("ip", "link", "delete", sandbox.interface):
            run(*command)
            late += 1
        return run(*command, **options)

    sandbox.up()
    monkeypatch.setattr(module, "_run", run_late)
    sandbox._remove_link()
    assert late == 1
    assert sandbox.missing() == ["link"]


def test_processors_that_cannot_pin_the_mount_namespace(sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    run, refused = module._run, ClusterError("a command of the local cluster failed", where="unshare")

    def run_on_one(*command: str, **options: Any) -> str:
        if command[:3] in (("taskset", "--cpu-list", "0"), ("taskset", "--cpu-list", "1")) and "unshare" in command:
            tried.append(command[2])
            if command[2] == good:
                return run("unshare", *command[4:], **options)
            raise refused
        return run(*command, **options)

    monkeypatch.setattr(module, "_run", run_on_one)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _pid: {0, 1})
    tried: list[str] = []
    good = "none"
    with pytest.raises(ClusterError, match="unshare"):
        sandbox.up()
    assert tried == ["0", "1"]
    tried, good = [], "1"
    sandbox.up()
    assert tried == ["0", "1"]
    assert sandbox.missing() == []


@pytest.mark.parametrize("name", ["", "UPPER", "1st", "x" * 13, "a b", "a-", "../x"])
def test_names_that_cannot_be(tmp_path: Path, name: str) -> None:
    with pytest.raises(InputError, match="not a name for a local cluster"):
        Sandbox(name, tmp_path, tmp_path, SUBNET, PODS)


def test_subnet_that_is_too_small(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="too small"):
        Sandbox("x", tmp_path, tmp_path, ipaddress.IPv4Network("198.18.0.0/31"), PODS)
