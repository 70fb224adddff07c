# make demo | test | recover | validate | bench | mutate | docs | lock. Everything happens in .venv, from envs/*.lock.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV := .venv
BIN := $(VENV)/bin
UV_VERSION := 0.13.8
CORES ?= $(or $(SLURM_CPUS_PER_TASK),$(shell env -u OMP_NUM_THREADS -u OMP_THREAD_LIMIT nproc))
SEEDS ?= 20
TRIALS ?= 2000
KILLS ?= 200
export OMP_NUM_THREADS := 1
export OPENBLAS_NUM_THREADS := 1
# Behind a proxy that signs TLS anew its certificate is in the system's store: uv and pip look there.
export UV_SYSTEM_CERTS ?= true
CERTIFICATES := $(firstword $(wildcard /etc/ssl/certs/ca-certificates.crt /etc/pki/tls/certs/ca-bundle.crt /etc/ssl/cert.pem))
ifneq ($(CERTIFICATES),)
export PIP_CERT ?= $(or $(SSL_CERT_FILE),$(CERTIFICATES))
endif

.PHONY: demo test lint fresh recover validate soak bench mutate docs lock wheel release sbom audit install install-test clean

$(BIN)/uv:
	@test "$$($(PYTHON) -c 'import sys; print(sys.version_info[:2] == (3, 11))')" = True || { echo "make: Python 3.11 is needed; give one: make PYTHON=/path/to/python3.11 $(MAKECMDGOALS)" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check uv==$(UV_VERSION)

# Compiled here: where PYTHONDONTWRITEBYTECODE is set, as in many images, every job would compile its modules again.
$(VENV)/.installed: $(BIN)/uv envs/requirements.lock pyproject.toml
	$(BIN)/uv pip install --quiet --compile-bytecode --python $(BIN)/python --require-hashes -r envs/requirements.lock
	$(BIN)/uv pip install --quiet --python $(BIN)/python --no-deps --editable .
	$(BIN)/python -m compileall -q src/reconfmri
	@touch $@

$(VENV)/.installed-test: $(VENV)/.installed envs/requirements-test.lock
	$(BIN)/uv pip install --quiet --compile-bytecode --python $(BIN)/python --require-hashes -r envs/requirements-test.lock
	@touch $@

install: $(VENV)/.installed
install-test: $(VENV)/.installed-test
	$(BIN)/python -m compileall -q src/reconfmri

# A simulated trial through the whole workflow; a second call finds nothing to do.
demo: $(VENV)/.installed demo/config/runs.tsv
	$(BIN)/snakemake --directory demo --cores $(CORES) --quiet rules
	@echo; cat demo/results/headline.txt; echo "Report: demo/results/report.html"

demo/bids/truth.json: | $(VENV)/.installed
	$(BIN)/reconfmri simulate demo --participants 8 --seed 1

demo/config/runs.tsv: demo/bids/truth.json | $(VENV)/.installed
	mkdir -p demo/config && cp config/config.yaml demo/config/config.yaml
	$(BIN)/reconfmri index --study demo

# Tests run side by side; one that starts Snakemake gives it the cores itself.
test: $(VENV)/.installed-test
	$(BIN)/python -m compileall -q src/reconfmri
	$(BIN)/python -m pytest -n $(CORES) --dist loadscope --no-loadscope-reorder -q

lint: $(VENV)/.installed-test
	$(BIN)/ruff check . && $(BIN)/ruff format --check src workflow/scripts tests
	$(BIN)/mypy && $(BIN)/lint-imports && $(BIN)/snakefmt --check Snakefile workflow

# The generated documents are those of today's code.
fresh: $(VENV)/.installed-test
	$(BIN)/python docs/generate.py --check

# Image-level recovery of the planted truth over many small trials (about 40 minutes).
recover: $(VENV)/.installed-test
	$(BIN)/python -m tests.recovery.recover --seeds $(SEEDS) --cores $(CORES)

# Calibration of the group models over many simulated trials (about an hour).
validate: $(VENV)/.installed-test
	$(BIN)/python -m tests.validate --trials $(TRIALS) --table docs/calibration.tsv

# A run that is killed at random moments must end as an unbroken one (hours).
soak: $(VENV)/.installed-test
	$(BIN)/python -m tests.workflow.soak soak --kills $(KILLS)

# Time, memory and error of preprocessing and of the group stage, others' beside ours (about half an hour).
bench: $(VENV)/.installed-test .bench/.installed
	$(BIN)/python -m tests.bench.group --beside .bench --table docs/bench_group.tsv
	$(BIN)/python -m tests.bench --table docs/bench.tsv

# bambi stands aside: nothing else needs it, and it brings libraries that change what arviz does.
.bench/.installed: $(VENV)/.installed-test envs/requirements-bench.lock
	$(BIN)/uv pip install --quiet --target .bench --no-deps --require-hashes -r envs/requirements-bench.lock
	@touch $@

# How many small faults in the library its tests notice (a few hours; docs/mutation.tsv).
mutate: $(VENV)/.installed-test
	$(BIN)/python -m tests.mutation --table docs/mutation.tsv

# The documentation as a web site, with a page per rule: build/site/index.html.
docs: $(VENV)/.installed-test
	$(BIN)/python docs/site.py

# Resolve everything in one step, then the runtime part of it.
lock: $(BIN)/uv
	$(BIN)/uv pip compile --quiet --python-version 3.11 --extra slurm --extra test --extra docs --generate-hashes --no-emit-index-url --custom-compile-command "make lock" pyproject.toml -o envs/requirements-test.lock
	$(BIN)/uv pip compile --quiet --python-version 3.11 --generate-hashes --no-emit-index-url --custom-compile-command "make lock" -c envs/requirements-test.lock pyproject.toml -o envs/requirements.lock
	test ! -x $(BIN)/reconfmri || $(BIN)/python docs/generate.py
	echo "bambi>=0.17,<0.18" | $(BIN)/uv pip compile --quiet --python-version 3.11 --generate-hashes --no-emit-index-url --custom-compile-command "make lock" -c envs/requirements-test.lock $$(sed -n 's/^\([a-z0-9.-]*\)==.*/--no-emit-package \1/p' envs/requirements-test.lock) - -o envs/requirements-bench.lock

# The package with its workflow as one file, in dist/.
wheel: $(BIN)/uv
	$(BIN)/uv build --quiet --wheel

# What a release is made of, in dist/: only from the commit whose tag is the version.
release: sbom
	@tag=$$(git describe --tags --exact-match 2>/dev/null || true); version=$$(sed -n 's/^version = "\(.*\)"/\1/p' pyproject.toml); \
	  test "$$tag" = "v$$version" || { echo "make: the version is $$version, the tag of this commit '$$tag'. Fix: git tag v$$version, or set the version in pyproject.toml" >&2; exit 1; }
	$(BIN)/uv build --quiet --wheel --sdist

# What the lock holds, as CycloneDX; the lock beside the known advisories (needs a network).
sbom: $(BIN)/uv
	mkdir -p dist
	$(BIN)/uv tool run --quiet --from cyclonedx-bom==7.5.0 cyclonedx-py requirements --pyproject pyproject.toml --output-reproducible -o dist/sbom.cdx.json envs/requirements.lock

audit: $(BIN)/uv
	$(BIN)/uv tool run --quiet --from pip-audit==2.10.1 pip-audit --require-hashes --disable-pip -r envs/requirements.lock

clean:
	rm -rf demo recover validate soak dist .bench .venv
