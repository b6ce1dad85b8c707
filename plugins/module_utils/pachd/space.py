# SPDX-FileCopyrightText: 2026 The pachops.pachyderm contributors
# SPDX-License-Identifier: BSD-2-Clause
"""What takes the space: by tree, by repo, by commit, and what would free it.

Content is stored once however many commits and repos have it, so a repo's own share is what no other repo needs, and a
commit's own share is what no other commit needs.  All of it is read from etcd and the bucket while Pachyderm runs.
"""

from __future__ import annotations

import datetime as dt
import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

from ..errors import StorageError
from ..etcd.maintenance import quota_of
from ..kube.client import Kube, Ref
from ..progress import Progress
from ..progress_view import size_text
from .hashtree import INDEX_SUFFIX
from .live import Live, sizes_of, usage
from .manifests import record_object
from .records import SPEC_REPO, Commit
from .shown import Data
from .state import State

RECORD = "pachops-space"
#: How many reports are remembered for the growth.
KEPT = 60
_ETCD_FULL = 0.8


def measure(live: Live, progress: Progress, top: int = 10) -> Data:
    """Return what takes the space; all sizes are bytes.

    :param top: how many commits to name.
    """
    progress.stage("list the objects")
    listing = live.listing()
    sizes = sizes_of(listing)
    with live.state(listing) as state:
        walk = _Walk(state, sizes, progress)
        walk.run()
    status = live.origin.etcd.status()
    quota = quota_of(live.installation)
    reached = walk.sharers.keys() & sizes.keys()
    unneeded = [name for name in sizes if name not in reached and name.startswith(("object/", "block/"))]
    return {
        "trees": usage(sizes),
        "unneeded": usage(sizes, unneeded),
        "repos": walk.repos(),
        "commits": walk.own_commits(top),
        "etcd": {
            "size": status.db_size,
            "in_use": status.db_size_in_use,
            "quota": quota,
            "share": round(status.db_size / quota, 4) if quota else None,
        },
        "unreadable": walk.unreadable,
    }


class _Walk:
    """Notes for every name which repos and commits need it."""

    def __init__(self, state: State, sizes: Mapping[str, int], progress: Progress) -> None:
        self._state = state
        self._sizes = sizes
        self._progress = progress
        self._blocks: dict[str, str] = {}
        self._repos: dict[str, Data] = {}
        self._names: dict[str, set[str]] = {}
        self._heads: dict[str, set[str]] = {}
        # The one commit that needs a name, None where there are several.
        self._only: dict[str, Commit | None] = {}
        #: In how many repos a name is needed.
        self.sharers: Counter[str] = Counter()
        self.unreadable: list[str] = []

    def run(self) -> None:
        self._progress.stage("walk the commits")
        for repo in sorted(self._state.repos(), key=lambda each: each.name):
            heads = {branch.head for branch in self._state.branches(repo.name)}
            names: set[str] = set()
            kept: set[str] = set()
            commits = list(self._state.commits(repo.name))
            for number, commit in enumerate(commits):
                own = self._of(commit)
                names |= own
                if commit.id in heads:
                    kept |= own
                self._progress.update(number + 1, len(commits), "commits", detail=str(commit))
            self._names[repo.name], self._heads[repo.name] = names, kept
            self.sharers.update(names)
            self._repos[repo.name] = {
                "name": repo.name,
                "commits": len(commits),
                "files": sum(commit.size for commit in commits if commit.id in heads),
            }

    def repos(self) -> list[Data]:
        """Return the repos, the one with the largest share of its own first."""
        for name, repo in self._repos.items():
            own = {each for each in self._names[name] if self.sharers[each] == 1}
            repo["stored"] = self._bytes(self._names[name])
            repo["heads"] = self._bytes(self._heads[name])
            repo["own"] = self._bytes(own)
            repo["history"] = self._bytes(own - self._heads[name])
        return sorted(self._repos.values(), key=lambda each: (-int(each["own"]), str(each["name"])))

    def own_commits(self, top: int) -> list[Data]:
        """Return the commits that alone hold most, but for those of specifications."""
        own: Counter[Commit] = Counter()
        for name, commit in self._only.items():
            if commit is not None and commit.repo != SPEC_REPO:
                own[commit] += self._sizes.get(name, 0)
        return [
            {
                "repo": commit.repo,
                "id": commit.id,
                "own": size,
                "finished": commit.finished.isoformat().replace("+00:00", "Z") if commit.finished else None,
                "output": commit.is_output,
            }
            for commit, size in own.most_common(top)
        ]

    def _of(self, commit: Commit) -> set[str]:
        names: set[str] = set()
        objects: set[str] = set()
        shards: set[str] = set()
        if commit.open and commit.is_output:
            return names
        try:
            try:
                for reference in self._state.references_of(commit):
                    names.update(f"block/{each.block}" for each in reference.blocks)
                    objects.update(reference.names)
                    shards.update(reference.names if reference.kind == "shard" else ())
            finally:
                # Of a commit with a damaged tree, what came before the damage counts all the same.
                self._blocks.update(self._state.blocks_of(objects - self._blocks.keys()))
        except StorageError as error:
            self.unreadable.append(f"{commit}: {error}")
        names.update(f"object/{name}" for name in objects)
        names.update(filter(None, map(self._blocks.get, objects)))
        names.update(block + INDEX_SUFFIX for block in map(self._blocks.get, shards) if block)
        for name in names:
            self._only[name] = None if name in self._only else commit
        return names

    def _bytes(self, names: Iterable[str]) -> int:
        return sum(self._sizes.get(name, 0) for name in names)


