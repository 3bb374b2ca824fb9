# Every target does its own set-up: a virtual environment in .venv, made once per change of pyproject.toml.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready

.PHONY: demo test check bench soak clean kafka compatibility
.DEFAULT_GOAL := help

help:            ## this list
	@grep -hE '^[a-z]+: .*##' $(MAKEFILE_LIST) | sed -E 's/: *.*## */\t/' | expand -t 16

$(READY): pyproject.toml
	$(PYTHON) -m venv $(VENV) || (echo "python3 -m venv failed: on Debian, apt-get install python3-venv" >&2; exit 1)
	$(BIN)/pip install --quiet --disable-pip-version-check -e '.[dev,demo,postgres,speed]'
	touch $(READY)

demo: $(READY)  ## 336,776 flights through every part, each killed again and again (DB=postgresql://… SEED=n KILLS=n)
	$(BIN)/python -m examples.flights.demo $(if $(DB),--db $(DB)) $(if $(SEED),--seed $(SEED)) $(if $(KILLS),--kills $(KILLS))

check: $(READY) ## under a minute: ruff, mypy, import-linter, tidy, unit tests
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache
	$(BIN)/pytest -q tests/unit

test: check     ## everything that proves a promise, under twenty minutes
	$(BIN)/pytest -q -n 2 --dist loadfile --no-loadscope-reorder --durations=15 tests --ignore tests/unit

bench: $(READY) ## Ottla beside Apache Kafka, same work, same machine: ratios (TLS=1: both with TLS and SCRAM)
	$(BIN)/python -m bench $(if $(TLS),--tls)
	$(if $(TLS),,$(BIN)/python -m bench.partitions)

soak: $(READY)  ## long campaigns: more kills, more examples 
	OTTLA_SOAK=1 $(BIN)/pytest -q --timeout=0 tests/properties tests/crash tests/process tests/differential tests/security

compatibility: $(READY) ## docs/compatibility.md, from a run of the tests with every client
	OTTLA_REQUIRE_ALL=1 $(BIN)/python -m pytest -q -p tests.compatibility --compatibility docs/compatibility.md tests/clients tests/differential

kafka: $(READY) ## Apache Kafka in the foreground, for looking and comparing
	$(BIN)/python -m tests.kafka_runner

clean:
	rm -rf $(VENV) dist build .ottla
