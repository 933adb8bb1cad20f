# lambda-torch: every command that you need. `make` alone lists them.
.DEFAULT_GOAL := help
SHELL := /bin/bash
PYTHON ?= python3
PORT ?= 3000
LAYER ?= auto
# A folder with a package `model` that replaces src/model, and the folder with its weights
MODEL ?=
RELEASE ?=
SOAK_SECONDS ?= 600
SECONDS ?= 600
# pip searches this index for torch's CPU wheel if its own configuration finds none.
TORCH_INDEX ?= https://download.pytorch.org/whl/cpu

# Another Python has an environment of its own: make serve PYTHON=python3.13 makes and uses .venv-python3.13.
VENV ?= $(if $(filter python3,$(notdir $(PYTHON))),.venv,.venv-$(notdir $(PYTHON)))
BIN := $(VENV)/bin
# Every shell script: by its name, or by its first line.
SCRIPT_FOLDERS := .ci layers src tests tools
SCRIPTS = $(sort $(shell find $(SCRIPT_FOLDERS) -name '*.sh'; grep -rlIE '^\#!.*[ /](ba|da)?sh$$' $(SCRIPT_FOLDERS)))

help: ## Show this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F':.*## ' '{printf "  make %-18s %s\n", $$1, $$2}'

setup: $(VENV)/.ready ## Make .venv with all pinned packages (the other commands do this by themselves)

# The environment is made in two parts, each with a stamp: `make serve` takes a minute less than what all the tests need.
RUN_PYTHON = python=$$(tools/lambda_torch/setting_up/interpreter.sh "$(PYTHON)" "make $(MAKECMDGOALS)") && "$$python"
SETUP = export PYTHONPATH=tools; $(RUN_PYTHON) -m lambda_torch.setting_up --torch-index $(TORCH_INDEX) --for

$(VENV)/.serve-ready: requirements/serve.txt requirements/torch.txt pyproject.toml
	@$(SETUP) "make serve" $(VENV) requirements/serve.txt requirements/torch.txt
	@touch $@

$(VENV)/.ready: requirements/dev.txt requirements/torch.txt pyproject.toml
	@$(SETUP) "development and tests" $(VENV) requirements/dev.txt requirements/torch.txt
	@touch $(VENV)/.serve-ready $@

serve: $(VENV)/.serve-ready ## Serve the function at http://127.0.0.1:3000, with the trained sample model (PORT=..., LAYER=stock|PATH, MODEL=examples/embeddings, BATCH=16)
	@$(BIN)/lambda-torch serve --port $(PORT) --layer $(LAYER) $(if $(MODEL),--model "$(MODEL)") $(if $(RELEASE),--release "$(RELEASE)") $(if $(BATCH),--batch $(BATCH))

local: $(VENV)/.ready ## Serve it in AWS's own container: sam build --use-container, a local S3, sam local start-api (PORT=...; needs Docker)
	@$(BIN)/lambda-torch local --port $(PORT)

# The floor of the coverage is in pyproject.toml. It is for a run of all tests, so options that select tests turn it off. Python 3.12
# and later can measure with sys.monitoring, which costs less. There are two processes, since the tests wait more than they compute;
# tests/conftest.py says which tests stay together in one.
ALL_TESTS = --numprocesses=2 --dist=loadscope --no-loadscope-reorder --cov --cov-report=term:skip-covered
COVERAGE_CORE = $(shell $(BIN)/python -c 'import sys; print("sysmon" if sys.version_info >= (3, 12) else "ctrace")')
test: $(VENV)/.ready ## Run all tests (TEST_OPTIONS="-k name"), and measure which lines they run
	@COVERAGE_CORE=$(COVERAGE_CORE) $(BIN)/python -m pytest $(or $(strip $(TEST_OPTIONS)),$(ALL_TESTS))

test-fast: $(VENV)/.ready ## Run the unit tests on every core: less than two minutes on two cores (TEST_OPTIONS="-k name")
	@$(BIN)/python -m pytest tests/unit --numprocesses auto --dist worksteal --quiet $(TEST_OPTIONS)

# MATRIX="--python 3.13 --torch 2.13.0" runs one cell; the results stay in build/runtimes/matrix.json.
test-matrix: $(VENV)/.ready ## Build, verify and try the layer on other Pythons (MATRIX="--python 3.13"; needs patchelf and gcc)
	@PYTHONPATH=tests:tools:layers/torch $(BIN)/python -m runtimes.matrix $(MATRIX)

matrix-table: $(VENV)/.ready ## Write the last results of make test-matrix into docs/testing.md
	@PYTHONPATH=tests:tools:layers/torch $(BIN)/python -m runtimes.matrix --document

# VERSION=2.15.0 examines that version, and no VERSION the newest. The wheel stays in build/wheels.
VERSION ?= newest
torch-update: $(VENV)/.ready ## Say what of the layer's rules does not fit a new torch, row by row (VERSION=...; builds nothing)
	@$(BIN)/lambda-torch layer doctor --fetch $(VERSION)

check: $(VENV)/.ready ## Check style, types and shell scripts
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/shellcheck --external-sources $(SCRIPTS)

hooks: $(VENV)/.ready ## Run the checks of style, types and scripts at each git commit (.pre-commit-config.yaml)
	@$(BIN)/pre-commit install

dist: $(VENV)/.ready ## Build the wheels and the source distributions of the command line and of the client in build/dist
	@rm -rf build/dist
	@$(BIN)/python -m build --no-isolation --outdir build/dist . >/dev/null
	@$(BIN)/python -m build --no-isolation --outdir build/dist clients/python >/dev/null
	@ls build/dist

# In a separate environment: checkov pins a hundred packages, and boto3 is one of them.
AUDIT := build/audit
$(AUDIT)/.ready: requirements/audit.txt
	@echo "Making $(AUDIT): checkov and detect-secrets"
	@$(RUN_PYTHON) -m venv --clear $(AUDIT)
	@$(AUDIT)/bin/python -m pip --disable-pip-version-check install --quiet --requirement requirements/audit.txt
	@touch $@

audit: $(VENV)/.ready $(AUDIT)/.ready ## Check the template, with every pair of its parameters, for unsafe settings and all files for secrets; each finding needs an explanation
	@PYTHONPATH=tests:tools:src $(BIN)/python -m audit $(AUDIT)/bin

docs-tables: $(VENV)/.ready ## Put what lambda-torch cost prints today into docs/cost.md and docs/watching.md
	@PYTHONPATH=tests:tools:src $(BIN)/python -m unit.tuning.documented_tables

# In an environment of its own, with npm packages beside it: half a gigabyte that only tests/infrastructure needs.
INFRASTRUCTURE := build/infrastructure
$(INFRASTRUCTURE)/.ready: requirements/infrastructure.txt requirements/generators.txt tests/infrastructure/package.json
	@command -v npm >/dev/null || { echo "make infrastructure needs npm, and there is none. Next: install Node.js 20 or later" >&2; exit 1; }
	@echo "Making $(INFRASTRUCTURE): the tools of CDK and Serverless Framework, and generators of clients"
	@$(RUN_PYTHON) -m venv --clear $(INFRASTRUCTURE)
	@$(INFRASTRUCTURE)/bin/python -m pip --disable-pip-version-check install --quiet --requirement requirements/infrastructure.txt --requirement requirements/generators.txt
	@cp tests/infrastructure/package.json $(INFRASTRUCTURE)/
	@npm install --prefix $(INFRASTRUCTURE) --ignore-scripts --no-audit --no-fund --loglevel=error >/dev/null
	@touch $@

infrastructure: $(INFRASTRUCTURE)/.ready ## Install the tools with which tests/infrastructure tries examples/layer-only and makes clients (npm)

audit-packages: $(VENV)/.ready ## Look for known vulnerabilities in the packages of the function and the layer (needs the network: PyPI's database)
	@$(RUN_PYTHON) -m venv build/audit-packages && build/audit-packages/bin/python -m pip --disable-pip-version-check install --quiet pip-audit
	@build/audit-packages/bin/pip-audit --disable-pip --no-deps --requirement src/requirements.txt
	@build/audit-packages/bin/pip-audit --disable-pip --no-deps --requirement layers/torch/requirements.txt

