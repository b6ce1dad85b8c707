# SPDX-FileCopyrightText: 2026 The pachops.pachyderm contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Care for a real etcd: history goes, files shrink, alarms are lifted, and nothing is done to one that is not sound."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.pachops.pachyderm.plugins.module_utils.errors import EtcdError, InputError
from ansible_collections.pachops.pachyderm.plugins.module_utils.etcd.client import EtcdClient
from ansible_collections.pachops.pachyderm.plugins.module_utils.etcd.maintenance import (
    DEFAULT_QUOTA,
    Care,
    Member,
    Reached,
    care,
    inspect,
    quota_of,
    reach,
    refuse_unsound,
    save_snapshot,
)
from ansible_collections.pachops.pachyderm.plugins.module_utils.installation import observe
from doubles.etcd import behind, booted, fill, running
from doubles.kube import FakeKube, node

NAMESPACE = "pachyderm"


@pytest.fixture
def address(tmp_path: Path) -> Iterator[str]:
    with running(tmp_path / "etcd") as address:
        fill(address)
        time.sleep(0.5)  # for the sizes of its last commit
        yield address


def test_an_etcd_is_described_through_its_pods(address: str) -> None:
    with reach(behind(address), NAMESPACE) as reached:  # type: ignore[arg-type]
        state = inspect(reached)
    assert state["healthy"]
    assert state["troubles"] == []
    assert state["transport"] == "port_forward"
    assert state["quota"] == 8 << 30
    assert state["keys"]["jobs"] == 10
    assert state["keys"]["repos"] == 1
    assert state["keys"]["all"] == 12
    assert [each["name"] for each in state["members"]] == ["etcd-0"]
    assert state["members"][0]["leader"]
    assert state["revision"] == 303


def test_compaction_and_defragmentation_shrink_it_once(address: str, tmp_path: Path) -> None:
    with reach(None, "", [address]) as reached:
        before = inspect(reached)
        wanted = Care(keep_revisions=5, snapshot_dir=str(tmp_path / "snapshots"))
        planned = care(reached, wanted, check=True)
        assert planned.actions[0] == "compact up to revision 298"
        assert inspect(reached)["db_size"] >= before["db_size"]
        assert not (tmp_path / "snapshots").exists(), "check mode writes nothing"
        done = care(reached, wanted)
        assert [each.split()[0] for each in done.actions] == ["compact", "defragment"]
        after = inspect(reached)
        assert after["db_size"] < before["db_size"] / 4
        assert after["keys"] == before["keys"]
        assert after["revision"] == before["revision"]
        assert care(reached, wanted).actions == (), "a second time there is nothing to do"
    snapshot = Path(done.snapshot)
    assert snapshot.name.startswith("c1d-")
    assert snapshot.name.endswith("-r303.snapshot")
    assert snapshot.stat().st_mode & 0o077 == 0
    with booted(snapshot, tmp_path / "data") as client:
        assert client.count(b"") == before["keys"]["all"], "the way back holds all there was"


def test_the_alarm_is_lifted_when_there_is_space_again(tmp_path: Path) -> None:
    quota = 3 << 20
    with running(tmp_path / "etcd", f"--quota-backend-bytes={quota}") as address, EtcdClient(address) as client:
        client.put(b"cluster-id", b"c1d")
        with pytest.raises(EtcdError, match="space"):
            for number in range(1000):
                client.put(b"k%d" % (number % 3), b"x" * 100_000)
        reached = Reached((Member(address, client),), quota, "direct")
        state = inspect(reached)
        assert state["alarms"] == ["NOSPACE"]
        assert not state["healthy"]
        with pytest.raises(EtcdError, match="would be raised again"):
            care(reached, Care(compact=False, defragment=False, disarm=True))
        assert inspect(reached)["alarms"] == ["NOSPACE"]
        done = care(reached, Care(keep_revisions=0, disarm=True))
        assert done.actions[-1] == "lift the alarm NOSPACE"
        assert inspect(reached)["healthy"]
        client.put(b"again", b"x")


def test_nothing_is_done_to_an_etcd_that_is_not_sound(address: str) -> None:
    with EtcdClient(address) as client, EtcdClient("127.0.0.1:9", 1) as away:
        reached = Reached((Member("one", client), Member("two", away)), None, "direct")
        state = inspect(reached)
        assert not state["healthy"]
        assert state["members"][1]["error"]
        revision = client.status().revision
        with pytest.raises(EtcdError, match=r"not healthy.*two: cannot reach etcd"):
            care(reached, Care(keep_revisions=0))
        assert client.get(b"cluster-id", revision - 1), "no history was dropped"
    for trouble in ("the alarm CORRUPT is raised", "etcd-0 has no leader"):
        with pytest.raises(EtcdError, match=trouble):
            refuse_unsound({"troubles": ["the alarm NOSPACE is raised", trouble], "members": [1]})
    with pytest.raises(EtcdError, match="no member"):
        refuse_unsound({"troubles": [], "members": []})


def test_where_no_etcd_is_named_or_found() -> None:
    with pytest.raises(InputError, match="no etcd is named"), reach(None, NAMESPACE):
        pass
    kube: Any = FakeKube([node()])
    with pytest.raises(InputError, match="there is no etcd to reach"), reach(kube, NAMESPACE):
        pass
    assert quota_of(observe(kube, NAMESPACE)) == DEFAULT_QUOTA


def test_a_snapshot_goes_nowhere_where_it_cannot_be_written(address: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with EtcdClient(address) as client, pytest.raises(InputError, match="cannot write the snapshot"):
        save_snapshot(client, tmp_path / "file")
