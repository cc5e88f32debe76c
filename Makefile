# Every target carries its own documentation after "##"; `make` alone lists them.
# PYTHON=/path/to/python3.12 picks the interpreter that .venv is made with (3.11 or newer).

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help setup demo up test check slow chaos bench

VENV := .venv
BIN := $(VENV)/bin
SOURCES := models service worker migrations tests benchmarks
# Many processes share few cores: one thread each, none spins while it waits, and what is compiled is kept.
TESTING := env -u PYTHONDONTWRITEBYTECODE OMP_NUM_THREADS=1 OMP_WAIT_POLICY=passive

help: ## List the targets
	@echo "Atelier: trains image generators behind a REST service."
	@echo
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-8s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: $(VENV)/installed-dev ## Make .venv with everything, development tools included

demo: $(VENV)/installed-demo ## Train a DCGAN on handwritten digits through the real service; pictures go to demo/
	@exec $(BIN)/atelier demo --out demo

up: $(VENV)/installed-demo ## Run the whole service on this machine until Ctrl-C (data in atelier-data/)
	@exec $(BIN)/atelier up

test: setup check ## Install what is missing and run every check that CI runs

check: setup ## Formatting, lint, types, import arrows and all tests but the slow ones
	$(BIN)/ruff format --check $(SOURCES)
	$(BIN)/ruff check $(SOURCES)
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(TESTING) $(BIN)/python -m pytest -q -m "not slow" -n 3 --dist worksteal

slow: setup ## The tests that take longer than ten seconds each
	$(BIN)/python -m pytest -q -m slow

chaos: setup ## Kill parts of a deployment at random, KILLS=200 times, and check that nothing is lost
	KILLS=$(or $(KILLS),200) SEED=$(or $(SEED),1) $(BIN)/python -m pytest -q tests/chaos/test_campaign.py -k postgresql

bench: setup ## Time the training loop against plain torch
	$(BIN)/python -m benchmarks.training_overhead
	$(BIN)/python -m benchmarks.dcgan_vs_classic

# A stamp is made anew only when pyproject.toml has changed since.
$(VENV)/installed-%: pyproject.toml .ci/install
	@exec .ci/install $*
