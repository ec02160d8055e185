# `make demo` and `make test` need Python 3.11 to 3.13 with venv and pip, make and git; nothing else, no root.
# They build their own .venv from the hash-pinned locks in .ci/ and leave the system alone.

PYTHON ?= python3
JOBS ?= 2
PYTEST_ARGS ?=
DEMO_ARGS ?=

VENV := .venv
BIN := $(VENV)/bin
PIP := @$(BIN)/python -m pip -qq --disable-pip-version-check
RUN_LOCK := .ci/requirements.lock
TEST_LOCK := .ci/requirements-test.lock

.PHONY: help demo test check unit format tools lock bench bench-gas verify verify-report clean

help:
	@echo "make demo     a payment-channel network on this machine, a cheat and an audit"
	@echo "make test     the whole test suite; JOBS=$(JOBS) processes, PYTEST_ARGS='-k name' narrows it"
	@echo "make check    format, lint, types, import floors and unit tests, in under two minutes"
	@echo "make tools    anvil, forge and solc into tests/tools, for the tests that compare with them (needs npm)"
	@echo "make bench    the numbers, in a table and in build/bench.json; make bench-gas: every call of the contracts"
	@echo "make verify   the long campaigns, hours; goes on where it was; PART=forge SEED=2 picks one and its chances"
	@echo "make lock     rewrite the locks in .ci/ after a change of setup.cfg"
	@echo "make format   format and fix what can be fixed"
	@echo "make clean    remove what these made"

demo: $(VENV)/run.stamp
	$(BIN)/channeld demo $(DEMO_ARGS)

test: $(VENV)/test.stamp
	$(BIN)/python -m pytest -n $(JOBS) --dist loadfile $(PYTEST_ARGS)

check: $(VENV)/test.stamp
	$(BIN)/ruff format --check --quiet
	$(BIN)/ruff check --quiet
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo
	@$(MAKE) --no-print-directory unit

unit: $(VENV)/test.stamp
	HYPOTHESIS_PROFILE=quick $(BIN)/python -m pytest -q -n $(JOBS) --dist loadfile -m "not slow"

format: $(VENV)/test.stamp
	$(BIN)/ruff format
	$(BIN)/ruff check --fix

bench: $(VENV)/test.stamp
	$(BIN)/python -m tests.bench

bench-gas: $(VENV)/test.stamp
	$(BIN)/python -m tests.bench.gas

verify: $(VENV)/test.stamp
	$(BIN)/python -m tests.verify $(if $(PART),--part '$(PART)') $(if $(SEED),--seed $(SEED))

verify-report: $(VENV)/test.stamp
	$(BIN)/python -m tests.verify --report

tools: tests/tools/node_modules/.package-lock.json

tests/tools/node_modules/.package-lock.json: tests/tools/package-lock.json
	cd tests/tools && npm ci --ignore-scripts
	@touch $@

# The settings of this machine (pip's and uv's indexes, uv's files) must not reach the locks.
COMPILE := env -u UV_INDEX -u UV_DEFAULT_INDEX -u UV_INDEX_URL -u UV_EXTRA_INDEX_URL -u UV_FIND_LINKS \
	$(BIN)/uv --no-config pip compile --quiet --universal --fork-strategy fewest --python-version 3.11 \
	--generate-hashes --no-header --no-annotate

# uv comes from the lock that it rewrites.
lock: | $(BIN)/python
	@test -x $(BIN)/uv || $(BIN)/python -m pip -qq install --require-hashes --no-deps -r $(TEST_LOCK)
	$(COMPILE) setup.cfg .ci/build.in --extra dev $(LOCK_ARGS) --output-file $(TEST_LOCK)
	$(COMPILE) setup.cfg .ci/build.in --extra devchain --constraint $(TEST_LOCK) --output-file $(RUN_LOCK)

clean:
	rm -rf $(VENV) build dist *.egg-info tests/tools/node_modules
	rm -rf .coverage .coverage.* .hypothesis .mypy_cache .pytest_cache .ruff_cache .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(None if (3, 11) <= sys.version_info < (3, 14) else \
		"channeld needs Python 3.11, 3.12 or 3.13; this is %s: say make PYTHON=python3.12" % sys.version.split()[0])'
	$(PYTHON) -m venv $(VENV)

$(VENV)/run.stamp: $(RUN_LOCK) setup.cfg pyproject.toml | $(BIN)/python
	@echo "Installing what $(RUN_LOCK) pins into $(VENV); the first time takes a minute."
	$(PIP) install --require-hashes --no-deps -r $(RUN_LOCK)
	$(PIP) install --no-deps --no-build-isolation --editable .
	@touch $@

$(VENV)/test.stamp: $(TEST_LOCK) $(VENV)/run.stamp
	@echo "Installing what $(TEST_LOCK) pins into $(VENV)."
	$(PIP) install --require-hashes --no-deps -r $(TEST_LOCK)
	@touch $@
