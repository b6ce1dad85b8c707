# SPDX-FileCopyrightText: 2026 The pachops.pachyderm contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs the documents' shell blocks that need a cluster, in the order in which a reader meets them."""

from __future__ import annotations

import os
import subprocess

import doc_blocks
import pytest


@pytest.mark.parametrize("block", doc_blocks.shell("e2e"), ids=str)
def test_shell_block_runs_on_the_cluster(block: doc_blocks.Block) -> None:
    environment = {**os.environ, "PATH": f"{doc_blocks.ROOT / '.venv/bin'}:{os.environ['PATH']}"}
    run = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", block.body],
        cwd=doc_blocks.ROOT,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=900,
        check=False,
    )
    assert run.returncode == 0, run.stdout
