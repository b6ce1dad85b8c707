# SPDX-FileCopyrightText: 2026 The pachops.pachyderm contributors
# SPDX-License-Identifier: BSD-2-Clause
"""An installation on one static HTML page that loads nothing: no script, no font, no picture from elsewhere.

``page`` turns plain data into text and asks nobody.  Everything that a person could have typed is escaped.
"""

from __future__ import annotations

import datetime as dt
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from typing import Any

from .progress_view import size_text

Data = Mapping[str, Any]

BOX_WIDTH, BOX_HEIGHT, GAP_X, GAP_Y, MARGIN = 190, 46, 70, 18, 12  # pixels
_SWEEPS = 4  # passes over the layers that bring neighbours together
_BARS = 24
_NEWEST = 100  # jobs in the table
_GOOD, _BUSY, _BAD, _IDLE = "good", "busy", "bad", "idle"
CLASSES: Mapping[str, str] = {
    "success": _GOOD, "running": _GOOD, "failure": _BAD, "crashing": _BAD, "killed": _IDLE, "paused": _IDLE,
    "standby": _IDLE, "starting": _BUSY, "restarting": _BUSY, "merging": _BUSY, "egressing": _BUSY,
}  # fmt: skip
STYLE = """
:root{--fg:#1d2430;--bg:#fff;--line:#cfd6df;--soft:#f3f5f8;--good:#1a7f47;--busy:#b06a00;--bad:#c0262d;--idle:#6b7480}
@media (prefers-color-scheme:dark){:root{--fg:#e4e8ee;--bg:#14181f;--line:#3a4350;--soft:#1d232c;--good:#4cc38a;
--busy:#e5a54b;--bad:#ff6b70;--idle:#98a2ae}}
body{font:15px/1.45 system-ui,sans-serif;color:var(--fg);background:var(--bg);margin:2rem auto;
max-width:76rem;padding:0 1rem}
h1{font-size:1.5rem;margin:0}h2{font-size:1.15rem;margin:2rem 0 .5rem}p{margin:.3rem 0}
table{border-collapse:collapse;width:100%}th,td{text-align:left;padding:.25rem .6rem;
border-bottom:1px solid var(--line)}
td.n,th.n{text-align:right;font-variant-numeric:tabular-nums}code,td.id{font-family:ui-monospace,monospace;font-size:.9em}
.facts{display:grid;grid-template-columns:repeat(auto-fit,minmax(15rem,1fr));gap:.5rem}
.facts div{background:var(--soft);padding:.5rem .8rem;border-radius:.4rem}.facts b{display:block;font-weight:600}
.good{color:var(--good)}.busy{color:var(--busy)}.bad{color:var(--bad)}.idle{color:var(--idle)}
.scroll{overflow-x:auto}svg{display:block;font:13px system-ui,sans-serif}svg text{fill:var(--fg)}
svg .box{fill:var(--soft);stroke:var(--line);stroke-width:1.5}svg .edge{fill:none;stroke:var(--idle);stroke-width:1.3}
svg .state{font-size:11px}svg rect.good,svg text.good{fill:var(--good)}svg rect.busy,svg text.busy{fill:var(--busy)}
svg rect.bad,svg text.bad{fill:var(--bad)}svg rect.idle,svg text.idle{fill:var(--idle)}
svg .repo{stroke-dasharray:4 3}
"""


@dataclass
class Node:
    """One box of the graph: a repo that people fill, or a pipeline with the repo that it fills.

    ``layer`` counts from the left, ``row`` from the top; ``left`` are the neighbours in the layer before.  An edge that
    spans several layers goes through a hidden node in each, so that no box is in its way.
    """

    name: str
    pipeline: bool = False
    state: str = ""
    size: int = 0
    parents: list[str] = field(default_factory=list)
    left: list[str] = field(default_factory=list)
    hidden: bool = False
    layer: int = 0
    row: int = 0

    @property
    def corner(self) -> tuple[int, int]:
        """The upper left corner, in pixels."""
        return MARGIN + self.layer * (BOX_WIDTH + GAP_X), MARGIN + self.row * (BOX_HEIGHT + GAP_Y)


