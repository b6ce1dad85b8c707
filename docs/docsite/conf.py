# SPDX-FileCopyrightText: 2026 The pachops.pachyderm contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Sphinx configuration of the collection's documentation site.

The site is built from what plugins and roles say about themselves (by antsibull-docs) and from the guides in docs/.
Nothing is fetched while building: the few places in Ansible's own documentation that are referred to are listed in
ansible-labels.txt, which build turns into an inventory for intersphinx.
"""

project = "pachops.pachyderm"
copyright = "The pachops.pachyderm contributors"  # noqa: A001 Sphinx's name
title = html_title = "pachops.pachyderm"
html_short_title = "pachops.pachyderm"

extensions = ["myst_parser", "sphinx.ext.intersphinx", "sphinx_antsibull_ext"]
intersphinx_mapping = {"ansible": ("https://docs.ansible.com/ansible/latest/", "ansible.inv")}
source_suffix = {".rst": "restructuredtext", ".md": "markdown"}
master_doc = "index"
pygments_style = "ansible"
highlight_language = "YAML+Jinja"
default_role = "any"
nitpicky = True

# Guides link to each other and to headings as they do on a code host.
myst_heading_anchors = 4
myst_enable_extensions = ["colon_fence", "deflist"]

html_theme = "sphinx_ansible_theme"
html_show_sphinx = False
display_version = False
html_use_smartypants = True
html_use_modindex = False
html_use_index = False
html_copy_source = False
html_theme_options = {"vcs_pageview_mode": "", "documentation_home_url": "index.html", "topbar_links": {}}


def _link_to_repository(app, docname, source):  # noqa: ARG001 Sphinx's signature
    """Lead links that leave docs/ to the repository, where code hosts' readers already are."""
    source[0] = source[0].replace("](../", "](https://github.com/pachops/pachyderm/blob/main/")


def setup(app):
    """Connect the hook above."""
    app.connect("source-read", _link_to_repository)
