# Needs Python 3.11 or later, make and a package index, nothing else: the first target that wants
# it makes .venv and installs the project with everything it can use.

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

EXTRAS := demo,explain,fairness,faiss,metrics,open-clip,parquet,privacy,tensorboard,transformers,umap,video,wordllama,docs,dev,mistakes,wandb
PYTHONS := python3.11 python3.12 python3.13 python3
PYTHON := .venv/bin/python
DEMO := demo
PYTEST := pytest --numprocesses auto --dist worksteal
# Tests start many processes, which would otherwise compile every module again.
export PYTHONDONTWRITEBYTECODE :=

.PHONY: help install test test-all lint types coverage demo docs flower trackers bench clean FORCE

help:  ## Show this list
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 20

install: .venv/installed  ## Make .venv and install the project into it

test: lint types  ## Run linter, type checker, tests and the docs' code blocks
	OMP_NUM_THREADS=1 $(PYTHON) -m $(PYTEST) -m "not exhaustive"

test-all: lint types coverage  ## Run the exhaustive tests as well, and measure what tests cover

lint: .venv/installed  ## Check style and format
	$(PYTHON) -m ruff check .
	$(PYTHON) -m ruff format --check .

types: .venv/installed  ## Check types
	$(PYTHON) -m mypy

coverage: .venv/installed
	$(PYTHON) -m coverage erase
	OMP_NUM_THREADS=1 $(PYTHON) -m coverage run -m $(PYTEST) -m "exhaustive or not exhaustive" \
	    --hypothesis-profile exhaustive
	$(PYTHON) -m coverage combine --quiet
	$(PYTHON) -m coverage report --skip-covered --fail-under=90
	for part in core plugins exporters; do \
	    $(PYTHON) -m coverage report --include="$$part/*" --format=total --fail-under=90 > /dev/null \
	        || { echo "error: tests cover less than 90 % of $$part/" >&2; exit 1; }; \
	done

demo: .venv/installed  ## Fine-tune on images, prove it, export it, predict with the file
	$(PYTHON) -m visiongraft demo --out $(DEMO)

docs: .venv/installed  ## Build the documentation into site/
	$(PYTHON) -m mkdocs build --strict

flower: .venv/installed  ## Make the environment that runs visiongraft on Flower, and print its folder
	$(PYTHON) tests/plugins/federated/flower_environment.py

trackers: .venv/installed  ## Test trackers that need an older Pillow, in an environment of their own
	$(PYTHON) -m venv .venv/trackers
	$(PYTHON) -c "import sysconfig; print('import site; site.addsitedir(%r)' % sysconfig.get_path('purelib'))" \
	    > .venv/trackers/lib/$$($(PYTHON) -c "import sys; print('python%d.%d' % sys.version_info[:2])")/site-packages/all.pth
	.venv/trackers/bin/python -m pip install --quiet "mlflow>=3" "trackio>=0.4"
	.venv/trackers/bin/python -m pytest -m "exhaustive or not exhaustive" tests/core/training/test_trackers.py

bench: .venv/installed  ## Run the benchmarks: replay, exported files on the CPU, decoding ahead
	for script in replay onnx_cpu decoding_ahead; do $(PYTHON) benchmarks/$$script.py || exit 1; done

clean:  ## Remove everything that was made, .venv too
	rm -rf .venv build dist site $(DEMO) .coverage .coverage.* .mypy_cache .ruff_cache \
	    .pytest_cache .hypothesis *.egg-info

.venv/installed: pyproject.toml constraints.txt .venv/files.txt .venv/bin/python
	$(PYTHON) -m pip install --disable-pip-version-check --quiet \
	    --constraint constraints.txt --editable ".[$(EXTRAS)]"
	touch $@

# The editable install links each module, so a new or removed file needs another one.
.venv/files.txt: FORCE | .venv/bin/python
	@find core plugins exporters -name '*.py' | LC_ALL=C sort > $@.new
	@if cmp -s $@.new $@; then rm $@.new; else mv $@.new $@; fi

.venv/bin/python:
	@for python in $(PYTHONS); do \
	    if $$python -c 'import ensurepip, sys, venv; sys.exit(sys.version_info < (3, 11))' \
	        2> /dev/null; then \
	        echo "making .venv with $$($$python --version); the first install takes minutes"; \
	        exec $$python -m venv .venv; \
	    fi; \
	done; \
	echo "error: no Python 3.11 or later with venv found (tried $(PYTHONS)); install one" >&2; \
	exit 1
