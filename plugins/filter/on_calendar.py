# SPDX-FileCopyrightText: 2026 The pachops.pachyderm contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""A time in cron's form as systemd's."""

from __future__ import annotations

DOCUMENTATION = r"""
name: on_calendar
short_description: Turn a time in cron's form into systemd's
version_added: 0.1.0
description:
  - Turns the five fields of C(crontab(5)) into a calendar expression for a systemd timer.
author:
  - The pachops.pachyderm contributors (@pachops)
options:
  _input:
    description: Minute, hour, day of the month, month and day of the week, or a word such as V(@daily).
    type: str
    required: true
  zone:
    description: The time zone to put behind it; empty for the host's own.
    type: str
    default: ""
"""

EXAMPLES = r"""
- name: Show when a timer would fire
  ansible.builtin.debug:
    msg: "{{ '17 2 * * mon-fri' | pachops.pachyderm.on_calendar(zone='UTC') }}"
"""

RETURN = r"""
_value:
  description: The calendar expression.
  type: str
  sample: Mon,Tue,Wed,Thu,Fri *-*-* 02:17:00 UTC
"""

from collections.abc import Callable
from typing import Any

from ansible.errors import AnsibleFilterError
from ansible_collections.pachops.pachyderm.plugins.module_utils.backup.cron import parse
from ansible_collections.pachops.pachyderm.plugins.module_utils.errors import PachopsError


def on_calendar(text: str, zone: str = "") -> str:
    """Return the calendar expression."""
    try:
        return parse(text).calendar(zone)
    except PachopsError as error:
        raise AnsibleFilterError(str(error)) from error


class FilterModule:
    """The filters of this file."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        """Return them by name."""
        return {"on_calendar": on_calendar}
