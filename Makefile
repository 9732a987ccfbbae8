# make demo, make test: see README.md. Both make the virtual environment first if it is missing.

PYTHON ?= python3
VENV ?= .venv
# A process per core, up to four; the tests of a file share their fixtures and stay together.
PYTEST = $(VENV)/bin/python -m pytest --numprocesses=auto --maxprocesses=4 --dist=loadfile

DEMO_STAMP = $(VENV)/.installed
DEV_STAMP = $(VENV)/.installed-dev

.DEFAULT_GOAL := help
.PHONY: help demo test test-slow lint docs lock clean

help:
	@echo "make demo       run the whole pipeline on the demo data, into runs/demo"
	@echo "make test       run the fast tests"
	@echo "make test-slow  run the long tests"
	@echo "make lint       check style, formatting and types"
	@echo "make docs       make the API reference, site/index.html"
	@echo "make lock       write requirements.lock, the exact versions of all packages"
	@echo "make clean      remove caches and build leftovers (keeps $(VENV) and runs)"
	@echo "Variables: PYTHON=$(PYTHON) (3.11 to 3.13), VENV=$(VENV)"

demo: $(DEMO_STAMP)
	$(VENV)/bin/python -m oaa_tf.pipeline --flagfile=flags/demo.flags --work_dir=runs/demo

test: $(DEV_STAMP)
	$(PYTEST) -m "not slow"

test-slow: $(DEV_STAMP)
	$(PYTEST) -m slow

lint: $(DEV_STAMP)
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy

# Every module by name: of a package that lists its public names, pdoc shows those only. Warnings are errors.
docs: $(DEV_STAMP)
	rm -rf site
	TF_CPP_MIN_LOG_LEVEL=3 $(VENV)/bin/python -W error -W "ignore:The module specification" -m pdoc --docformat google --output-directory site \
	  $$(find oaa_tf -name '*.py' | sed 's|\.py$$||; s|/__init__$$||; s|/|.|g' | sort)

# pip chooses the versions as for a new environment, and installs nothing.
lock: | $(VENV)/bin/pip
	$(VENV)/bin/python -m pip install --disable-pip-version-check --quiet --dry-run --ignore-installed \
	  --report $(VENV)/lock.json -r requirements.txt -r requirements-dev.txt
	$(VENV)/bin/python -c "$$WRITE_LOCK" < $(VENV)/lock.json > requirements.lock

define WRITE_LOCK
import json, sys
report = json.load(sys.stdin)
system = [report["environment"][name] for name in ("python_version", "sys_platform", "platform_machine")]
print("# Written by make lock. Python, system, machine:", *system)
packages = ["{name}=={version}".format(**package["metadata"]) for package in report["install"]]
print(*sorted(packages, key=str.lower), sep="\n")
endef
export WRITE_LOCK

clean:
	rm -rf build dist site *.egg-info .pytest_cache .ruff_cache .mypy_cache .hypothesis
	find oaa_tf tools tests examples -name __pycache__ -type d -prune -exec rm -rf {} +

$(DEMO_STAMP): requirements.txt | $(VENV)/bin/pip
	@echo "Installing requirements.txt into $(VENV): 2.5 GB on disk, some minutes ..."
	$(VENV)/bin/python -m pip install --disable-pip-version-check --quiet -r requirements.txt
	@touch $@

$(DEV_STAMP): requirements-dev.txt $(DEMO_STAMP)
	$(VENV)/bin/python -m pip install --disable-pip-version-check --quiet -r requirements-dev.txt
	@touch $@

# Order-only and by its last file: an environment that was begun and not finished is made again.
$(VENV)/bin/pip:
	@command -v $(PYTHON) >/dev/null || { \
	  echo "error: $(PYTHON) not found; install Python 3.11, 3.12 or 3.13, or set PYTHON=/path/to/python3" >&2; exit 2; }
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' || { \
	  echo "error: $$($(PYTHON) --version 2>&1) is not supported: TensorFlow 2.21 with Keras 3.15 needs Python 3.11" \
	    "to 3.13; set PYTHON, as in: make PYTHON=python3.12 demo" >&2; exit 2; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { \
	  echo "error: $(PYTHON) cannot make virtual environments; on Debian and Ubuntu: sudo apt install python3-venv" \
	    "(or python3.X-venv for another python3.X)" >&2; exit 2; }
	$(PYTHON) -m venv $(VENV)
