# Every recipe sets up what it needs: `make demo` and `make test` work on a fresh clone.
# CI calls the same recipes as a person (.ci/run).

SHELL := /bin/bash
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory

PY := .venv/bin/python
STAMP := .venv/.setup-stamp
PROGRAMS := $(patsubst %/,%,$(sort $(dir $(wildcard bench/*.py demo/*.py))))

# Variables given to make (SLIDES=, UPGRADE=) reach the programs through the environment.

# Nothing of the user's own site-packages may shadow the locked versions.
export PYTHONNOUSERSITE := 1
unexport PYTHONPATH PYTHONHOME
# pip leaves compiling to the first use (scripts/setup). Were it not kept, every process that the tests start would
# compile all that it imports: seconds each.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: help setup demo test lint format bench lock clean

help: ## Say what there is
	@sed -nE 's/^([a-z]+):[^#]*## (.*)/make \1	\2/p' Makefile | expand -t 14

setup: $(STAMP) ## Make .venv with everything that is needed, at the locked versions

$(STAMP): requirements/dev.lock pyproject.toml scripts/setup
	@scripts/setup

demo: $(STAMP) ## Show it at work: SLIDES=path takes your slides, else made-up ones
	@$(PY) -m demo

test: $(STAMP) ## Run all tests: ARGS='-k fold' passes more to pytest
	@scripts/install-test-packages
	@$(PY) -m pytest -n auto --maxprocesses 8 --dist worksteal $(ARGS) tests

# All four run whatever the first says: one round shows all that is wrong.
lint: $(STAMP) ## Check style, types and the direction of imports
	@status=0; \
	$(PY) -m ruff check . || status=1; \
	$(PY) -m ruff format --check . || status=1; \
	$(PY) -m mypy src flows tests $(PROGRAMS) || status=1; \
	.venv/bin/lint-imports || status=1; \
	exit $$status

format: $(STAMP) ## Format the code and mend what can be mended
	@$(PY) -m ruff check --fix-only .
	@$(PY) -m ruff format .

bench: $(STAMP) ## Compare with peers: B=name runs one, else all
	@scripts/bench "$(or $(B),all)"

lock: ## Rewrite the lock files: UPGRADE=1 takes the newest of everything
	@scripts/lock

clean: ## Remove .venv and everything else that was made
	rm -rf .venv .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache .bench build dist
	find src tests bench demo flows -name __pycache__ -type d -prune -exec rm -rf {} + 2>/dev/null || true
