# The two commands of the README, and what CI runs. `make help` lists them.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
DEMO := .venv-demo
JOBS ?= 2
SECONDS ?= 60
MINUTES ?= 120

.DEFAULT_GOAL := help
.PHONY: help demo test check all format lint types tests generated bench chaos fuzz soak sbom audit stack lock clean

help: ## say what there is
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## / — /'

demo: $(DEMO)/.done ## run the example under opentelemetry-instrument and show its status
	@$(DEMO)/bin/otel-agents demo

test: tests ## install all that the tests need, and run them

check: format lint types tests generated ## what CI runs: format, lint, types, tests, generated files

all: check

format: $(VENV)/.done
	@$(BIN)/ruff format --check .

lint: $(VENV)/.done
	@$(BIN)/ruff check .

types: $(VENV)/.done
	@$(BIN)/mypy
	@$(BIN)/ty check --quiet

tests: $(VENV)/.done
	@$(BIN)/python -m pytest -n $(JOBS) --dist loadgroup -q || $(BIN)/python -m tests.alone $$?

generated: $(VENV)/.done
	@$(BIN)/python docs/generate.py --check
	@$(BIN)/python docs/schema.py --check
	@$(BIN)/python docs/events.py --check
	@$(BIN)/python -m dashboards --check

bench: $(VENV)/.done ## measure the hot path and events beside their peers, cold starts, guards, checkpoints, and ingest
	@$(BIN)/python benchmarks/hot_path.py
	@$(BIN)/python benchmarks/import_time.py
	@$(BIN)/python benchmarks/status_cold.py
	@$(BIN)/python benchmarks/encode.py --rounds 60
	@$(BIN)/python benchmarks/backends.py --quick
	@$(BIN)/python benchmarks/emit.py --quick
	@$(BIN)/python benchmarks/guards.py
	@$(BIN)/python benchmarks/checkpoint.py --quick
	@$(BIN)/python benchmarks/ingest.py --quick

chaos: $(VENV)/.done ## kills, outages and power losses at full length: about an hour
	@CHAOS_KILLS=100 CHAOS_CUTS=3000 CHAOS_OUTAGE_SECONDS=900 CHAOS_STOPPED_SECONDS=60 \
		$(BIN)/python -m pytest -q tests/chaos

fuzz: $(VENV)/.fuzz ## fuzz every codec and parser for SECONDS=60 each, or TARGETS="json http"
	@$(BIN)/python -m tests.fuzz.driver --seconds $(SECONDS) $(TARGETS)

soak: $(VENV)/.done ## run agents and server with faults for MINUTES=120
	@$(BIN)/python benchmarks/soak.py --minutes $(MINUTES)

sbom: $(VENV)/.done ## write the bill of materials of a build to build/sbom.json
	@rm -rf build/wheel && $(BIN)/pip wheel --quiet --no-deps --no-build-isolation --wheel-dir build/wheel .
	@$(BIN)/python deploy/sbom.py build/wheel/*.whl --output build/sbom.json

audit: $(VENV)/.done ## ask whether locked packages have known vulnerabilities, where a database can be reached
	@$(BIN)/pip install --quiet pip-audit
	@$(BIN)/python deploy/audit.py

stack: $(VENV)/.done ## start the whole stack: in containers where there is an engine with Compose, else natively
	@if docker info >/dev/null 2>&1 && docker compose version >/dev/null 2>&1; then \
		$(BIN)/otel-agents stack up --build; \
	else \
		deploy/native/install collector jaeger prometheus alertmanager redis && \
		$(BIN)/python deploy/native/stack.py up --default-ports; \
	fi

lock: $(VENV)/.done ## resolve the pinned requirements anew
	@$(BIN)/pip install --quiet uv
	@for set in run dev; do \
		extra="--group build"; [ $$set = run ] || extra="$$extra --group test --group stack --group check"; \
		$(BIN)/uv pip compile --quiet --universal --generate-hashes --no-header \
			--no-emit-index-url --no-emit-find-links --upgrade \
			--extra all $$extra pyproject.toml --output-file requirements/$$set.txt; \
	done

clean: ## remove environments and caches
	rm -rf $(VENV) $(DEMO) .mypy_cache .pytest_cache .ruff_cache .hypothesis build dist

# Where there is no atheris for this Python, the driver goes without coverage.
$(VENV)/.fuzz: $(VENV)/.done
	@$(BIN)/python -c 'import tomllib; print(*tomllib.load(open("pyproject.toml", "rb"))["dependency-groups"]["fuzz"], sep="\n")' \
		| $(BIN)/pip install --quiet --disable-pip-version-check --requirement /dev/stdin || true
	@touch $@

# One sentence instead of a traceback where Python is too old or `venv` is missing.
define require_python
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || \
		{ echo "otel-agents needs Python 3.11 or newer: set PYTHON, as in 'make test PYTHON=python3.12'." >&2; exit 1; }
	@$(PYTHON) -c 'import venv, ensurepip' 2>/dev/null || \
		{ echo "This Python has no venv: install your system's package for it (python3-venv on Debian and Ubuntu)." >&2; exit 1; }
endef

$(VENV)/.done: requirements/dev.txt pyproject.toml
	$(require_python)
	@$(PYTHON) -m venv $(VENV)
	@$(BIN)/pip install --quiet --disable-pip-version-check --require-hashes -r requirements/dev.txt
	@$(BIN)/pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@

$(DEMO)/.done: requirements/run.txt pyproject.toml
	$(require_python)
	@$(PYTHON) -m venv $(DEMO)
	@$(DEMO)/bin/pip install --quiet --disable-pip-version-check --require-hashes -r requirements/run.txt
	@$(DEMO)/bin/pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@
