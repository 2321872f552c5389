# make run: the app on http://127.0.0.1:7860.  make test: all tests.  Both set up .venv first.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: setup run test check docs detectors clean

setup: $(VENV)/.installed

$(VENV)/.installed: requirements.txt constraints.txt pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' \
		|| { echo "Python 3.10 or newer is needed; set PYTHON=/path/to/python3"; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet -r requirements.txt -c constraints.txt
	$(BIN)/python -m pip install --quiet --no-deps -e .
	touch $@

# What only the tests need; a browser from the system's package manager where there is none.
$(VENV)/.installed-dev: $(VENV)/.installed
	$(BIN)/python -m pip install --quiet -e '.[dev]' -c constraints.txt
	touch $@

run: setup
	$(BIN)/python app.py

# Processes that share the tests out among them, and how often a failed test is tried again. What was seen of the first
# try is shown at the end: it is a test that depends on how busy the machine is, and to be mended.
TEST_PROCESSES ?= 2
TEST_RERUNS ?= 1

test: $(VENV)/.installed-dev
	@scripts/ensure_browser.sh
	@scripts/ensure_redis.sh
	@scripts/ensure_onnx_web.sh
	$(BIN)/python -m pytest -n $(TEST_PROCESSES) --reruns $(TEST_RERUNS) --durations=15

check: $(VENV)/.installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python -m scripts.docs --check
	$(BIN)/python -m pytest -q tests/test_docstrings.py

# The documentation as a site, in build/site; a broken link is an error.
docs: $(VENV)/.installed-dev
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

# The shipped detectors, from the training files of the image sets in DATA.
DATA ?= ../shared/data
detectors: setup
	$(BIN)/python -m scripts.shipped_detectors --data $(DATA)

clean:
	rm -rf $(VENV) build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache
