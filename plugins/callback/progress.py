# SPDX-FileCopyrightText: 2026 The pachops.pachyderm contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Shows on the terminal where long tasks stand."""

from __future__ import annotations

DOCUMENTATION = r"""
name: progress
type: aggregate
short_description: Shows where long tasks stand
version_added: 0.1.0
author:
  - The pachops.pachyderm contributors (@pachops)
description:
  - Prints stage, amount, rate and time left of the modules of this collection while they run, and names any other task
    that has been silent for a while together with the time it has been running.
  - On a terminal it rewrites one line; elsewhere it prints a plain line now and then. Short tasks print nothing.
  - Everything goes to standard error, so that the output of the stdout callback stays as it is.
  - A problem of its own never breaks a run; the plugin falls silent instead.
notes:
  - Modules report through a private file that the environment variable E(PACHOPS_PROGRESS) names. It exists only while
    the playbook runs, and only tasks on the controller (connection C(local)) see it.
requirements:
  - Enable it in C(ansible.cfg) with C(callbacks_enabled = pachops.pachyderm.progress).
options:
  heartbeat:
    description: Seconds of silence in a task after which the task is named.
    type: float
    default: 15.0
    env:
      - name: PACHOPS_PROGRESS_HEARTBEAT
    ini:
      - section: callback_progress
        key: heartbeat
  interval:
    description: Least seconds between two plain lines of one stage.
    type: float
    default: 10.0
    env:
      - name: PACHOPS_PROGRESS_INTERVAL
    ini:
      - section: callback_progress
        key: interval
"""

import atexit
import contextlib
import functools
import json
import os
import shutil
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ansible.plugins.callback import CallbackBase
from ansible_collections.pachops.pachyderm.plugins.module_utils.progress import PROGRESS_VARIABLE
from ansible_collections.pachops.pachyderm.plugins.module_utils.progress_view import View

if TYPE_CHECKING:
    from collections.abc import Callable

TICK = 0.5
SILENT_ACTIONS = ("pause", "ansible.builtin.pause", "ansible.legacy.pause")


def _harmless(method: Callable[..., None]) -> Callable[..., None]:
    """Let no error of the display reach the run: switch the plugin off instead."""

    @functools.wraps(method)
    def guarded(self: CallbackModule, *args: Any, **kwargs: Any) -> None:
        if self.disabled:
            return
        try:
            method(self, *args, **kwargs)
        except Exception as error:  # noqa: BLE001  # pylint: disable=broad-except
            self.disabled = True
            with contextlib.suppress(Exception):
                self._stop()
                self._display.vv(f"The progress display switched itself off: {error!r}")

    return guarded


def _key(host: Any, task: Any) -> tuple[str, str]:
    return str(host), str(task._uuid)  # noqa: SLF001