def advice(report: Data) -> list[str]:
    """Return what would free how much, the most first."""
    found: list[tuple[int, str]] = []
    garbage = report["unneeded"]["total"]["bytes"]
    if garbage:
        found.append((garbage, f"{size_text(garbage)} belong to no commit: collect garbage (playbook garbage_collect)"))
    for repo in report["repos"]:
        name = repo["name"]
        if name == SPEC_REPO:
            continue
        if repo["history"]:
            text = (
                f"{name}: {size_text(repo['history'])} are in commits before its branches' heads: "
                "delete commits that nobody goes back to, then collect garbage"
            )
            found.append((repo["history"], text))
        if repo["own"]:
            found.append(
                (repo["own"], f"{name}: deleting the repo would free {size_text(repo['own'])} after a collection")
            )
    etcd = report["etcd"]
    free = etcd["size"] - etcd["in_use"]
    if (etcd["share"] or 0) > _ETCD_FULL:
        size, quota = size_text(etcd["size"]), size_text(etcd["quota"])
        text = f"etcd has {size} of its quota of {quota}: run the playbook maintenance"
        found.append((max(free, 1), text))
    return [text for _unused, text in sorted(found, key=lambda each: -each[0])]


def growth(report: Data, earlier: Data | None, now: dt.datetime) -> Data:
    """Return what changed since an earlier report, with the same keys where there is none."""
    if earlier is None:
        return {"since": None, "seconds": None, "total": None, "etcd": None, "repos": {}}
    repos = {each["name"]: each["stored"] for each in report["repos"]}
    before = earlier["repos"]
    return {
        "since": earlier["time"],
        "seconds": round((now - dt.datetime.fromisoformat(earlier["time"].replace("Z", "+00:00"))).total_seconds()),
        "total": report["trees"]["total"]["bytes"] - earlier["total"],
        "etcd": report["etcd"]["size"] - earlier["etcd"],
        "repos": {
            name: repos.get(name, 0) - before.get(name, 0)
            for name in sorted({*repos, *before})
            if repos.get(name, 0) != before.get(name, 0)
        },
    }


def remembered(kube: Kube, namespace: str) -> list[Data]:
    """Return the figures of earlier reports, the oldest first; they are in a ConfigMap of the namespace."""
    found = kube.get(Ref("v1", "ConfigMap", namespace, RECORD))
    try:
        reports = json.loads(((found or {}).get("data") or {}).get("reports", "[]"))
    except ValueError:
        return []
    return [each for each in reports if isinstance(each, dict) and {"time", "total", "etcd", "repos"} <= each.keys()]


def remember(kube: Kube, namespace: str, earlier: Sequence[Data], report: Data, now: dt.datetime) -> None:
    """Keep a report's figures for the growth of later ones."""
    figures = {
        "time": now.strftime("%Y-%m-%dT%H:%M:%SZ"),
        "total": report["trees"]["total"]["bytes"],
        "etcd": report["etcd"]["size"],
        "repos": {each["name"]: each["stored"] for each in report["repos"]},
    }
    kube.apply(record_object(namespace, RECORD, {"reports": json.dumps([*earlier, figures][-KEPT:])}))


def table(report: Data) -> list[str]:
    """Return the report as lines for people."""
    lines = ["tree      objects      bytes"]
    for tree, figures in report["trees"].items():
        lines.append(f"{tree:<8} {figures['count']:>8} {size_text(figures['bytes']):>10}")
    unneeded = report["unneeded"]["total"]
    lines += [f"unneeded {unneeded['count']:>8} {size_text(unneeded['bytes']):>10}", ""]
    width = max([4, *(len(each["name"]) for each in report["repos"])])
    lines.append(f"{'repo':<{width}}  commits      heads     stored        own    history")
    for repo in report["repos"]:
        figures = "".join(f"{size_text(repo[key]):>11}" for key in ("heads", "stored", "own", "history"))
        lines.append(f"{repo['name']:<{width}} {repo['commits']:>8}{figures}")
    etcd = report["etcd"]
    share = f"{etcd['share']:.0%}" if etcd["share"] is not None else "?"
    in_use, size, quota = (size_text(etcd[key]) for key in ("in_use", "size", "quota"))
    lines += ["", f"etcd     {size}, {in_use} of it in use, {share} of the quota of {quota}"]
    grown = report["growth"]
    if grown["since"]:
        lines.append(
            f"growth   {_signed(grown['total'])} objects, {_signed(grown['etcd'])} etcd since {grown['since']}"
        )
        lines += [f"         {_signed(size)} {name}" for name, size in grown["repos"].items()]
    return [*lines, *([""] if report["advice"] else []), *(f"- {text}" for text in report["advice"])]


def _signed(value: int) -> str:
    return f"{'+' if value >= 0 else '-'}{size_text(abs(value))}"


__all__ = ["RECORD", "advice", "growth", "measure", "remember", "remembered", "table"]
