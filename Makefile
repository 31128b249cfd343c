# make demo [DATA=/path/to/an4]    train a small Big-Little network and print its word error rate
# make check                       lint, types, and the tests that are quick: for every save
# make test                        lint, types, all tests
# make lint                        lint and types only
# make fuzz [FUZZ_SECONDS=900]     give every reader of files damaged ones; faults are in results/fuzz
# make docs                        the documentation as a site, in site/; open site/index.html
# make constraints                 write constraints.txt and docs/dependencies.md from the installed packages
# make sbom                        write a bill of materials (CycloneDX) to results/sbom.json
# make audit                       compare constraints.txt with the database of known vulnerabilities
# make install                     the virtual environment that all of these make for themselves, in .venv
#
# PYTHON=/path/to/python chooses the Python (3.10 or newer) of a new .venv.

SHELL := /bin/sh
.DEFAULT_GOAL := help
.PHONY: help install demo check test lint fuzz docs constraints sbom audit
.DELETE_ON_ERROR:

PY := .venv/bin/python
INSTALLED := .venv/.installed
CANDIDATES := $(or $(PYTHON),python3 python3.13 python3.12 python3.11 python3.10 python)

# make -C leaves PWD at the folder in which the user stands and names DATA.
DATA_FOLDER = $(if $(filter /% ~%,$(DATA)),$(DATA),$(or $(PWD),$(CURDIR))/$(DATA))

help:
	@sed -n 's/^# \(make [a-z]\)/\1/p' Makefile

install: $(INSTALLED)

demo: $(INSTALLED)
	@$(PY) recipes/demo.py $(if $(DATA),--data_folder "$(DATA_FOLDER)")

check: lint
	OMP_NUM_THREADS=1 $(PY) -m pytest -q -n 2 -m 'not slow'

test: lint
	OMP_NUM_THREADS=1 $(PY) -m pytest -q -n 2

lint: $(INSTALLED)
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .
	$(PY) -m mypy

fuzz: $(INSTALLED)
	PYTHONPATH=tests OMP_NUM_THREADS=1 $(PY) -m support.fuzzing --seconds $(or $(FUZZ_SECONDS),300)

docs: $(INSTALLED)
	$(PY) -m zensical build --strict --clean
	@echo 'Open site/index.html.'

constraints: $(INSTALLED)
	$(PY) .ci/dependencies.py

sbom: $(INSTALLED)
	$(PY) .ci/dependencies.py --sbom results/sbom.json

# In an environment of its own, which holds nothing that the package needs.
audit: $(INSTALLED)
	@[ -x .venv/audit/bin/pip-audit ] || { $(PY) -m venv .venv/audit && .venv/audit/bin/python -m pip install --quiet pip-audit; }
	.venv/audit/bin/pip-audit --requirement constraints.txt --no-deps --disable-pip --strict

# The stamp comes last: an install that was interrupted is taken up again, a finished one needs no network.
$(INSTALLED): setup.py
	@for candidate in $(CANDIDATES); do \
	    if "$$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 10))' 2>/dev/null; then python=$$candidate; break; fi; \
	done; \
	if [ -z "$$python" ]; then \
	    echo 'No Python 3.10 or newer found among: $(CANDIDATES); install one, or name it: make PYTHON=/path/to/python' >&2; exit 1; \
	fi; \
	if ! "$$python" -c 'import ensurepip, venv' 2>/dev/null; then \
	    echo "$$python cannot make virtual environments; install its venv package (Debian, Ubuntu: apt install python3-venv), or name another: make PYTHON=/path/to/python" >&2; exit 1; \
	fi; \
	if ! $(PY) -m pip --version >/dev/null 2>&1; then \
	    echo "Making .venv with $$("$$python" --version)"; "$$python" -m venv --clear .venv || exit 1; \
	fi; \
	echo 'Installing into .venv, once: about 6 GB with PyTorch; minutes, as fast as the network is.'; \
	$(PY) -m pip install --disable-pip-version-check --editable '.[dev,demo]' || { \
	    echo 'The install failed, see above; the same command goes on from there.' >&2; exit 1; }
	@touch $@
