.DEFAULT_GOAL := help
SHELL := /bin/bash
VENV := .venv
BIN := $(VENV)/bin
# the Python of the environment that is there, unless another one is asked for
PYTHON ?= $(shell test -x $(BIN)/python && echo $(BIN)/python || echo python3)

help: ## Show this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-12s %s\n", $$1, $$2}'

# Looked at each time, written when the environment is made: then all that is in it is installed again.
$(VENV)/pyvenv.cfg: always
	@$(PYTHON) deploy/environment.py $(VENV) "$(MAKECMDGOALS)"

# Each lock has its own stamp, so that the demo needs no linters and a changed lock is installed again.
# uv (itself from the hashed lock) installs in parallel: seconds where pip takes a minute.
$(BIN)/uv: $(VENV)/pyvenv.cfg
	grep -A200 '^uv==' requirements-demo.txt | awk 'NR==1 || /^ / {print; next} {exit}' > $(VENV)/uv.txt
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps --require-hashes -r $(VENV)/uv.txt

$(VENV)/.demo: requirements-demo.txt pyproject.toml $(VENV)/pyvenv.cfg | $(BIN)/uv
	$(BIN)/uv pip install --quiet --compile-bytecode --python $(BIN)/python --require-hashes -r requirements-demo.txt
	$(BIN)/uv pip install --quiet --python $(BIN)/python --no-deps --no-build-isolation -e .
	@touch $@

$(VENV)/.dev: requirements-dev.txt pyproject.toml $(VENV)/pyvenv.cfg | $(BIN)/uv
	$(BIN)/uv pip install --quiet --compile-bytecode --python $(BIN)/python --require-hashes -r requirements-dev.txt
	$(BIN)/uv pip install --quiet --python $(BIN)/python --no-deps --no-build-isolation -e .
	@touch $@ $(VENV)/.demo

setup: $(VENV)/.dev ## Create .venv with all locked dependencies

demo: $(VENV)/.demo ## Run the worker on a local Kafka and Redis against real market bars (ARGS="--signals 5000 --keep")
	@$(BIN)/meta-strategy demo $(ARGS)

test: $(VENV)/.dev ## Run all tests, on a real Kafka and Redis
	@$(BIN)/pytest -n 3 $(ARGS)

# A copy of this tree, with what every record goes through compiled. The sources stay as they are, and are
# what is run here unless a target says otherwise: nobody edits a module and runs its old binary.
NATIVE := build/native
build/compiled/.done: $(VENV)/.dev deploy/native.py $(shell find consumer schemas -name '*.py')
	rm -rf build/compiled && mkdir -p build/compiled
	$(BIN)/python deploy/native.py build/compiled > build/compiled.log || { cat build/compiled.log; exit 1; }
	@touch $@

native: build/compiled/.done ## Copy this tree to build/native, its hot modules compiled (needs a C compiler)
	@rm -rf $(NATIVE) && mkdir -p $(NATIVE)
	@git ls-files -z --cached --others --exclude-standard | tar --null --files-from=- --create | tar --extract -C $(NATIVE)
	@cp -R build/compiled/. $(NATIVE)
	@ln -s $(CURDIR)/$(VENV) $(NATIVE)/$(VENV)

test-native: native ## Run all tests on the compiled modules
	@cd $(NATIVE) && $(VENV)/bin/pytest -n 3 $(ARGS)

properties: $(VENV)/.dev ## Try each rule on a hundred times as many examples, other ones each time
	@$(BIN)/pytest -n 2 --hypothesis-profile=thorough tests/unit $(ARGS)

check: $(VENV)/.dev ## Lint, types, import rules, stale files
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

# Peers and plots have an environment of their own, made when they are asked for. Without it, or with one
# of them missing, the benchmark says so and goes on.
BENCH_VENV := $(VENV)-bench
$(BENCH_VENV)/.done: requirements-bench.txt | $(BIN)/uv
	$(PYTHON) -m venv $(BENCH_VENV)
	-$(BIN)/uv pip install --quiet --python $(BENCH_VENV)/bin/python --require-hashes -r requirements-bench.txt && touch $@

bench: $(VENV)/.dev $(if $(shell command -v cc),native) $(if $(filter --peers --all --write-docs,$(ARGS)),$(BENCH_VENV)/.done) ## Measure the worker beside others, in interleaved rounds (ARGS="--peers --growth")
	@$(BIN)/python -m bench.run $(ARGS)

QUALITY_VENV := $(VENV)-quality
$(QUALITY_VENV)/.done: requirements-quality.txt | $(BIN)/uv
	$(PYTHON) -m venv $(QUALITY_VENV)
	-$(BIN)/uv pip install --quiet --python $(QUALITY_VENV)/bin/python --require-hashes -r requirements-quality.txt && touch $@

quality: $(VENV)/.dev $(if $(filter --no-peers,$(ARGS)),,$(QUALITY_VENV)/.done) ## Measure how well policies choose, beside bandit libraries (ARGS="--seeds 32")
	@$(BIN)/python -m quality.run $(ARGS)

chaos: $(VENV)/.dev ## Hurt workers, brokers, Redis and network under traffic; compare with an oracle (SEED=7 MINUTES=5)
	@$(BIN)/python -m chaos run --seed $(or $(SEED),7) --minutes $(or $(MINUTES),5)

simulate: $(VENV)/.dev ## Run schedules of faults on simulated servers (SEEDS=100000 FIRST=0)
	@$(BIN)/python -m tests.simulation --seeds $(or $(SEEDS),100000) --first $(or $(FIRST),0)

sbom: $(VENV)/.dev ## Write what the image runs to dist/sbom.json (CycloneDX)
	@deploy/release.sh sbom

licenses: $(VENV)/.dev ## Write docs/licenses.md; fails on a licence that is not accepted
	@deploy/release.sh licenses

wheel: $(VENV)/.dev ## Build the wheel twice, and compare
	@deploy/release.sh wheel

fuzz: $(VENV)/.dev ## Feed hostile input to decoders and batches (ARGS="--inputs 1000000 --seed 1")
	@$(BIN)/python -m fuzz $(ARGS)

lock: $(VENV)/.dev ## Write the hashed lock files anew
	./lock.sh

.PHONY: always help setup demo test native test-native properties check bench quality fuzz chaos simulate sbom licenses wheel lock
