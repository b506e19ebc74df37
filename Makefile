# Entry points. Python 3.11+, make and a package index are assumed; what is installed lands in .venv and .tools.
PYTHON ?= python3
BIN := .venv/bin
STAMP := .venv/.installed
FAULTS ?= tests/faults/faults.tsv
BENIGN ?= tests/faults/benign.tsv

.DEFAULT_GOAL := help
.PHONY: help evidence test test-long check lint types workflows docs faults bench clean

help:  ## this list
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/'

$(STAMP): pyproject.toml constraints.txt
	@echo "==> creating .venv and installing (once)"
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed; set PYTHON=")'
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv
	@$(BIN)/python -m pip install -q --disable-pip-version-check -c constraints.txt uv
	@$(BIN)/uv pip install -q --python $(BIN)/python -c constraints.txt -e '.[dev]'
	@touch $@

evidence: $(STAMP)  ## one command: embedded Postgres, every control, a signed bundle in evidence/embedded/
	@echo "==> collecting evidence on an embedded Postgres"
	@$(BIN)/python -m pytest --evidence=embedded

test: $(STAMP)  ## the test suite on real servers
	@echo "==> running the test suite (starts the servers it needs)"
	@$(BIN)/python -m pytest -n 2 --dist=loadgroup -m "not long"

test-long: $(STAMP)  ## thousands of generated cases more
	@$(BIN)/python -m pytest -n 2 --dist=loadgroup -m long

lint: $(STAMP)  ## ruff and import contracts
	@$(BIN)/ruff check . && $(BIN)/ruff format --check . && $(BIN)/lint-imports

types: $(STAMP)  ## mypy --strict, tests too
	@$(BIN)/mypy

workflows: $(STAMP)  ## actionlint and zizmor on .github/workflows
	@$(BIN)/actionlint && $(BIN)/zizmor --offline --quiet .github/workflows

docs: $(STAMP)  ## docs/controls/, catalogue.lock and docs/CONFIGURATION.md from the code
	@$(BIN)/python -m pytest_tenantproof.controls.docs docs/controls
	@$(BIN)/python -m pytest_tenantproof.config.docs docs/CONFIGURATION.md

check: lint types test  ## everything CI asks for

faults: $(STAMP)  ## the isolation-fault benchmark; FAULTS= and BENIGN= take other lists
	@$(BIN)/python bench/faults.py --faults "$(FAULTS)" --benign "$(BENIGN)"

bench: $(STAMP)  ## speed, as ratios against peers in the same run
	@$(BIN)/python -m bench

# Server binaries that root copied to where another user can run them stay as long as a server runs from there.
clean:  ## removes what all of the above made
	rm -rf .venv .tools .tenantproof .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache
	rm -rf *.egg-info bench/*.json site tests/fixtures/*/node_modules
	find evidence -mindepth 1 -maxdepth 1 ! -name README.md -exec rm -rf {} +
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
	@find "$${TMPDIR:-/tmp}" -maxdepth 1 -type d -user "$$(id -un)" -name 'tenantproof-bin-*' | while read -r copy; do \
		ls -l /proc/[0-9]*/exe 2>/dev/null | grep -qF " $$copy/" || { echo "rm -rf $$copy"; rm -rf "$$copy"; }; done
