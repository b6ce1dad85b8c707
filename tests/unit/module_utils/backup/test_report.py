# SPDX-FileCopyrightText: 2026 The pachops.pachyderm contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a scheduled run leaves behind: its record, metrics, and an Event."""

from __future__ import annotations

import base64
import dataclasses
import datetime as dt
import json
import re
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from ansible_collections.pachops.pachyderm.plugins.module_utils.backup import report
from ansible_collections.pachops.pachyderm.plugins.module_utils.backup.catalogue import Catalogue, read_catalogue
from ansible_collections.pachops.pachyderm.plugins.module_utils.backup.cron import parse
from ansible_collections.pachops.pachyderm.plugins.module_utils.errors import (
    ClusterError,
    InputError,
    StorageError,
)
from ansible_collections.pachops.pachyderm.plugins.module_utils.kube.transport import Response
from ansible_collections.pachops.pachyderm.plugins.module_utils.stores.directory import DirectoryStore
from ansible_collections.pachops.pachyderm.plugins.modules import etcd_backup_report
from doubles.backups import CLUSTER, NOW, put, verify

HOUR, DAY = dt.timedelta(hours=1), dt.timedelta(days=1)
GOOD = tuple(report.Stage(name, 1.5) for name in report.STAGES)
BAD = (
    report.Stage("backup", 2, "the bucket said 403"),
    *(report.Stage(name, skipped=True) for name in report.STAGES[1:]),
)


def run_of(stages: tuple[report.Stage, ...] = GOOD, **changes: Any) -> report.Run:
    fields: dict[str, Any] = {"backup_id": "20260304T110000Z-r100", **changes}
    return report.Run(CLUSTER, "pachyderm", NOW - HOUR, NOW, stages, **fields)


