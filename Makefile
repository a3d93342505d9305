# make          says what there is to make

PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
PIP    := $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt
PYTEST := PYTHONHASHSEED=0 $(BIN)/pytest --numprocesses 2 --dist worksteal

.PHONY: help demo bench test test-all coverage docs lint format types clean
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.NOTPARALLEL:

# cocotb hands the linker a path inside .venv, which a space would split; all else works.
ifneq ($(words $(CURDIR)),1)
ifneq ($(filter test test-all coverage,$(MAKECMDGOALS)),)
$(error the tests cannot run in '$(CURDIR)' because the path has a space: move the checkout to one without)
endif
endif

help: ## say what there is to make
	@sed -n 's/^\([a-z-]*\):[^#]*## /\1 /p' Makefile | while read -r name text; do \
	printf 'make %-10s %s\n' "$$name" "$$text"; done

demo: $(VENV)/installed-base ## install what is needed and let the simulated board write a text
	$(BIN)/lutern generate </dev/null

bench: $(VENV)/installed-base ## count cycles of every preset on the simulated board
	$(BIN)/lutern bench

test: $(VENV)/installed-test-build lint types ## lint, types and the quick tests, as CI runs them
	$(PYTEST) -m "not slow"

test-all: $(VENV)/installed-test-build lint types ## the slow tests too; those of train/ only where PyTorch is installed
	$(PYTEST)

coverage: $(VENV)/installed-test-build ## the quick tests, and in build/coverage/ the lines that they reach
	$(PYTEST) -m "not slow" --cov --cov-report=html --cov-report=term

docs: $(VENV)/installed-docs build/typing/lutern/__init__.py ## the site in build/site/index.html; every link of it is checked
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet

lint: | $(VENV)/installed-test ## ruff: rules, and whether all is formatted
	$(BIN)/ruff check
	$(BIN)/ruff format --check

format: | $(VENV)/installed-test ## ruff: format all
	$(BIN)/ruff format

clean: ## remove what was built here; .venv and the cache in ~/.cache/lutern stay
	rm -rf build dist .hypothesis .mypy_cache .pytest_cache .ruff_cache
	find . -name __pycache__ -not -path './$(VENV)/*' -prune -exec rm -rf {} +

types: | $(VENV)/installed-test build/typing/lutern/__init__.py ## mypy
	$(BIN)/mypy

# mypy does not follow the editable install; these links show it folder X/ as lutern.X, and lutern/ as lutern.
FOLDERS := api boards cli firmware hw measure model_ref sim train
build/typing/lutern/__init__.py:
	rm -rf build/typing
	mkdir -p $(@D)
	for folder in $(FOLDERS); do ln -s ../../../$$folder $(@D)/$$folder; done
	ln -s ../../../lutern/__init__.py $@

# Each stamp installs the project editable with its extras, again whenever a dependency or a pin changes.
$(VENV)/installed-base:       EXTRAS :=
$(VENV)/installed-test:       EXTRAS := [test,report,serve,explore]
$(VENV)/installed-test-build: EXTRAS := [test,build,report,serve,explore,docs]
$(VENV)/installed-docs:       EXTRAS := [docs]
$(VENV)/installed-base $(VENV)/installed-test $(VENV)/installed-test-build $(VENV)/installed-docs: pyproject.toml constraints.txt | $(VENV)/pyvenv.cfg
	$(PIP) setuptools
	$(PIP) --no-build-isolation --editable '.$(EXTRAS)'
	@touch $@

$(VENV)/pyvenv.cfg:
	@command -v $(PYTHON) >/dev/null || { echo "make: there is no program '$(PYTHON)'; \
	install Python 3.11 or newer, or name it: make PYTHON=/path/to/python3.11" >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "make: '$(PYTHON)' is \
	$$($(PYTHON) --version 2>&1), Lutern needs 3.11 or newer; name one: make PYTHON=python3.11" >&2; exit 1; }
	@$(PYTHON) -c 'import venv, ensurepip' 2>/dev/null || { echo "make: '$(PYTHON)' cannot make a virtual environment \
	because its module ensurepip is missing; install it (on Debian and Ubuntu the package python3-venv)" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)
