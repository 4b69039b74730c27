# Every target sets up what it needs first; see tools/setup.sh. Nothing outside this folder is touched, but for
# the system packages that a root user on Debian is missing.
SHELL := /bin/sh
.DEFAULT_GOAL := help
.PHONY: help setup simulate test test-core test-rest test-alone test-sim lint format bench clean

BIN := .venv/bin
PYTEST := $(BIN)/python -m pytest
CORE := tests/ops tests/p2p/protocol
REPORT ?= report
ARGS ?=
PARALLEL ?= -n 2 --dist loadfile
SEEDS ?= 0:1000
BENCH ?= $(shell grep -l "^ *python benchmarks/" benchmarks/*.py)

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "  make %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.venv/.installed: pyproject.toml constraints.txt tools/setup.sh
	@tools/setup.sh

setup: .venv/.installed ## make .venv (every other target does this by itself)

simulate: .venv/.installed ## a swarm of real nodes on this machine, report in ./report (options: ARGS="--nodes 5 ...")
	$(BIN)/swarm simulate --report $(REPORT) $(ARGS)

# Every part runs, also when one before it has failed.
test: .venv/.installed ## all tests, and the coverage bar of the cores (one file: .venv/bin/python -m pytest FILE)
	@failed=; for part in test-core test-rest test-alone; do $(MAKE) --no-print-directory $$part || failed="$$failed $$part"; done; \
	  test -z "$$failed" || { echo "failed:$$failed"; exit 1; }

# ops and p2p/protocol must be covered by their own tests, so those run alone, with coverage.
test-core: .venv/.installed
	$(PYTEST) $(CORE) $(PARALLEL) --cov=ops --cov=p2p.protocol --cov-report=
	$(BIN)/coverage report --include='ops/*' --show-missing --skip-covered --fail-under=95
	$(BIN)/coverage report --include='p2p/protocol/*' --show-missing --skip-covered --fail-under=95

# Two files of tests at a time, for many wait (PARALLEL= for one).
test-rest: .venv/.installed
	$(PYTEST) tests $(CORE:%=--ignore=%) -m "not alone" $(PARALLEL)

# Swarms of real processes must act in time, so they have the machine for themselves.
test-alone: .venv/.installed
	$(PYTEST) tests -m alone

# Each seed is a swarm of 64 nodes in virtual time; the same options and one seed show what broke.
test-sim: .venv/.installed ## a thousand fault schedules for 64 virtual nodes (others: SEEDS=1000:2000)
	$(BIN)/swarm simulate --virtual --nodes 64 --rounds 2 --faults chaos --seeds $(SEEDS) $(ARGS)

lint: .venv/.installed ## ruff and mypy --strict
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: .venv/.installed ## let ruff put the code into its form
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: .venv/.installed ## all benchmarks, logs beside the scripts (one: BENCH=benchmarks/codec.py)
	@for script in $(BENCH); do echo "== $$script"; $(BIN)/python $$script $(ARGS) || exit 1; done

clean: ## remove .venv, caches, reports and build leftovers
	rm -rf .venv report build dist *.egg-info .coverage .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
