# SPDX-FileCopyrightText: 2026 The pachops.pachyderm contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Options that every module for Google Cloud has."""

from __future__ import annotations


class ModuleDocFragment:
    """Credentials, endpoints and patience."""

    DOCUMENTATION = r"""
requirements:
  - google-auth (Python package)
  - requests (Python package)
options:
  project:
    description:
      - ID of the project, neither its name nor its number.
      - Taken from the credentials where they name one.
    type: str
  access_token:
    description:
      - An OAuth access token, for instance what C(gcloud auth print-access-token) prints.
      - It is not renewed, so it has to live longer than the task.
      - Without any of the three credentials options, the application default credentials are used.
    type: str
  credentials_file:
    description: Path of a service account's JSON key, or of any other credentials document that google-auth reads.
    type: path
  credentials_json:
    description: The same as text.
    type: jsonarg
  storage_endpoint:
    description: Base address of the Cloud Storage API, where it is a private or regional one or an emulator.
    type: str
    default: https://storage.googleapis.com
  iam_endpoint:
    description: Base address of the IAM API.
    type: str
    default: https://iam.googleapis.com
  token_endpoint:
    description: Address of the OAuth token endpoint, where it is not the one that the credentials name.
    type: str
  ca_file:
    description: PEM file with the authorities to trust, where the system's are not the right ones.
    type: path
  api_timeout:
    description:
      - Seconds that one API operation may take, all tries and pauses included.
      - Answers 408, 429 and 5xx and broken connections are tried again with growing pauses; C(Retry-After) is honoured.
    type: int
    default: 120
"""