class CallbackModule(CallbackBase):
    """Tails the event file and prints; all state is guarded by one lock."""

    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "aggregate"
    CALLBACK_NAME = "pachops.pachyderm.progress"
    CALLBACK_NEEDS_ENABLED = True

    def __init__(self, display: Any = None, options: Any = None) -> None:
        super().__init__(display, options)
        self._guard = threading.RLock()
        self._ended = threading.Event()
        self._thread: threading.Thread | None = None
        self._view = View()
        self._path = ""
        self._outer: str | None = None
        self._offset = 0
        self._partial = b""
        self._running: dict[tuple[str, str], tuple[str, float]] = {}
        self._drawn = False
        self._terminal = False
        self._plain_display: Callable[..., None] | None = None
        self._process = os.getpid()
        atexit.register(self._leave)

    # -- events of the run -----------------------------------------------------------------------------------------

    @_harmless
    def v2_playbook_on_start(self, playbook: Any) -> None:  # noqa: ARG002
        """Open the event file and start reading it."""
        self._stop()
        self._view = View(interval=float(self.get_option("interval")), heartbeat=float(self.get_option("heartbeat")))
        descriptor, self._path = tempfile.mkstemp(prefix="pachops-progress-")
        os.close(descriptor)
        self._outer = os.environ.get(PROGRESS_VARIABLE)
        os.environ[PROGRESS_VARIABLE] = self._path
        self._offset, self._partial, self._running = 0, b"", {}
        self._process = os.getpid()
        self._terminal = sys.stderr.isatty()
        if self._terminal:
            self._hook()
        self._ended.clear()
        self._thread = threading.Thread(target=self._follow, name="pachops-progress", daemon=True)
        self._thread.start()

    @_harmless
    def v2_runner_on_start(self, host: Any, task: Any) -> None:
        """A task begins on a host."""
        name = "" if task.action in SILENT_ACTIONS else str(task.get_name()).strip()
        now = time.time()
        with self._guard:
            self._running[_key(host, task)] = (name, now)
            self._view.task(name, now)

    @_harmless
    def v2_runner_on_ok(self, result: Any) -> None:
        """A task ended well."""
        self._finish(result)

    @_harmless
    def v2_runner_on_failed(self, result: Any, ignore_errors: bool = False) -> None:  # noqa: ARG002
        """A task failed."""
        self._finish(result)

    @_harmless
    def v2_runner_on_skipped(self, result: Any) -> None:
        """A task was skipped."""
        self._finish(result)

    @_harmless
    def v2_runner_on_unreachable(self, result: Any) -> None:
        """A host could not be reached."""
        self._finish(result)

    @_harmless
    def v2_playbook_on_stats(self, stats: Any) -> None:  # noqa: ARG002
        """The playbook is over."""
        self._stop()

    # -- printing --------------------------------------------------------------------------------------------------

    def _finish(self, result: Any) -> None:
        # ansible-core 2.19 gave results public attributes; before that they have an underscore.
        host = getattr(result, "host", None) or result._host  # noqa: SLF001
        task = getattr(result, "task", None) or result._task  # noqa: SLF001
        with self._guard:
            self._read()
            self._running.pop(_key(host, task), None)
            self._show(final=True)
            name, began = next(iter(self._running.values()), ("", time.time()))
            self._view.task(name, began)

    def _follow(self) -> None:
        try:
            while not self._ended.wait(TICK):
                with self._guard:
                    self._read()
                    self._show()
        except Exception:  # noqa: BLE001  # pylint: disable=broad-except
            self.disabled = True

    def _read(self) -> None:
        """Hand the complete lines that came since the last call to the view."""
        if not self._path:
            return
        with Path(self._path).open("rb") as events:
            events.seek(self._offset)
            data = events.read()
        self._offset += len(data)
        *lines, self._partial = (self._partial + data).split(b"\n")
        for line in lines:
            with contextlib.suppress(ValueError, TypeError, KeyError):
                event = json.loads(line)
                if isinstance(event, dict):
                    self._view.feed(event)

    def _show(self, final: bool = False) -> None:
        now = time.time()
        if not self._terminal:
            for line in self._view.closing() if final else self._view.plain(now):
                self._display.display(f"  … {line}", stderr=True)
            return
        for line in self._view.notes():
            self._display.display(f"  … {line}", stderr=True)
        text = "" if final else self._view.live(now)
        if not text:
            self._erase()
            return
        width = max(20, shutil.get_terminal_size().columns - 1)
        self._write(f"\r\x1b[K{f'  … {text}'[:width]}\r")
        self._drawn = True

    def _erase(self) -> None:
        if self._drawn:
            self._drawn = False
            self._write("\r\x1b[K")

    def _write(self, text: str) -> None:
        display = self._plain_display or self._display.display
        display(text, stderr=True, screen_only=True, newline=False)

    def _hook(self) -> None:
        """Clear the rewritten line before anything else is printed: callbacks hear of output only after it is out."""
        original = self._display.display

        @functools.wraps(original)
        def display(*args: Any, **kwargs: Any) -> None:
            # A forked worker inherits this wrapper, and maybe a lock whose owner does not exist there.
            if os.getpid() == self._process:
                with self._guard:
                    self._erase()
                    original(*args, **kwargs)
            else:
                original(*args, **kwargs)

        self._plain_display = original
        self._display.display = display

    def _leave(self) -> None:
        # An interrupted run ends without its statistics; forked workers own nothing here.
        if os.getpid() == self._process:
            with contextlib.suppress(Exception):
                self._stop()

    def _stop(self) -> None:
        """End the thread, remove the event file, and put everything back as it was; may be called twice."""
        self._ended.set()
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join(timeout=5)
        self._thread = None
        with self._guard:
            if self._path:
                if not self.disabled:
                    self._read()
                    self._show(final=True)
                Path(self._path).unlink(missing_ok=True)
                if self._outer is None:
                    os.environ.pop(PROGRESS_VARIABLE, None)
                else:
                    os.environ[PROGRESS_VARIABLE] = self._outer
                self._path = ""
            if self._plain_display is not None:
                self._erase()
                self._display.display = self._plain_display
                self._plain_display = None
