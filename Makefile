# make help lists what there is. Everything runs in .venv, which `make setup` builds with pip from constraints.txt.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
PYTHON ?= python3
BIN := .venv/bin
# idle threads wait without spinning, as a worker's do (fleet/supervisor.py)
export OMP_WAIT_POLICY ?= PASSIVE

.PHONY: help setup demo test test-media check bench bench-gpu chaos conformance fuzz load serve clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: .venv/.ready ## make .venv and install Upres with its pinned dependencies

.venv/.ready: pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Upres needs Python 3.11 or newer")'
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt torch
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	touch $@

demo: setup ## restore a clip through the MCP stdio server and make a before/after picture
	$(BIN)/python tests/demo/demo.py

# the heavy files come early in the alphabet, so that the two processes end at about the same time
test: export OMP_NUM_THREADS = 1
test: setup check ## lint, types, house rules, docs and all tests, in two processes
	$(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder -rs

test-media: setup ## the media contract in full: clips, hostile files, killed workers, an hour in sync (about half an hour)
	$(BIN)/python -m tests.contract --write docs/media.md
	$(BIN)/python -m tests.contract.hostile --write docs/media.md
	$(BIN)/python -m tests.contract.kills --kills 10
	$(BIN)/python -m tests.contract.hour

check: setup ## lint and types alone
	$(BIN)/ruff check src tests weights
	$(BIN)/mypy

bench: setup ## speed against a baseline run side by side: prints ratios
	$(BIN)/python -m tests.bench
	$(BIN)/python -m tests.bench.mcp_surface

bench-gpu: setup ## on a GPU: phases, frames/s and attention against counted work; OPTIONS="--parts …"
	$(BIN)/python -m tests.bench.gpu $(OPTIONS)

chaos: setup ## kill submitters and workers, fill the disk, race starts and exits: nothing is lost (about an hour)
	$(BIN)/python -m tests.chaos

conformance: setup ## the official MCP suite (part of make test too) and the MCP inspector against the real server
	$(BIN)/python -m tests.conformance

fuzz: setup .venv/schemathesis/bin/schemathesis ## schemathesis, in an environment of its own, against the REST API
	$(BIN)/python -m tests.schema_fuzz .venv/schemathesis/bin/schemathesis --max-examples 25

.venv/schemathesis/bin/schemathesis:
	$(PYTHON) -m venv .venv/schemathesis
	.venv/schemathesis/bin/pip install --quiet --disable-pip-version-check schemathesis==4.32.5

load: setup ## a hundred REST and twenty MCP clients at once: latencies, errors, memory
	$(BIN)/python -m tests.bench.load

serve: setup ## REST and MCP over HTTP on PORT (8200)
	$(BIN)/upres serve

clean: ## remove .venv and everything made here
	rm -rf .venv .conformance dist demo-out .pytest_cache .mypy_cache .ruff_cache .hypothesis
