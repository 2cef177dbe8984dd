# Needs make and any python3.11 or newer; everything else is installed into .venv on first use.
# A Python elsewhere: make PYTHON=/path/to/python3.12 test

PYTHON ?= $(shell for p in python3.11 python3.12 python3.13 python3.14 python3 python; do \
	$$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1 && { echo $$p; break; }; done)
VENV ?= .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.jetq-setup
PYTEST := $(BIN)/python -m pytest -q
export PIP_DISABLE_PIP_VERSION_CHECK = 1

.PHONY: help setup test lint format slow faults demo bench clean

help: ## show the targets
	@grep -hE '^[a-z]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z]+):.*## /  make \1\t/' | expand -t 16

setup: $(STAMP) ## create .venv with everything development needs

$(STAMP): pyproject.toml
	@test -n "$(PYTHON)" || { echo "error: no python 3.11 or newer found; set PYTHON=/path/to/python3.11" >&2; exit 2; }
	@echo "setting up $(VENV) with $(PYTHON)"
	@$(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install -qq 'pip>=25.1'
	@$(BIN)/python -m pip install -qq -e '.[server,email,uvloop]' --group dev
	@touch $@

test: $(STAMP) ## unit, integration and end-to-end tests
	@$(PYTEST)

lint: $(STAMP) ## ruff, mypy --strict and pyright
	@$(BIN)/ruff check -q .
	@$(BIN)/ruff format -q --check . || { echo "error: not formatted; run make format" >&2; exit 1; }
	@$(BIN)/mypy --no-error-summary
	@$(BIN)/pyright --warnings

format: $(STAMP) ## format and sort imports
	@$(BIN)/ruff check -q --fix-only .
	@$(BIN)/ruff format -q .

slow: $(STAMP) ## the tests that take their time
	@$(PYTEST) -m slow

faults: $(STAMP) ## kills, restarts and cut connections
	@$(PYTEST) -m faults

demo: $(STAMP) ## a thousand mails through a local server, some refused
	@$(BIN)/python docs/examples/mail_demo/run.py

bench: $(STAMP) ## jetq beside a bare nats-py loop
	@$(BIN)/python -m benchmarks.throughput

clean: ## remove .venv and what tools leave behind
	@rm -rf $(VENV) dist .mypy_cache .ruff_cache .pytest_cache .hypothesis
