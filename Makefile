# `make help` lists the targets.  Everything that is built or installed lies in .venv, .local and the
# user's cache directory; nothing on the machine is changed.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
PYTEST_OPTIONS ?=
BENCH_OPTIONS ?=
.DEFAULT_GOAL := help

.PHONY: help setup demo up down check test test-all bench image clean

help: ## Show the targets
	@sed -n 's/^\([a-z-]*\):[^#]*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 12

setup: $(STAMP) ## Install everything into .venv

$(STAMP): requirements-dev.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed: set PYTHON=")'
	@echo "Installing into $(VENV) …"
	@$(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements-dev.lock
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@touch $@

demo: $(STAMP) ## The whole journey, on a cluster of its own (or on $KUBECONFIG, $ZK_SERVERS)
	@$(BIN)/python -m hack.demo

up: $(STAMP) ## Leave the demo's playground running; then: . .local/env
	@$(BIN)/python -m hack.playground up

down: $(STAMP) ## Stop the playground
	@$(BIN)/python -m hack.playground down

check: $(STAMP) ## Lint, types, import rules
	@hack/check

test: check ## Lint, types, unit tests, and a smoke of every integration suite
	@$(BIN)/python -m hack.local
	@$(BIN)/python -m hack.clients build go-kit curator
	@$(BIN)/python -m pytest -m "not full" $(PYTEST_OPTIONS)

# Servers on a machine that others use, too, may be late once; what fails twice is broken.  Both runs are shown.
test-all: check ## All tests, in full
	@$(BIN)/python -m hack.local
	@$(BIN)/python -m hack.clients build
	@$(BIN)/python -m pytest $(PYTEST_OPTIONS) || { test $$? = 1 && echo "Once more, what failed:" && \
	    $(BIN)/python -m pytest --last-failed --last-failed-no-failures none $(PYTEST_OPTIONS); }

bench: $(STAMP) ## Measure the controller beside a bare client (BENCH_OPTIONS="--pods 1000"; --help)
	@$(BIN)/python -m hack.bench $(BENCH_OPTIONS)

image: ## Build the container image with docker, podman or buildah
	@hack/image/build

clean: ## Remove what was installed and built here (not the cache)
	rm -rf $(VENV) .local build *.egg-info
