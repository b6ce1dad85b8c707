# SPDX-FileCopyrightText: 2026 The pachops.pachyderm contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The page of an installation: its graph, its text, and how a real browser shows it."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import pytest
from ansible_collections.pachops.pachyderm.plugins.module_utils.report_page import (
    BOX_HEIGHT,
    BOX_WIDTH,
    graph,
    page,
    svg_graph,
)

BROWSERS = ("chromium-headless-shell", "chromium", "chromium-browser", "google-chrome")
PACKAGE = "chromium-headless-shell"


def repo(name: str, size: int = 0, **more: Any) -> dict[str, Any]:
    return {"name": name, "size": size, "created": "2026-11-22T10:00:00.123456789Z", "description": "", **more}


def pipeline(name: str, *inputs: str, state: str = "running") -> dict[str, Any]:
    return {"name": name, "state": state, "inputs": list(inputs), "version": 1, "jobs": {"success": 2}, "reason": ""}


def job(state: str, minute: int) -> dict[str, Any]:
    return {
        "id": f"{minute:032x}", "pipeline": "rebin", "state": state, "started": f"2026-11-22T10:{minute:02}:00Z",
        "seconds": 1.25, "reason": "", "data": {"processed": 1, "total": 2, "skipped": 1},
    }  # fmt: skip


@pytest.fixture
def data() -> dict[str, Any]:
    status = {
        "kubernetes": "1.34.4", "store": "gcp:bucket", "backend": "gcp", "pachd": {"version": "1.13.4", "ready": True},
        "etcd": {"size": 1234567, "alarms": []}, "unknown": {}, "stand_in": False,
        "backups": {"latest_verified": "20261122T101500Z-r42", "sound": True, "trouble": ""},
    }  # fmt: skip
    return {
        "title": "Pachyderm in <prod> & trial",
        "time": "2026-11-22T11:00:00+00:00",
        "status": status,
        "repos": [repo("ticks", 5_000_000), repo("odd", description="<script>alert(1)</script>"), repo("rebin", 7)],
        "branches": [{"repo": "ticks", "name": "master", "head": "0f6e7b1c3a5d4c1e"}],
        "pipelines": [
            pipeline("rebin", "ticks@master"),
            pipeline("best", "rebin@master", "ticks@master", state="paused"),
        ],
        "jobs": [job("success", 1), job("failure", 30), job("success", 59)],
    }


def test_what_reads_is_right_of_what_it_reads() -> None:
    repos = [repo("a"), repo("b"), repo("late")]
    pipelines = [pipeline("one", "a@master"), pipeline("two", "one@master", "b@x"), pipeline("three", "two@m", "a@m")]
    nodes = {node.name: node for node in graph(repos, [*pipelines, pipeline("four", "three@m", "late@m")])}
    layers = {name: node.layer for name, node in nodes.items() if not node.hidden}
    assert layers == {"a": 0, "b": 1, "one": 1, "two": 2, "three": 3, "late": 3, "four": 4}
    # An edge over several layers has a way of its own through each of them.
    assert sorted(node.layer for node in nodes.values() if node.hidden) == [1, 2]
    corners = [node.corner for node in nodes.values()]
    assert len(set(corners)) == len(corners)
    for number, (x, y) in enumerate(corners):
        for other_x, other_y in corners[number + 1 :]:
            assert abs(x - other_x) >= BOX_WIDTH or abs(y - other_y) >= BOX_HEIGHT


def test_edges_of_parallel_chains_do_not_cross() -> None:
    names = ["a", "b", "c", "d"]
    crossed = dict(zip(names, reversed(names), strict=True))
    nodes = {node.name: node for node in graph(
        [repo(name) for name in names], [pipeline(f"p-{crossed[name]}", f"{name}@master") for name in names]
    )}  # fmt: skip
    for name in names:
        assert nodes[f"p-{crossed[name]}"].row == nodes[name].row


def test_the_graph_is_sound_svg() -> None:
    svg = svg_graph(graph([repo("a<b")], [pipeline("p", "a<b@master"), pipeline("q", "gone@master", "p@m")]))
    root = ET.fromstring(svg)  # noqa: S314 it was made here
    assert len(root.findall("path")) == 3
    assert {node.get("data-name") for node in root.findall("g")} == {"a<b", "p", "q", "gone"}
    assert svg_graph([]) == "<p>There is no repo.</p>"


