# SPDX-FileCopyrightText: 2026 The pachops.pachyderm contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is decided about keys, without touching any."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.pachops.pachyderm.plugins.module_utils.errors import InputError
from ansible_collections.pachops.pachyderm.plugins.module_utils.gcp.service_accounts import (
    Key,
    KeyDocument,
    email_of,
    plan_keys,
    workload_member,
    write_key_file,
)

NOW = 1_000_000.0
DAY = 86400.0
HELD = KeyDocument("{}", "held", "a@p.iam.gserviceaccount.com", "p")


def key(name: str, age: float, **rest: Any) -> Key:
    return Key(name, NOW - age, rest.get("expires", 0.0), rest.get("disabled", False))


@pytest.mark.parametrize(
    ("keys", "held", "options", "reason"),
    [
        ([], None, {}, "there is no key yet"),
        ([key("other", 5)], HELD, {}, "was revoked"),
        ([key("held", 5, disabled=True)], HELD, {}, "disabled or expired"),
        ([key("held", 5, expires=NOW - 1)], HELD, {}, "disabled or expired"),
        ([key("held", 5)], HELD, {"rotate": True}, "rotation was asked for"),
        ([key("held", 91 * DAY)], HELD, {"max_age": 90 * DAY}, "91 days old"),
    ],
)
def test_when_a_new_key_is_made(keys: list[Key], held: Any, options: dict[str, Any], reason: str) -> None:
    plan = plan_keys(keys, held, now=NOW, **options)
    assert plan.create
    assert reason in plan.reason


def test_a_valid_young_key_stays() -> None:
    plan = plan_keys([key("held", 89 * DAY)], HELD, now=NOW, max_age=90 * DAY)
    assert (plan.create, plan.revoke) == (False, ())


def test_older_keys_go_after_the_overlap_and_only_when_asked() -> None:
    keys = [key("old", 10 * DAY), key("held", DAY), key("newer", 5)]
    assert plan_keys(keys, HELD, now=NOW, overlap=0).revoke == ()
    assert plan_keys(keys, HELD, now=NOW, revoke_superseded=True, overlap=2 * DAY).revoke == ()
    plan = plan_keys(keys, HELD, now=NOW, revoke_superseded=True, overlap=DAY)
    assert [item.id for item in plan.revoke] == ["old"]


def test_nothing_is_revoked_while_the_held_key_is_not_valid() -> None:
    keys = [key("old", 10 * DAY), key("held", DAY, disabled=True)]
    plan = plan_keys(keys, HELD, now=NOW, revoke_superseded=True, overlap=0)
    assert plan.create
    assert plan.revoke == ()


def test_rotation_without_overlap_revokes_the_former_key_too() -> None:
    plan = plan_keys([key("held", 5)], HELD, now=NOW, rotate=True, revoke_superseded=True, overlap=0)
    assert [item.id for item in plan.revoke] == ["held"]


def test_key_file_is_private_and_whole(tmp_path: Path) -> None:
    path = tmp_path / "key.json"
    path.write_text("old")
    path.chmod(0o644)
    old = os.umask(0)
    try:
        write_key_file(str(path), "new")
    finally:
        os.umask(old)
    assert path.read_text() == "new"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert os.listdir(tmp_path) == ["key.json"]
    with pytest.raises(InputError):
        write_key_file(str(tmp_path / "missing" / "key.json"), "x")


def test_a_document_does_not_show_its_key() -> None:
    assert "secret" not in repr(KeyDocument("secret", "i", "e", "p"))


def test_names() -> None:
    assert email_of("a", "p") == "a@p.iam.gserviceaccount.com"
    assert email_of("a", "example.com:p") == "a@p.example.com.iam.gserviceaccount.com"
    assert workload_member("p.svc.id.goog", "ns", "sa") == "serviceAccount:p.svc.id.goog[ns/sa]"
