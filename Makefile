# Every target does its own set-up: a virtual environment in .venv, made anew when a requirement changes.
PYTHON := $(shell for p in python3.11 python3.12 python3; do $$p -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] < (3, 13))' 2>/dev/null && echo $$p && break; done)
BIN := .venv/bin

.PHONY: quickstart test test-long lint bench clean

quickstart: .venv/runtime   ## a generated log -> trained model, bundle, recommendations
	$(BIN)/python pipelines/quickstart.py

test: .venv/dev             ## everything but the long tests
	$(BIN)/python -m pytest -n 3 --dist loadfile --no-loadscope-reorder

test-long: .venv/dev        ## kill tests, real data, long training
	$(BIN)/python -m pytest -m long

lint: .venv/dev
	$(BIN)/ruff check . && $(BIN)/ruff format --check . && $(BIN)/mypy

bench: .venv/dev            ## prints and stores benchmarks/results/*.json
	$(BIN)/python benchmarks/run.py

clean:                      ## the environment and caches; datasets, runs and bundles stay
	rm -rf .venv build *.egg-info .pytest_cache .mypy_cache .ruff_cache

.venv/bin/python:
	@test -n "$(PYTHON)" || { echo "Python 3.11 or 3.12 was not found on the PATH; install one of them and run make again." >&2; exit 2; }
	$(PYTHON) -m venv .venv

.venv/runtime: .venv/bin/python requirements.txt pyproject.toml
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements.txt
	@touch $@

.venv/dev: .venv/runtime requirements-dev.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements-dev.txt
	@touch $@
