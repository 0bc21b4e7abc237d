# Needs Python >= 3.11, pip and make; everything else is set up in .venv by the targets themselves.

PYTHON ?= python3
BIN := .venv/bin
READY := .venv/.ready

.DEFAULT_GOAL := help
.PHONY: help setup check test demo bench up clean

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## /{printf "make %-7s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: $(READY) ## Make .venv and install everything into it; again when pyproject.toml changes

check: $(READY) ## Format, lint, types, import direction, protos, generated code, limits of style
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/buf lint
	$(BIN)/python scripts/generate_protos.py --check
	$(BIN)/python scripts/check_style.py

test: $(READY) ## Run all tests, those on three servers with their leaders killed included
	$(BIN)/python -m pytest -n 2 --dist loadscope

demo: $(READY) ## Run the main job on real purchases: publish, resolve, merge, project, ask, verify
	$(BIN)/koseki demo

bench: $(READY) ## Measure
	$(BIN)/python -m benchmarks

up: $(READY) ## Run everything on this machine until Ctrl-C
	$(BIN)/koseki up

clean: ## Remove .venv, caches and build output
	rm -rf .venv .mypy_cache .pytest_cache .ruff_cache .import_linter_cache .hypothesis build dist
	find . -name .git -prune -o -name __pycache__ -prune -exec rm -rf {} +

# The second way makes a .venv where Python comes without ensurepip, as Debian's does.
$(READY): pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
		|| { echo 'Koseki needs Python 3.11 or later: make PYTHON=python3.11 ...' >&2; exit 1; }
	$(PYTHON) -m venv .venv || { \
		$(PYTHON) -m venv --clear --without-pip .venv && \
		$(PYTHON) -m pip --python $(BIN)/python install --quiet pip; }
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev]'
	@touch $@
