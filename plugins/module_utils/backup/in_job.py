# SPDX-FileCopyrightText: 2026 The pachops.pachyderm contributors
# SPDX-License-Identifier: BSD-2-Clause
"""The Job's side of :mod:`.job`: ``python3 -m …backup.in_job <file>`` makes one backup and says so in JSON lines."""

from __future__ import annotations

import json
import signal
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from ..errors import PachopsError
from ..kube.client import Kube, connect
from ..progress import Progress
from ..stores.location import access_of, open_location
from .create import Wishes
from .job import speak
from .run import run_backup


def _end(_number: int, _frame: object) -> None:
    raise SystemExit(143)


def main(path: str, connected: Callable[[], Kube] = connect) -> int:
    """Back up as the file says, and return the exit status.

    :param connected: returns a client of the cluster that the pod runs in.
    """
    say = speak()
    # A Job that is deleted, or takes too long, gives its lock back.
    signal.signal(signal.SIGTERM, _end)
    try:
        config: Mapping[str, Any] = json.loads(Path(path).read_text(encoding="utf-8"))
        wishes = Wishes(config["recipients"], config["identities"], config["if_changed"], config["tools"])
        store = open_location(config["store"], access_of(config["store_access"]))
        result = run_backup({**config, "transport": "direct"}, connected(), store, wishes, Progress(say=say))
    except PachopsError as error:
        say({"error": error.as_result()})
        return 1
    say({"result": {**result, "transport": "job"}})
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1]))
