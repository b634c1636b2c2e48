# `make help` lists the targets.  Everything that is built or installed lies in .venv, .local and the
# user's cache directory; nothing on the machine is changed.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
PLAYGROUND := $(VENV)/.installed-to-play
PYTEST_OPTIONS ?=
BENCH_OPTIONS ?=
.DEFAULT_GOAL := help

# Two tests at a time: most of them wait most of the time.  (PYTEST_WORKERS= is none.)
PYTEST_WORKERS ?= -n 2
PYTEST := $(BIN)/python -m pytest
# What fails twice is broken: servers on a machine that others use, too, may be late once.  Both runs are shown.
define pytest-all
@$(BIN)/python -m hack.local
@$(BIN)/python -m hack.clients build
@$(PYTEST) $(1) $(PYTEST_WORKERS) $(PYTEST_OPTIONS) || { test $$? = 1 && echo "Once more, what failed:" && \
    $(PYTEST) $(1) --last-failed --last-failed-no-failures none $(PYTEST_OPTIONS); }
endef

.PHONY: help setup demo up down check test test-all test-deep bench site release image clean

help: ## Show the targets
	@sed -n 's/^\([a-z-]*\):[^#]*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 12

setup: $(STAMP) ## Install everything into .venv

# Installs what lock files name, and this package.
define install
@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed: set PYTHON=")'
@echo "Installing $(1) into $(VENV) …"
@$(PYTHON) -m venv $(VENV)
@$(BIN)/python hack/install.py $(2)
@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
endef

$(STAMP): requirements-dev.lock pyproject.toml
	$(call install,all that developers need,requirements-dev.lock)
	@touch $@ $(PLAYGROUND)

$(PLAYGROUND): requirements.lock hack/local/requirements.lock pyproject.toml
	$(call install,what the playground needs,requirements.lock hack/local/requirements.lock)
	@touch $@

demo: $(PLAYGROUND) ## The whole journey, on a cluster of its own (NODES=real: with kubelets; or on $KUBECONFIG, $ZK_SERVERS)
	@$(BIN)/python -m hack.demo

up: $(PLAYGROUND) ## Leave the demo's playground running; then: . .local/env
	@$(BIN)/python -m hack.playground up

down: $(PLAYGROUND) ## Stop the playground
	@$(BIN)/python -m hack.playground down

check: $(STAMP) ## Lint, types, import rules
	@hack/check

test: check ## Lint, types, unit tests, and a smoke of every integration suite (under a quarter of an hour)
	@$(BIN)/python -m hack.local
	@$(BIN)/python -m hack.clients build go-kit curator
	@$(PYTEST) -m "not full and not deep" --budget kept $(PYTEST_WORKERS) $(PYTEST_OPTIONS)

test-all: check ## The gate: every kind of check, within an hour
	$(call pytest-all,-m "not deep" --budget kept)

test-deep: check ## All there is: every cell of tests/DEEP.md, without a limit
	$(call pytest-all,--budget shown)

bench: $(STAMP) ## Measure the controller beside a bare client (BENCH_OPTIONS="--pods 1000"; --help)
	@$(BIN)/python -m hack.bench $(BENCH_OPTIONS)

site: $(STAMP) ## The docs as a site, in build/site
	@$(BIN)/python -m hack.site

release: $(STAMP) ## Check that a release of the version in pyproject.toml can be tagged
	@$(BIN)/python -m hack.release

image: ## Build the container image with docker, podman or buildah
	@hack/image/build

clean: ## Remove what was installed and built here (not the cache)
	rm -rf $(VENV) .local build *.egg-info
