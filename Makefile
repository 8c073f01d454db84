# Every target sets up what it needs; set-up is repeated only when pyproject.toml or constraints.txt has changed.

PYTHON ?= python3
WORKERS ?= 2
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
TOOLS := chromium strace

export HF_HUB_OFFLINE ?= 1
# One thread a test worker: the workers share the cores.
test: export OMP_NUM_THREADS = 1

.PHONY: demo docs lint setup system test
.DEFAULT_GOAL := demo

setup: $(READY)

demo: setup
	$(BIN)/btoks demo

test: setup system
	$(BIN)/python -m pytest -n $(WORKERS)

# The tests drive a browser and trace what a writer syncs.
system:
	@for tool in $(TOOLS); do command -v $$tool >/dev/null || missing="$$missing $$tool"; done; \
	test -z "$$missing" || { apt-get update -qq && \
	DEBIAN_FRONTEND=noninteractive apt-get install -qq --yes --no-install-recommends $$missing; } || \
	{ echo "make test: install$$missing, as root: apt-get install$$missing"; exit 1; }

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python tools/make_docs.py --check

docs: setup
	$(BIN)/python tools/make_docs.py

$(READY): pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	touch $@
