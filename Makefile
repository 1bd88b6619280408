# From a bare clone: `make demo` shows what edgeprune does, `make test` tests it. Everything goes
# into .venv and runs/; the second time nothing is installed again.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
SPREAD := --numprocesses auto --maxprocesses 8 --dist loadfile

.PHONY: help demo install test test-all lint types clean

help:
	@echo "make demo      install, then prune a ResNet-18 on handwritten digits to half its latency"
	@echo "make test      install, then run the tests"
	@echo "make test-all  the tests that take minutes too"
	@echo "make lint      ruff: rules and format"
	@echo "make types     mypy, strict"
	@echo "make clean     remove .venv, runs/ and caches"
	@echo "PYTHON=...     the Python to use (3.10 to 3.13; now $(PYTHON))"

# A run that is finished is shown again at once; one that was stopped goes on.
demo: $(INSTALLED)
	$(BIN)/edgeprune fit --model torchvision:resnet18 --data digits --speedup 2 --epochs 2 \
	  -o runs/demo

install: $(INSTALLED)

# The stamp, not .venv, is what is up to date: an installation that broke off is done again.
$(INSTALLED): pyproject.toml
	@$(PYTHON) -c 'import sys; v = sys.version_info[:2]; sys.exit(0 if (3, 10) <= v <= (3, 13) else \
	  "edgeprune needs Python 3.10 to 3.13, this is %d.%d; try make PYTHON=python3.12" % v)'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev]'
	@touch $@

# A process for each core, each with one thread; the tests of a file stay together, as they share
# what takes long to make.
test: $(INSTALLED)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest $(SPREAD)

test-all: $(INSTALLED)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest $(SPREAD) -m "slow or not slow"

lint: $(INSTALLED)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(INSTALLED)
	$(BIN)/mypy

clean:
	rm -rf $(VENV) runs build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis
