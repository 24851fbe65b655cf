# `make demo` shows it, `make test` proves it; each does all its own set-up. `make` alone lists the rest.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.ONESHELL:
MAKEFLAGS += --no-print-directory

PYTHON ?= python3
BIN := .venv/bin
VERSION := 0.1.0
IMAGES := kubetune/kubetune:$(VERSION) kubetune/trial:$(VERSION) digits:1 architecture:1
# The sampler gp, and what single examples need besides.
MORE_IMAGES := kubetune/kubetune:$(VERSION)-gp kubetune/kubetune:$(VERSION)-reinforce hyperopt-searcher:1 pbt:1 transfer:1 digits-honest:1
# NODES, KWOK_NODES, KUBECONFIG and others are read by dev/cluster (see dev/cluster/README.md).
CLUSTER := $(PYTHON) -m dev.cluster
IN_CLUSTER := eval "$$($(CLUSTER) env)"; export PATH="$(CURDIR)/$(BIN):$$PATH";

say = printf '\n\033[1m== %s\033[0m (%(%T)T)\n' "$(1)" -1

.PHONY: help
help: ## list the targets
	@grep -hE '^[a-z0-9-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 20

.PHONY: demo
demo: venv cluster images install ## cluster, images, chart, one example to its end
	@$(call say,demo: examples/digits)
	$(IN_CLUSTER) python -m dev.demo

.PHONY: test
test: lint test-unit test-simulation test-integration test-chart test-e2e ## everything but what is slow
	@$(call say,all passed)

.PHONY: test-all
test-all: lint test-unit test-integration test-chart ## everything: more simulated runs, more kills, every cluster check
	@$(call say,simulation: 5000 seeds)
	$(BIN)/python -m kubetune.simulator --seed 1 --runs 5000
	$(MAKE) test-e2e E2E_ARGS="$(E2E_ARGS)" KUBETUNE_TEST_ALL=1
	$(IN_CLUSTER) $(CLUSTER) smoke

.PHONY: bench
bench: venv ## the benchmarks of docs/benchmarks.md: 75 minutes; QUICK=1: ten; ONLY=gap: one; writes bench.json
	@$(MAKE) images install KWOK_NODES=$${KWOK_NODES-460}
	$(call say,benchmarks)
	$(IN_CLUSTER) python -m dev.bench --only "$(ONLY)" $(if $(QUICK),--quick)

.PHONY: bench-search
bench-search: venv ## every sampler and pruner against random search and its reference, no cluster: 40 minutes on 2 cores; QUICK=1: five; WRITE=1: into docs/
	$(call say,samplers (bench-search.jsonl keeps the runs: what is there is not run again))
	$(BIN)/python -m dev.bench.search $(if $(QUICK),--quick) $(if $(WRITE),--write docs/search-benchmarks.md)
	$(call say,pruners on learning curves of scikit-learn)
	$(BIN)/python -m dev.bench.pruning $(if $(QUICK),--quick)

# ---- set-up

.PHONY: setup
setup: ## Debian packages that set-up and tests need (python3-venv, postgresql); says so where it can't install
	@dev/setup.sh

.PHONY: venv
venv: setup .venv/.done ## .venv from requirements-dev.lock

.venv/.done: requirements-dev.lock pyproject.toml
	@$(call say,python packages into .venv: about a minute)
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --require-hashes -r requirements-dev.lock
	$(BIN)/pip install --quiet --no-deps --no-build-isolation -e .
	touch $@

.PHONY: lock
lock: venv ## write the lock files anew from pyproject.toml
	@flags="--quiet --generate-hashes --strip-extras --no-emit-index-url --no-emit-trusted-host --no-emit-find-links --no-header"
	$(BIN)/pip-compile $$flags --extra samplers -o requirements.lock pyproject.toml
	$(BIN)/pip-compile $$flags --extra samplers --extra gp -c requirements.lock -o requirements-gp.lock pyproject.toml
	$(BIN)/pip-compile $$flags --allow-unsafe --all-extras -c requirements-gp.lock -o requirements-dev.lock pyproject.toml

# ---- the local cluster

.PHONY: cluster
cluster: ## a local cluster (kind), or the one that KUBECONFIG names
	@$(call say,local cluster: cold at most 15 minutes; warm 90 seconds)
	$(CLUSTER) up

.PHONY: cluster-down
cluster-down: ## remove it, with every process, mount and rule it brought
	@$(CLUSTER) down

.PHONY: cluster-status
cluster-status: ## what runs
	@$(CLUSTER) status

.PHONY: images
images: cluster ## build our images and load them into the cluster
	@$(call say,images: operator and trial base and example)
	$(IN_CLUSTER)
	$(CLUSTER) build -t kubetune/kubetune:$(VERSION) -f operator/Dockerfile .
	$(CLUSTER) build -t kubetune/trial:$(VERSION) -f trial-image/Dockerfile trial-image
	$(CLUSTER) build -t digits:1 -f examples/digits/Dockerfile examples/digits
	$(CLUSTER) build -t architecture:1 -f examples/architecture/Dockerfile examples/architecture
	$(CLUSTER) load $(IMAGES)

.PHONY: images-all
images-all: images ## the same, and those that only the sampler gp or single examples need
	@$(call say,more images: gp and examples)
	$(IN_CLUSTER)
	$(CLUSTER) build -t kubetune/kubetune:$(VERSION)-gp --build-arg EXTRAS=gp -f operator/Dockerfile .
	$(CLUSTER) build -t kubetune/kubetune:$(VERSION)-reinforce examples/reinforce
	$(CLUSTER) build -t hyperopt-searcher:1 examples/hyperopt
	$(CLUSTER) build -t pbt:1 examples/pbt
	$(CLUSTER) build -t transfer:1 examples/transfer
	$(CLUSTER) build -t digits-honest:1 -f examples/digits/Dockerfile.honest examples/digits
	$(CLUSTER) load $(MORE_IMAGES)

.PHONY: install
install: ## kubetune into the cluster by its chart (images must be there: make images)
	@$(call say,helm upgrade --install kubetune)
	$(IN_CLUSTER) dev/install.sh $(VERSION)

.PHONY: uninstall
uninstall: ## remove the release (the chart's notes say what is kept)
	@$(IN_CLUSTER) helm uninstall kubetune -n kubetune --wait

# ---- tests

.PHONY: lint
lint: venv ## ruff, mypy strict, import-linter
	@$(call say,lint: ruff and mypy and import-linter)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy operator/kubetune trial-image/*.py dev tests examples
	$(BIN)/lint-imports --no-logo 2>/dev/null || PYTHONPATH=operator $(BIN)/lint-imports

.PHONY: test-unit
test-unit: venv ## tables and properties, no I/O beyond loopback
	@$(call say,unit tests)
	$(BIN)/pytest -q tests/unit

.PHONY: test-simulation
test-simulation: venv ## seeded runs of the whole loop on virtual time, with kills
	@$(call say,simulated runs)
	$(BIN)/pytest -q tests/simulation

.PHONY: test-integration
test-integration: venv ## a real PostgreSQL
	@$(call say,integration tests on PostgreSQL)
	$(BIN)/pytest -q tests/integration

.PHONY: test-chart
test-chart: venv cluster ## helm lint and what the chart renders
	@$(call say,chart tests)
	$(IN_CLUSTER) pytest -q tests/chart

.PHONY: test-e2e
test-e2e: venv cluster $(if $(filter 1,$(KUBETUNE_TEST_ALL)),images-all,images) install ## the local cluster, through the chart; E2E_ARGS="-k suspend" for a part
	@$(call say,end-to-end tests on the cluster: about 20 minutes)
	$(IN_CLUSTER) pytest -v --timeout=900 tests/e2e $(E2E_ARGS)

.PHONY: format
format: venv ## ruff format and fixes
	@$(BIN)/ruff check --fix . && $(BIN)/ruff format .

.PHONY: clean
clean: ## caches in the tree (the cluster's cache: KUBETUNE_CACHE, see dev/cluster/README.md)
	@rm -rf .venv .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis build
