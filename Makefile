# Everything from nothing: `make train` runs the main job, `make test` the tests.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
READY  := $(VENV)/.ready

.PHONY: setup train test clean

setup: $(READY)

$(READY): pyproject.toml constraints.txt
	@echo "setting up $(VENV) (about a minute)"
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev]'
	@# A second MPI, beside the first, so that the tests can run under both.
	@$(BIN)/python -m pip install --quiet --no-deps --constraint constraints.txt --prefix $(CURDIR)/$(VENV)/mpich mpich
	@touch $(READY)

train: setup
	$(BIN)/arignote train digits-cnn -n 2
	$(BIN)/arignote plot

test: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	@# Two at a time; those that start workers come one by one (tests/conftest.py).
	$(BIN)/python -m pytest -n 2

clean:
	rm -rf $(VENV) runs
