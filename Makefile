# Everything works from an empty clone that has python3, make and git: the targets make .venv themselves.
SHELL := /bin/sh
.DEFAULT_GOAL := help

# The first python3 that really runs. A pyenv shim fails here where .python-version names a version it does not have.
PYTHON3 := $(shell for p in "$$PYTHON" python3 python3.13 python3.14 python3.12 /usr/bin/python3 python; do \
	[ -n "$$p" ] && "$$p" -c 'import sys; sys.exit(sys.version_info < (3, 8))' >/dev/null 2>&1 && echo "$$p" && break; \
	done)
BIN := .venv/bin
# numpy, polars and the samplers each start a thread per core; in tests the processes are the parallelism.
ONE_THREAD := OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 MKL_NUM_THREADS=1 POLARS_MAX_THREADS=1
# Dozens of short processes: each would compile all that it imports again, 3 to 4 seconds of it.
unexport PYTHONDONTWRITEBYTECODE
PACKAGES := app experiments stats warehouse workers
# Modules run side by side; each process has servers of its own.
PARALLEL ?= -n 2 --dist loadscope
PYTEST_ARGS ?=

.PHONY: help setup demo dev test simulation validation chaos postgres engines lint format bench browser-install clean

help: ## Show the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-16s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: ## Make .venv from the lock file (does nothing when it is up to date)
	@[ -n "$(PYTHON3)" ] || { echo "Install Python 3.8 or newer; make found none that runs." >&2; exit 1; }
	@"$(PYTHON3)" scripts/bootstrap.py

demo: setup ## Run the whole service on this machine with a synthetic company in it
	$(BIN)/northlift demo

dev: setup ## Run the whole service on this machine, empty
	$(BIN)/northlift dev

test: setup ## The default suite, on SQLite and on PostgreSQL
	$(ONE_THREAD) $(BIN)/pytest $(PARALLEL) $(PYTEST_ARGS)

simulation: setup ## Check statistical claims with many replications (minutes)
	$(ONE_THREAD) $(BIN)/pytest -m simulation $(PYTEST_ARGS)

validation: setup ## Simulate what every method promises and write docs/validation (half an hour)
	$(ONE_THREAD) $(BIN)/python -m tests.validation $(STUDIES)

chaos: setup ## Kill workers and Redis while analyses run; none may be lost
	$(ONE_THREAD) $(BIN)/pytest -m chaos --timeout 1800 $(PYTEST_ARGS)

postgres: setup ## The API and the workers once more, on PostgreSQL
	$(ONE_THREAD) $(BIN)/pytest -m postgres $(PARALLEL) $(PYTEST_ARGS)

engines: setup ## Spark beside the other engines; installs pyspark, needs Java 17
	@"$(PYTHON3)" scripts/bootstrap.py --spark
	$(ONE_THREAD) $(BIN)/pytest -m engines --timeout 900 $(PYTEST_ARGS)

lint: setup ## ruff, mypy --strict, import rules
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy --strict $(PACKAGES)
	$(BIN)/lint-imports

format: setup ## Let ruff fix and format
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: setup ## Run the benchmarks and print their tables
	@for file in benchmarks/*.py; do case "$$file" in *__init__.py|*_world.py) ;; *) echo "== $$file"; $(BIN)/python "$$file" || exit 1;; esac; done

browser-install: ## How to get the browser that the page tests drive
	@command -v chromium || command -v chromium-browser || command -v google-chrome || { \
	echo "Debian, Ubuntu:  sudo apt-get update && sudo apt-get install chromium"; \
	echo "macOS:           brew install --cask chromium"; \
	echo "elsewhere:       .venv/bin/playwright install chromium"; }

clean: ## Remove the environment and all caches
	rm -rf .venv .venv-uv build *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache
	rm -f app/pages/static/vega.js
