# Each of `make demo`, `make test` and `make check` does all its own set-up; Python 3.11 or newer is all they need.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/ready

.PHONY: help demo test check format bench clean

help:
	@echo "make demo    install, search digits for the smallest network at 97 %, write a report   (about 5 minutes)"
	@echo "make test    install and run the tests                                                  (about 20 minutes)"
	@echo "make check   format, lint, types, house rules and tests, as CI does"
	@echo "make bench   timings, side by side, into bench/results"

$(READY): pyproject.toml setup.py constraints.txt $(wildcard src/paredown/kernels/c/*)
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev]'
	@touch $(READY)

demo: $(READY)
	$(BIN)/paredown find digits --floor 0.97 --budget 3m --out runs/demo-$$(date +%Y%m%d-%H%M%S)

test: $(READY)
	$(BIN)/python -m pytest

check: $(READY)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/python -m pytest

format: $(READY)
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

bench: $(READY)
	$(BIN)/python bench/training_speed.py
	$(BIN)/python bench/peak_memory.py
	$(BIN)/python bench/cost_models.py
	$(BIN)/python bench/low_bit.py

clean:
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache
