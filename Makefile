PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
DEMO := runs/clustering/demo
IDEC := runs/clustering/idec

# Processes of the test suite; it is sized for two cores.
WORKERS ?= 2

# Idle threads sleep instead of spinning, so that a busy machine does not stall small networks.
export OMP_WAIT_POLICY ?= PASSIVE

.PHONY: help venv demo test lint notebooks bench wheel clean

help:  ## Say what there is
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*##/:/' | column -t -s ':'

venv: $(INSTALLED)  ## Make the environment .venv with the tested set of packages

$(INSTALLED): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev]'
	@touch $@

demo: venv  ## Find simulated star clusters, beside a trained network and classical baselines
	$(BIN)/astrolit fit -c clustering/idec.yaml
	$(BIN)/astrolit fit -c clustering/demo.yaml
	$(BIN)/astrolit test -c clustering/demo.yaml --ckpt_path $(DEMO) --beside.idec $(IDEC)

test: venv  ## Run the test suite
	$(BIN)/python -m pytest --numprocesses $(WORKERS) --dist worksteal

lint: venv  ## Check format, style, types and the direction of imports
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

notebooks: venv  ## Run the notebooks
	$(BIN)/python -m pytest --timeout=600 --nbmake --nbmake-timeout=600 notebooks

bench: venv  ## Run the benchmarks; each line is one JSON object
	@for file in benchmarks/*.py; do $(BIN)/python $$file || exit 1; done

wheel: venv  ## Build the wheel into dist/
	$(BIN)/python -m build --wheel

clean:  ## Remove the environment, caches, runs and builds
	rm -rf $(VENV) .astrolit runs dist build .pytest_cache .mypy_cache .ruff_cache
