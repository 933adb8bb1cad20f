# lambda-torch: every command a person needs. `make` alone lists them.
.DEFAULT_GOAL := help
SHELL := /bin/bash
PYTHON ?= python3
PORT ?= 3000
LAYER ?= auto
# A folder with a package `model` that takes the place of src/model
MODEL ?=
SOAK_SECONDS ?= 600
# Where torch's CPU wheel is looked for when pip's own configuration has none.
TORCH_INDEX ?= https://download.pytorch.org/whl/cpu

VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check

help: ## Show this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F':.*## ' '{printf "  make %-18s %s\n", $$1, $$2}'

setup: $(VENV)/.ready ## Make .venv with everything pinned (the other commands do this by themselves)

$(VENV)/.ready: requirements/dev.txt layers/torch/requirements.txt pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "lambda-torch needs Python 3.11 or later, and $(PYTHON) is $$($(PYTHON) --version 2>&1). Next: make $(MAKECMDGOALS) PYTHON=python3.13" >&2; exit 1; }
	@echo "Making $(VENV): a few minutes the first time"
	@$(PYTHON) -m venv $(VENV)
	@$(PIP) install --quiet --requirement requirements/dev.txt
	@echo "Installing torch (CPU build)"
	@$(PIP) install --quiet --requirement layers/torch/requirements.txt 2>/dev/null \
		|| $(PIP) install --quiet --requirement layers/torch/requirements.txt --extra-index-url $(TORCH_INDEX)
	@$(PIP) install --quiet --no-build-isolation --no-deps --editable .
	@touch $@

serve: $(VENV)/.ready ## Train the sample model if there is none, and serve it at http://127.0.0.1:3000 (PORT=..., LAYER=stock|PATH, MODEL=examples/embeddings)
	@$(BIN)/lambda-torch serve --port $(PORT) --layer $(LAYER) $(if $(MODEL),--model $(MODEL))

local: $(VENV)/.ready ## The same in AWS's own container: sam build --use-container, a local S3, sam local start-api (PORT=...; needs Docker)
	@$(BIN)/lambda-torch local --port $(PORT)

test: $(VENV)/.ready ## Run all tests (TEST_OPTIONS="-k name")
	@$(BIN)/python -m pytest $(TEST_OPTIONS)

check: $(VENV)/.ready ## Lint and type-check
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy

# In an environment of their own: checkov pins a hundred packages, boto3 among them.
AUDIT := build/audit
$(AUDIT)/.ready: requirements/audit.txt
	@echo "Making $(AUDIT): checkov and detect-secrets"
	@$(PYTHON) -m venv --clear $(AUDIT)
	@$(AUDIT)/bin/python -m pip --disable-pip-version-check install --quiet --requirement requirements/audit.txt
	@touch $@

audit: $(VENV)/.ready $(AUDIT)/.ready ## Check the template for unsafe settings and all files for secrets; every finding must be explained
	@$(BIN)/python tests/audit/__main__.py $(AUDIT)/bin

audit-packages: $(VENV)/.ready ## Look for known vulnerabilities of what the function and the layer ship (needs the network: PyPI's database)
	@$(PYTHON) -m venv build/audit-packages && build/audit-packages/bin/python -m pip --disable-pip-version-check install --quiet pip-audit
	@build/audit-packages/bin/pip-audit --disable-pip --no-deps --requirement src/requirements.txt
	@build/audit-packages/bin/pip-audit --disable-pip --no-deps --requirement layers/torch/requirements.txt

bench: $(VENV)/.ready ## Run the benchmarks of the serving path; results in build/bench/
	@$(BIN)/python -m benchmarks.serving

layer: $(VENV)/.ready ## Build the torch layer: build/layer (what is /opt on Lambda), layer.zip, report.json, layer.html
	@cd layers/torch && ../../$(BIN)/python -m builder --output ../../build/layer --zip ../../build/layer.zip --report ../../build/report.json --treemap ../../build/layer.html $(LAYER_OPTIONS)

layer-record: ## Build the layer with the shipped workload recorded anew (after another torch version; commit layers/torch/profiles)
	@$(MAKE) --no-print-directory layer LAYER_OPTIONS=--record

bench-layer: $(VENV)/.ready ## Measure the layer beside its peers; results in build/bench/layer.json (needs make layer)
	@$(BIN)/python -m benchmarks.layer

bench-coldstart: $(VENV)/.ready ## Measure the first answer of the function beside its peers'; results in build/bench/coldstart.json (needs make layer)
	@$(BIN)/python -m benchmarks.coldstart

images: $(VENV)/.ready ## Make stand-ins for AWS's images where these cannot be pulled (Debian; needs Docker and mmdebstrap)
	@PYTHONPATH=tests:tools:src $(BIN)/python -m container.images.build

images-remove: $(VENV)/.ready ## Remove these stand-ins, and what SAM built on them
	@PYTHONPATH=tests:tools:src $(BIN)/python -m container.images.build --remove

bench-releases: $(VENV)/.ready ## Measure swaps under load, fetching 1 GB, and looking for news; results in build/bench/releases.json
	@$(BIN)/python -m benchmarks.releases

bench-serving: $(VENV)/.ready ## Measure the function under load beside FastAPI, a bulk file, and ten minutes on end; results in build/bench/serving.json (SOAK_SECONDS=...)
	@$(BIN)/python -m benchmarks.load --soak-seconds $(SOAK_SECONDS)

# llama.cpp has no wheel on PyPI. It is compiled for this processor, without what reads pictures.
LLAMA := build/llama-venv
$(LLAMA)/.ready: benchmarks/chat/requirements-llama.txt
	@echo "Compiling llama.cpp into $(LLAMA): some 20 minutes on two processors; what pip says is in build/llama.log"
	@$(PYTHON) -m venv --clear $(LLAMA)
	@CMAKE_ARGS="-DLLAVA_BUILD=OFF" CMAKE_BUILD_PARALLEL_LEVEL=2 $(LLAMA)/bin/python -m pip --disable-pip-version-check install --verbose \
		--no-binary llama-cpp-python --requirement $< >build/llama.log 2>&1 \
		|| { tail -20 build/llama.log >&2; echo "llama.cpp could not be compiled. Next: install gcc, g++ and make, and run this again" >&2; exit 1; }
	@touch $@

bench-chat: $(VENV)/.ready $(LLAMA)/.ready ## Measure the chat example beside llama.cpp with the same weights; results in build/bench/chat.json
	@$(BIN)/python -m benchmarks.chat

lock: $(VENV)/.ready ## Pin every version again, from requirements/dev.in and src/requirements.in
	@$(PIP) install --quiet uv
	@cd requirements && ../$(BIN)/uv pip compile --quiet --no-annotate --universal --python-version 3.11 --custom-compile-command "make lock" dev.in -o dev.txt
	@cd requirements && ../$(BIN)/uv pip compile --quiet --no-annotate --universal --python-version 3.11 --custom-compile-command "make lock" -c dev.txt ../src/requirements.in -o ../src/requirements.txt
	@cd requirements && ../$(BIN)/uv pip compile --quiet --no-annotate --universal --python-version 3.11 --custom-compile-command "make lock" audit.in -o audit.txt

clean: ## Remove what the other commands made, but .venv
	@rm -rf build .aws-sam .pytest_cache .mypy_cache .ruff_cache .hypothesis

.PHONY: help setup serve local images images-remove test check audit audit-packages layer layer-record bench bench-layer \
	bench-coldstart bench-releases bench-serving bench-chat lock clean
