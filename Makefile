# Every command a contributor needs. `make` alone lists them.
#
# What runs in .venv is made on first use, and again when pyproject.toml or the lock has changed.
# Chatter goes to stderr: the stdout of `make demo ARGS="--until-done --json"` is the JSON alone.

PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
READY  := $(VENV)/.ready
EXTRAS := local,train,sequence,objects,console,test
AT_ONCE ?= 3
DRILLS_AT_ONCE ?= 3
LOCKED := requirements.lock deploy/requirements.lock deploy/objects.lock deploy/trainer.lock deploy/console.lock

.SHELLFLAGS := -eu -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.PHONY: help setup demo test cases shop faults lag-drill soak mutants check format train bench docs lock audit clean

help: ## List the commands
	@echo "Usage: make COMMAND [ARGS=\"...\"]   (arguments for the program behind it)"; echo
	@sed -n 's/^\([a-z-]*\):.*## /  \1|/p' $(firstword $(MAKEFILE_LIST)) | while IFS='|' read -r name what; do \
	  printf '%-10s  %s\n' "$$name" "$$what"; done

setup: $(READY) ## Make .venv with everything in it (the others do it by themselves)
	@:

demo: $(READY) ## See it all run on this machine; BROKER=kafka for Apache Kafka
	@$(BIN)/tideline demo $(if $(BROKER),--broker $(BROKER)) $(ARGS)

# Many tests wait for processes and timeouts, so more run at once than there are cores (at least 2).
test: $(READY) ## Run all tests; ARGS="-k windows" for some, AT_ONCE=0 one after the other
	@$(BIN)/python -m pytest -n $(AT_ONCE) --dist worksteal $(ARGS)

cases: $(READY) ## What shops export, and what is read of it; CASES=DIRECTORY adds their traffic
	@$(BIN)/python -m tests.cases $(CASES) $(ARGS)

shop: $(READY) ## Play a shop's Monday on real Kafka, and recount it; ARGS="--customers 500 --seed 7"
	@$(BIN)/python -m tests.shop $(ARGS)

# The drills, and the tests whose sweeps take minutes. Each process of them has a broker of its own;
# more of them disturb each other's recovery times. tests/faults comes first by name: only then
# does pytest know its table from the start.
faults: $(READY) ## Break everything on purpose, and count what was lost; ARGS="--seed 7"
	@$(BIN)/python -m pytest tests/faults tests --faults -m "fault or full" -rs -n $(DRILLS_AT_ONCE) --dist worksteal $(ARGS)

lag-drill: $(READY) ## Stop, kill, drown consumers and more: who notices within how many seconds
	@$(BIN)/python -m tests.deploy.lag_drill $(ARGS)

soak: $(READY) ## Load with random faults; MINUTES=30
	@$(BIN)/python -m tests.faults.soak --minutes $(or $(MINUTES),30) $(ARGS)

# An hour on one core, at the lowest priority. It also lists what no test notices.
mutants: $(READY) ## Put small faults into the code and see that tests fail; ARGS="--module kafka"
	@$(BIN)/python -m tests.mutation $(ARGS)

check: $(READY) ## Lint, formatting, types, layers; silent when all is well
	@failed=0; \
	$(BIN)/ruff check --quiet . || failed=1; \
	$(BIN)/ruff format --check --quiet . \
	  || { echo "Formatting differs; run: make format" >&2; failed=1; }; \
	$(BIN)/mypy --no-error-summary || failed=1; \
	out=$$($(BIN)/python -m pytest -q tests/test_layers.py tests/test_package.py 2>&1) \
	  || { echo "$$out"; failed=1; }; \
	exit $$failed

format: $(READY) ## Format the code and fix what ruff can fix
	@$(BIN)/ruff check --quiet --fix-only . && $(BIN)/ruff format --quiet .

train: $(READY) ## Train a champion from a year of real orders
	@$(BIN)/tideline train $(ARGS)

bench: $(READY) ## Measure Tideline and its peers (30 minutes); ARGS=--quick, BROKER=kafka
	@$(BIN)/python -m tests.bench $(if $(BROKER),--broker $(BROKER)) $(ARGS)

docs: $(READY) ## Rewrite the generated tables of README.md and docs/
	@$(BIN)/python -m tests.docs.generated

# Pins stay as they are where they still fit; ARGS=--upgrade takes the newest of all, and
# ARGS="--upgrade-package NAME" of one.
lock: ## Rewrite the lock files from pyproject.toml
	@tool=$$(mktemp -d); trap 'rm -rf "$$tool"' EXIT; \
	$(PYTHON) -m venv "$$tool" && "$$tool/bin/pip" install --quiet uv; \
	compile() { "$$tool/bin/uv" pip compile pyproject.toml --quiet --universal \
	  --python-version 3.11 --generate-hashes --no-annotate --no-emit-index-url \
	  --custom-compile-command "make lock" "$$@"; }; \
	compile --all-extras --output-file requirements.lock $(ARGS); \
	compile --constraints requirements.lock --output-file deploy/requirements.lock; \
	compile --constraints requirements.lock --extra objects --output-file deploy/objects.lock; \
	compile --constraints requirements.lock --extra train --extra objects --output-file deploy/trainer.lock; \
	compile --constraints requirements.lock --extra console --output-file deploy/console.lock

audit: $(READY) ## Check the locks and what is installed; ARGS="--known all.zip" for advisories
	@$(BIN)/python -m tests.audit $(ARGS)

clean: ## Remove .venv, caches and local data (.tideline)
	@rm -rf $(VENV) .tideline build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
	@find schemas models streams tests -name __pycache__ -type d -prune -exec rm -rf {} +

# --require-hashes takes only what the lock names. The project itself is then installed with
# --no-index: pip checks that the lock satisfies every extra, and can't fetch anything else.
$(READY): pyproject.toml requirements.lock
	@{ $(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { \
	    echo "Tideline needs Python 3.11 or newer, and '$(PYTHON)' is: $$($(PYTHON) --version 2>&1 || true)"; \
	    echo "Install one and name it: make $(MAKECMDGOALS) PYTHON=/path/to/python3.11"; exit 1; }; \
	  echo "Setting up $(VENV) with $$($(PYTHON) --version) (once; a minute or two) ..."; \
	  $(PYTHON) -m venv $(VENV) || { \
	    echo "'$(PYTHON) -m venv' failed; on Debian and Ubuntu: apt-get install python3-venv"; exit 1; }; \
	  $(BIN)/python -m pip install --quiet --require-hashes --requirement requirements.lock; \
	  $(BIN)/python -m pip install --quiet --no-index --no-build-isolation --editable '.[$(EXTRAS)]'; \
	  $(BIN)/python -m streams.core.warm; \
	  touch $@; } >&2
