# SPDX-FileCopyrightText: 2026 The pachops.pachyderm contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""examples/ticks outside of Pachyderm: the transforms find the minute that the generator planted."""

from __future__ import annotations

import json
import os
import shutil
import struct
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "ticks"


def run(*arguments: object, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *map(str, arguments)], env={**os.environ, **environment}, capture_output=True, text=True,
        check=False,
    )  # fmt: skip


def compute(directory: Path, *arguments: str) -> dict[str, Any]:
    """Generate, and run the pipelines one after the other, each on the whole output of the one before."""
    assert run(EXAMPLE / "generate.py", directory, *arguments).returncode == 0
    shutil.copytree(EXAMPLE / "parameters", directory / "parameters", dirs_exist_ok=True)
    for name in ("rebin", "measure", "best"):
        (directory / "out").mkdir()
        done = run(EXAMPLE / "transforms" / f"{name}.py", PFS=str(directory))
        assert done.returncode == 0, done.stderr
        (directory / "out").rename(directory / name)
    answer: dict[str, Any] = json.loads((directory / "best" / "best.json").read_text())
    return answer


@pytest.mark.parametrize(("settles", "seed"), [("14:47", "1"), ("14:30", "2"), ("15:09", "3")])
def test_the_planted_minute_is_found(tmp_path: Path, settles: str, seed: str) -> None:
    answer = compute(tmp_path, "--from", "14:30", "--to", "15:10", "--settles", settles, "--seed", seed)
    assert (answer["minute"], answer["parameters"], answer["days"]) == (settles, "vwap-30", 5)
    assert answer["rms"] < 0.01 <= answer["runner_up"]["rms"] + 0.005
    assert answer["runner_up"]["minute"] != settles


def test_files_go_where_the_notes_say(tmp_path: Path) -> None:
    compute(tmp_path, "--days", "2", "--from", "14:45", "--to", "14:50")
    assert (tmp_path / "ticks/2026/03/02/14/45").exists()
    text = (tmp_path / "rebin/14/45/2026-03-02.csv").read_text()
    assert text == "time,price,size\n" + (tmp_path / "ticks/2026/03/02/14/45").read_text()
    assert sorted(path.name for path in (tmp_path / "rebin/14/45").iterdir()) == ["2026-03-02.csv", "2026-03-03.csv"]


def test_the_same_arguments_give_the_same_bytes(tmp_path: Path) -> None:
    for name in ("a", "b"):
        run(EXAMPLE / "generate.py", tmp_path / name, "--days", "1", "--from", "14:40", "--to", "14:50")
    first, second = ({path.relative_to(root): path.read_bytes() for path in root.rglob("*") if path.is_file()}
                     for root in (tmp_path / "a", tmp_path / "b"))  # fmt: skip
    assert first == second
    assert len(first) == 11


def test_no_day_with_a_price_is_no_answer(tmp_path: Path) -> None:
    compute(tmp_path, "--days", "1", "--from", "14:45", "--to", "14:50")
    (tmp_path / "settlements/prices.csv").write_text("date,price\n2030-01-01,1.00\n")
    for name in ("measure", "best"):
        shutil.rmtree(tmp_path / name)
        (tmp_path / "out").mkdir()
        assert run(EXAMPLE / "transforms" / f"{name}.py", PFS=str(tmp_path)).returncode == 0
        (tmp_path / "out").rename(tmp_path / name)
    assert json.loads((tmp_path / "best/best.json").read_text())["minute"] is None
    done = run(EXAMPLE / "plot.py", tmp_path / "best/measure.csv", tmp_path / "best/best.json", tmp_path / "plot.png")
    assert done.returncode != 0
    assert "nothing was measured" in done.stderr


def test_the_plot_is_a_picture(tmp_path: Path) -> None:
    compute(tmp_path, "--days", "2", "--from", "14:30", "--to", "15:00")
    plot = tmp_path / "plot.png"
    done = run(EXAMPLE / "plot.py", tmp_path / "best/measure.csv", tmp_path / "best/best.json", plot)
    assert done.returncode == 0, done.stderr
    content = plot.read_bytes()
    assert content[:8] == b"\x89PNG\r\n\x1a\n"
    assert struct.unpack(">II", content[16:24]) == (1000, 420)


def test_a_minute_that_is_not_traded_is_refused(tmp_path: Path) -> None:
    done = run(EXAMPLE / "generate.py", tmp_path, "--from", "08:00", "--to", "09:00", "--settles", "14:47")
    assert done.returncode == 2
    assert "--settles is not between" in done.stderr


def test_pipelines_read_master_only() -> None:
    """What is in staging must start nothing."""
    pipelines = yaml.safe_load((EXAMPLE / "pipelines.yml").read_text())["ticks_pipelines"]
    for each in pipelines:
        inputs = each["input"].get("cross") or [each["input"]]
        assert {part["pfs"]["branch"] for part in inputs} == {"master"}
