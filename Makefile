# Everything that a person or CI runs; `make help` lists the targets. Needs Python 3.11 or newer with pip.

# Bytecode is cached whatever the environment says: tests and benchmarks start thousands of processes.
export PYTHONDONTWRITEBYTECODE :=

PYTHON ?= python3
VENV := .venv
ORACLE := .venv-oracle
ANYVAR := .venv-anyvar
TOOLS := .venv-tools
NFCORE := .venv-nfcore
DEMO := .demo

# pip of PYTHON installs into the environments, which therefore need no pip (and no ensurepip) of their own.
PIP = $(PYTHON) -m pip --disable-pip-version-check --python

# The versions that were tested together, made by `make constraints`; `make CONSTRAINTS= …` takes the newest ones.
CONSTRAINTS ?= constraints.txt

# Every benchmark in turn, with $(1); the first one that cannot run ends it.
GTARS := benchmarks/gtars/target/release/gtars-identifiers
BENCHMARKS = annotators contigs end_to_end identifiers limits memory parts samples scale start_up store vrs_engine
define measure
	@for name in $(BENCHMARKS); do echo "== benchmarks/$$name.py"; \
		ANYVAR_STEP_ORACLE_PYTHON=$(abspath $(ORACLE))/bin/python ANYVAR_STEP_ANYVAR_PYTHON=$(abspath $(ANYVAR))/bin/python \
		ANYVAR_STEP_GTARS=$(abspath $(wildcard $(GTARS))) \
		$(VENV)/bin/python benchmarks/$$name.py $(1) || exit 1; done
endef

.PHONY: aliases help demo native test test-slow test-services test-all coverage fuzz faults lint docs dist gtars bench bench-small constraints image \
	release clean

help:  ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-14s %s\n", $$1, $$2}' Makefile

demo: $(VENV)/.demo native  ## annotate made-up VCFs with Snakemake, a private Redis and real workers
	@echo "== Make a small genome and three VCFs in $(DEMO)"
	@rm -rf $(DEMO)
	@$(VENV)/bin/python workflow/demo/make_demo.py $(DEMO)
	@echo "== Run the workflow between private servers"
	PATH="$(CURDIR)/$(VENV)/bin:$$PATH" ANYVAR_STEP_REFERENCE="demo=$(CURDIR)/$(DEMO)/resources/genome.fa" \
		$(VENV)/bin/anyvar-step local --workers 2 -- \
		snakemake --snakefile workflow/Snakefile --directory $(DEMO) --cores 2 --quiet host reason rules
	@echo "== What came out"
	@$(VENV)/bin/python workflow/demo/show.py $(DEMO)

native:  ## build the compiled VRS engine in place, where cargo is; say which engines there are
	@$(PYTHON) hatch_build.py

# Unit tests of the crate are built without Python.
test: $(VENV)/.test $(ORACLE)/.done native  ## the quick tests, which need nothing but Python packages: five minutes
	@if command -v cargo >/dev/null && [ -e anyvar_step/_native.abi3.so ]; then \
		cd native && cargo test --quiet --locked --no-default-features; fi
	$(VENV)/bin/python -m pytest -m "not slow and not services" --numprocesses 4 --dist loadfile

test-slow: $(VENV)/.test $(ORACLE)/.done native
	$(VENV)/bin/python -m pytest -m "slow and not services" --numprocesses 2 --dist loadfile

test-services: $(VENV)/.test-services $(VENV)/.docs $(ORACLE)/.done $(ANYVAR)/.done $(TOOLS)/.done $(NFCORE)/.done native
	$(VENV)/bin/python -m pytest -m services --numprocesses 2 --dist loadfile --ignore tests/integration/faults
	$(VENV)/bin/python -m pytest -m services tests/integration/faults  # it runs its trials side by side

test-all: test test-slow test-services  ## the quick tests, the slow ones, then those that need what .ci/run installs

fuzz: $(VENV)/.test native  ## compare the two VRS engines on a million records, mutated ones among them
	FUZZ_CASES=25000 $(VENV)/bin/python -m pytest --timeout 0 tests/unit/vrs/test_native_engine.py -k mutated

# It can be interrupted and called again: what .faults-SEED has is not done again.
FAULTS_SEED ?= 20261128
faults: $(VENV)/.test-services native  ## 1,000 trials of all faults, and the table of docs/reliability.md (an hour or two)
	ANYVAR_STEP_FAILOVERS=20 $(VENV)/bin/python -m pytest --timeout 0 tests/integration/runs/test_sentinel.py
	FAULTS_TRIALS=20 FAULTS_SEED=$(FAULTS_SEED) FAULTS_RESULTS=$(CURDIR)/.faults-$(FAULTS_SEED) \
		FAULTS_TABLE=$(CURDIR)/docs/reliability.md $(VENV)/bin/python -m pytest --timeout 0 tests/integration/faults

coverage: $(VENV)/.test $(ORACLE)/.done native  ## how much of the package `make test` runs: 90 % at least
	$(VENV)/bin/coverage erase
	$(VENV)/bin/coverage run -m pytest -m "not slow and not services" --numprocesses 4 --dist loadfile
	$(VENV)/bin/coverage combine --quiet
	$(VENV)/bin/coverage report

lint: $(VENV)/.lint  ## ruff, mypy, snakefmt; rustfmt and clippy where they are
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy
	PATH="$(CURDIR)/$(VENV)/bin:$$PATH" snakefmt --check workflow  # it calls shfmt
	@if cargo clippy --version >/dev/null 2>&1; then cd native && cargo fmt --check && \
		PYO3_NO_PYTHON=1 PYO3_BUILD_EXTENSION_MODULE=1 cargo clippy --quiet --locked --all-targets -- -D warnings; \
		else echo "no clippy: native/ is not linted"; fi

