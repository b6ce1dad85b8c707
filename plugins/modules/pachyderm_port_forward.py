#!/usr/bin/python
# SPDX-FileCopyrightText: 2026 The pachops.pachyderm contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
module: pachyderm_port_forward
short_description: Keep a port-forward to Pachyderm running
version_added: 0.1.0
description:
  - Keeps a program running on this host that leads stable ports of the loopback interface to pachd, through the API
    server.
  - A connection goes to the pod that is ready at that moment; while there is none it waits. A pod that is replaced, an
    API server that restarts and hours without traffic do not end the port-forward, and a supervisor starts it again
    when it ends.
  - What pachd's own health call says through it is in its log, and in RV(status).
extends_documentation_fragment:
  - pachops.pachyderm.attributes
attributes:
  check_mode:
    support: full
  diff_mode:
    support: full
    details:
      - The diff has the program's configuration without the values of its environment, and the supervisor's file.
  idempotent:
    support: full
options:
  name:
    description: The context of pachctl that it is for; each has one port-forward.
    type: str
    required: true
  state:
    description:
      - With V(present) it runs, and pachd answers through it. It is restarted only where its configuration or its
        program is new.
      - With V(absent) nothing of it is left.
    type: str
    choices: [present, absent]
    default: present
  kubeconfig:
    description:
      - The kubeconfig to use; it is read again whenever it changes.
      - Without it, the environment's E(KUBECONFIG) is used, then C(~/.kube/config).
    type: path
  context:
    description: The context in the kubeconfig; the one that is current now by default, which is then kept.
    type: str
  namespace:
    description: Namespace of the installation.
    type: str
    default: pachyderm
  ports:
    description:
      - Map of services to local ports. Services are C(grpc) (pachd's API), C(s3) (its S3 gateway), C(http), C(saml),
        C(git), C(metrics), C(oidc), C(dash) and C(dash_websocket) (the dashboard).
    type: dict
    default: {grpc: 30650, s3: 30600, http: 30652}
  supervisor:
    description:
      - What starts it again when it ends. V(auto) is systemd where it runs for this user, otherwise supervisord.
      - With V(systemd) it is a unit of the user, with V(supervisord) a process in the background that a reboot ends.
    type: str
    choices: [auto, systemd, supervisord]
    default: auto
  directory:
    description: Directory below which each port-forward has one of its own.
    type: path
    default: ~/.local/share/pachops/port-forward
  patience:
    description: Seconds that a new connection waits for a pod that is ready.
    type: float
    default: 60.0
  keepalive:
    description:
      - Seconds of silence after which a connection is pinged, so that nothing on the way takes it for dead. One that
        stays silent three times as long is ended.
    type: float
    default: 20.0
  interval:
    description: Seconds between two health calls.
    type: float
    default: 10.0
  environment:
    description: Map of further environment variables of the program, such as a credential plugin needs.
    type: dict
    default: {}
  wait:
    description: Seconds to wait for pachd to answer through it; V(0) does not wait.
    type: float
    default: 30.0
requirements:
  - PyYAML, urllib3, websocket-client, grpcio (Python libraries)
  - supervisor (Python library), where systemd does not run for the user
seealso:
  - module: pachops.pachyderm.pachctl_context
author:
  - The pachops.pachyderm contributors (@pachops)
"""

EXAMPLES = r"""
- name: Stay connected to the installation in the namespace pachyderm
  pachops.pachyderm.pachyderm_port_forward:
    name: production
    kubeconfig: ~/.kube/config

- name: Have the dashboard too, and ports of its own for a second installation
  pachops.pachyderm.pachyderm_port_forward:
    name: trial
    namespace: pachyderm-trial
    ports:
      grpc: 31650
      s3: 31600
      dash: 31080
      dash_websocket: 31081

- name: Take it away
  pachops.pachyderm.pachyderm_port_forward:
    name: trial
    state: absent
"""

RETURN = r"""
addresses:
  description: Service to C(host:port) on this host.
  returned: always
  type: dict
  sample: {grpc: "127.0.0.1:30650", s3: "127.0.0.1:30600", http: "127.0.0.1:30652"}
supervisor:
  description: V(systemd) or V(supervisord).
  returned: always
  type: str
  sample: systemd
directory:
  description: Where its files are.
  returned: always
  type: str
  sample: ~/.local/share/pachops/port-forward/production
status:
  description:
    - What the program says of itself, C(pid), C(ports), whether pachd is C(healthy), C(since) when, in seconds since
      the epoch, the C(pod) that it leads to, the last C(error), and how many C(connections) are open.
    - Empty where it does not run.
  returned: always
  type: dict
  sample: {pid: 4711, healthy: true, pod: pachd-7dcb77cd7f-hvr84, error: "", connections: 2}
"""

from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.pachops.pachyderm.plugins.module_utils.client import forward
from ansible_collections.pachops.pachyderm.plugins.module_utils.errors import PachopsError


def run(module: AnsibleModule) -> dict[str, Any]:
    """Bring the port-forward to the wanted state and return the module's result."""
    params = module.params
    wanted = forward.Wanted(
        name=params["name"],
        base=Path(params["directory"]),
        namespace=params["namespace"],
        kubeconfig=params["kubeconfig"] or "",
        kube_context=params["context"] or "",
        ports={name: int(port) for name, port in params["ports"].items()},
        patience=params["patience"],
        keepalive=params["keepalive"],
        interval=params["interval"],
        environment={name: str(value) for name, value in params["environment"].items()},
    )
    supervisor = forward.choose(params["supervisor"])
    if params["state"] == "present":
        outcome = forward.keep(wanted, supervisor, wait=params["wait"], dry_run=module.check_mode)
    else:
        outcome = forward.drop(wanted, dry_run=module.check_mode)
    paths = sorted({*outcome.before, *outcome.after})
    before, after = outcome.before, outcome.after
    return {
        "changed": outcome.changed,
        "addresses": {name: f"{forward.LOOPBACK}:{port}" for name, port in wanted.ports.items()},
        "supervisor": supervisor.name,
        "directory": str(wanted.directory),
        "status": outcome.status,
        "diff": [
            {"before_header": path, "after_header": path, "before": before.get(path, ""), "after": after.get(path, "")}
            for path in paths
            if before.get(path) != after.get(path)
        ],
    }


def main() -> None:
    """Entry point of the module."""
    module = AnsibleModule(
        argument_spec={
            "name": {"type": "str", "required": True},
            "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
            "kubeconfig": {"type": "path"},
            "context": {"type": "str"},
            "namespace": {"type": "str", "default": "pachyderm"},
            "ports": {"type": "dict", "default": {"grpc": 30650, "s3": 30600, "http": 30652}},
            "supervisor": {"type": "str", "choices": ["auto", "systemd", "supervisord"], "default": "auto"},
            "directory": {"type": "path", "default": "~/.local/share/pachops/port-forward"},
            "patience": {"type": "float", "default": 60.0},
            "keepalive": {"type": "float", "default": 20.0},
            "interval": {"type": "float", "default": 10.0},
            "environment": {"type": "dict", "default": {}},
            "wait": {"type": "float", "default": 30.0},
        },
        supports_check_mode=True,
    )
    try:
        result = run(module)
    except PachopsError as error:
        module.fail_json(**error.as_result())
    module.exit_json(**result)


if __name__ == "__main__":
    main()
