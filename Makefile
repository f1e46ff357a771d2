# Barque's commands. `make help` lists them; each installs what it needs first (Debian packages and PyPI, as root).
SHELL := /bin/bash
VENV := .venv
BIN := $(VENV)/bin
ROOMS := api client network worker master cli deploy proto
SUITES ?= tests/unit tests/simulation tests/integration tests/host tests/e2e
# What keeps processors busy, and no clock but a simulated one; the others mostly wait, and are judged by the clock:
# on loopback, or on hosts of their own.
BUSY = $(filter tests/unit% tests/simulation%,$(SUITES))
HOSTED = $(filter tests/host% tests/e2e%,$(SUITES))
TIMED = $(filter-out $(BUSY) $(HOSTED),$(SUITES))
BENCH ?= voyage
ROUNDS ?= 20
SEEDS ?= 300
MASTERS ?= 1
WORKERS ?= 3

.DEFAULT_GOAL := help
.PHONY: help setup generate types lint test test-timed test-hosted test-busy sim bench soak demo lab lab-down clean

help: ## list the commands
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

setup: build/.setup ## install Debian packages, the virtual environment and Barque itself

build/.setup: pyproject.toml deploy/bootstrap.sh
	deploy/bootstrap.sh $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check --editable '.[dev]'
	@$(MAKE) --no-print-directory types
	@touch $@

types: ## lay the link tree that type checker, linter and protoc read the package through
	@mkdir -p build/types/barque
	@for room in $(ROOMS); do ln -sfn ../../../$$room build/types/barque/$$room; done

generate: setup ## write the gRPC stubs, the object types and docs/compatibility.md anew
	cd build/types && $(abspath $(BIN))/python -m grpc_tools.protoc -I. --python_out=. --pyi_out=. --grpc_python_out=. \
		barque/proto/*.proto
	$(BIN)/python api/types/generate.py
	$(BIN)/ruff check --quiet --fix --select I api/types
	$(BIN)/ruff format --quiet api/types
	$(BIN)/python -m tests.support.compatibility

lint: setup ## formatting, lint, types, the arrows between rooms, fresh generated files
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy $(foreach room,$(filter-out proto,$(ROOMS)),-p barque.$(room))
	cd build/types && ../../$(BIN)/lint-imports --config ../../pyproject.toml
	@deploy/check-generated.sh

test: setup lint ## every test but the long ones; needs root, starts what it needs
	@$(MAKE) --no-print-directory --jobs=3 test-timed test-hosted test-busy

# What those beside the first say is kept together: $(call aside,name,how to run pytest,suites)
aside = mkdir -p build; $2 -p no:cacheprovider $3 >build/$1.txt 2>&1; ended=$$?; cat build/$1.txt; exit $$ended

# Real daemons on a busy machine: one more try, which is shown, for three tests at most (docs/decisions/0023).
AGAIN := --reruns 1 --max-suite-reruns 3 --rerun-show-tracebacks

test-timed:
	$(if $(TIMED),$(BIN)/pytest $(AGAIN) $(TIMED))

test-hosted:
	$(if $(HOSTED),@$(call aside,$@,$(BIN)/pytest,$(AGAIN) $(HOSTED)))

# On what the timed ones leave of the processors.
test-busy:
	$(if $(BUSY),@$(call aside,$@,nice -n 19 $(BIN)/pytest,$(BUSY)))

sim: setup ## masters in simulated time under seeded faults: make sim SEEDS=10000, SEED=1234 (its trace), PLANTED=1
	$(BIN)/python -m tests.simulation.harness.run $(if $(SEED),--seed $(SEED),$(if $(PLANTED),--planted,--seeds $(SEEDS)))

bench: setup ## measure, into build/bench/$(BENCH).json: make bench BENCH=voyage
	@mkdir -p build/bench
	$(BIN)/python -m tests.bench.$(BENCH)

soak: setup ## kill, cut, pause, mend and check for a long while: make soak ROUNDS=200
	BARQUE_SOAK_ROUNDS=$(ROUNDS) $(BIN)/pytest -x --timeout 0 tests/chaos

demo: setup ## bring a cluster up on this machine and sail a first voyage
	$(BIN)/python -m barque.deploy.demo

lab: setup ## a cluster of several hosts on this machine: make lab MASTERS=3 WORKERS=2
	$(BIN)/barque lab up --masters $(MASTERS) --workers $(WORKERS)

lab-down: setup ## take that lab down, without a trace
	$(BIN)/barque lab down

clean: ## remove what the other commands made in this folder
	rm -rf build $(VENV) *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis
