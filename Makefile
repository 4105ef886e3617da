# Two commands for a newcomer: `make quickstart`, `make test`.
PYTHON ?= python3.11
BIN := .venv/bin
# Workers of the tests; a worker compiles on one core, and takes 2 to 4 GB.
WORKERS ?= auto
PYTEST := $(BIN)/python -m pytest --numprocesses=$(WORKERS) --maxprocesses=8
# Laws, oracles, estimators, data, and the parsing of commands: what `make check` runs.
CORE := tests/instruments tests/data tests/files tests/runs tests/launch/test_jobs.py \
  tests/commands/test_configs.py tests/figures/test_claims.py
NEWEST_PYTHON ?= python3.13

.PHONY: help install quickstart check test test-all newest emulators torch tpu_compile lint docs clean

help:
	@echo "make quickstart  install, train small networks, draw Figure 4 (2 minutes after the installation)"
	@echo "make check       lint, types and the fast core of the tests, for every save"
	@echo "make test        the suite that everyone runs; for every commit"
	@echo "make test-all    the slow tests too: runs killed and resumed, full command lines"
	@echo "make newest      the fast core with the newest releases, NEWEST_PYTHON=python3.13"
	@echo "make emulators   what the tests of buckets need, gs:// and s3://"
	@echo "make torch       PyTorch, for the tests of its modules"
	@echo "make tpu_compile the TPU's compiler, for the tests that compile for it"
	@echo "make lint        ruff (format and check) and mypy"
	@echo "make docs        the site of docs/ into site/"
	@echo "make clean       remove .venv and caches; runs/ and results/ stay"

.venv/installed: pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python >= 3.11 is needed")'
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[test]'
	touch $@

install: .venv/installed

quickstart: install
	$(BIN)/python -m launch.reproduce fig4 --preset=quick --out=results/quickstart

check: lint
	$(PYTEST) --dist=worksteal -m "not slow" $(CORE)

# The blocks of a page of docs/ are one program, which several workers would tear apart.
test: install
	$(PYTEST) --dist=worksteal -m "not slow" tests
	$(BIN)/python -m pytest docs

# Slow tests are few and long: one at a time to whichever worker is free. There is one Slurm on a
# machine: its tests go one after another.
SLURM := tests/launch/test_slurm.py tests/launch/test_slurm_nodes.py
test-all: test
	$(PYTEST) --dist=load --maxschedchunk=1 -m slow $(SLURM:%=--ignore=%)
	$(BIN)/python -m pytest -m slow $(SLURM)

# Without constraints.txt: what a user gets today who installs cnnpool beside nothing else.
newest: .venv-newest/installed
	.venv-newest/bin/python -m pytest --numprocesses=$(WORKERS) --maxprocesses=8 \
	  --dist=worksteal -m "not slow" $(CORE)

.venv-newest/installed: pyproject.toml
	$(NEWEST_PYTHON) -m venv .venv-newest
	.venv-newest/bin/python -m pip install --quiet --editable '.[test]'
	touch $@

# What tests/files/test_buckets.py asks instead of Google's and Amazon's buckets; it skips without.
emulators: install
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[test,emulators]'

# For the tests of modules of PyTorch, which skip without; large, so that nobody else needs it.
torch: install
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[test,torch]'

# For the tests that compile for TPUs, which skip without; 137 MB, and needs no TPU.
tpu_compile: install
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[test,tpu-compile]'

lint: install
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

docs: install
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[docs]'
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet

clean:
	rm -rf .venv .venv-newest site .test_cache .pytest_cache .mypy_cache .ruff_cache *.egg-info
