# `make demo` and `make test` install the package first if needed.
VENV ?= .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
PYTHON ?= python3

unexport PYTHONDONTWRITEBYTECODE  # otherwise every process compiles the tests again, which takes 6 seconds

.PHONY: help install demo test quick check format clean

help:
	@echo "make demo    install, color real photographs, print where they are (about 3 minutes, plus a 5 GB download)"
	@echo "make test    install, run all tests (19 minutes on two cores)"
	@echo "make quick   run the tests without Ray that take less than a second each (90 seconds on two cores)"
	@echo "make check   lint, check types and import rules"

install: $(INSTALLED)

# PyPI's torch includes the CUDA libraries (about 5 GB); it also runs on CPUs.
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
	$(BIN)/python -m pytest -q --durations=10 -n 2 --dist loadfile -m cluster tests

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
