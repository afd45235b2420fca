# `make` prints this list. The environment is made once, in .venv, and again only when
# pyproject.toml or constraints.txt change.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
RUN ?= nano
MODEL ?= nano
# Code, and facts in it that are asked for later: half of each.
DATA ?= stdlib@1 'recall@1?docs=40&chars=12000'

# A file's tests stay together: they share what they train and compile.
PYTEST_ARGS ?= -n auto --maxprocesses 8 --dist loadfile

.PHONY: help run train test test-all check format clean

help:  ## Print this list
	@echo "Usage: make TARGET"
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  %-10s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

run: $(READY)  ## Set up, then find out which layers of the bundled model can share an indexer, and report
	@$(BIN)/godwit indexcache demo $(MODEL) --data $(DATA) --seq-len 4096 --rows 4 --samples 4

train: $(READY)  ## Set up, then train a small model on Python's own sources (RUN=nano; minutes on two cores)
	@$(BIN)/godwit train $(RUN)

test: check  ## Set up, check, run the tests (no network, no GPU, no downloads)
	$(BIN)/pytest -m "not slow" $(PYTEST_ARGS)

test-all: check  ## As `test`, with the slow tests
	$(BIN)/pytest $(PYTEST_ARGS)

check: $(READY)  ## Lint, format, floors, types, sizes
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports
	$(BIN)/pyrefly check
	$(BIN)/python tools/check_sizes.py

format: $(READY)  ## Put the source into its one format
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:  ## Remove the environment and caches; runs/ stays
	rm -rf $(VENV) .pytest_cache .ruff_cache .hypothesis .import_linter_cache build dist
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(READY): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "godwit needs Python 3.11 or newer; $(PYTHON) is older. Type: make PYTHON=python3.12 $(MAKECMDGOALS)"; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "Setting up $(VENV) (once; a few minutes) ..."
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	@touch $(READY)