def graph(repos: Sequence[Data], pipelines: Sequence[Data]) -> list[Node]:
    """Return the boxes of the graph, each in its place: what reads something is to the right of all that it reads.

    :param repos: ``name`` and ``size`` in bytes of each.
    :param pipelines: ``name``, ``state`` and ``inputs`` (``repo@branch``) of each.
    """
    sizes = {str(repo["name"]): int(repo["size"]) for repo in repos}
    nodes = {name: Node(name, size=size) for name, size in sizes.items()}
    for each in pipelines:
        parents = sorted({str(source).partition("@")[0] for source in each["inputs"]})
        name = str(each["name"])
        nodes[name] = Node(name, True, str(each["state"]), sizes.get(name, 0), parents)
        for parent in parents:
            nodes.setdefault(parent, Node(parent))
    _layer(nodes)
    _lay_edges(nodes)
    layers = [
        sorted((node for node in nodes.values() if node.layer == number), key=lambda node: node.name)
        for number in range(1 + max((node.layer for node in nodes.values()), default=-1))
    ]
    _order(layers, nodes)
    return [node for layer in layers for node in layer]


def _layer(nodes: Mapping[str, Node]) -> None:
    """Put each node one to the right of its rightmost parent; a circle, which pachd refuses, would end the loop too."""
    for _round in range(len(nodes)):
        moved = False
        for node in nodes.values():
            layer = 1 + max((nodes[parent].layer for parent in node.parents), default=-1)
            if layer != node.layer:
                node.layer, moved = layer, True
        if not moved:
            break
    for node in nodes.values():
        readers = [other.layer for other in nodes.values() if node.name in other.parents]
        if readers and not node.parents:
            node.layer = min(readers) - 1


def _lay_edges(nodes: dict[str, Node]) -> None:
    """Make the hidden nodes of long edges, and say what each node is joined with."""
    for node in list(nodes.values()):
        for parent in node.parents:
            before = parent
            for layer in range(nodes[parent].layer + 1, node.layer):
                name = f"{parent} {node.name} {layer}"  # no repo's name has a blank
                nodes[name] = Node(name, left=[before], hidden=True, layer=layer)
                before = name
            node.left.append(before)


def _order(layers: Sequence[list[Node]], nodes: Mapping[str, Node]) -> None:
    """Put nodes at the mean height of their neighbours, to the right and back, so that few edges cross."""
    children: dict[str, list[str]] = {}
    for node in nodes.values():
        for parent in node.left:
            children.setdefault(parent, []).append(node.name)
    for layer in layers:
        _number(layer)
    for sweep in range(_SWEEPS):
        rightwards = sweep % 2 == 0
        for layer in layers if rightwards else reversed(layers):

            def height(node: Node, rightwards: bool = rightwards) -> float:
                neighbours = node.left if rightwards else children.get(node.name, [])
                rows = [nodes[name].row for name in neighbours]
                return sum(rows) / len(rows) if rows else node.row

            layer.sort(key=lambda node: (height(node), node.name))
            _number(layer)


def _number(layer: Iterable[Node]) -> None:
    for row, node in enumerate(layer):
        node.row = row


def svg_graph(nodes: Sequence[Node]) -> str:
    """Return the graph as SVG."""
    if not nodes:
        return "<p>There is no repo.</p>"
    places = {node.name: node.corner for node in nodes}
    width = max(x for x, _y in places.values()) + BOX_WIDTH + MARGIN
    height = max(y for _x, y in places.values()) + BOX_HEIGHT + MARGIN
    parts = [
        f'<svg role="img" aria-label="Pipelines" width="{width}" height="{height}" viewBox="0 0 {width} {height}">'
    ]
    for node in nodes:
        x, y = node.corner
        y += BOX_HEIGHT // 2
        for name in node.left:
            left, top = places[name]
            left, top, bend = left + BOX_WIDTH, top + BOX_HEIGHT // 2, GAP_X // 2
            through = f"H{x + BOX_WIDTH}" if node.hidden else ""
            parts.append(f'<path class="edge" d="M{left} {top}C{left + bend} {top} {x - bend} {y} {x} {y}{through}"/>')
    for node in (node for node in nodes if not node.hidden):
        x, y = node.corner
        kind, note = ("pipeline", node.state) if node.pipeline else ("repo", "repo")
        shown = node.name if len(node.name) <= 24 else f"{node.name[:23]}…"
        color = CLASSES.get(node.state, _IDLE)
        parts.append(
            f'<g class="node" data-name="{escape(node.name)}"><title>{escape(node.name)}</title>'
            f'<rect class="box {kind}" x="{x}" y="{y}" width="{BOX_WIDTH}" height="{BOX_HEIGHT}" rx="6"/>'
            f'<text x="{x + 10}" y="{y + 19}">{escape(shown)}</text>'
            f'<text class="state {color}" x="{x + 10}" y="{y + 36}">{escape(note)}</text>'
            f'<text class="state" x="{x + BOX_WIDTH - 10}" y="{y + 36}" text-anchor="end">'
            f"{size_text(node.size)}</text></g>"
        )
    return "".join([*parts, "</svg>"])


