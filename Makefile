# SPDX-FileCopyrightText: 2026 The pachops.pachyderm contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# Every target may be run first, on a host that has only git, make and Python 3.11, and again at little cost.

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
MAKEFLAGS += --no-print-directory
SHELL := /bin/bash
# Where this is set, as in many containers, every start of Ansible and of each module compiles some 700 files anew: half
# of the time that it takes.
unexport PYTHONDONTWRITEBYTECODE

PYTHON ?= $(shell command -v python3.11 || command -v python3)
BACKEND ?= local
SCENARIO ?=
ANSIBLE_FLAGS ?=

SUDO := $(if $(filter 0,$(shell id -u)),,sudo)
BIN := .venv/bin
LINK := .cache/collections/ansible_collections/pachops/pachyderm
digest = $(firstword $(shell sha256sum <$(1)))
# Named by the locks' content, so that touching a lock costs nothing and changing it is never missed.
RUNTIME := .venv/.runtime-$(call digest,requirements.txt)
DEVELOPMENT := .venv/.development-$(call digest,requirements-dev.txt)
PLAYBOOK := $(BIN)/ansible-playbook $(ANSIBLE_FLAGS)

.PHONY: help
help: ## print this table
	@awk 'BEGIN {FS = ":.*## "} /^[a-z0-9-]+:.*## / {printf "  make %-18s %s\n", $$1, $$2}' $(MAKEFILE_LIST)
	@echo
	@echo "  BACKEND=local|gcp|aws             for deploy (default: local)"
	@echo "  SCENARIO=<folder in molecule/>    for test-e2e (default: all)"
	@echo "  ANSIBLE_FLAGS='-v -e name=value'  for quickstart and deploy"
	@echo "  PACHYDERM_IMAGE_ARCHIVES='a.tar b.tar'  use these images in quickstart and every scenario"

.PHONY: setup
setup: $(DEVELOPMENT) $(LINK) ## install everything into .venv, pinned

.PHONY: runtime
runtime: $(RUNTIME) $(LINK)

.venv/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "Python 3.11 or later is needed; name it with PYTHON=/path/to/python3.11" >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip' 2>/dev/null || \
		{ $(SUDO) apt-get update -q && $(SUDO) env DEBIAN_FRONTEND=noninteractive apt-get install -qy python3-venv; }
	@echo "Creating .venv with $$($(PYTHON) --version)"
	@$(PYTHON) -m venv .venv

# uv installs the lock in seconds where pip takes a minute; where no uv is to be had for this host, pip does it.
.venv/.uv: .venv/bin/python
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check "$$(grep '^uv==' requirements-dev.txt)" || \
		echo "uv cannot be installed here; going on with pip"
	@touch $@

define install
	@echo "Installing $(1)"
	@{ test -x $(BIN)/uv && $(BIN)/uv pip install --quiet --python $(BIN)/python --requirement $(1); } || \
		$(BIN)/python -m pip install --quiet --disable-pip-version-check --requirement $(1)
	@rm -f .venv/.$(2)-*
	@touch $@
endef

$(RUNTIME): .venv/.uv
	$(call install,requirements.txt,runtime)

$(DEVELOPMENT): $(RUNTIME)
	$(call install,requirements-dev.txt,development)

# ansible-core finds a collection only below ansible_collections/<namespace>/<name>.
$(LINK):
	@mkdir -p $(@D)
	@ln -sfn ../../../.. $@

.PHONY: quickstart
quickstart: runtime ## from a bare host to a running Pachyderm
	@$(PLAYBOOK) playbooks/quickstart.yml

.PHONY: deploy
deploy: runtime ## deploy to BACKEND with inventories/BACKEND
	@$(PLAYBOOK) -i inventories/$(BACKEND) deploy.yml -e backend=$(BACKEND)

.PHONY: runner-image
runner-image: runtime ## pack the image that scheduled backups use in a cluster
	@$(PLAYBOOK) playbooks/runner_image.yml

.PHONY: test
test: ## every gate and every test; what CI runs
	@$(PYTHON) tests/run.py

.PHONY: lint
lint: ## ruff, mypy, yamllint, ansible-lint, licences, changelog
	@$(PYTHON) tests/run.py setup lint

.PHONY: test-unit
test-unit: ## unit tests and gates written in pytest
	@$(PYTHON) tests/run.py setup gates unit

.PHONY: test-integration
test-integration: ## tests against real servers, and the coverage of both
	@$(PYTHON) tests/run.py setup unit integration coverage

.PHONY: test-e2e
test-e2e: ## molecule scenarios on the local cluster; SCENARIO=name for one
	@$(PYTHON) tests/run.py setup $(if $(SCENARIO),molecule:$(SCENARIO),quickstart conformance e2e)

.PHONY: docs
docs: setup ## build the documentation site into build/docs
	@docs/docsite/build

.PHONY: bench
bench: setup ## measure, compared with the tools users have
	@failed=0; for each in benchmarks/[a-z]*.py; do $(BIN)/python $$each || failed=1; done; exit $$failed

.PHONY: format
format: setup ## format the Python code
	@$(BIN)/ruff check --fix --quiet . || true
	@$(BIN)/ruff format .

.PHONY: lock
lock: setup ## compile requirements*.in to the newest versions
	@tests/lock

.PHONY: clean
clean: ## remove .venv, caches and build outputs (not the cluster)
	@rm -rf .venv .cache build .ansible .coverage* *.tar.gz
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +

.PHONY: cluster
cluster: runtime ## bring up the local cluster alone
	@$(PLAYBOOK) playbooks/local_cluster.yml

.PHONY: clean-cluster
clean-cluster: runtime ## remove the local cluster and everything in it
	@$(PLAYBOOK) playbooks/local_cluster.yml -e local_cluster_state=absent
