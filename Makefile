# make demo   train, export, run and analyze the bundled aspirin (about six minutes on two cores, after installation)
# make test   the whole test suite
# make check  what CI runs: lint, types, import rules, tests

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
DEMO := demo-run

.PHONY: install demo test lint check docs clean

install: $(VENV)/.installed

$(VENV)/.installed: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' || \
		{ echo "piwsl needs Python 3.10 or newer: make PYTHON=python3.11"; exit 1; }
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --upgrade pip
	$(BIN)/python -m pip install --constraint constraints.txt --editable '.[all]'
	touch $@

demo: install
	$(BIN)/piwsl train piwsl/resources/aspirin_demo.yaml --output $(DEMO)/train --force
	$(BIN)/piwsl export $(DEMO)/train/model.pt --target openmm --system aspirin --output $(DEMO)/aspirin.pt --force
	# A run that left physics (exit code 3) is analyzed all the same: the report says what happened.
	$(BIN)/piwsl md --system aspirin --model $(DEMO)/aspirin.pt --steps 20000 --seed 1 --output $(DEMO)/md --force \
		|| test $$? -eq 3
	$(BIN)/piwsl analyze $(DEMO)/md --output $(DEMO)/analysis

test: install
	$(BIN)/python -m pytest -n 2 --dist loadfile

lint: install
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

check: lint test

docs: install
	$(BIN)/python -m sphinx -W --keep-going -q -d build/doctrees docs build/docs
	@echo build/docs/index.html

clean:
	rm -rf $(DEMO) build dist *.egg-info
