# One command for each habit. Every target sets up what it needs: `make test` works in a fresh clone.

PYTHON ?= python3
VENV ?= .venv
PY := $(VENV)/bin/python

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help venv train test versions lowest check format bless functions bench clean

help:
	@echo "make train    train the handwritten digits to 97% and more, in machine code"
	@echo "make test     the tests; warnings are errors         (ARGS='-k name' goes to pytest)"
	@echo "make versions the tests with the lowest and the newest dependencies, on each Python that is there (ARGS too)"
	@echo "make lowest   the examples and tests/api with the lowest dependencies, on each Python that is there"
	@echo "make check    formatting, lint, types"
	@echo "make format   rewrite the sources as 'make check' wants them"
	@echo "make bless    rewrite the expected part of tests/filetests/*.ir from what the compiler prints now"
	@echo "make functions rewrite docs/functions.md from the table of functions"
	@echo "make bench    side by side with peers                (W=mlp T=1 P=jax,torch choose work, threads, peers;"
	@echo "              W=start,calls: first calls, and calls by kind of argument, beside JAX and autograd)"
	@echo "make venv     the environment alone; every other target makes it too"

venv: $(VENV)/.stamp

INSTALL := $(PY) -m pip install --quiet --disable-pip-version-check --editable
CHECK := import sys; sys.exit("adjit needs Python 3.11 or newer, and $(PYTHON) is %d.%d; name another one: \
make PYTHON=python3.12 train" % sys.version_info[:2] if sys.version_info < (3, 11) else 0)

# What users have: the package alone. Made anew whenever the dependencies can have changed.
$(VENV)/.user: pyproject.toml
	@$(PYTHON) -c '$(CHECK)'
	$(PYTHON) -m venv --clear $(VENV)
	$(INSTALL) .
	@touch $@

# With the tools of those who change something.
$(VENV)/.stamp: $(VENV)/.user
	$(INSTALL) '.[dev]'
	@touch $@

train: $(VENV)/.user
	$(PY) examples/digits.py

test: venv
	$(PY) -m pytest $(ARGS)

# Environments of their own, in .venvs. PYTHONS=python3.12,python3.13 takes other interpreters.
VERSIONS := $(PYTHON) tests/versions.py $(if $(PYTHONS),--pythons $(PYTHONS))
versions:
	$(VERSIONS) $(ARGS)

lowest:
	$(VERSIONS) --lowest tests/api tests/test_examples.py $(ARGS)

check: venv
	$(PY) -m ruff format --check .
	$(PY) -m ruff check .
	$(PY) -m mypy

format: venv
	$(PY) -m ruff format .
	$(PY) -m ruff check --fix .

bless: venv
	$(PY) -m pytest tests/filetests --bless

functions: venv
	$(PY) -m tests.functions

# The peers are large, so they are installed by hand: pip install -e '.[bench]' in an environment named here.
BENCH_PYTHON ?= $(PY)
bench: $(if $(filter $(PY),$(BENCH_PYTHON)),venv)
	$(BENCH_PYTHON) -m benchmarks $(if $(W),--workloads $(W)) $(if $(T),--threads $(T)) $(if $(P),--peers $(P))

clean:
	rm -rf $(VENV) .venvs build dist .mypy_cache .pytest_cache .ruff_cache .hypothesis *.egg-info
