# Two commands do all the set-up: `make train` and `make test`.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

# Length of `make train`: about five minutes on two cores.
EPISODES ?= 12
ROUND_INTERVAL ?= 4

.PHONY: train test lint types schema clean help

help:
	@echo "make train   train three federated clients on convoy_lock_td3, about five minutes"
	@echo "make test    lint, types and tests"
	@echo "make schema  rewrite scenarios/schema.json after a change of the settings models"
	@echo "make clean   remove the virtual environment and caches"

train: $(STAMP)
	FED_ROUND_INTERVAL=$(ROUND_INTERVAL) $(BIN)/python run.py \
		--scenario scenarios/convoy_lock_td3.yaml --repeat 3 --max-parallel 3 --episodes $(EPISODES)

test: $(STAMP) lint types
	$(BIN)/python -m pytest --numprocesses auto --maxprocesses 4 --dist loadfile --no-loadscope-reorder

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
