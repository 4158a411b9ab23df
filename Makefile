# Every target makes its own environment (.venv) from requirements.lock when it is missing or stale.
PROFILE ?= embedded
JOBS ?= 2
PYTHON ?= $(shell for python in python3.11 python3.12 python3.13 python3; do \
	$$python -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null \
	&& echo $$python && break; done)
EXTRAS := notebooks,studies,onnx,dask,book,dev
TORCH := $(shell sed -n 's/^torch==//p' requirements.lock)

PY := .venv/bin/python
STAMP := .venv/.complete
# Two makes at once take turns where flock exists; the second then finds the work done.
LOCK := $(if $(shell command -v flock),flock requirements.lock)
PYTEST := $(PY) -m pytest -q -n $(JOBS) --dist loadfile --nbval-current-env

.DEFAULT_GOAL := help
.PHONY: help env reproduce replay compare test nbval notebooks render book wheel bench lint clean lock
# Tests share the cores between workers, and never reach for the Hub.
test nbval: export OMP_NUM_THREADS := 1
test nbval: export HF_HUB_OFFLINE := 1

help: ## list the targets
	@echo "usage: make TARGET [PROFILE=NAME] (default: $(PROFILE))"
	@echo "profiles: $(basename $(notdir $(wildcard profiles/*.yaml)))"
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "  %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

env: ## make .venv with the locked versions [UV=uv: by uv instead of pip]
	@$(LOCK) $(MAKE) --no-print-directory ready

reproduce: env ## compute PROFILE anew under build/, then compare with the committed results
	$(PY) -m sfusion reproduce --profile $(PROFILE)

replay: env ## redraw notebooks, figures and tables from the committed records [PROFILE=nine]
	$(PY) -m sfusion replay $(if $(filter file,$(origin PROFILE)),,--profile $(PROFILE))

compare: env ## compare build/PROFILE with the committed results
	$(PY) -m sfusion compare --profile $(PROFILE)

test: env ## run the tests and check the notebooks' stored outputs
	$(PYTEST) --nbval tests notebooks

nbval: env ## check the notebooks' stored outputs only
	$(PYTEST) --nbval notebooks

notebooks: env ## store fresh outputs in the notebooks, after a change that alters them
	$(PY) -m jupyter nbconvert --to notebook --execute --inplace --ExecutePreprocessor.record_timing=False notebooks/*.ipynb

render: env ## write README, docs and the book's explorer anew from the results
	$(PY) tools/render.py

book: env ## make the notebooks, docs and reference a static site under build/book
	$(PY) tools/book.py

wheel: env ## install the wheel into an empty environment and use it
	tools/wheel.sh

bench: env ## measure the speed ratios, into build/bench.json [QUICK=1]
	$(PY) benchmarks/bench.py $(if $(QUICK),--quick)

lint: env ## check style, types, imports, workflows, and what is made of the results
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .
	$(PY) -m mypy
	.venv/bin/lint-imports --no-cache
	.venv/bin/zizmor --offline --quiet --no-progress .github
	$(PY) tools/render.py --check

clean: ## remove build/ and the caches; keeps .venv
	rm -rf build .pytest_cache .ruff_cache .hypothesis *.egg-info
	find . -name .venv -prune -o \( -name __pycache__ -o -name .ipynb_checkpoints \) \
		-prune -exec rm -rf {} +

lock: ## work requirements.lock out again from pyproject.toml [TORCH=version]
	rm -rf build/lock
	$(PYTHON) -m venv build/lock
	build/lock/bin/python -m pip install --quiet torch==$(TORCH)
	build/lock/bin/python -m pip install --quiet --editable '.[$(EXTRAS)]'
	build/lock/bin/python -m pip freeze --all --exclude pip --exclude-editable > build/lock/frozen
	{ grep '^#' requirements.lock; \
		sed -E -e '/^(cuda|nvidia|triton)/d' -e 's/^(torch==[^+]*)[+].*/\1/' build/lock/frozen; \
	} > build/lock/requirements.lock
	cp build/lock/requirements.lock requirements.lock
	{ sed '/^constraint-dependencies = /,$$d' pyproject.toml; echo 'constraint-dependencies = ['; \
		sed -n 's/^[^#].*/    "&",/p' requirements.lock; echo ']'; \
	} > build/lock/pyproject.toml
	cp build/lock/pyproject.toml pyproject.toml

.PHONY: ready
ready: $(STAMP)
	@:

# An environment without its stamp is half made: start over. torch goes first, alone, so that
# the build of it which this machine offers decides, and the rest is resolved around it.
$(STAMP): requirements.lock pyproject.toml
	@$(if $(PYTHON),,$(error no Python 3.11 or later found: install one or say make PYTHON=path))
	@echo "making .venv from requirements.lock: a few minutes and about 2 GB"
	@test -e $@ || $(PYTHON) -m venv --clear .venv
	@rm -f $@
ifdef UV
	$(UV) sync --quiet --inexact --all-extras
else
	$(PY) -m pip install --quiet torch==$(TORCH)
	$(PY) -m pip install --quiet --requirement requirements.lock
	$(PY) -m pip install --quiet --no-deps --no-build-isolation --editable .
endif
	@touch $@
