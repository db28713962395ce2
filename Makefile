# make help lists the targets.

PYTHON ?= python3
# The Python whose environment gets the lowest versions that pyproject.toml allows.
LOWEST_PYTHON ?= $(PYTHON)
VENV := .venv
BIN := $(VENV)/bin
LOWEST := .venv-lowest
DEMO := demo-run
# Of make fuzz: changes of each kind of file, and their seed.
N := 300
SEED := 0
# One file at a time on each worker: the tests of a file share what is slow to make.
PYTEST := -m pytest -n 2 --dist loadfile --durations 15
SLOW := slow or compile or browser or cluster
FAST := not ($(SLOW))
# Left to test-long: tests/long.py.
LONG := long
# All extras but torchforce-*, whose plugin needs a newer torch than the lowest, and torch-sim.
LOWEST_EXTRAS := openmm-ml,fast,data,label,smiles,pyscf,dask,tune,tensorboard,dev

.PHONY: help install demo test test-fast test-slow test-long test-lowest coverage fuzz lint check docs dist clean

help:  ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

install: $(VENV)/.installed  ## make the virtual environment .venv with piwsl and all extras

$(VENV)/.installed: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' || \
		{ echo "piwsl needs Python 3.10 or newer: make PYTHON=python3.11"; exit 1; }
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --upgrade pip
	$(BIN)/python -m pip install --constraint constraints.txt --editable '.[all]'
	touch $@

demo: install  ## train, export, run and analyze the bundled aspirin (about six minutes on two cores)
	$(BIN)/piwsl train piwsl/resources/aspirin_demo.yaml --output $(DEMO)/train --force
	$(BIN)/piwsl export $(DEMO)/train/model.pt --target openmm --system aspirin --output $(DEMO)/aspirin.pt --force
	# A run that became unphysical (exit code 3) is analyzed all the same: the report shows what happened.
	$(BIN)/piwsl md --system aspirin --model $(DEMO)/aspirin.pt --steps 20000 --seed 1 --output $(DEMO)/md --force \
		|| test $$? -eq 3
	$(BIN)/piwsl analyze $(DEMO)/md --output $(DEMO)/analysis

test: install  ## run the tests (13 to 14 minutes on two cores)
	$(BIN)/python $(PYTEST) -m 'not $(LONG)'

test-fast: install  ## run the fast tests (about 2 minutes on two cores)
	$(BIN)/python $(PYTEST) -m '$(FAST)'

test-slow: install  ## run the tests of make test that test-fast leaves out
	$(BIN)/python $(PYTEST) -m '($(SLOW)) and not $(LONG)'

test-long: install  ## run the tests that make test leaves out (before a release)
	$(BIN)/python $(PYTEST) -m '$(LONG)'

coverage: install  ## run the fast tests and print their coverage
	$(BIN)/python $(PYTEST) -m '$(FAST)' --cov --cov-report term:skip-covered

test-lowest: $(LOWEST)/.installed  ## run the fast tests with the lowest versions that pyproject.toml allows
	$(LOWEST)/bin/python $(PYTEST) -m '$(FAST)' -W default

$(LOWEST)/.installed: $(VENV)/.installed .ci/lowest.py
	$(LOWEST_PYTHON) -m venv --clear $(LOWEST)
	$(BIN)/python .ci/lowest.py > $(LOWEST)/constraints.txt
	$(LOWEST)/bin/python -m pip install --upgrade pip
	$(LOWEST)/bin/python -m pip install --constraint $(LOWEST)/constraints.txt --editable '.[$(LOWEST_EXTRAS)]'
	touch $@

fuzz: install  ## read N=300 altered files of each kind (SEED=0, TARGET=name)
	$(BIN)/python -m tests.fuzz -n $(N) --seed $(SEED) $(if $(TARGET),--target $(TARGET))

lint: install  ## check format, style, spelling, types and import rules
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/codespell
	$(BIN)/mypy
	$(BIN)/lint-imports

check: lint test  ## lint and test

docs: install  ## build the documentation in build/docs
	$(BIN)/python -m sphinx -W --keep-going -q -d build/doctrees docs build/docs
	@echo build/docs/index.html

dist: install  ## build the source distribution and the wheel
	$(BIN)/python -m build

clean:  ## remove what the targets made, except the environments
	rm -rf $(DEMO) build dist *.egg-info
