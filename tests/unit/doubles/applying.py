# SPDX-FileCopyrightText: 2026 The pachops.pachyderm contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The cluster in a dict, with applying: what the deployment needs beyond looking and deleting."""

from __future__ import annotations

import copy
from collections.abc import Collection, Iterable, Sequence
from typing import Any

from ansible_collections.pachops.pachyderm.plugins.module_utils.kube.apply import Change, compare
from ansible_collections.pachops.pachyderm.plugins.module_utils.kube.client import Access, Ref
from doubles.kube import FakeKube, Object


class ApplyingKube(FakeKube):
    """Takes what is applied as the whole object, remembers the order, and allows what ``denied`` does not name."""

    def __init__(self, objects: Sequence[Object] = ()) -> None:
        super().__init__(objects)
        self.denied: set[tuple[str, str]] = set()
        self.applied: list[Ref] = []
        self.version = "1.34.4"

    def server_version(self) -> str:
        return self.version

    def apply(self, obj: Object, dry_run: bool = False, *, force: bool | Collection[str] = False) -> Change:
        ref = Ref.of(obj)
        self._allowed("patch", ref.kind)
        before = copy.deepcopy(self.objects.get(ref))
        if not dry_run:
            self.applied.append(ref)
            self.writes.append(f"apply {ref.kind}/{ref.name}")
            stored = self.put(obj)
            if before and "status" in before:
                stored["status"] = before["status"]
        return compare(ref, before, obj)

    def merge(self, ref: Ref, patch: Object) -> None:
        def into(old: Object, new: Object) -> Object:
            merged = {
                **old,
                **{
                    key: into(old.get(key) or {}, item) if isinstance(item, dict) else item for key, item in new.items()
                },
            }
            return {key: item for key, item in merged.items() if item is not None}

        self.writes.append(f"merge {ref.kind}/{ref.name}")
        self.objects[ref] = into(self.objects[ref], patch)

    def ensure(self, obj: Object, dry_run: bool = False) -> Change:
        found = self.objects.get(Ref.of(obj))
        return compare(Ref.of(obj), found, found) if found else self.apply(obj, dry_run)

    def can_i(self, accesses: Iterable[Sequence[Any]]) -> list[Access]:
        wanted = [Access(*item) for item in accesses]
        if any(item.verb == "*" for item in wanted):
            return [item for item in wanted if self.denied]
        return [item for item in wanted if (item.verb, item.resource) in self.denied]