docs: $(VENV)/.docs  ## the documentation as a site, in site/
	$(VENV)/bin/python docs/generate.py
	NO_MKDOCS_2_WARNING=1 $(VENV)/bin/mkdocs build --quiet

dist: $(VENV)/.test-services  ## wheel and sdist, in dist/
	$(VENV)/bin/python -m build

image:  ## the container image, built and tried out with Docker, or without it by buildah and mmdebstrap (as root)
	config/try-image $(if $(shell docker version 2>/dev/null | grep Server),docker,buildah)

constraints: $(VENV)/.test-services  ## constraints.txt anew, from the newest versions that fit together
	$(VENV)/bin/uv pip compile --quiet --upgrade --universal --python-version 3.11 --all-extras --no-annotate \
		--no-emit-index-url --no-emit-find-links --custom-compile-command 'make constraints' \
		--output-file constraints.txt pyproject.toml

aliases: $(VENV)/.test  ## the names of the human assemblies' sequences anew, from bioutils
	$(VENV)/bin/python -m pip install --quiet --upgrade bioutils
	$(VENV)/bin/python scripts/aliases.py

release: $(VENV)/.test  ## make release VERSION=1.2.3: that version in every file that has it, and in the changelog
	$(VENV)/bin/python scripts/release.py $(VERSION)
	$(VENV)/bin/python docs/generate.py

gtars:  # a competitor, where cargo is; two minutes
	@if command -v cargo >/dev/null; then cd benchmarks/gtars && cargo build --release --locked --quiet \
		|| echo "gtars-vrs is not built, and not measured"; fi

bench: $(VENV)/.test $(ORACLE)/.done $(ANYVAR)/.done native gtars  ## measure speed and memory, for docs/performance.md (half an hour)
	$(call measure,)
	$(VENV)/bin/python benchmarks/report.py --docs

bench-small: $(VENV)/.test $(ORACLE)/.done $(ANYVAR)/.done native  # whether the benchmarks run; CI's
	$(call measure,--small --results benchmarks/results/small)
	$(VENV)/bin/python benchmarks/report.py --results benchmarks/results/small

clean:  ## remove environments, demo and caches
	rm -rf $(VENV) $(ORACLE) $(ANYVAR) $(TOOLS) $(NFCORE) $(DEMO) anyvar_step/_native.abi3.so native/target benchmarks/gtars/target dist site .tools .mypy_cache .pytest_cache .ruff_cache .hypothesis .snakemake
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

%/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
		echo "$(PYTHON) is not Python 3.11 or newer; name one: make PYTHON=/path/to/python3.12"; exit 1; }
	@$(PYTHON) -m venv --without-pip $*

.PRECIOUS: %/bin/python

# An installation of the project with the extras that one kind of target needs. cargo compiles while pip downloads;
# the build hook then finds the library. A failed build is reported by the hook.
extras_demo := local,workflow
$(addprefix $(VENV)/.,demo test test-services lint docs): $(VENV)/.%: pyproject.toml $(CONSTRAINTS) | $(VENV)/bin/python
	@echo "== Install anyvar-step[$(or $(extras_$*),$*)] into $(VENV)"
	@$(PYTHON) hatch_build.py >/dev/null & \
		$(PIP) $(VENV)/bin/python install --quiet $(CONSTRAINTS:%=--constraint %) --editable '.[$(or $(extras_$*),$*)]' && \
		wait && touch $@

# The reference implementation pins packages that ours need newer. Its extra would have hgvs build psycopg2 from
# source, which wants a compiler and pg_config; psycopg2-binary is the same module. Its pysam has no wheel for Python
# 3.14.
$(ORACLE)/.done: Makefile | $(ORACLE)/bin/python
	@$(PIP) $(ORACLE)/bin/python install --quiet ga4gh.vrs==2.3.3 "pysam==0.23.0; python_version < '3.14'" \
		'pysam>=0.23.0' 'dill~=0.3.7' click \
		'biocommons.seqrepo>=0.6.10' 'bioutils<1' psycopg2-binary attrs configparser importlib_resources ipython parsley
	@$(PIP) $(ORACLE)/bin/python install --quiet --no-deps 'hgvs>=1.5.5,<2'
	@touch $@

# AnyVar holds celery and redis at older versions than ours; SQLAlchemy reads postgresql:// with psycopg2, and
# newer releases of agct have no wheel for Python 3.11.
$(ANYVAR)/.done: | $(ANYVAR)/bin/python
	@$(PIP) $(ANYVAR)/bin/python install --quiet 'anyvar[postgres,queueing]==1.0.0' agct==0.2.0 psycopg2-binary
	@touch $@

# What others look at our runs with; what checks the files of config/ and .github against their formats.
$(TOOLS)/.done: Makefile | $(TOOLS)/bin/python
	@$(PIP) $(TOOLS)/bin/python install --quiet 'multiqc>=1.30' 'flower>=2.0' redis packaging \
		check-jsonschema cibuildwheel kubernetes-validate cloudcoil-models-keda
	@touch $@

# The linter of Nextflow modules, whose pins are its own.
$(NFCORE)/.done: Makefile | $(NFCORE)/bin/python
	@$(PIP) $(NFCORE)/bin/python install --quiet nf-core==4.2.1
	@touch $@
