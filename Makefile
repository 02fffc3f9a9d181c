# From a fresh clone: each target makes the virtual environment that it needs.
PYTHON ?= python3
VENV ?= .venv
RUN = $(VENV)/bin/python
# The newest supported stack, tested beside the one that PYTHON gives.
PYTHON_NEXT ?= python3.12
VENV_NEXT ?= .venv-next
JAX_NEXT ?= jax>=0.11,<0.12

DATASET ?= dead_leaves/small
MANUAL_DIR ?=
DATA_DIR ?=
WORKDIR ?= runs/demo
# Compiling, which tests do most of the time, takes one core: files run side by side, by name (else
# files of few tests come last, and the longest are among them).
PYTEST = -m pytest --numprocesses=2 --dist=loadfile --no-loadscope-reorder
FILES = jaxvsr configs tests tfds_builders benchmarks notebooks

# TensorFlow builds data sets and writes event files; it need not talk about itself.
export TF_CPP_MIN_LOG_LEVEL = 2
export TF_ENABLE_ONEDNN_OPTS = 0

.PHONY: help demo data test test-all test-next notebooks lint clean

help:
	@echo "make demo      train the tiny MIA-VSR on the embedded data set, score it, draw a picture"
	@echo "make data      prepare a data set: DATASET=reds MANUAL_DIR=/where/it/is [DATA_DIR=/where/to]"
	@echo "make test      the tests that take minutes; make test-all: all of them"
	@echo "make test-next the tests on the newest supported stack ($(PYTHON_NEXT), $(JAX_NEXT))"
	@echo "make notebooks execute the notebooks, with small settings"
	@echo "make lint      style and types"

demo: $(VENV)/.installed
	$(RUN) -m tfds_builders tfds_builders/dead_leaves --config=small
	$(RUN) -m jaxvsr.main --config=configs/miavsr.py:tiny --workdir=$(WORKDIR)

# DATASET is name/config, or a name: the first of its configs.
data: $(VENV)/.installed
	$(RUN) -m tfds_builders tfds_builders/$(word 1,$(subst /, ,$(DATASET))) \
	    $(addprefix --config=,$(word 2,$(subst /, ,$(DATASET)))) \
	    $(addprefix --manual_dir=,$(MANUAL_DIR)) $(addprefix --data_dir=,$(DATA_DIR))

test: $(VENV)/.installed-dev
	$(RUN) $(PYTEST) -m "not slow"

test-all: $(VENV)/.installed-dev
	$(RUN) $(PYTEST)

test-next: $(VENV_NEXT)/.installed-dev
	$(VENV_NEXT)/bin/python $(PYTEST) -m "not slow"

notebooks: $(VENV)/.installed-dev
	$(RUN) -m pytest -m slow tests/test_notebooks.py

lint: $(VENV)/.installed-dev
	$(RUN) -m ruff check $(FILES)
	$(RUN) -m ruff format --check $(FILES)
	$(RUN) -m mypy

clean:
	rm -rf $(VENV) $(VENV_NEXT) .mypy_cache .pytest_cache .ruff_cache *.egg-info

$(VENV)/.installed: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(RUN) -m pip install --quiet --upgrade pip
	$(RUN) -m pip install --quiet --editable .
	touch $@

$(VENV)/.installed-dev: $(VENV)/.installed
	$(RUN) -m pip install --quiet --editable '.[dev]'
	touch $@

$(VENV_NEXT)/.installed-dev: pyproject.toml
	$(PYTHON_NEXT) -m venv $(VENV_NEXT)
	$(VENV_NEXT)/bin/python -m pip install --quiet --upgrade pip
	$(VENV_NEXT)/bin/python -m pip install --quiet --editable '.[dev]' '$(JAX_NEXT)'
	touch $@