def test_nothing_is_loaded_and_everything_is_escaped(data: dict[str, Any]) -> None:
    text = page(data)
    assert "<script" not in text
    assert "Pachyderm in &lt;prod&gt; &amp; trial" in text
    assert not re.search(r"(src|href)\s*=|url\(|@import|https?://", text)
    assert "20261122T101500Z-r42" in text
    assert "5.0 MB" in text


def test_an_installation_that_cannot_be_asked_has_a_page_too(data: dict[str, Any]) -> None:
    data |= {"repos": [], "branches": [], "pipelines": [], "jobs": []}
    data["status"] |= {
        "backups": {"latest_verified": "", "sound": False, "trouble": "there is no backup"},
        "pachd": {"version": "", "ready": False}, "etcd": {"size": None}, "unknown": {"pachd": "no answer"},
        "stand_in": True,
    }  # fmt: skip
    text = page(data)
    for said in ("there is no backup", "not ready", "pachd: no answer", "There is no repo.", "test double"):
        assert said in text


@pytest.fixture(scope="session")
def browser() -> str:
    """A real browser: one that is there, else Debian's, which takes 100 MB and half a minute once."""
    found = next(filter(None, map(shutil.which, BROWSERS)), None)
    apt = shutil.which("apt-get")
    if found is None and apt and os.geteuid() == 0:
        command = [apt, "install", "--yes", "--quiet", "--no-install-recommends", PACKAGE]
        environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
        subprocess.run(command, env=environment, capture_output=True, check=False, timeout=300)
        found = shutil.which(PACKAGE)
    if found is None:
        pytest.skip(f"no browser: none of {', '.join(BROWSERS)} is installed, and apt-get cannot install {PACKAGE}")
    return found


def test_a_browser_shows_it(browser: str, data: dict[str, Any], tmp_path: Path) -> None:
    """The browser's own document has the boxes where they belong, nothing was blocked, and the picture is not blank."""
    probe = """<script>addEventListener("securitypolicyviolation",e=>document.title="blocked "+e.violatedDirective);
    addEventListener("load",()=>{const b=[...document.querySelectorAll("g.node")].map(g=>{const r=g.querySelector("rect")
    .getBoundingClientRect();return g.dataset.name+":"+[r.x,r.width,r.height].map(Math.round)});
    document.body.dataset.boxes=b.join(" ");document.body.dataset.wide=document.body.scrollWidth<=innerWidth});</script>"""
    file, picture = tmp_path / "page.html", tmp_path / "page.png"
    text = page(data)
    # The page runs no script; for the look from inside its policy is opened for this one.
    file.write_text(text.replace("default-src 'none'", "default-src 'none'; script-src 'unsafe-inline'")
                    .replace("</head>", f"{probe}</head>"))  # fmt: skip
    options = ["--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={tmp_path / 'profile'}"]
    options += ["--window-size=1280,900", "--virtual-time-budget=2000"]
    dom = subprocess.run(
        [browser, *options, "--dump-dom", file.as_uri()], capture_output=True, text=True, check=True, timeout=120
    ).stdout
    boxes = dict(box.split(":") for box in re.search(r'data-boxes="([^"]*)"', dom)[1].split())  # type: ignore[index]
    placed = {name: [int(number) for number in box.split(",")] for name, box in boxes.items()}
    assert set(placed) == {"ticks", "odd", "rebin", "best"}
    assert placed["ticks"][0] < placed["rebin"][0] < placed["best"][0]
    assert all(width >= BOX_WIDTH and height >= BOX_HEIGHT for _x, width, height in placed.values())
    assert 'data-wide="true"' in dom, "nothing is cut off at the right"
    assert "<title>Pachyderm in &lt;prod&gt; &amp; trial</title>" in dom, "the policy blocked something"
    file.write_text(text)
    subprocess.run(
        [browser, *options, f"--screenshot={picture}", file.as_uri()], capture_output=True, check=True, timeout=120
    )
    assert picture.read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"
    assert picture.stat().st_size > 10_000
