# make demo and make test each set up all they need: a virtual environment in .venv with the pinned packages.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
# As many tests at a time as there are cores; the tests of a file stay together, for what they share.
# Files in the order that tests/conftest.py puts them in: the longest first, so that no core waits for one at the end.
TEST := $(BIN)/python -m pytest --numprocesses auto --dist loadfile --no-loadscope-reorder

.PHONY: help demo test soak check wheels format clean
.DEFAULT_GOAL := help

help:
	@echo "make demo    train an English-French model on two cores in five minutes, and translate with it"
	@echo "make test    run the tests (under six minutes)"
	@echo "make soak    try the promises of reliability far more often than the tests do, and print what was tried"
	@echo "make check   formatting, lint, types, import layers, tests"
	@echo "make wheels  build nmt and two plugins, install them into a fresh environment, train and translate there"

# The plugins are installed as anybody's are; nothing but their entry points tells nmt of them.
PLUGINS := $(wildcard plugins/*/pyproject.toml)

$(READY): pyproject.toml constraints.txt hatch_build.py nmt/native.c nmt/native_build.py $(PLUGINS)
	$(PYTHON) -c 'import sys; sys.exit("nmt needs Python 3.11 or later; say make PYTHON=python3.11" if sys.version_info < (3, 11) else 0)'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt torch
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]' $(patsubst %/pyproject.toml,-e ./%,$(PLUGINS))
	@touch $@

demo: $(READY)
	@BIN=$(BIN) sh recipes/demo.sh

test: $(READY)
	$(TEST)

soak: $(READY)
	NMT_SOAK=1 $(BIN)/python -m pytest tests/reliability

check: $(READY)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/mypy $(wildcard plugins/*/nmt_*)
	MYPYPATH=benchmarks $(BIN)/mypy $(wildcard benchmarks/*.py)
	$(TEST)

wheels:
	@PYTHON=$(PYTHON) sh plugins/wheels.sh

format: $(READY)
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

clean:
	rm -rf $(VENV) runs dist build
