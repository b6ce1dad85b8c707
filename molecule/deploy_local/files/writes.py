# SPDX-FileCopyrightText: 2026 The pachops.pachyderm contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Print who wrote what to a namespace, by the API server's audit log: LOG OFFSET NAMESPACE.

The cluster's own programs are left out; the result is JSON with ``writes`` and ``dry_runs``, each a list of lines.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path

WRITES = {"create", "update", "patch", "delete", "deletecollection"}


def lines(log: Path, offset: int) -> Iterator[bytes]:
    """Yield what was written from ``offset`` on, although the log may have been put aside meanwhile and begun anew."""
    logs = [log]
    if log.stat().st_size < offset:
        logs.insert(0, max(log.parent.glob(f"{log.stem}-*{log.suffix}"), key=lambda each: each.stat().st_mtime))
    for each in logs:
        with each.open("rb") as events:
            events.seek(offset)
            yield from events
        offset = 0


def main(log: str, offset: str, namespace: str) -> None:
    """Read the log from ``offset`` (bytes) on."""
    found: dict[str, list[str]] = {"writes": [], "dry_runs": []}
    for line in lines(Path(log), int(offset)):
        event = json.loads(line)
        target = event.get("objectRef") or {}
        mine = namespace == target.get("namespace") or (
            target.get("resource") == "namespaces" and target.get("name") == namespace
        )
        if not mine or event["verb"] not in WRITES or event["user"]["username"].startswith("system:"):
            continue
        # A port-forward, which is an upgraded GET or POST, changes nothing.
        if target.get("subresource") == "portforward":
            continue
        kind = "dry_runs" if "dryRun=All" in event["requestURI"] else "writes"
        found[kind].append(f"{event['verb']} {event['requestURI']} {event['responseStatus'].get('code')}")
    json.dump(found, sys.stdout)


if __name__ == "__main__":
    main(*sys.argv[1:])
