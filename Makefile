# run, test and what they share. Each makes .venv/ and what else it needs by itself.

PYTHON ?= python3
BIN := .venv/bin
PIP := $(BIN)/pip install --quiet --disable-pip-version-check --require-hashes
PEERS := benchmarks/serving
PURE := feeds/feedlists.py,feeds/planning.py,feeds/politeness.py,feeds/parsing.py,feeds/wellformed.py,feeds/ranking.py,blacklist/domains.py,blacklist/formats/*.py

.DEFAULT_GOAL := help
.PHONY: help run test lint fuzz bench format lock clean

help:
	@echo "make run     set up what is missing and serve on http://127.0.0.1:8000/"
	@echo "make test    everything that CI checks"
	@echo "make lint    only ruff, mypy and the import contracts"
	@echo "make fuzz    100,000 broken feeds through the parser (FEEDS=1000: fewer)"
	@echo "make bench   measure; results go to benchmarks/results/ (half an hour)"
	@echo "make format  let ruff write the code its way"
	@echo "make lock    pin requirements*.in again"
	@echo "make clean   remove .venv/ and caches; var/, which holds the data, stays"

run: .venv/run
	@exec $(BIN)/python -m feedsite

# The data of a site that runs from this folder, and its settings, stay out of it.
test lint: export FEEDSITE_DATA := $(CURDIR)/var/test
test lint: export DATABASE_URL :=

test: .venv/dev
	@$(BIN)/python -m tests.postgresql --find
	@$(BIN)/python -m tests.feeds.browser
	@$(MAKE) --no-print-directory lint
	$(BIN)/python manage.py makemigrations --check --dry-run
	HTTPS=true NUM_PROXIES=1 ALLOWED_HOSTS=feeds.example.org SECRET_KEY= \
		$(BIN)/python manage.py check --deploy --fail-level WARNING
	@rm -f .coverage .coverage.*
	$(BIN)/coverage run -m pytest
	@$(BIN)/coverage combine --quiet
	@$(BIN)/coverage report --include=$(PURE) --fail-under=100 > var/test/pure.txt \
		|| { cat var/test/pure.txt; echo "The pure modules need 100 %."; exit 1; }
	@$(BIN)/python -m tests.postgresql $(BIN)/pytest

lint: .venv/dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

fuzz: .venv/dev
	$(BIN)/python -m tests.fuzz $(FEEDS)

bench: .venv/dev $(PEERS)/.venv/peers
	$(BIN)/python -m benchmarks.parsing
	$(BIN)/python -m benchmarks.fairness
	$(BIN)/python -m benchmarks.pool
	$(BIN)/python -m benchmarks.held_lock
	$(BIN)/python -m benchmarks.votes
	$(BIN)/python -m benchmarks.layers
	$(BIN)/python -m benchmarks.blacklist_live
	$(BIN)/python -m benchmarks.blacklist_reload
	$(BIN)/python -m benchmarks.blacklist_import
	$(BIN)/python -m benchmarks.blacklist_admin
	$(BIN)/python -m benchmarks.loadfeeds
	$(BIN)/python -m benchmarks.serving --rounds 3 --seconds 5
	$(BIN)/python -m benchmarks.serving.growth --entries 10000,100000 --seconds 5

format: .venv/dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# Stamps: a second run skips what is installed already.
.venv/run: requirements.txt | $(BIN)/pip
	@echo "Installing what requirements.txt pins ..."
	@$(PIP) -r requirements.txt
	@touch $@

.venv/dev: requirements-dev.txt | $(BIN)/pip
	@echo "Installing what requirements-dev.txt pins ..."
	@$(PIP) -r requirements-dev.txt
	@touch $@ .venv/run

# What others run on is no business of ours: an environment of its own.
$(PEERS)/.venv/peers: $(PEERS)/requirements.txt | $(BIN)/pip
	@echo "Installing what $< pins ..."
	@$(PYTHON) -m venv $(PEERS)/.venv
	@$(PEERS)/$(PIP) -r $<
	@touch $@

$(BIN)/pip:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
		echo "feedsite needs Python 3.11 or newer: make PYTHON=/path/to/python3.11" >&2; \
		exit 1; }
	@$(PYTHON) -m venv .venv || { \
		echo "Python cannot make .venv/ (on Debian: apt install python3-venv)" >&2; \
		exit 1; }

lock:
	@$(PYTHON) -m venv .venv/lock
	@.venv/lock/bin/pip install --quiet --disable-pip-version-check uv
	@for name in requirements requirements-dev $(PEERS)/requirements; do \
		.venv/lock/bin/uv pip compile -q --universal --python-version 3.11 \
			--generate-hashes --no-header --no-annotate $$name.in -o $$name.txt \
			|| exit 1; \
	done

clean:
	rm -rf .venv $(PEERS)/.venv .mypy_cache .pytest_cache .ruff_cache .import_linter_cache .coverage*
	find . -name __pycache__ -prune -exec rm -rf {} +
