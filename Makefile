# `make demo` and `make test` are all that a newcomer needs; both make the environment when it is missing.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready

.PHONY: setup demo test test-all check format bench clean

setup: $(READY)

$(READY): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[dev]"
	touch $(READY)

demo: setup
	$(BIN)/eventfm demo --out out/demo

test: setup
	$(BIN)/python -m pytest -m "not slow"

test-all: setup
	$(BIN)/python -m pytest

check: setup
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/python -m pytest tests/test_layers.py

format: setup
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

bench: setup
	$(BIN)/python benchmarks/voxel_grid.py
	$(BIN)/python benchmarks/loader.py
	$(BIN)/python benchmarks/simulator.py
	$(BIN)/python benchmarks/step_time.py
	$(BIN)/python benchmarks/distillation_loss.py
	$(BIN)/python benchmarks/decoding.py
	$(BIN)/python benchmarks/dataset_throughput.py --quick

clean:
	rm -rf $(VENV) out
