# make help lists what there is. Everything runs in .venv, which `make setup` builds with pip from constraints.txt.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
PYTHON ?= python3
BIN := .venv/bin
# idle threads wait without spinning, as a worker's do (fleet/supervisor.py)
export OMP_WAIT_POLICY ?= PASSIVE

.PHONY: help setup demo test check bench bench-gpu chaos serve clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: .venv/.ready ## make .venv and install Upres with its pinned dependencies

.venv/.ready: pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Upres needs Python 3.11 or newer")'
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt torch
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	touch $@

demo: setup ## restore a clip through the MCP stdio server and make a before/after picture
	$(BIN)/python tests/demo/demo.py

test: setup check ## lint, types, house rules, docs and all tests
	$(BIN)/python -m pytest

check: setup ## lint and types alone
	$(BIN)/ruff check src tests weights
	$(BIN)/mypy

bench: setup ## speed against a baseline run side by side: prints ratios
	$(BIN)/python -m tests.bench

bench-gpu: setup ## on a GPU: phases, frames/s and attention against counted work; OPTIONS="--parts …"
	$(BIN)/python -m tests.bench.gpu $(OPTIONS)

chaos: setup ## kill submitters and workers at random and check that nothing is lost
	$(BIN)/python -m tests.chaos

serve: setup ## REST and MCP over HTTP on PORT (8200)
	$(BIN)/upres serve

clean: ## remove .venv and everything made here
	rm -rf .venv demo-out .pytest_cache .mypy_cache .ruff_cache .hypothesis
