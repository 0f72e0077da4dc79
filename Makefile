# Every target does its own set-up: Python 3.11 or newer, pip, git, make and gcc are enough.
PYTHON ?= $(shell command -v python3.11 || command -v python3)
BIN := .venv/bin
PIP := $(BIN)/python -m pip install --disable-pip-version-check --quiet
DUCKDB15 := 1.5.5
PYTEST := $(BIN)/python -m pytest -n 2 --dist loadgroup --quiet
# Needs no DuckDB, so that one run is enough.
WITHOUT_DUCKDB := tests/bounds tests/models tests/mutation tests/engines/test_ray.py tests/lake/test_snapshots.py \
	$(addprefix tests/test_,$(addsuffix .py,activations curves decision_levels decisions graph heads kills layers network \
	plots regions report score_store score_tests trees workspace)) \
	$(addprefix tests/soundness/test_unsound_,trees.py pipelines.py texts.py) \
	$(filter-out tests/metadata/test_storage.py,$(wildcard tests/metadata/test_*.py)) \
	$(addprefix tests/ann/test_,$(addsuffix .py,calibration heads learned native promises stopping))
# Bounds that may be compiled.
COMPILED := tests/bounds --ignore=tests/bounds/test_tree_bounds.py
# What may depend on the scorer and does not choose one itself.
SCORED := tests/engines $(addprefix --ignore=tests/engines/test_,scorers.py inputs.py virtual.py routes.py native_trees.py engines.py ray.py)
# What pulled batches may change.
PULLED := $(addprefix tests/engines/test_,$(addsuffix .py,connection corners files names relations sql_shapes statements variables))

# That broken code is found needs to be shown once; plans of trees differ from those of networks in the bounds alone.
ONCE := $(addprefix tests/soundness/test_unsound_variants.py::test_an_unsound_variant_,is_caught of_the_compiled_bounds_is_caught) \
	tests/soundness/test_tree_differential.py::test_decisions_of_plans_hold_for_every_row

.DEFAULT_GOAL := help
.PHONY: help setup lint format extension extension-test extension-sanitize test mutants fuzz demo bench bench-quick clean

help: ## Show the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-18s %s\n", $$1, $$2}'

setup: .venv/.installed .duckdb15/.installed-$(DUCKDB15) ## Create .venv and the DuckDB 1.5 overlay; quick the second time

.venv/.installed: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit("skipml needs Python 3.11 or newer, found " + sys.version.split()[0]) if sys.version_info < (3, 11) else None'
	@echo "Installing into .venv (a few minutes the first time)"
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv
	@$(PIP) -c constraints.txt -e '.[dev,cli,torch]'
	@$(PIP) --no-deps auto-lirpa==0.3 appdirs==1.4.4  # its own requirements ask for an old torch
	@touch $@

# DuckDB 1.5 beside the 2.0 of .venv (PYTHONPATH=.duckdb15), for the tests and for its TPC-H and TPC-DS generators.
.duckdb15/.installed-$(DUCKDB15): | .venv/.installed
	@echo "Installing DuckDB 1.5 into .duckdb15"
	@$(PIP) --target .duckdb15 --upgrade --no-deps duckdb==$(DUCKDB15) $(patsubst %,duckdb-extension-%==$(DUCKDB15),tpch tpcds)
	@touch $@

lint: setup ## ruff, mypy --strict, import layers
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: setup ## Let ruff format and fix what it can
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

extension: setup ## Build the DuckDB extension (extension/build/skipml.duckdb_extension)
	@$(MAKE) --no-print-directory -C extension

extension-test: extension ## SQL tests of the extension with DuckDB 2.0 and 1.5, its kernels, a short fuzzing
	@$(MAKE) --no-print-directory -C extension test

extension-sanitize: setup ## The same with the address and undefined-behaviour sanitizers
	@$(MAKE) --no-print-directory -C extension test-sanitized

test: lint extension ## Lint, then every test with DuckDB 2.0 and those that use DuckDB with 1.5, by every scorer
	$(PYTEST)
	PYTHONPATH=.duckdb15 $(PYTEST) --scorer native $(addprefix --ignore=,$(WITHOUT_DUCKDB)) $(addprefix --deselect=,$(ONCE))
	$(PYTEST) --scorer native $(SCORED) $(COMPILED)
	PYTHONPATH=.duckdb15 $(PYTEST) --scorer kernels $(SCORED)
	$(PYTEST) --scorer batches $(PULLED)
	PYTHONPATH=.duckdb15 $(PYTEST) --scorer batches $(PULLED)

mutants: extension ## Break the code on purpose: unsound variants kept by hand, then every small change; print what no test notices (hours)
	$(PYTEST) $(addprefix tests/soundness/test_unsound_,variants.py trees.py pipelines.py texts.py) -m ""
	OMP_NUM_THREADS=1 $(BIN)/python -m tests.mutation

MINUTES := 10
fuzz: extension ## Attack for MINUTES=10: decisions, planted rows, queries, damaged files, loaders; cases that fail go to tests/corpus
	$(BIN)/python -m tests.soundness.differential --minutes $(MINUTES)
	$(BIN)/python -m tests.soundness.planted --minutes $(MINUTES)
	$(BIN)/python -m tests.soundness.queries --minutes $(MINUTES)
	$(BIN)/python -m tests.soundness.damage --minutes $(MINUTES)
	$(BIN)/python -m tests.soundness.loaders --minutes $(MINUTES)

demo: setup ## Skip row groups of TPC-H lineitem for a small network, against a PyTorch UDF
	@$(MAKE) --no-print-directory extension || echo "The extension is not built, so Python scores"
	$(BIN)/python -m benchmarks.demo

bench: extension ## Every benchmark but that of vectors: micro, TPC-H, TPC-DS, scoring, top-k, trees, pipelines and more (over an hour)
	$(BIN)/python -m pytest benchmarks/micro --benchmark-enable --benchmark-only
	$(BIN)/python -m benchmarks.tpch
	$(BIN)/python -m benchmarks.tpcds
	$(BIN)/python -m benchmarks.scoring
	$(BIN)/python -m benchmarks.topk
	$(BIN)/python -m benchmarks.remote
	$(BIN)/python -m benchmarks.trees
	$(BIN)/python -m benchmarks.pipelines
	$(BIN)/python -m benchmarks.pipelines.texts
	$(BIN)/python -m benchmarks.effectiveness.run
	$(BIN)/python -m benchmarks.enrichment
	$(BIN)/python -m benchmarks.enrichment.hulls
	$(BIN)/python -m benchmarks.distributed
	$(BIN)/python -m benchmarks.kills --count 200
	$(BIN)/python -m benchmarks.lake

bench-quick: setup ## Headline figures in under five minutes, as JSON on the last line
	$(BIN)/python -m benchmarks.quick

clean: ## Remove caches, generated data and the environments
	rm -rf extension/build .venv .duckdb15 .data .mypy_cache .ruff_cache .pytest_cache .hypothesis .benchmarks .import_linter_cache
