# `make` or `make help` lists what there is. Everything runs in .venv, which the first target that needs it makes.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
DEMO_READY := $(VENV)/.ready-demo
TEST_READY := $(VENV)/.ready-test

# An environment that is active around make must not leak into the one below.
unexport PYTHONPATH PYTHONHOME VIRTUAL_ENV

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help demo test lint types unit all-tests gpu test-deep coverage format benchmark clean test-portable

help:  ## List the targets
	@awk 'BEGIN {FS = ":.*## "} /^[a-z-]+:.*## / {printf "  make %-13s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

demo: $(DEMO_READY)  ## Train the digits model, compile it, check it against eager and measure it
	$(BIN)/tzwc demo

test: lint types all-tests  ## Everything that must hold: ruff, mypy --strict, pytest

lint: $(TEST_READY)  ## ruff: rules and formatting
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(TEST_READY)  ## mypy --strict on tzwc, tzwc.passes and tzwc.models
	$(BIN)/mypy

PYTEST := $(BIN)/python -m pytest -q --durations=5 -n auto --maxprocesses=4 --dist=loadfile

unit: $(TEST_READY)  ## pytest without what is slow, for every day; a process for each core (four at most: each takes 1.5 GB)
	$(PYTEST) -m 'not slow and not inductor'

all-tests: $(TEST_READY)  ## pytest, all of it
	$(PYTEST)

PORTABLE := $(BIN)/python -m pytest -q --durations=3 -n 2 --dist=loadfile -m 'portable and not slow and not inductor'

test-portable: $(TEST_READY)  ## What depends on the processor, as with AVX2, as without, and where oneDNN refuses
	ONEDNN_MAX_CPU_ISA=AVX2 ATEN_CPU_CAPABILITY=avx2 $(PORTABLE)
	ONEDNN_MAX_CPU_ISA=SSE41 ATEN_CPU_CAPABILITY=default $(PORTABLE)
	$(PORTABLE) --refuse-onednn

gpu: $(TEST_READY)  ## With a CUDA GPU: its tests, then eager, torch.compile and tzwc on it, in eight minutes
	$(BIN)/python benchmarks/gpu.py

test-deep: $(TEST_READY)  ## The properties alone, with hundreds of times the examples: hours; what failed comes first next time
	HYPOTHESIS_PROFILE=deep $(BIN)/python -m pytest -q --durations=0 --durations-min=60 -n auto --maxprocesses=4

coverage: $(TEST_READY)  ## Which branches of tzwc, passes and models the tests take, in about twice the tests' time
	$(BIN)/coverage erase
	$(BIN)/coverage run -m pytest -q -n auto --maxprocesses=4 --dist=loadfile
	$(BIN)/coverage combine -q
	$(BIN)/coverage report

format: $(TEST_READY)  ## Rewrite the sources as ruff wants them
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

benchmark: $(DEMO_READY)  ## The smallest model against eager and torch.compile, in a few minutes
	$(BIN)/tzwc bench model --presets digits --contenders eager,compile,contiguous,freezing,tzwc --rounds 10

clean:  ## Remove the environment, caches and written output
	rm -rf $(VENV) out build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis

# The stamps are written last, so that an interrupted set-up is taken up again. An environment without a working pip, or
# with a Python that is too old, is made anew.
define set-up
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' 2>/dev/null || { \
	  echo 'tzwc needs Python 3.10 or newer, and $(PYTHON) is not: try make PYTHON=python3.11' >&2; exit 1; }
	@$(BIN)/python -c 'import pip, sys; sys.exit(sys.version_info < (3, 10))' 2>/dev/null || { \
	  echo 'making $(VENV)' && $(PYTHON) -m venv --clear $(VENV); }
	@echo 'installing into $(VENV) what $(1) needs (minutes, the first time)'
	@$(BIN)/python -m pip install -qq --disable-pip-version-check -c constraints.txt -e ".[$(1)]"
endef

$(DEMO_READY): pyproject.toml constraints.txt
	$(call set-up,demo)
	@touch $@

$(TEST_READY): pyproject.toml constraints.txt
	$(call set-up,demo$(comma)dev)
	@touch $@ $(DEMO_READY)

comma := ,
