# One command each; every target sets up what it needs first (see docs/installation.md).
# STACK=onedl works on the OneDL family in .venv-onedl instead.
STACK ?= upstream
VENV := $(if $(filter onedl,$(STACK)),.venv-onedl,.venv)
PY := $(VENV)/bin/python
# A worker of the tests for each core; make test PARALLEL= for one process.
PARALLEL ?= -n auto --dist loadfile
export STACK PYTHON MAX_JOBS AIB_WHEEL_CACHE

.DEFAULT_GOAL := help
.PHONY: help setup demo test slow check format doctor docs

help:  ## show this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-8s %s\n", $$1, $$2 }' Makefile

setup:  ## make the virtual environment, or only what is missing in it
	@tools/dev/setup_env.sh

demo: setup  ## train, compare and draw the models on DigitScenes, with a report
	$(PY) tools/demo.py $(ARGS)

test: setup  ## the test suite
	$(PY) -m pytest $(PARALLEL) $(ARGS)

# What passed counts for the same code on the same stack.
CODE = $(shell { git rev-parse HEAD; git diff HEAD; } | git hash-object --stdin)
slow: setup  ## the slow tests; started again with the same code, what passed is left out
	$(PY) -m pytest $(PARALLEL) --runslow -m slow $(ARGS) \
	  --done .pytest_cache/passed-$(STACK)-$(CODE)

check: setup  ## lint, format, types, imports, fast tests
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .
	$(PY) -m mypy
	$(VENV)/bin/lint-imports --no-cache --no-logo
	$(PY) -m pytest -q $(PARALLEL)

format: setup  ## let ruff repair what it can
	$(PY) -m ruff check --fix .
	$(PY) -m ruff format .

docs: setup  ## the documentation site, in docs/_build/html; Python 3.11 or 3.12
	$(PY) -m pip install -q -r requirements/lock-docs.txt
	$(PY) -m sphinx -q -W --keep-going -b html docs docs/_build/html

doctor: setup  ## say whether this environment works; ARGS=CONFIG tries a config too
	$(PY) -m aib_mm doctor $(ARGS)
