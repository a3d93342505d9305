# make demo      install what is needed and let the simulated board write a text
# make bench     count cycles of every preset on the simulated board
# make test      lint, types and the quick tests
# make test-all  the slow tests too; those of train/ are skipped unless PyTorch is installed

PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
PIP    := $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt
PYTEST := PYTHONHASHSEED=0 $(BIN)/pytest --numprocesses 2 --dist loadfile

.PHONY: demo bench test test-all lint types
.DELETE_ON_ERROR:
.NOTPARALLEL:

demo: $(VENV)/installed-base
	$(BIN)/lutern generate </dev/null

bench: $(VENV)/installed-base
	$(BIN)/lutern bench

test: $(VENV)/installed-test-build lint types
	$(PYTEST) -m "not slow"

test-all: $(VENV)/installed-test-build lint types
	$(PYTEST)

lint: | $(VENV)/installed-test
	$(BIN)/ruff check

types: | $(VENV)/installed-test build/typing/lutern
	$(BIN)/mypy

# mypy does not follow the editable install; this link shows it folder X/ as lutern.X.
build/typing/lutern:
	mkdir -p $(@D)
	ln -s ../.. $@

# Each stamp installs the project editable with its extras, again whenever a dependency or a pin changes.
$(VENV)/installed-base:       EXTRAS :=
$(VENV)/installed-test:       EXTRAS := [test,report]
$(VENV)/installed-test-build: EXTRAS := [test,build,report]
$(VENV)/installed-base $(VENV)/installed-test $(VENV)/installed-test-build: pyproject.toml constraints.txt | $(VENV)/pyvenv.cfg
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
