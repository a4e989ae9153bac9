# Everything runs in .venv, which is made from the lock file when it is first needed.
.DEFAULT_GOAL := help
.PHONY: help install churn test test-quick bench bench-peers bench-scale bench-mechanisms bench-use-cases lock clean

PYTHON := .venv/bin/python
INSTALLED := .venv/.installed

help:  ## Show the targets.
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-16s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

# With uv: about ten seconds. Without it: Python 3.11's own venv and pip, about a minute.
$(INSTALLED): requirements.txt
	@if command -v uv >/dev/null 2>&1; then \
	  uv venv --quiet --clear --python 3.11 .venv && \
	  uv pip install --quiet --python $(PYTHON) --no-deps --require-hashes -r requirements.txt; \
	else \
	  python=$$(command -v python3.11 || command -v python3 || command -v python); \
	  [ -n "$$python" ] && "$$python" -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11))' || \
	    { echo "error: found no Python 3.11 and no uv; install one of them" >&2; exit 1; }; \
	  "$$python" -m venv --clear .venv && \
	  $(PYTHON) -m pip install --quiet --disable-pip-version-check --no-deps --require-hashes -r requirements.txt; \
	fi
	@touch $@

install: $(INSTALLED)  ## Install everything into .venv (done by the others when needed).

churn: $(INSTALLED)  ## Train a churn model with DP-FedAvg on the embedded data and write the report.
	$(PYTHON) -m experiments.churn_prevention --baselines

test: $(INSTALLED)  ## Run all tests, the linter and the type checker.
	$(PYTHON) -m ruff check .
	$(PYTHON) -m ruff format --check .
	$(PYTHON) -m mypy fl_research experiments
	$(PYTHON) -m pytest -m "slow or not slow" -n 2 --dist worksteal

test-quick: $(INSTALLED)  ## Run the quick tests only.
	$(PYTHON) -m pytest

bench: $(INSTALLED)  ## Time a round against stock TFF (about four minutes).
	$(PYTHON) -m benchmarks.rounds

bench-peers: $(INSTALLED) .benchmarks/pfl_research/.installed .benchmarks/fedjax/.installed .benchmarks/flower/.installed  ## Time a round against every peer; installs them.
	$(PYTHON) -m benchmarks.rounds --systems=ours,stock_tff,stock_tff_defaults,pfl_research,fedjax,flower

bench-scale: $(INSTALLED)  ## Time a round over sizes, a million clients, a thousand rounds, and the start.
	$(PYTHON) -m benchmarks.scale
	$(PYTHON) -m benchmarks.population
	$(PYTHON) -m benchmarks.memory
	$(PYTHON) -m benchmarks.start_up

bench-mechanisms: $(INSTALLED)  ## Train by every mechanism at the same epsilon; writes table and plot.
	$(PYTHON) -m benchmarks.mechanisms

bench-use-cases: $(INSTALLED)  ## Train every use case, without privacy and at several epsilons.
	$(PYTHON) -m benchmarks.use_cases

lock:  ## Make requirements.txt again from requirements.in (needs uv; see BUILD_NOTES.md).
	uv pip compile requirements.in --override overrides.txt --python-version 3.11 \
	  --generate-hashes --no-emit-index-url --no-annotate --no-header --quiet -o requirements.txt

clean:  ## Remove environments and caches; runs/ stays.
	rm -rf .venv .benchmarks .pytest_cache .mypy_cache .ruff_cache .hypothesis

include benchmarks/environments/environments.mk
