# Every command does all the set-up that it needs.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

# Tests start hundreds of processes, each of which would compile all that it imports.
unexport PYTHONDONTWRITEBYTECODE

# Length of `make train`, the scenario's own: about two minutes on two cores. The learning rates
# fall to nothing over it, so a shorter run ends while evaluations still go up and down.
EPISODES ?= 5400
ROUND_INTERVAL ?= 100

# Of `make fuzz`: another one each time, and the same again with SEED=….
SEED := $(shell date +%s)

# A worker a core; three for two are no faster. A file stays with one worker, since its tests share
# what they start; files with slow tests come first, which is tests/conftest.py's doing.
PYTEST := $(BIN)/python -m pytest --numprocesses auto --maxprocesses 4 --dist loadfile --no-loadscope-reorder

.PHONY: train check test suite fuzz lint types schema clean help

help:
	@echo "make train   train three federated clients on convoy_lock_td3, about two minutes"
	@echo "make check   lint, types and fast tests, while you work: about a minute and a half"
	@echo "make test    lint, types and all tests"
	@echo "make fuzz    properties with many other examples; SEED=N draws them again"
	@echo "make schema  rewrite scenarios/schema.json after a change of the settings models"
	@echo "make clean   remove the virtual environment and caches"

train: $(STAMP)
	FED_ROUND_INTERVAL=$(ROUND_INTERVAL) $(BIN)/python run.py \
		--scenario scenarios/convoy_lock_td3.yaml --repeat 3 --max-parallel 3 --episodes $(EPISODES)

check: $(STAMP) lint types
	$(PYTEST) -m "not slow"

# Types are checked beside the tests, of which the first compiles the simulator on one core.
test: $(STAMP) lint
	$(MAKE) --jobs 2 types suite

suite: $(STAMP)
	$(PYTEST)

fuzz: $(STAMP)
	@echo "make fuzz SEED=$(SEED)"
	$(PYTEST) -m hypothesis --hypothesis-profile fuzz --hypothesis-seed $(SEED)

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(STAMP)
	$(BIN)/mypy

schema: $(STAMP)
	$(BIN)/python -m f110_fl.config.schema

# The stamp is made last, so that an interrupted installation is done again.
$(STAMP): pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "f110-fl needs Python 3.11 or newer; set PYTHON=...")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --editable '.[dev]'
	touch $@

clean:
	rm -rf $(VENV) .mypy_cache .pytest_cache .ruff_cache .hypothesis
