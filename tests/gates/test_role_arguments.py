# SPDX-FileCopyrightText: 2026 The pachops.pachyderm contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Roles: declared arguments, defaults and what the tasks use have to agree.

Ansible itself uses argument_specs only to validate what was given; a default there is documentation.  So nothing but
these tests keeps the documentation true.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import jinja2
import jinja2.meta
import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
ROLES = sorted(path.name for path in (ROOT / "roles").glob("*") if path.is_dir())

# Variables that come from Ansible itself, and the three switches that the collection's users set for all roles.
FROM_ANSIBLE = re.compile(
    r"ansible_\w+|inventory_hostname|group_names|groups|hostvars|item|omit|play_hosts|playbook_dir|role_path|role_name"
)
USER_SWITCHES = {"backend", "kubeconfig", "kube_context"}
# Keys of a task under which variables come into being.
NEW_VARIABLES = ("vars", "ansible.builtin.set_fact")


class Loader(yaml.SafeLoader):
    """Reads Ansible's YAML, whose tags (``!unsafe``, ``!vault``) mean strings here."""


Loader.add_multi_constructor("!", lambda loader, _suffix, node: loader.construct_scalar(node))


def load(path: Path) -> Any:
    """Return a YAML file's content; an absent file is empty."""
    return (yaml.load(path.read_text(encoding="utf-8"), Loader) or {}) if path.exists() else {}  # noqa: S506 a safe one


@cache
def entry_points(role: str) -> dict[str, Any]:
    """Return the role's argument specs by entry point."""
    specs: dict[str, Any] = load(ROOT / "roles" / role / "meta" / "argument_specs.yml").get("argument_specs", {})
    return specs


def options(role: str) -> dict[str, Any]:
    """Return the options of all entry points."""
    return {name: option for spec in entry_points(role).values() for name, option in spec.get("options", {}).items()}


@cache
def defaults(role: str) -> dict[str, Any]:
    """Return the role's defaults."""
    found: dict[str, Any] = load(ROOT / "roles" / role / "defaults" / "main.yml")
    return found


