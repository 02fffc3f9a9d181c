# Each target installs what it needs: into the active virtual environment or VENV=..., else into
# .venv, which is made from PYTHON.
PYTHON ?= python3
VENV ?= $(or $(VIRTUAL_ENV),.venv)
RUN = $(VENV)/bin/python
# The newest supported stack, tested beside the one that PYTHON gives.
PYTHON_NEXT ?= python3.12
VENV_NEXT ?= .venv-next
JAX_NEXT ?= jax>=0.11,<0.12

DATASET ?= dead_leaves/small
MANUAL_DIR ?=
DATA_DIR ?=
CLIPS ?=
CONFIG ?=
# Commas in values separate no arguments, since $(call) has split them before.
flag = $(if $(2),--$(1)='$(2)')
WORKDIR ?= runs/demo
KILLS ?= 1000
MINUTES ?= inf
# Tests mostly compile, which takes one core: two files run side by side, in the order of their
# names, since sorted by their number of tests the longest would come last.
PYTEST = -m pytest --numprocesses=2 --dist=loadfile --no-loadscope-reorder
FILES = jaxvsr configs tests tfds_builders benchmarks notebooks setup.py

export TF_CPP_MIN_LOG_LEVEL = 2
export TF_ENABLE_ONEDNN_OPTS = 0

.PHONY: help demo data test test-golden test-all test-next test-tpu wheel notebooks soak lint clean

help:
	@echo "make demo      train the tiny MIA-VSR on the embedded data set and score it"
	@echo "make data      prepare a data set: DATASET=reds MANUAL_DIR=/where/it/is [DATA_DIR=/where/to]"
	@echo "               [CLIPS=8] [CONFIG='{...}'], as jaxvsr data"
	@echo "make test      run the tests, except the slow ones; make test-all: all of them"
	@echo "make test-golden run the slow golden cases, four devices, several hosts, long trainings"
	@echo "make test-tpu  compile two networks for a TPU, with jaxvsr[tpu] and no TPU"
	@echo "make test-next run the tests on the newest supported stack ($(PYTHON_NEXT), $(JAX_NEXT))"
	@echo "make wheel     build a wheel, install it and run every command outside the checkout"
	@echo "make notebooks execute the notebooks with small settings"
	@echo "make soak      kill trainings and upscalings at random: KILLS=1000 MINUTES=inf"
	@echo "make lint      check style and types"

demo: $(VENV)/.installed
	$(RUN) -m jaxvsr data dead_leaves/small
	$(RUN) -m jaxvsr train --config=configs/miavsr.py:tiny --workdir=$(WORKDIR)

data: $(VENV)/.installed
	$(RUN) -m jaxvsr data '$(DATASET)' $(call flag,config,$(CONFIG)) $(call flag,clips,$(CLIPS)) \
	    $(call flag,manual_dir,$(MANUAL_DIR)) $(call flag,data_dir,$(DATA_DIR))

test: $(VENV)/.installed-dev
	$(RUN) $(PYTEST) -m "not slow"

test-golden: $(VENV)/.installed-dev
	$(RUN) $(PYTEST) -m slow tests/models tests/distributed tests/training tests/kernels tests/layers

test-tpu: $(VENV)/.installed-dev
	$(RUN) -m pip install --quiet --editable '.[tpu]'
	$(RUN) -m pytest -m slow tests/profiling/test_topologies.py -k "v5e and (swrn.py or basicvsr.py)"

test-all: $(VENV)/.installed-dev
	$(RUN) $(PYTEST)

test-next: $(VENV_NEXT)/.installed-dev
	$(VENV_NEXT)/bin/python $(PYTEST) -m "not slow"

wheel: $(VENV)/.installed-dev
	$(RUN) -m pytest -m slow tests/test_wheel.py

notebooks: $(VENV)/.installed-dev
	$(RUN) -m pytest -m slow tests/test_notebooks.py

soak: $(VENV)/.installed-dev
	$(RUN) -m benchmarks.soak --kills=$(KILLS) --minutes=$(MINUTES) \
	    --out=benchmarks/results/soak.md

lint: $(VENV)/.installed-dev
	$(RUN) -m ruff check $(FILES)
	$(RUN) -m ruff format --check $(FILES)
	$(RUN) -m mypy

clean:
	rm -rf .venv .venv-next .mypy_cache .pytest_cache .ruff_cache *.egg-info

$(VENV)/.installed: pyproject.toml
	test -x $(RUN) || $(PYTHON) -m venv $(VENV)
	$(RUN) -m pip install --quiet --editable .
	touch $@

$(VENV)/.installed-dev: $(VENV)/.installed
	$(RUN) -m pip install --quiet --editable '.[dev]'
	touch $@

$(VENV_NEXT)/.installed-dev: pyproject.toml
	test -x $(VENV_NEXT)/bin/python || $(PYTHON_NEXT) -m venv $(VENV_NEXT)
	$(VENV_NEXT)/bin/python -m pip install --quiet --editable '.[dev]' '$(JAX_NEXT)'
	touch $@
