# `make demo` and `make test` are all a newcomer needs. Both build .venv on first use.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: demo test test-all slow lint clean

demo: $(VENV)/.demo
	$(BIN)/python -m scripts.reproduce

test: $(VENV)/.dev
	$(BIN)/python -m pytest -m "not slow and not gpu" --ignore=tests/agents --ignore=tests/baselines

lint: $(VENV)/.dev
	$(BIN)/ruff check . && $(BIN)/ruff format --check . && $(BIN)/mypy

$(VENV)/bin/python:
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "ttc-env needs Python 3.11 or newer: make PYTHON=python3.12 ...")'
	$(PYTHON) -m venv $(VENV)

# One stamp file per set of extras, so that an edited pyproject.toml installs again and nothing else does.
$(VENV)/.demo: $(VENV)/bin/python pyproject.toml
	$(BIN)/python -m pip install --quiet --editable ".[plot]"
	touch $@

$(VENV)/.dev: $(VENV)/bin/python pyproject.toml
	$(BIN)/python -m pip install --quiet --editable ".[dev]"
	touch $@

clean:
	rm -rf $(VENV) results build dist