def svg_jobs(jobs: Sequence[Data]) -> str:
    """Return how many jobs began when, and how they ended, as bars."""
    begun = sorted((_time(job["started"]), str(job["state"])) for job in jobs if job.get("started"))
    if not begun:
        return ""
    first, last = begun[0][0], begun[-1][0]
    step = max((last - first) / _BARS, dt.timedelta(seconds=1))
    bars = [Counter[str]() for _column in range(_BARS + 1)]
    for moment, state in begun:
        bars[int((moment - first) / step)][state] += 1
    top = max(sum(column.values()) for column in bars)
    width, height, wide = 1000, 120, 36
    parts = [f'<svg role="img" aria-label="Jobs" width="{width}" height="{height + 24}">']
    for number, column in enumerate(bars):
        y = float(height)
        for state, count in sorted(column.items()):
            tall = count / top * (height - 10)
            y -= tall
            parts.append(
                f'<rect class="{CLASSES.get(state, _IDLE)}" x="{number * wide}" y="{y:.1f}" width="{wide - 4}" '
                f'height="{tall:.1f}"><title>{count} {escape(state)}</title></rect>'
            )
    parts.append(f'<text x="0" y="{height + 18}">{_moment(first)}</text>')
    parts.append(f'<text x="{len(bars) * wide}" y="{height + 18}" text-anchor="end">{_moment(last)}</text></svg>')
    return "".join(parts)


def page(data: Data) -> str:
    """Return the page.

    :param data: ``title``; ``time`` (UTC, ISO 8601); ``status`` as :func:`.status.report` gives it; ``repos``,
        ``branches``, ``pipelines`` and ``jobs`` as :mod:`.pachd.shown` spells them.
    """
    status, jobs = data["status"], sorted(data["jobs"], key=lambda job: str(job["started"] or ""), reverse=True)
    states = Counter(str(job["state"]) for job in jobs)
    branches: dict[str, list[Data]] = {}
    for branch in data["branches"]:
        branches.setdefault(str(branch["repo"]), []).append(branch)
    sections = [
        f"<h1>{escape(str(data['title']))}</h1><p>As of {_moment(_time(data['time']))}.</p>",
        _facts(status, data),
        '<h2 id="pipelines">Pipelines</h2>',
        f'<div class="scroll">{svg_graph(graph(data["repos"], data["pipelines"]))}</div>',
        _table(
            ("Pipeline", "State", "Version", "Reads", "Jobs", "Why"),
            [
                (
                    each["name"],
                    _state(each["state"]),
                    _Number(each["version"]),
                    ", ".join(each["inputs"]),
                    ", ".join(f"{count} {state}" for state, count in each["jobs"].items()),
                    each["reason"],
                )
                for each in data["pipelines"]
            ],
        ),
        '<h2 id="jobs">Jobs</h2>',
        f"<p>{', '.join(f'{count} {state}' for state, count in states.most_common()) or 'There is none.'}</p>",
        svg_jobs(jobs),
        _table(
            ("Job", "Pipeline", "State", "Began", "Seconds", "Data", "Why"),
            [
                (
                    _Id(job["id"]),
                    job["pipeline"],
                    _state(job["state"]),
                    _moment(_time(job["started"])) if job["started"] else "",
                    _Number("" if job["seconds"] is None else f"{job['seconds']:.1f}"),
                    f"{job['data']['processed']} of {job['data']['total']}, {job['data']['skipped']} skipped",
                    job["reason"],
                )
                for job in jobs[:_NEWEST]
            ],
        ),
        '<h2 id="repos">Repos and branches</h2>',
        _table(
            ("Repo", "Size of master", "Created", "Branches", "Description"),
            [
                (
                    repo["name"],
                    _Number(size_text(repo["size"])),
                    _moment(_time(repo["created"])) if repo["created"] else "",
                    "; ".join(_branch(each) for each in branches.get(str(repo["name"]), [])),
                    repo["description"],
                )
                for repo in data["repos"]
            ],
        ),
    ]
    policy = "default-src 'none'; style-src 'unsafe-inline'"
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        f"<title>{escape(str(data['title']))}</title><style>{STYLE}</style></head>\n<body>"
        + "\n".join(section for section in sections if section)
        + "</body></html>\n"
    )


