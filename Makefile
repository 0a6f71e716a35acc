.DEFAULT_GOAL := help
SHELL := /bin/bash
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

help: ## Show this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-10s %s\n", $$1, $$2}'

# Each lock has its own stamp, so that the demo needs no linters and a changed lock is installed again.
# uv (itself from the hashed lock) installs in parallel: seconds where pip takes a minute.
$(BIN)/uv:
	$(PYTHON) -m venv $(VENV)
	grep -A200 '^uv==' requirements-demo.txt | awk 'NR==1 || /^ / {print; next} {exit}' > $(VENV)/uv.txt
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps --require-hashes -r $(VENV)/uv.txt

$(VENV)/.demo: requirements-demo.txt pyproject.toml | $(BIN)/uv
	$(BIN)/uv pip install --quiet --python $(BIN)/python --require-hashes -r requirements-demo.txt
	$(BIN)/uv pip install --quiet --python $(BIN)/python --no-deps --no-build-isolation -e .
	@touch $@

$(VENV)/.dev: requirements-dev.txt pyproject.toml | $(BIN)/uv
	$(BIN)/uv pip install --quiet --python $(BIN)/python --require-hashes -r requirements-dev.txt
	$(BIN)/uv pip install --quiet --python $(BIN)/python --no-deps --no-build-isolation -e .
	@touch $@ $(VENV)/.demo

setup: $(VENV)/.dev ## Create .venv with all locked dependencies

demo: $(VENV)/.demo ## Run the worker on a local Kafka and Redis against real market bars (ARGS="--signals 5000 --keep")
	@$(BIN)/meta-strategy demo $(ARGS)

test: $(VENV)/.dev ## Run all tests, on a real Kafka and Redis
	@$(BIN)/pytest -n 2 --dist worksteal $(ARGS)

check: $(VENV)/.dev ## Lint, types, import rules, stale files
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: $(VENV)/.dev ## Measure the worker beside a plain one, in interleaved rounds
	@$(BIN)/python -m bench.run $(ARGS)

lock: $(VENV)/.dev ## Write the hashed lock files anew
	./lock.sh

.PHONY: help setup demo test check bench lock
