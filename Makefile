# Every target works from a fresh checkout; `make help` lists them.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
PYTHON ?= python3
UV_VERSION := 0.13.9
BIN := .venv/bin
UV := $(BIN)/uv
COMPILE := $(UV) pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header

.PHONY: help
help: ## list the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sort | awk -F ':.*## ' '{printf "  \033[1m%-14s\033[0m %s\n", $$1, $$2}'

.PHONY: install
install: .venv/installed ## the virtual environment with both packages and the development tools

.venv/installed: locks/dev.txt pyproject.toml serving-image/pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet uv==$(UV_VERSION)
	$(UV) pip install --quiet --require-hashes -r locks/dev.txt
	$(UV) pip install --quiet --no-deps -e . -e serving-image
	touch $@

.PHONY: lock
lock: ## resolve the dependencies anew (locks/*.txt)
	test -x $(UV) || { $(PYTHON) -m venv .venv && $(BIN)/pip install --quiet uv==$(UV_VERSION); }
	$(COMPILE) pyproject.toml serving-image/pyproject.toml --group dev -o locks/dev.txt
	$(COMPILE) pyproject.toml -c locks/dev.txt -o locks/operator.txt
	$(COMPILE) serving-image/pyproject.toml -c locks/dev.txt -o locks/server.txt
