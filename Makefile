# One command each; every target sets up what it needs first (see docs/installation.md).
# STACK=onedl works on the OneDL family in .venv-onedl instead.
STACK ?= upstream
VENV := $(if $(filter onedl,$(STACK)),.venv-onedl,.venv)
PY := $(VENV)/bin/python
export STACK PYTHON MAX_JOBS AIB_WHEEL_CACHE

.DEFAULT_GOAL := help
.PHONY: help setup demo test check format doctor

help:  ## show this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-8s %s\n", $$1, $$2 }' Makefile

setup:  ## make the virtual environment, or only what is missing in it
	@tools/dev/setup_env.sh

demo: setup  ## train, compare and draw the models on DigitScenes, with a report
	$(PY) tools/demo.py $(ARGS)

test: setup  ## the test suite; ARGS=--runslow adds the slow tests
	$(PY) -m pytest $(ARGS)

check: setup  ## lint, format, types of the core, fast tests
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .
	$(PY) -m mypy
	$(PY) -m pytest -q

format: setup  ## let ruff repair what it can
	$(PY) -m ruff check --fix .
	$(PY) -m ruff format .

doctor: setup  ## say whether this environment works; ARGS=CONFIG tries a config too
	$(PY) -m aib_mm doctor $(ARGS)
