# Two commands for a newcomer: `make quickstart`, `make test`.
PYTHON ?= python3.11
BIN := .venv/bin

.PHONY: help install quickstart test test-all emulators lint docs clean

help:
	@echo "make quickstart  install, train small networks, draw Figure 4 (4 minutes after install)"
	@echo "make test        the suite that everyone runs (15 to 35 minutes)"
	@echo "make test-all    the slow tests too: runs killed and resumed, full command lines"
	@echo "make emulators   what the tests of buckets need, gs:// and s3://"
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

test: install
	$(BIN)/python -m pytest -m "not slow"

test-all: install
	$(BIN)/python -m pytest

# What tests/files/test_buckets.py asks instead of Google's and Amazon's buckets; it skips without.
emulators: install
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[test,emulators]'

lint: install
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

docs: install
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[docs]'
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet

clean:
	rm -rf .venv site .pytest_cache .mypy_cache .ruff_cache *.egg-info