fuzz: $(VENV)/.ready ## Change programs and weights at random and hold the checks to their promise (SECONDS=600)
	@PYTHONPATH=tests:tools:src $(BIN)/python -m fuzz.programs --seconds $(SECONDS)

fuzz-operators: $(VENV)/.ready ## Call every operator that programs may call with random arguments, and list those that end a process (half an hour)
	@PYTHONPATH=tests:tools:src $(BIN)/python -m fuzz.operators

# UPSTREAM="--area jit --all" runs every test of one area.
upstream: $(VENV)/.ready ## Run PyTorch's own tests on the layer and on stock PyTorch, and compare the verdicts (UPSTREAM="--area jit"; an hour)
	@PYTHONPATH=tests:tools:layers/torch $(BIN)/python -m upstream $(UPSTREAM)

operators: $(VENV)/.ready ## Run PyTorch's operator database in five types on the layer and on stock PyTorch, and compare every byte (minutes)
	@PYTHONPATH=tests:tools:layers/torch $(BIN)/python -m upstream.operators

upstream-tables: $(VENV)/.ready ## Write the last results of make upstream and make operators into docs/testing.md
	@PYTHONPATH=tests:tools:layers/torch $(BIN)/python -m upstream --document
	@PYTHONPATH=tests:tools:layers/torch $(BIN)/python -m upstream.operators --document

soak: $(VENV)/.ready ## 32 clients, two environments, a swap every second, an environment killed every few seconds (SECONDS=180)
	@PYTHONPATH=tests:tools:src $(BIN)/python -m soak.swaps --seconds $(if $(filter file,$(origin SECONDS)),180,$(SECONDS))

bench: $(VENV)/.ready ## Run the benchmarks of the serving path; results in build/bench/
	@$(BIN)/python -m benchmarks.serving

layer: $(VENV)/.ready ## Build the torch layer: build/layer (the content of /opt on Lambda), layer.zip, report.json, layer.html
	@$(BIN)/python -c 'import sys; sys.exit(sys.platform != "linux")' || { echo "make layer needs Linux: a layer has libraries of Linux, and a compiler makes one of them. Next: sam build --use-container builds the layer in AWS's image, or use Linux (WSL, a virtual machine). make serve LAYER=stock needs no layer." >&2; exit 1; }
	@cd layers/torch && ../../$(BIN)/python -m builder --output ../../build/layer --zip ../../build/layer.zip --report ../../build/report.json --treemap ../../build/layer.html $(LAYER_OPTIONS)

layer-record: ## Record the shipped workload again and build the layer (for a new torch version; commit layers/torch/profiles)
	@$(MAKE) --no-print-directory layer LAYER_OPTIONS=--record

bench-layer: $(VENV)/.ready ## Measure the layer and its peers; results in build/bench/layer.json (needs make layer)
	@$(BIN)/python -m benchmarks.layer

bench-everyday: $(VENV)/.ready ## Measure everyday things on the layer and on stock PyTorch; results in build/bench/everyday.json (needs make layer)
	@$(BIN)/python -m benchmarks.everyday

bench-libraries: $(VENV)/.ready ## Measure the first answer through transformers and others, on a layer with them and on stock; results in build/bench/libraries.json
	@PYTHONPATH=tests:tools:layers/torch $(BIN)/python -m benchmarks.libraries

bench-coldstart: $(VENV)/.ready ## Measure the time to the first answer, and that of the peers; results in build/bench/coldstart.json (needs make layer)
	@$(BIN)/python -m benchmarks.coldstart

images: $(VENV)/.ready ## Make stand-ins for AWS's images if they cannot be pulled (Debian; needs Docker and mmdebstrap)
	@PYTHONPATH=tests:tools:src:layers/torch $(BIN)/python -m container.images.build

images-remove: $(VENV)/.ready ## Remove these stand-ins and what SAM built on them
	@PYTHONPATH=tests:tools:src:layers/torch $(BIN)/python -m container.images.build --remove

bench-releases: $(VENV)/.ready ## Measure swaps under load, the download of 1 GB, and the check for a new release; results in build/bench/releases.json
	@$(BIN)/python -m benchmarks.releases

