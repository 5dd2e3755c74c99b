# Everything a newcomer or CI calls. `make demo` and `make test` do all the set-up on a fresh machine.
SHELL := bash
.DEFAULT_GOAL := help
.PHONY: help setup demo test test-all check format clean

BIN := .venv/bin
# two cores: two test workers, and no runtime inside them takes more than one thread
WORKERS ?= 2

help: ## this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

setup: ## .venv with everything that demo, test and check need (PYTHON= chooses the interpreter)
	@PYTHON="$(PYTHON)" tools/setup.sh test

demo: ## the whole pipeline on rendered streets: train, export, calibrate, build, live, bench (under 10 minutes)
	@PYTHON="$(PYTHON)" tools/setup.sh demo
	@$(BIN)/edgeseg demo --out demo

test: setup ## the default tests (under 5 minutes on two cores)
	@OMP_NUM_THREADS=1 $(BIN)/pytest -n $(WORKERS) --dist loadfile

test-all: setup ## the default tests and the slow ones
	@OMP_NUM_THREADS=1 $(BIN)/pytest -n $(WORKERS) --dist loadfile -m 'not bench and not gpu'

check: setup ## lint, format, types, layers: what CI runs before the tests
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports

format: setup ## rewrite the code in the project's format
	@$(BIN)/ruff check --fix-only .
	@$(BIN)/ruff format .

clean: ## remove what make made
	@rm -rf .venv demo runs .mypy_cache .ruff_cache .pytest_cache .import_linter_cache
