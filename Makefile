# Two commands do everything on a fresh machine: `make demo` and `make test`.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
READY  := $(VENV)/ready

.PHONY: demo test check lint types imports spelling peers soak bench clean help

help:  ## say what each command does
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z]+):.*## /\1\t/' | expand -t 12

$(READY): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --constraint constraints.txt --editable '.[dev]'
	@touch $@

demo: $(READY)  ## one chest CT and one radiograph through the whole node, with a small PACS of its own
	$(BIN)/dicomnode demo $(ARGS)

test: $(READY) peers  ## every test, also with real peers and with kill -9; missing peers are named
	# A file starts its node once: it stays together. Kills and peers take longest: they go first.
	$(BIN)/pytest -n 2 --dist loadfile --no-loadscope-reorder $(ARGS) tests

check: lint types imports spelling test  ## what CI runs

lint: $(READY)  ## ruff: rules and format
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(READY)  ## mypy, strict
	$(BIN)/mypy

imports: $(READY)  ## the rooms and who may import whom
	$(BIN)/lint-imports

spelling: $(READY)
	$(BIN)/codespell dicomnode pipelines models tests benchmarks deploy docs README.md CHANGELOG.md

peers:  ## install the peers that tests talk to: DCMTK, Orthanc, PostgreSQL, dicom3tools
	@deploy/peers.sh

soak: $(READY) peers  ## 30 studies with random kills; SEED=n repeats one
	$(BIN)/python -m tests.crash.soak $(if $(SEED),--seed $(SEED)) $(ARGS)

bench: $(READY) peers  ## figures side by side with DCMTK and Orthanc
	$(BIN)/python -m benchmarks.receive
	$(BIN)/python -m benchmarks.load

clean:
	rm -rf $(VENV) build dist *.egg-info demo-out