def leaves(declared: dict[str, Any], where: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield every option at every depth with its dotted name."""
    for name, option in declared.items():
        yield f"{where}{name}", option
        yield from leaves(option.get("options") or {}, f"{where}{name}.")


def test_there_are_roles() -> None:
    assert ROLES


@pytest.mark.parametrize("role", ROLES)
def test_main_entry_point_is_described(role: str) -> None:
    main = entry_points(role).get("main", {})
    assert main.get("short_description")
    assert main.get("description")
    for name, spec in entry_points(role).items():
        assert (ROOT / "roles" / role / "tasks" / f"{name}.yml").exists(), f"{name} is no task file of {role}"
        assert spec.get("short_description"), name


@pytest.mark.parametrize("role", ROLES)
def test_defaults_and_specs_have_the_same_names(role: str) -> None:
    declared = options(role)
    assert not sorted(set(defaults(role)) - set(declared)), "in defaults/main.yml, not in meta/argument_specs.yml"
    optional = {name for name, option in declared.items() if not option.get("required")}
    assert not sorted(optional - set(defaults(role))), "optional, but without a default in defaults/main.yml"
    required = set(declared) - optional
    assert not sorted(required & set(defaults(role))), "required, yet with a default"


@pytest.mark.parametrize("role", ROLES)
def test_defaults_have_the_declared_values(role: str) -> None:
    drift = {
        name: {"defaults/main.yml": value, "meta/argument_specs.yml": options(role)[name].get("default", "(none)")}
        for name, value in defaults(role).items()
        if name in options(role)
        if options(role)[name].get("default", "(none)") != value
    }
    assert not drift


@pytest.mark.parametrize("role", ROLES)
def test_options_are_declared_to_the_leaves(role: str) -> None:
    findings = []
    for entry_point, spec in entry_points(role).items():
        for name, option in leaves(spec.get("options", {}), f"{entry_point}: "):
            if not option.get("description"):
                findings.append(f"{name} has no description")
            kind = option.get("elements") if option.get("type") == "list" else option.get("type")
            if kind is None:
                findings.append(f"{name} has no {'elements' if option.get('type') == 'list' else 'type'}")
            text = option.get("description") or ""
            first = text[0] if isinstance(text, list) else text
            if kind == "dict" and not option.get("options") and not str(first).startswith(("A map", "Maps")):
                findings.append(f"{name} is a dict without options; declare them, or describe it as 'A map …'")
    assert not findings


@pytest.mark.parametrize("role", ROLES)
def test_names_carry_the_role(role: str) -> None:
    assert not [name for name in options(role) if not name.startswith(f"{role}_")]
    internal = load(ROOT / "roles" / role / "vars" / "main.yml")
    assert not [name for name in internal if not name.startswith((f"{role}_", f"__{role}_", f"_{role}_"))]


def tasks(node: Any) -> Iterator[dict[str, Any]]:
    """Yield every mapping below ``node`` that may be a task."""
    if isinstance(node, dict):
        yield node
        for value in node.values():
            yield from tasks(value)
    elif isinstance(node, list):
        for value in node:
            yield from tasks(value)


def created(task: dict[str, Any]) -> Iterator[str]:
    """Yield the variables that a task brings into being."""
    if isinstance(task.get("register"), str):
        yield task["register"]
    if isinstance(task.get("loop_control"), dict):
        yield from (value for key, value in task["loop_control"].items() if key in ("loop_var", "index_var"))
    for key in NEW_VARIABLES:
        if isinstance(task.get(key), dict):
            yield from task[key]


def expressions(node: Any, key: str = "") -> Iterator[str]:
    """Yield every string below ``node`` that Ansible would template, conditions as templates."""
    if isinstance(node, str):
        conditional = key in ("when", "until", "changed_when", "failed_when", "that", "var")
        yield f"{{{{ {node} }}}}" if conditional and "{{" not in node else node
    elif isinstance(node, dict):
        for name, value in node.items():
            yield from expressions(value, str(name))
    elif isinstance(node, list):
        for value in node:
            yield from expressions(value, key)


@pytest.mark.parametrize("role", ROLES)
def test_only_declared_variables_are_used(role: str) -> None:
    base = ROOT / "roles" / role
    files = [path for folder in ("tasks", "handlers", "defaults", "vars") for path in (base / folder).rglob("*.yml")]
    documents = {path: load(path) for path in files}
    known = set(options(role)) | set(defaults(role)) | USER_SWITCHES
    for path, document in documents.items():
        if path.parent.name == "vars":
            known |= set(document)
        for task in tasks(document):
            known |= set(created(task))
    # What an included role takes is that role's business, and what another role leaves behind is in its own files.
    for other in ROLES:
        known |= set(options(other))

    class AnyFilter(dict[str, Any]):
        """Every name is a filter or test here; ansible-lint checks that they exist."""

        def __contains__(self, _name: object) -> bool:
            return True

        def get(self, _name: str, _default: object = None) -> Any:
            return lambda *_args, **_kwargs: ""

        __getitem__ = get

    environment = jinja2.Environment(extensions=["jinja2.ext.do", "jinja2.ext.loopcontrols"], autoescape=True)
    environment.filters = AnyFilter()
    environment.tests = AnyFilter()
    unknown: dict[str, set[str]] = {}
    sources = [(path, text) for path, document in documents.items() for text in expressions(document) if "{{" in text]
    sources += [(path, path.read_text(encoding="utf-8")) for path in (base / "templates").rglob("*") if path.is_file()]
    for path, text in sources:
        names = jinja2.meta.find_undeclared_variables(environment.parse(text))
        names -= known | {"lookup", "query", "q", "now", "undef", "range", "true", "false", "ansible_managed"}
        wrong = {name for name in names if not FROM_ANSIBLE.fullmatch(name)}
        if wrong:
            unknown.setdefault(str(path.relative_to(ROOT)), set()).update(wrong)
    assert not unknown


@pytest.mark.parametrize("role", ROLES)
def test_every_option_is_used(role: str) -> None:
    base = ROOT / "roles" / role
    used = "\n".join(
        path.read_text(encoding="utf-8")
        for folder in ("tasks", "handlers", "templates", "vars", "defaults")
        for path in (base / folder).rglob("*")
        if path.is_file()
    )
    # An option's own line in defaults is no use of it.
    unused = [name for name in options(role) if not re.search(rf"(?<!^)\b{name}\b(?!:)", used)]
    assert not unused


@pytest.mark.parametrize("path", sorted((ROOT / "inventories").glob("*/group_vars/*.yml")), ids=str)
def test_inventories_set_only_declared_variables(path: Path) -> None:
    known = {name for role in ROLES for name in options(role)} | USER_SWITCHES | {"ansible_python_interpreter"}
    assert not [name for name in load(path) if name not in known]


@pytest.mark.parametrize(
    ("role", "collections"),
    [("aws_storage", r"amazon\.aws|community\.aws"), ("gcp_storage", r"pachops\.pachyderm")],
)
def test_every_module_of_a_cloud_gets_the_account(role: str, collections: str) -> None:
    """Without the defaults a module would use whatever account the environment happens to name."""
    tasks = {path.stem: path.read_text(encoding="utf-8") for path in (ROOT / "roles" / role / "tasks").glob("*.yml")}
    module = re.compile(rf"^ +(?:- )?((?:{collections})\.\w+):( [&*]\w+)?$", re.MULTILINE)
    for start, others in (("remove", []), ("main", [name for name in tasks if name != "remove"])):
        given = {name for name, default in module.findall(tasks[start]) if default}
        used = {name for each in (start, *others) for name, default in module.findall(tasks[each]) if not default}
        assert used
        assert given == used