bench-serving: $(VENV)/.ready ## Measure the function under load beside FastAPI, a bulk file, and ten minutes without a break; results in build/bench/serving.json (SOAK_SECONDS=...)
	@$(BIN)/python -m benchmarks.load --soak-seconds $(SOAK_SECONDS)

bench-local: $(VENV)/.ready ## Measure `make serve` beside AWS's emulator, and ten minutes of clients that go away; results in build/bench/local.json (SOAK_SECONDS=...)
	@$(BIN)/python -m benchmarks.load.local --soak-seconds $(SOAK_SECONDS)

bench-joined: $(VENV)/.ready ## Measure what `serve --batch` gains for clients that send single requests; results in build/bench/joined.json
	@$(BIN)/python -m benchmarks.load.joined

soak-streams: $(VENV)/.ready ## Ten minutes of clients of streams that go away at random; results in build/bench/local.json (SOAK_SECONDS=...)
	@$(BIN)/python -m benchmarks.load.local --seconds 0 --soak-seconds $(SOAK_SECONDS)

# llama.cpp has no wheel on PyPI. It is compiled for this processor: the library and what it needs, and no tools.
LLAMA := build/llama-venv
$(LLAMA)/.ready: benchmarks/chat/requirements-llama.txt benchmarks/chat/library_only.cmake
	@echo "Compiling llama.cpp into $(LLAMA): some ten minutes; what pip says is in build/llama.log"
	@$(RUN_PYTHON) -m venv --clear $(LLAMA)
	@CMAKE_ARGS="-DLLAVA_BUILD=OFF -DCMAKE_PROJECT_llama.cpp_INCLUDE=$(CURDIR)/benchmarks/chat/library_only.cmake" CMAKE_BUILD_PARALLEL_LEVEL=2 $(LLAMA)/bin/python -m pip --disable-pip-version-check install --verbose \
		--no-binary llama-cpp-python --requirement $< >build/llama.log 2>&1 \
		|| { tail -20 build/llama.log >&2; echo "llama.cpp could not be compiled. Next: install gcc, g++ and make, and run this again" >&2; exit 1; }
	@touch $@

bench-chat: $(VENV)/.ready $(LLAMA)/.ready ## Measure the chat example beside llama.cpp with the same weights; results in build/bench/chat.json
	@$(BIN)/python -m benchmarks.chat

bench-tables: $(VENV)/.ready ## Put the last results of make bench-chat and make soak-streams into the documents
	@$(BIN)/python -m benchmarks.documented

lock: $(VENV)/.ready ## Pin every version again, from requirements/*.in and src/requirements.in
	@cd requirements && ../$(BIN)/uv pip compile --quiet --no-annotate --universal --python-version 3.11 --custom-compile-command "make lock" dev.in -o dev.txt
	@cd requirements && ../$(BIN)/uv pip compile --quiet --no-annotate --universal --python-version 3.11 --custom-compile-command "make lock" -c dev.txt serve.in -o serve.txt
	@cd requirements && ../$(BIN)/uv pip compile --quiet --no-annotate --universal --python-version 3.11 --custom-compile-command "make lock" -c dev.txt ../src/requirements.in -o ../src/requirements.txt
	@cd requirements && ../$(BIN)/uv pip compile --quiet --no-annotate --universal --python-version 3.11 --custom-compile-command "make lock" audit.in -o audit.txt
	@cd requirements && ../$(BIN)/uv pip compile --quiet --no-annotate --universal --python-version 3.11 --custom-compile-command "make lock" infrastructure.in -o infrastructure.txt
	@cd requirements && ../$(BIN)/uv pip compile --quiet --no-annotate --universal --python-version 3.11 --custom-compile-command "make lock" generators.in -o generators.txt

clean: ## Remove what the other commands made, except .venv
	@rm -rf build .aws-sam .pytest_cache .mypy_cache .ruff_cache .hypothesis .coverage

.PHONY: help setup serve local images images-remove test test-matrix test-fast matrix-table torch-update check fuzz fuzz-operators upstream operators upstream-tables soak hooks dist audit audit-packages docs-tables infrastructure layer layer-record bench bench-layer \
	bench-coldstart bench-everyday bench-libraries bench-releases bench-serving bench-local bench-joined bench-chat soak-streams bench-tables lock clean
