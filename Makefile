# The environment is made once; it is made again when what it is built from changes.
PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin

.PHONY: demo test test-ci test-all lint clean

demo: $(VENV)/ready
	$(BIN)/medaug demo

# One process per core, each with one thread: faster than one process with all of them.
PYTEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto --dist loadfile --no-loadscope-reorder

test: $(VENV)/ready
	$(PYTEST)

test-ci: $(VENV)/ready
	$(PYTEST) -m "not long"

test-all: $(VENV)/ready
	$(PYTEST) -m "slow or not slow"

lint: $(VENV)/ready
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

$(VENV)/ready: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable ".[dev]"
	touch $@

clean:
	rm -rf $(VENV) build dist
