# Needs Python 3.11 or newer with venv, and make. Everything goes into .venv; nothing outside the project is touched,
# but for the Debian packages that tests/set-up installs where it may.
PYTHON ?= python3
BIN := .venv/bin
READY := .venv/.ready
# One more than there are processors: many tests wait for other programs.
WORKERS ?= $(shell echo $$(($$(nproc) + 1)))

# Tests start byokd hundreds of times: where the environment forbids it to, it would compile all its modules each time.
export PYTHONDONTWRITEBYTECODE :=

.PHONY: help setup demo test kills deaths simulate mutate check bench docs lock clean

help:
	@echo "make demo    set up and show the main job"
	@echo "make test    set up and run every test"
	@echo "make kills   kill the daemon at every single call of its ports, not only at the first of each kind"
	@echo "make deaths  kill broker and daemon during ten thousand changes, also a broker that forgets; make test has it smaller"
	@echo "make simulate SEEDS=1000   live through that many worlds of bad luck; SEED=n shows one, BUG=list|all|name plants bugs"
	@echo "make mutate  change the rules one by one and see whether tests notice; MODULES=\"weigh decide\" for some of them"
	@echo "make check   linters, types, layers"
	@echo "make bench   benchmarks: ratios against bare libraries"
	@echo "make docs    write the generated pages again"
	@echo "make lock    pin the dependencies again"

setup: $(READY)

$(READY): requirements-dev.txt pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 11) else "byokd needs Python 3.11 or newer\nhint: make PYTHON=/path/to/python3.11 $(MAKECMDGOALS)")'
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements-dev.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@touch $(READY)

demo: setup
	$(BIN)/byokd demo

test: setup
	tests/set-up
	$(BIN)/python -m pytest -n $(WORKERS) --dist loadgroup $(ARGS)

kills: setup
	tests/set-up
	BYOKD_KILLS=all $(BIN)/python -m pytest -n auto tests/kills $(ARGS)

deaths: setup
	tests/set-up
	BYOKD_KILLS=all $(BIN)/python -m pytest -n auto --durations=0 tests/service/test_deaths_of_the_bus.py $(ARGS)

SIMULATE := $(foreach name,SEEDS FIRST JOBS SEED BUG,$(if $($(name)),--$(shell echo $(name) | tr A-Z a-z) $($(name))))

simulate: setup
	PYTHONPATH=tests PYTHONHASHSEED=0 $(BIN)/python -m simulation $(SIMULATE)

mutate: setup
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements-mutate.txt
	$(BIN)/python tests/mutate.py $(MODULES)

check: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: setup
	$(BIN)/python -m benchmarks $(ARGS)

docs: setup
	$(BIN)/python -m byokd.runtime.settings_page docs/settings.md config/byokd.toml
	$(BIN)/python -m byokd.runtime.asyncapi docs/asyncapi.json

lock: setup
	$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header \
		pyproject.toml --extra demo --extra postgresql -o requirements.txt
	$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header \
		pyproject.toml --extra demo --extra postgresql --group dev -c requirements.txt -o requirements-dev.txt
	echo mutmut | $(BIN)/uv pip compile --quiet - --universal --python-version 3.11 --generate-hashes --no-header \
		-c requirements-dev.txt -o requirements-mutate.txt
	echo hatchling | $(BIN)/uv pip compile --quiet - --universal --python-version 3.11 --generate-hashes --no-header \
		-c requirements-dev.txt -o requirements-build.txt

clean:
	rm -rf .venv build .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