def test_a_record_is_written_once_and_old_ones_are_forgotten(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = DirectoryStore(tmp_path)
    monkeypatch.setattr(report, "KEPT_RUNS", 3)
    store.write(f"{CLUSTER}/runs/notes.txt", [b"mine"])
    keys = [report.record_run(store, run_of()) for _turn in range(3)]
    keys += [report.record_run(store, dataclasses.replace(run_of(), started=NOW - HOUR + dt.timedelta(seconds=3)))]
    keys += [report.record_run(store, dataclasses.replace(run_of(), started=NOW - HOUR + dt.timedelta(seconds=3)))]
    assert len(set(keys)) == 5
    assert [each.second for each in report.run_times(store, CLUSTER)] == [4, 3, 2]
    assert store.exists(f"{CLUSTER}/runs/notes.txt")
    document = json.loads(b"".join(store.read(keys[-1])))
    assert document["passed"]
    assert document["seconds"] == 3597.0
    assert [each["name"] for each in document["stages"]] == ["backup", "verify", "prune"]


def test_missed_runs_are_those_between_two() -> None:
    cron = parse("0 11 * * *")
    started = NOW - HOUR + dt.timedelta(seconds=20)
    assert report.missed_runs(cron, None, started) == ()
    assert report.missed_runs(cron, started - DAY, started) == ()
    assert report.missed_runs(cron, started - HOUR * 2, started) == ()
    missed = report.missed_runs(cron, started - DAY * 3, started)
    assert [each.day for each in missed] == [2, 3]
    assert report.missed_runs(cron, started - DAY * 2, started + HOUR * 5) == (
        dt.datetime(2026, 3, 3, 11, tzinfo=dt.timezone.utc),
    )


SAMPLE = re.compile(r'pachops_backup_(\w+)\{((?:\w+="(?:[^"\\]|\\.)*",?)+)\} (-?[\d.e+]+)')


def parsed(text: str) -> dict[str, float]:
    """Read the text as Prometheus does, strictly: every family has its help and type once, before its samples."""
    values: dict[str, float] = {}
    family = ""
    for line in text.splitlines():
        if line.startswith("# HELP "):
            family = line.split()[2]
            assert family not in {key.partition("{")[0] for key in values}
        elif line.startswith("# TYPE "):
            assert line.split()[2:] == [family, "gauge"]
        else:
            match = SAMPLE.fullmatch(line)
            assert match, line
            assert f"pachops_backup_{match[1]}" == family
            stage = re.search(r'stage="(\w+)"', match[2])
            values[match[1] + (f":{stage[1]}" if stage else "")] = float(match[3])
    assert text.endswith("\n")
    return values


def test_metrics_say_what_there_is(tmp_path: Path) -> None:
    store = DirectoryStore(tmp_path)
    old, new = put(store, DAY), put(store, HOUR)
    verify(store, old)
    verify(store, new, passed=False)
    put(store, HOUR * 2, 7, complete=False)
    values = parsed(report.metrics('na"m\\e', read_catalogue(store, CLUSTER), run_of()))
    assert values["sets"] == 2
    assert values["sets_verified"] == values["sets_failed"] == values["leftovers"] == 1
    assert values["latest_timestamp_seconds"] == (NOW - HOUR).timestamp()
    assert values["latest_verified_timestamp_seconds"] == (NOW - DAY).timestamp()
    assert values["last_run_success"] == 1
    assert values["last_run_stage_seconds:verify"] == 1.5
    failed = parsed(report.metrics("n", Catalogue(CLUSTER), run_of(BAD, missed=(NOW, NOW))))
    assert failed["last_run_success"] == 0
    assert failed["last_run_stage_success:backup"] == failed["last_run_stage_success:prune"] == 0
    assert failed["missed_runs"] == 2
    assert "latest_timestamp_seconds" not in failed
    assert "last_run_success" not in parsed(report.metrics("n", Catalogue(CLUSTER)))


def test_a_backup_is_current_while_runs_find_nothing_new(tmp_path: Path) -> None:
    store = DirectoryStore(tmp_path)
    name = put(store, DAY)
    verify(store, name)
    backup = read_catalogue(store, CLUSTER).backups[0]
    assert report.current_at(store, backup) == NOW - DAY
    run = run_of(backup_id=name)
    assert report.current_at(store, backup, run) == run.started
    report.record_run(store, run)
    report.record_run(store, run_of(BAD, backup_id=""))
    assert report.current_at(store, backup) == run.started
    assert report.current_at(store, backup, run_of(BAD)) == run.started
    current = report.current_at(store, backup)
    values = parsed(report.metrics("n", read_catalogue(store, CLUSTER), None, current))
    assert values["latest_verified_timestamp_seconds"] == (NOW - DAY).timestamp()
    assert values["latest_verified_current_timestamp_seconds"] == run.started.timestamp()


def test_the_textfile_is_replaced_at_once(tmp_path: Path) -> None:
    path = tmp_path / "pachyderm.prom"
    report.write_textfile(path, "one\n")
    before = path.stat().st_ino
    report.write_textfile(path, "two\n")
    assert path.read_text() == "two\n"
    assert path.stat().st_ino != before, "a new file, not an old one that is half written"
    assert path.stat().st_mode & 0o777 == 0o644
    assert [each.name for each in tmp_path.iterdir()] == ["pachyderm.prom"]
    with pytest.raises(InputError, match="cannot write the metrics"):
        report.write_textfile(tmp_path / "no" / "x.prom", "x")


@pytest.fixture
def gateway() -> Iterator[tuple[str, list[tuple[str, str, str, bytes]]]]:
    """A double of a pushgateway: it takes what is put below /metrics/job/, and nothing else."""
    seen: list[tuple[str, str, str, bytes]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_PUT(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            seen.append((self.path, self.headers["Content-Type"], self.headers.get("Authorization", ""), body))
            self.send_response(200 if self.path.startswith("/metrics/job/pachops_backup/") else 400)
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}", seen
    server.shutdown()
    thread.join()
    server.server_close()


def test_the_pushgateway_gets_them(gateway: tuple[str, list[tuple[str, str, str, bytes]]]) -> None:
    url, seen = gateway
    report.push(report.Gateway(f"{url}/", "me", "s3cret"), "name/space", "text\n")
    path, kind, authorization, body = seen[0]
    assert path == "/metrics/job/pachops_backup/namespace/name%2Fspace"
    assert kind.startswith("text/plain")
    assert authorization == "Basic " + base64.b64encode(b"me:s3cret").decode()
    assert body == b"text\n"
    assert "s3cret" not in repr(report.Gateway(url, "me", "s3cret"))
    with pytest.raises(StorageError, match="refused the metrics"):
        report.push(report.Gateway(f"{url}/elsewhere"), "n", "text\n")
    with pytest.raises(StorageError, match="cannot reach"):
        report.push(report.Gateway("http://127.0.0.1:9", timeout=1), "n", "text\n")
    with pytest.raises(InputError, match="not the address"):
        report.push(report.Gateway("file:///etc"), "n", "text\n")


class Api:
    """The part of a cluster that takes Events."""

    def __init__(self, status: int = 201) -> None:
        self.status = status
        self.events: list[dict[str, Any]] = []
        self.transport = SimpleNamespace(host="https://cluster")

    def request(self, method: str, path: str, *, body: str) -> Response:
        assert (method, path) == ("POST", "/api/v1/namespaces/pachyderm/events")
        self.events.append(json.loads(body))
        return Response(status=self.status, headers={}, body=b"forbidden")


def test_an_event_tells_of_the_run() -> None:
    api: Any = Api()
    report.emit_event(api, run_of())
    report.emit_event(api, run_of(missed=(NOW,)))
    report.emit_event(api, run_of(BAD))
    good, late, bad = api.events
    assert (good["type"], good["reason"]) == ("Normal", "BackupVerified")
    assert (late["type"], late["reason"]) == ("Warning", "BackupVerified")
    assert "1 runs before it were missed" in late["message"]
    assert (bad["type"], bad["reason"]) == ("Warning", "BackupFailed")
    assert bad["message"] == "Scheduled backup failed: backup: the bucket said 403"
    assert bad["involvedObject"]["name"] == "pachd"
    refusing: Any = Api(403)
    with pytest.raises(ClusterError, match="forbidden"):
        report.emit_event(refusing, run_of())


def test_the_module_tells_what_it_can(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    run_module: Callable[..., Any],
    gateway: tuple[str, list[tuple[str, str, str, bytes]]],
) -> None:
    api = Api()
    monkeypatch.setattr(etcd_backup_report, "connect", lambda _kubeconfig, _context: api)
    store = DirectoryStore(tmp_path / "store")
    verify(store, put(store, HOUR))
    stages = [{"name": name, "seconds": 1.0} for name in report.STAGES]
    options = {
        "store": str(tmp_path / "store"),
        "started": NOW.timestamp(),
        "backup_id": "x",
        "stages": stages,
        "schedule": "0 11 * * *",
        "textfile": str(tmp_path / "x.prom"),
        "pushgateway": gateway[0],
    }
    planned = run_module(etcd_backup_report.main, check_mode=True, **options)
    assert planned["record"] == ""
    assert not (tmp_path / "x.prom").exists()
    assert gateway[1] == []
    assert api.events == []
    done = run_module(etcd_backup_report.main, **options)
    assert set(done) == set(planned)
    assert done["undelivered"] == []
    assert store.exists(done["record"])
    assert (tmp_path / "x.prom").read_text() == done["metrics"]
    assert gateway[1][0][3].decode() == done["metrics"]
    assert len(api.events) == 1
    late = run_module(
        etcd_backup_report.main, **{**options, "started": (NOW + DAY * 3).timestamp(), "schedule_zone": "local"}
    )
    assert late["run"]["missed"]
    # A store that is away is what the metrics have to tell of.
    away = {**options, "store": str(tmp_path / "away"), "pushgateway": "http://127.0.0.1:9"}
    away["stages"] = [{"name": "backup", "error": "no store"}, {"name": "verify", "skipped": True}]
    told = run_module(etcd_backup_report.main, **away)
    assert not told.failed
    assert [each.partition(":")[0] for each in told["undelivered"]] == ["record", "pushgateway"]
    assert 'last_run_success{namespace="pachyderm",cluster_id="unknown"} 0' in (tmp_path / "x.prom").read_text()
    assert api.events[-1]["reason"] == "BackupFailed"
    assert run_module(etcd_backup_report.main, **{**options, "schedule": "x"}).failed
