#!/usr/bin/python
# SPDX-FileCopyrightText: 2026 The pachops.pachyderm contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Write a container image as an archive, without a container engine."""

from __future__ import annotations

DOCUMENTATION = r"""
module: image_archive
short_description: Write a container image as an archive
version_added: 0.1.0
description:
  - Packs files into an image, on top of layers that exist, as an archive that C(ctr), C(podman) and C(docker) load.
  - The same files and options give the same archive, byte for byte.
author: [The pachops.pachyderm contributors (@pachops)]
extends_documentation_fragment: [pachops.pachyderm.attributes]
attributes:
  check_mode:
    support: full
  diff_mode:
    support: none
  idempotent:
    support: full
options:
  path:
    description: The archive.
    type: path
    required: true
  names:
    description: The image's names.
    type: list
    elements: str
    required: true
  files:
    description:
      - The image's files.
      - One with neither O(files[].src), O(files[].content) nor O(files[].link) is a directory.
    type: list
    elements: dict
    required: true
    suboptions:
      path:
        description: Place in the image.
        type: path
        required: true
      src:
        description: The file with the content.
        type: path
      content:
        description: The content itself.
        type: str
      link:
        description: Where a symbolic link leads.
        type: str
      mode:
        description: The mode, as an octal number in quotes.
        type: str
        default: "0644"
  layers:
    description:
      - What lies below the files, from the bottom up.
      - Each is an uncompressed tar file, or a directory whose content becomes the layer.
    type: list
    elements: path
    default: []
  entrypoint:
    description: The program that containers run, with leading arguments.
    type: list
    elements: str
    default: []
  cmd:
    description: Arguments that a pod may replace.
    type: list
    elements: str
    default: []
  env:
    description: Environment of the program.
    type: dict
    default: {}
  user:
    description: User that runs the program, as C(uid) or C(uid:gid).
    type: str
    default: ""
  key:
    description:
      - Identity of the content. An archive that carries the same key, names and options is taken to be the same without
        comparing it to the sources.
      - Without it, the archive is compared with a new one.
    type: str
    default: ""
"""

EXAMPLES = r"""
- name: Write an image of one static program
  pachops.pachyderm.image_archive:
    path: /tmp/pause.tar
    names: [localhost/pause:1]
    files:
      - path: /pause
        src: /usr/bin/catatonit
        mode: "0755"
    entrypoint: [/pause, -P]
"""

RETURN = r"""
path:
  description: The archive.
  returned: success
  type: str
  sample: /tmp/pause.tar
names:
  description: The image's full names.
  returned: success
  type: list
  elements: str
  sample: [localhost/pause:1]
"""

import tempfile
from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.pachops.pachyderm.plugins.module_utils.errors import ImageError, InputError, PachopsError
from ansible_collections.pachops.pachyderm.plugins.module_utils.image_archive import (
    ArchiveImage,
    Entry,
    ImageConfig,
    full_name,
    read,
    write,
)

KEY_LABEL = "pachops.io/key"


def entry(file: dict[str, Any]) -> Entry:
    """Return one of the option's files as a layer's entry."""
    try:
        mode = int(file["mode"], 8)
    except ValueError as error:
        raise InputError(
            "not a file mode", where=f"{file['path']}: {file['mode']}", fix="Write it like '0755'."
        ) from error
    directory = not (file["src"] or file["link"]) and file["content"] is None
    return Entry(
        file["path"],
        source=Path(file["src"]) if file["src"] else None,
        content=None if file["content"] is None else file["content"].encode(),
        link=file["link"] or "",
        mode=0o755 if directory and mode == 0o644 else mode,
    )


def existing(path: Path) -> ArchiveImage | None:
    """Return the image in the archive, or nothing where there is no such archive."""
    try:
        images = read(path)
    except ImageError:
        return None
    return images[0] if len(images) == 1 else None


def run(module: AnsibleModule) -> dict[str, Any]:
    """Write the archive if it differs, and return the module's result."""
    options = module.params
    path = Path(options["path"])
    names = [full_name(name) for name in options["names"]]
    entries = [entry(file) for file in options["files"]]
    config = ImageConfig(
        entrypoint=options["entrypoint"],
        cmd=options["cmd"],
        env={key: str(value) for key, value in options["env"].items()},
        user=options["user"],
        labels={KEY_LABEL: options["key"]} if options["key"] else {},
    )
    below = [Path(layer) for layer in options["layers"]]
    result = {"path": str(path), "names": names}
    before = existing(path)
    same_names = before is not None and list(before.names) == names
    if before is not None and same_names and options["key"]:
        execution = before.config.get("config", {})
        carried = (
            execution.get("Labels", {}).get(KEY_LABEL),
            execution.get("Entrypoint", []),
            execution.get("Cmd", []),
            execution.get("Env", []),
            execution.get("User", ""),
        )
        env = [f"{key}={value}" for key, value in config.env.items()]
        if carried == (options["key"], config.entrypoint, config.cmd, env, config.user):
            return {"changed": False, **result}
    if module.check_mode and not all(
        source is None or source.exists() for source in [*below, *(item.source for item in entries)]
    ):
        # The sources will be made by an earlier task of the same run.
        return {"changed": True, **result}
    with tempfile.TemporaryDirectory(dir=module.tmpdir) as scratch:
        target = Path(scratch) / "archive.tar" if module.check_mode or same_names else path
        image = write(target, names, [*below, entries], config)
        changed = before is None or not same_names or before.config_digest != image.config_digest
        if changed and target != path and not module.check_mode:
            write(path, names, [*below, entries], config)
    return {"changed": changed, **result}


def main() -> None:
    """Run as an Ansible module."""
    module = AnsibleModule(
        argument_spec={
            "path": {"type": "path", "required": True},
            "names": {"type": "list", "elements": "str", "required": True},
            "files": {
                "type": "list",
                "elements": "dict",
                "required": True,
                "options": {
                    "path": {"type": "path", "required": True},
                    "src": {"type": "path"},
                    "content": {"type": "str"},
                    "link": {"type": "str"},
                    "mode": {"type": "str", "default": "0644"},
                },
            },
            "layers": {"type": "list", "elements": "path", "default": []},
            "entrypoint": {"type": "list", "elements": "str", "default": []},
            "cmd": {"type": "list", "elements": "str", "default": []},
            "env": {"type": "dict", "default": {}},
            "user": {"type": "str", "default": ""},
            "key": {"type": "str", "default": "", "no_log": False},
        },
        supports_check_mode=True,
    )
    try:
        module.exit_json(**run(module))
    except PachopsError as error:
        module.fail_json(**error.as_result())


if __name__ == "__main__":
    main()