def _facts(status: Data, data: Data) -> str:
    """Return what everybody asks first: what runs, how much there is, and whether it is backed up."""
    backups, etcd, pachd = status.get("backups"), status["etcd"], status["pachd"]
    if backups is None:
        backup, sound = "no store was named", _IDLE
    elif backups["latest_verified"]:
        backup, sound = backups["latest_verified"], _GOOD if backups["sound"] else _BAD
    else:
        backup, sound = backups["trouble"] or "none", _BAD
    size = sum(int(repo["size"]) for repo in data["repos"])
    facts = [
        ("Pachyderm", f"{pachd['version'] or 'unknown'} on Kubernetes {status['kubernetes']}", ""),
        ("pachd", "ready" if pachd["ready"] else "not ready", _GOOD if pachd["ready"] else _BAD),
        ("Objects", str(status["store"] or status["backend"]), ""),
        ("Repos", f"{len(data['repos'])}, {size_text(size)} in the heads of master", ""),
        ("etcd", size_text(etcd["size"] or 0), _BAD if etcd.get("alarms") else ""),
        ("Newest verified backup", str(backup), sound),
    ]
    if status.get("stand_in"):
        facts.append(("Take note", "this pachd is the stand-in, a test double, and not Pachyderm", _BAD))
    facts += [("Unknown", f"{what}: {why}", _BUSY) for what, why in status["unknown"].items()]
    boxes = (
        f'<div><b>{escape(name)}</b><span class="{kind}">{escape(text)}</span></div>' for name, text, kind in facts
    )
    return f'<div class="facts">{"".join(boxes)}</div>'


class _Number(str):
    """Text of a cell that is aligned to the right."""

    __slots__ = ()
    kind = "n"


class _Id(str):
    """Text of a cell that is an id."""

    __slots__ = ()
    kind = "id"


class _Markup(str):
    """Text of a cell that is HTML already."""

    __slots__ = ()


def _state(state: Any) -> _Markup:
    return _Markup(f'<span class="{CLASSES.get(str(state), _IDLE)}">{escape(str(state))}</span>')


def _branch(branch: Data) -> str:
    return f"{branch['name']} at {branch['head'][:8]}" if branch["head"] else f"{branch['name']}, empty"


def _table(head: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    if not rows:
        return ""

    def cell(value: Any) -> str:
        kind = f' class="{value.kind}"' if isinstance(value, (_Number, _Id)) else ""
        return f"<td{kind}>{value if isinstance(value, _Markup) else escape(str(value))}</td>"

    titles = "".join(
        f"<th{' class=' + chr(34) + 'n' + chr(34) if isinstance(value, _Number) else ''}>{escape(title)}</th>"
        for title, value in zip(head, rows[0], strict=True)
    )
    body = "\n".join(f"<tr>{''.join(map(cell, row))}</tr>" for row in rows)
    return f'<div class="scroll"><table><thead><tr>{titles}</tr></thead><tbody>{body}</tbody></table></div>'


def _time(text: str) -> dt.datetime:
    """Return a time of pachd's, which may have nanoseconds."""
    return dt.datetime.fromisoformat(text[:19]).replace(tzinfo=dt.timezone.utc)


def _moment(moment: dt.datetime) -> str:
    return f"{moment:%Y-%m-%d %H:%M:%S} UTC"
