# Everything a user or a developer types. `make` alone lists it.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory

# The first interpreter that is 3.11 or later and can make a virtual environment. It is tried, not only looked up:
# version managers leave launchers of versions that are not installed, and Debian ships a python3 without ensurepip.
PYTHON ?= $(shell for python in python3.11 python3.12 python3.13 python3.14 python3; do \
    $$python -c 'import ensurepip, sys, venv; sys.exit(sys.version_info < (3, 11))' 2>/dev/null \
    && { echo $$python; break; }; done)
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
KAFKA_PORT ?= 9092
TEST_ARGS ?=

.PHONY: help setup demo demo-kafka kafka test test-fast java check format lock wheel clean

help: ## list these targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-11s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: $(STAMP) ## make .venv from requirements.lock; instant when nothing has changed
	@:

# The stamp is written last, so that an interrupted setup is taken up again and never mistaken for a finished one.
$(STAMP): requirements.lock pyproject.toml
	@test -n "$(PYTHON)" || { echo "stream-rec needs Python 3.11 or later with venv and pip (on Debian and Ubuntu:" \
	  "apt-get install python3 python3-venv python3-pip), or name one: make setup PYTHON=/path/to/python3.11" >&2; exit 1; }
	$(BIN)/python -m pip --version >/dev/null 2>&1 || $(PYTHON) -m venv $(VENV)
	uv="$$(sed -n 's/^\(uv==[^ ;]*\).*/\1/p' requirements.lock)"; \
	  $(BIN)/python -m pip install --quiet --disable-pip-version-check "$$uv"
	$(BIN)/uv pip install --python $(BIN)/python -r requirements.lock
	$(BIN)/uv pip install --python $(BIN)/python --no-deps --no-build-isolation --editable .
	@touch $@

demo: setup ## the main job, live in the terminal, about a minute; no broker, no JVM, no Docker
	$(BIN)/stream-rec demo

demo-kafka: java setup ## the same through a real Apache Kafka broker, which it starts and stops itself
	$(BIN)/stream-rec demo --kafka

kafka: java setup ## a real one-node Apache Kafka broker on 127.0.0.1 (KAFKA_PORT=9092) until Ctrl-C; data in var/kafka
	$(BIN)/python deploy/kafka/broker.py --port $(KAFKA_PORT) --directory var/kafka

test: java setup ## the whole test suite, real Kafka included; TEST_ARGS='-k name' passes more to pytest
	$(BIN)/python -m pytest $(TEST_ARGS)

test-fast: setup ## the suite without the tests that need a broker, and so without Java
	$(BIN)/python -m pytest -m 'not kafka' $(TEST_ARGS)

java:
	@major="$$(java -version 2>&1 | sed -n 's/.*version "\([0-9]*\).*/\1/p' | head -n 1 || true)"; \
	if [ "$${major:-0}" -lt 17 ] || ! command -v mvn >/dev/null; then \
	  { echo "Apache Kafka needs Java 17 or later and Maven; found java '$${major:-none}', mvn '$$(command -v mvn || echo none)'."; \
	    echo "  Debian, Ubuntu:  apt-get install openjdk-17-jdk-headless maven"; \
	    echo "  Fedora:          dnf install java-17-openjdk-headless maven"; \
	    echo "  macOS:           brew install openjdk@17 maven"; \
	    echo "Without them: make demo, make test-fast."; } >&2; exit 1; fi

check: setup ## lint, format, types, import directions, the example configuration
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/stream-rec config check --config deploy/worker.toml

format: setup ## put the code in order
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# Universal: one lock for every system and Python that pyproject.toml allows, told apart by markers.
# Versions already in the lock stay where the ranges allow them; LOCK_ARGS=--upgrade takes the newest of all.
lock: setup ## resolve requirements.lock anew from pyproject.toml; LOCK_ARGS=--upgrade for newest versions
	$(BIN)/uv pip compile pyproject.toml --universal --python-version 3.11 --all-extras \
	  --no-header --annotation-style line --quiet $(LOCK_ARGS) --output-file requirements.lock

wheel: setup ## build the wheel into dist/
	$(BIN)/uv build --wheel --no-build-isolation --python $(BIN)/python --out-dir dist

clean: ## remove what was built and cached; .venv, var/ and data stay
	rm -rf build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache deploy/kafka/target
	find stream_rec consumers producers tests deploy -name __pycache__ -type d -prune -exec rm -rf {} +
