# Needs make and any python3.11 or newer; everything else is installed into .venv on first use.
# A Python elsewhere: make PYTHON=/path/to/python3.12 test

PYTHON ?= $(shell for p in python3.11 python3.12 python3.13 python3.14 python3 python; do \
	$$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1 && { echo $$p; break; }; done)
VENV ?= .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.jetq-setup
PYTEST := $(BIN)/python -m pytest -q
# Most tests wait for a server or a clock, so more of them than there are cores run side by side.
TESTS_AT_ONCE ?= 4
# Slow tests wait most of the time; more of them at once would be each other's load.
SLOW_TESTS_AT_ONCE ?= 2
# Which of them, as pytest's -m takes it.
TESTS ?= not slow and not faults
# Where they stand; all of tests/ if this is empty.
PATHS ?=
# Of the faults at random: which ones, on one server and on three. Those of .ci/run are fewer.
SEEDS ?= 1 2 3
CLUSTER_SEEDS ?= 1
HOURS ?= 8
# Of the other Pythons: 3.12 where it is installed; Debian, which carries the rest, never had it.
PYTHONS ?= $(shell python3.12 -c 'import ssl, venv' >/dev/null 2>&1 && echo 3.12) 3.13 3.14
export PIP_DISABLE_PIP_VERSION_CHECK = 1

.PHONY: help setup test test-pythons lint format docs slow faults soak demo bench bench-long bench-peers clean

help: ## show the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /  make \1\t/' | expand -t 20

setup: $(STAMP) ## create .venv with everything development needs

$(STAMP): pyproject.toml
	@test -n "$(PYTHON)" || { echo "error: no python 3.11 or newer found; set PYTHON=/path/to/python3.11" >&2; exit 2; }
	@echo "setting up $(VENV) with $(PYTHON)"
	@$(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install -qq 'pip>=25.1'
	@$(BIN)/python -m pip install -qq -e '.[server,email,http,uvloop,crypto,mjml]' --group dev
	@touch $@

test: $(STAMP) ## unit, integration and end-to-end tests
	@$(PYTEST) -n $(TESTS_AT_ONCE) -m "$(TESTS)" $(PATHS)

test-pythons: ## the same on PYTHONS="3.13 3.14": installed ones, or as root those of Debian
	@PATHS="$(PATHS)" tests/pythons.sh $(PYTHONS)

lint: $(STAMP) ## ruff, mypy --strict and pyright
	@$(BIN)/ruff check -q .
	@$(BIN)/ruff format -q --check . || { echo "error: not formatted; run make format" >&2; exit 1; }
	@$(BIN)/mypy --no-error-summary
	@$(BIN)/pyright --warnings

format: $(STAMP) ## format and sort imports
	@$(BIN)/ruff check -q --fix-only .
	@$(BIN)/ruff format -q .

docs: $(STAMP) ## write what the reference pages take from the code
	@$(BIN)/python -m docs.generate
	@$(BIN)/python -m tests.types_page

slow: $(STAMP) ## the tests that take their time
	@$(PYTEST) -n $(SLOW_TESTS_AT_ONCE) -m slow

faults: $(STAMP) ## kills, restarts and cut connections, one by one and then at random
	@$(BIN)/python -m tests.faults.matrix
	@$(PYTEST) -m faults --ignore-glob='*/test_flow_*'
	@$(PYTEST) -m faults -n $(SLOW_TESTS_AT_ONCE) tests/faults/test_flow_*.py
	@$(BIN)/python -m tests.faults.chaos --seeds $(SEEDS) --jobs 20000
	@$(BIN)/python -m tests.faults.chaos --seeds $(CLUSTER_SEEDS) --nodes 3 --jobs 10000

soak: $(STAMP) ## faults at random and an even load under watch, for HOURS=8
	@$(BIN)/python -m tests.faults.soak --hours $(HOURS)

demo: $(STAMP) ## a thousand mails through a local server, some refused
	@$(BIN)/python docs/examples/mail_demo/run.py

bench: $(STAMP) ## jetq beside a bare nats-py program, what guarantees cost, where the time goes: a quarter of an hour
	@$(BIN)/python -m benchmarks --json benchmarks/figures/bench.json --charts benchmarks/figures
	@$(BIN)/python -m benchmarks.guarantees
	@$(BIN)/python -m benchmarks.anatomy
	@$(BIN)/python -m benchmarks.types
	@$(BIN)/python -m benchmarks.mail

bench-long: $(STAMP) ## a million waiting, schedules, ids, ten minutes at half load
	@$(BIN)/python -m benchmarks --only backlog scheduled ids soak --json benchmarks/figures/bench-long.json

bench-peers: $(STAMP) ## jetq beside taskiq, celery, dramatiq, arq, saq, streaq, docket and huey: half an hour
	@$(BIN)/python -m benchmarks.peers --json benchmarks/figures/bench-peers.json --chart benchmarks/figures/peers.svg

clean: ## remove .venv and what tools leave behind
	@rm -rf $(VENV) .venv-3.* .bench-venvs dist .mypy_cache .ruff_cache .pytest_cache .hypothesis
