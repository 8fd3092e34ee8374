# Everything here sets itself up: a Python >= 3.10 and make are all it takes.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet

.DEFAULT_GOAL := help
.PHONY: help run test lint bench nano clean

help: ## this list
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*##/\t/' | expand -t 10

run: $(VENV)/.run ## start a node with a simulated stack and the model that ships with the code
	@exec $(BIN)/thox run

test: $(VENV)/.test lint ## ruff, mypy and every test
	@$(BIN)/python -m pytest

lint: $(VENV)/.test ## ruff and mypy alone
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy

bench: $(VENV)/.bench ## measure against llama.cpp on this machine; docs/PERFORMANCE.md says how to read it
	@$(BIN)/python -m tests.bench

nano: $(VENV)/.test ## train the shipped model again, into .cache/nano
	@$(BIN)/python -m agent.nano.train --out .cache/nano

clean: ## remove what was set up; keys and models of the state folder stay
	rm -rf $(VENV) .cache

# Debian and Ubuntu keep venv in a package of its own.
$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' || { echo "Python 3.10 or newer is needed: make PYTHON=/path/to/python3" >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { [ "$$(id -u)" = 0 ] && apt-get update -qq && apt-get install -y -qq python3-venv; } \
		|| { echo "python3-venv is missing: sudo apt-get install python3-venv" >&2; exit 1; }
	@echo "Setting up $(VENV) ..."
	@$(PYTHON) -m venv $(VENV)
	@$(PIP) install --upgrade pip

$(VENV)/.run: pyproject.toml | $(BIN)/python
	@echo "Installing what the agent needs ..."
	@$(PIP) install --editable '.[embeddings]'
	@touch $@

$(VENV)/.test: pyproject.toml | $(BIN)/python
	@echo "Installing what the tests need ..."
	@$(PIP) install --editable '.[embeddings,test]'
	@touch $@

$(VENV)/.bench: pyproject.toml | $(BIN)/python
	@$(PIP) install --editable '.[embeddings,test,bench]'
	@touch $@
