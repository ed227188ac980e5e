# make demo: from a fresh clone to a built image that runs. make test: everything, reduced rounds.
PYTHON ?= python3
export PYTHON

VENV_PYTHON := .venv/bin/python
# A worker more than processors, since tests wait for disks and for processes; a worker that has
# nothing left takes tests from another.
WORKERS ?= -n $(shell expr $$(nproc) + 1) --maxprocesses 5 --dist worksteal
PYTEST := $(VENV_PYTHON) -m pytest $(WORKERS) $(PYTEST_ARGS)

.PHONY: help demo test test-full test-deps ready-to-test lint bench clean

help:
	@echo "make demo       build and run examples/webapp, twice, and show what the cache did"
	@echo "make test       run every test, slow ones with reduced rounds (under 10 minutes)"
	@echo "make test-full  run every test with full rounds"
	@echo "make test-deps  install the Debian packages that the tests need"
	@echo "make lint       ruff and mypy only"
	@echo "make bench      measure the rows of docs/bench.md against the other tools installed"
	@echo "make clean      remove the environment, caches and the demo's store"

demo:
	@scripts/preflight demo
	@$(MAKE) --silent .venv/.installed
	@scripts/demo

test: ready-to-test
	$(PYTEST)

test-full: ready-to-test
	PYBUILD_FULL=1 $(PYTEST)

# With CI=true what is missing is installed; a person is shown the list and asked.
ready-to-test:
	@scripts/preflight test
	@if [ "$$CI" = true ]; then scripts/test-deps; else scripts/test-deps --check; fi
	@$(MAKE) --silent .venv/.installed-test

test-deps:
	@scripts/preflight test-deps
	@scripts/test-deps

lint: .venv/.installed-test
	$(PYTEST) -q tests/unit/test_lint.py tests/unit/test_layers.py

bench: .venv/.installed
	$(VENV_PYTHON) bench/run.py

# Stamps: the environment is made again only when what it is made from changed.
.venv/.installed: pyproject.toml scripts/venv
	@scripts/venv
	@touch $@

.venv/.installed-test: pyproject.toml scripts/venv
	@scripts/venv test
	@touch $@ .venv/.installed

clean:
	rm -rf .venv .demo .cache .pytest_cache .mypy_cache .ruff_cache .hypothesis build dist
	rm -rf *.egg-info
