# Two commands set up and run: `make demo` shows the system at work, `make test` runs its tests.
VENV ?= .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
PYTHON ?= python3

unexport PYTHONDONTWRITEBYTECODE  # or the tests are compiled anew in each process: 6 seconds of each

.PHONY: help install demo test quick check format clean

help:
	@echo "make demo    set up, color real photographs, say where to look (about 3 minutes, plus a 5 GB download)"
	@echo "make test    set up, run all tests (21 minutes on two cores)"
	@echo "make quick   the tests that start no Ray and take no second each (2.5 minutes on two cores)"
	@echo "make check   set up, lint, types, import rules"

install: $(INSTALLED)

# PyPI's torch brings its CUDA libraries along (about 5 GB); it runs on CPUs as well.
$(INSTALLED): pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "colorize needs Python 3.11 or newer, this is " + sys.version)'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev]'
	touch $@

demo: $(INSTALLED)
	$(BIN)/python scripts/demo.py prepare demo/scans
	$(BIN)/colorize bulk --input demo/scans --output demo/colored
	$(BIN)/python scripts/demo.py sheet demo/scans demo/colored demo/before-and-after.jpg
	@echo
	@echo "Look at demo/before-and-after.jpg, at the images in demo/colored/ and at the report of the run:"
	@echo "demo/colored/_colorize/report.html"

test: $(INSTALLED)
	$(BIN)/python -m pytest -q --durations=10 -n 2 --dist worksteal -m 'not cluster'
	$(BIN)/python -m pytest -q --durations=10 -n 2 --dist loadfile -m cluster

quick: $(INSTALLED)
	$(BIN)/python -m pytest -q -n 2 --dist worksteal -m 'not cluster and not slow'

check: $(INSTALLED)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python -m pytest -q tests/test_structure.py

format: $(INSTALLED)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:
	rm -rf $(VENV) demo build *.egg-info .mypy_cache .pytest_cache .ruff_cache
