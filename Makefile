# Every target sets up .venv first. PYTHON=python3.12 chooses another interpreter.
PYTHON ?= python3
BIN := .venv/bin
READY := .venv/.ready
STRIP := $(BIN)/nbstripout --extra-keys metadata.language_info
SIDE_BY_SIDE := --numprocesses logical --maxprocesses 8 --dist worksteal
SUPPORTED := import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))

.DEFAULT_GOAL := help
.PHONY: help setup demo flowers flowers-quick reference bench test test-slow test-all lint format lab lock clean

help:  ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "  make %-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: $(READY)  ## install everything into .venv

$(READY): requirements.lock pyproject.toml
	@$(PYTHON) -c "$(SUPPORTED)" || { echo "error: $(PYTHON) is not Python 3.11, 3.12 or 3.13; try make PYTHON=python3.12"; exit 2; }
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --disable-pip-version-check -r requirements.lock
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps --editable .
	@test ! -e .git || git config filter.nbstripout.clean 'if [ -x $(BIN)/nbstripout ]; then $(STRIP); else cat; fi'
	@touch $@

demo: $(READY)  ## sweep over handwritten digits, no download: results/demo/report.html
	$(BIN)/mb sweep params/sweeps/demo.yaml --results-dir results/demo

flowers: $(READY)  ## the published models, three seeds, to the report: results/flowers/report.html
	$(BIN)/mb sweep params/sweeps/flowers.yaml --results-dir results/flowers

flowers-quick: $(READY)  ## the same with one seed; `make flowers` continues from there
	$(BIN)/mb sweep params/sweeps/flowers.yaml --results-dir results/flowers --seeds 0 --threads 2

reference: $(READY)  ## keep what `make flowers` measured in results/reference, and in the table of the README
	$(BIN)/python -m mbutils.report.reference results/flowers

bench: $(READY)  ## speed and memory against the stock way: results/bench.csv (ARGS=--help lists the cases)
	$(BIN)/python -m bench $(ARGS)

test: $(READY)  ## run the fast tests, one on each core
	$(BIN)/python -m pytest $(SIDE_BY_SIDE)

test-slow: $(READY)  ## run the slow tests: those that take minutes, or need QEMU, a browser or kills
	$(BIN)/python -m pytest $(SIDE_BY_SIDE) -m slow

test-all: $(READY)  ## run every test
	$(BIN)/python -m pytest $(SIDE_BY_SIDE) -m ""

lint: $(READY)  ## check style, formatting and stripped notebooks
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(STRIP) --verify $(wildcard notebooks/*.ipynb)

format: $(READY)  ## format the code, strip the notebooks, write the tables of results/README.md
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .
	$(STRIP) $(wildcard notebooks/*.ipynb)
	$(BIN)/python -m mbutils.columns

lab: $(READY)  ## open JupyterLab on the project, at its notebooks
	$(BIN)/jupyter lab --notebook-dir=. --LabApp.default_url=/lab/tree/notebooks \
		--FileContentsManager.post_save_hook=mbutils.cli.lab.saved

lock: $(READY)  ## pin the newest versions of the dependencies in requirements.lock
	$(BIN)/uv pip compile pyproject.toml --extra dev --universal --python-version 3.11 --upgrade \
		--no-header --no-annotate --no-emit-index-url --quiet --output-file requirements.lock

clean:  ## remove .venv and caches, keep results
	rm -rf .venv .pytest_cache .ruff_cache build *.egg-info
