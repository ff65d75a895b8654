# What a newcomer needs: `make expand`, `make test`. What a developer needs all the time: `make check`.
SHELL := /bin/bash
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
ARGS ?=
FAULT_POINTS := tests/integration/test_dying_at_every_write.py
# Clusters and jobs of their own wait a lot, so three files at a time keep two cores busy.
BY_FILE := --numprocesses 3 --dist loadfile --no-loadscope-reorder
BENCHMARKS ?= train train_ranks tune feed label decode ranges listing bucket manifest doubles mutated demo_difficulty focus
export RAY_USAGE_STATS_ENABLED ?= 0

.PHONY: expand test check lint format types layers unit bench install

expand: $(VENV)/.installed
	$(BIN)/python jobs/expand.py $(ARGS)

test: $(VENV)/.installed
	$(MAKE) --no-print-directory --jobs --output-sync=target lint types layers
	$(BIN)/python -m pytest tests/unit $(FAULT_POINTS) --numprocesses 3 $(ARGS)
	$(BIN)/python -m pytest tests/cluster tests/integration --ignore $(FAULT_POINTS) $(BY_FILE) $(ARGS)

check: $(VENV)/.installed
	$(MAKE) --no-print-directory --jobs --output-sync=target lint types layers unit

lint: $(VENV)/.installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/codespell mke_ray jobs conf tests benchmarks docs cluster README.md CHANGELOG.md

format: $(VENV)/.installed
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

types: $(VENV)/.installed
	$(BIN)/pyright

layers: $(VENV)/.installed
	$(BIN)/lint-imports

unit: $(VENV)/.installed
	$(BIN)/python -m pytest tests/unit --numprocesses 2 $(ARGS)

bench: $(VENV)/.installed
	for name in $(BENCHMARKS); do $(BIN)/python benchmarks/$$name.py $(ARGS) || exit 1; done

install: $(VENV)/.installed

$(VENV)/.installed: pyproject.toml constraints.txt
	@echo "Installing pinned versions into $(VENV): some 3 GB, a few minutes without a word"
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable ".[dev,lora,onnx,serve,transformers]"
	touch $@
