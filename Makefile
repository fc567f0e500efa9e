# `make demo` and `make test` each work alone on a fresh machine with Python 3.11, make and gcc.
PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV := .venv
BIN := $(VENV)/bin
# One thread of arithmetic each, and byte code kept: the tests start hundreds of processes.
PYTEST := OMP_NUM_THREADS=1 PYTHONDONTWRITEBYTECODE= $(BIN)/python -m pytest -n 2
READY := $(VENV)/.ready
HOME_DIR ?= demo-home
DATA ?= ../shared/data

.PHONY: demo test test-slow test-browser test-flows pictures lint docs bench bench-full clean

$(READY): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev]'
	touch $(READY)

demo: $(READY)
	$(BIN)/trustvlm --home $(HOME_DIR) demo

test: $(READY)
	$(PYTEST) --dist loadfile --no-loadscope-reorder --durations 10 --durations-min 3

# What draws random examples runs here with a seed of its own, which is printed.
test-slow: $(READY)
	$(PYTEST) -m '(slow or hypothesis) and not gpu and not browser' --hypothesis-profile random --dist worksteal --durations 20 --durations-min 30

test-browser: $(READY)
	$(PYTEST) -m browser --dist loadfile

# What other work on the machine makes too slow for a browser is run once more, alone.
test-flows: $(READY)
	$(PYTEST) -m flow --dist worksteal || $(PYTEST) -n 0 -m flow --last-failed

# The pictures of the page that the documentation shows, in docs/pictures.
pictures: $(READY)
	$(BIN)/python -m pytest -m pictures tests/page

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# The site, in site/; a broken link or an option that is not there ends it.
docs: $(READY)
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict --quiet

bench: $(READY)
	$(BIN)/python -m benchmarks.labels
	$(BIN)/python -m benchmarks.search
	$(BIN)/python -m benchmarks.start
	$(BIN)/python -m benchmarks.pipeline
	$(BIN)/python -m benchmarks.register
	$(BIN)/python -m benchmarks.guarantee
	$(BIN)/python -m benchmarks.monitoring
	$(BIN)/python -m benchmarks.intervals
	$(BIN)/python -m benchmarks.rules --data $(DATA)

bench-full: $(READY)
	$(BIN)/python -m benchmarks.labels --full
	$(BIN)/python -m benchmarks.search --full
	$(BIN)/python -m benchmarks.start --labels 1e4,1e5,1e6 --bulk

clean:
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache .hypothesis site $(HOME_DIR)
