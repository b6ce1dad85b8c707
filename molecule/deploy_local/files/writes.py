# SPDX-FileCopyrightText: 2026 The pachops.pachyderm contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Print who wrote what to a namespace, by the API server's audit log: LOG OFFSET NAMESPACE.

The cluster's own programs are left out; the result is JSON with ``writes`` and ``dry_runs``, each a list of lines.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

WRITES = {"create", "update", "patch", "delete", "deletecollection"}


def main(log: str, offset: str, namespace: str) -> None:
    """Read the log from ``offset`` (bytes) on."""
    found: dict[str, list[str]] = {"writes": [], "dry_runs": []}
    with Path(log).open("rb") as events:
        events.seek(int(offset))
        for line in events:
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
