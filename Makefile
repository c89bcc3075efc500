# What one runs at the desk and in CI. `make` alone explains the targets.

PYTHON ?= python3
BIN := .venv/bin
RUN := $(BIN)/python
PYTEST := $(RUN) -m pytest

SHELL := /bin/sh
.SHELLFLAGS := -eu -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
# The order of what a target needs is the order in which it happens.
.NOTPARALLEL:
MAKEFLAGS += --no-print-directory

export PYTHON
export PIP_DISABLE_PIP_VERSION_CHECK := 1
export PIP_ROOT_USER_ACTION := ignore
# Without stored bytecode every start of the agent would compile it anew.
unexport PYTHONDONTWRITEBYTECODE
# The tree may belong to another user than root; git is told that this is fine, for this run only.
export GIT_CONFIG_COUNT := 1
export GIT_CONFIG_KEY_0 := safe.directory
export GIT_CONFIG_VALUE_0 := $(CURDIR)

.PHONY: help
help: ## explain the targets
	@echo "berth: a node agent for awsvpc tasks on the local Docker Engine"
	@echo
	@echo "usage: make TARGET (as root: Docker, namespaces and packages need it)"
	@echo
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)$$/\1|\2/p' Makefile | while IFS='|' read -r name text; do \
	    printf '  %-12s %s\n' "$$name" "$$text"; done
	@echo
	@echo "first time here: make demo"

# --- setting up ------------------------------------------------------------------------------------

.PHONY: venv
venv: .venv/.installed ## .venv with the pinned requirements and the berth command

# One stamp for each of the two steps: editing pyproject.toml does not install a hundred packages again.
.venv/.requirements: requirements.txt requirements-dev.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	    echo "venv: $(PYTHON) is $$($(PYTHON) -V 2>&1), berth needs Python 3.11 or newer; use: make PYTHON=..." >&2; \
	    exit 1; \
	}
	@if ! $(PYTHON) -m venv .venv >/dev/null 2>&1; then \
	    echo "venv: $(PYTHON) cannot make environments, it needs python3-venv"; \
	    sh deploy/packages.sh python3-venv; \
	    $(PYTHON) -m venv .venv; \
	fi
	@echo "venv: installing the pinned requirements (about a minute the first time)"
	@$(RUN) -m pip install --quiet --requirement requirements-dev.txt </dev/null
	@touch $@

.venv/.installed: .venv/.requirements pyproject.toml
	@echo "venv: installing berth"
	@$(RUN) -m pip install --quiet --no-deps --no-build-isolation --editable . </dev/null
	@touch $@

.PHONY: docker
docker: ## a Docker daemon that answers: the one that is there, or one installed and started
	@sh deploy/docker.sh

# --- building --------------------------------------------------------------------------------------

.PHONY: build
build: plugins pause ## everything that is built: plugins and pause

.PHONY: plugins
plugins: venv ## the CNI plugins as executables in build/cni
	@$(RUN) -m cni_plugins.build --output build/cni

# The other architecture's compiler is welcome and not needed: without it, its image is left out.
.PHONY: pause
pause: venv ## the pause image for each architecture that has a compiler, in build/pause
	@command -v gcc >/dev/null 2>&1 || sh deploy/packages.sh gcc
	@command -v aarch64-linux-gnu-gcc >/dev/null 2>&1 || [ "$$(uname -m)" = aarch64 ] \
	    || sh deploy/packages.sh gcc-aarch64-linux-gnu \
	    || echo "pause: no compiler for arm64 can be installed here, only the native image is built"
	@$(RUN) -m pause.build --output build/pause

.PHONY: image
image: venv docker ## the agent's container image, berth/agent (BASE=TAG chooses its Debian)
	@$(RUN) -m deploy.image.build $(if $(BASE),--base "$(BASE)")

.PHONY: demo-images
demo-images: venv docker ## the three demo images, loaded into Docker
	@sh deploy/packages.sh busybox-static
	@$(RUN) -m deploy.demo.build --output build/demo --load

# --- checking --------------------------------------------------------------------------------------

.PHONY: format
format: venv ## put the code into shape
	@$(BIN)/ruff check --quiet --fix-only .
	@$(BIN)/ruff format .

.PHONY: format-check
format-check: venv
	@echo "check: format"
	@$(BIN)/ruff format --check --quiet . || { echo "format: run: make format" >&2; exit 1; }

.PHONY: lint
lint: venv ## ruff, all rules
	@echo "check: lint"
	@$(BIN)/ruff check --quiet .

.PHONY: types
types: venv ## mypy, strict
	@echo "check: types"
	@$(BIN)/mypy

.PHONY: imports
imports: venv ## who may import whom
	@echo "check: imports"
	@said=$$($(BIN)/lint-imports --no-cache --no-logo 2>&1) || { echo "$$said"; exit 1; }

.PHONY: docs
docs: venv ## write the generated pages of docs/ anew
	@$(RUN) -m docs.generate

.PHONY: docs-check
docs-check: venv ## are the generated pages current
	@echo "check: docs"
	@$(RUN) -m docs.generate --check

.PHONY: unit
unit: venv ## the tests that need neither root nor Docker
	@$(PYTEST) -q -n auto -m "not integration and not e2e"

.PHONY: check
check: format-check lint types imports docs-check unit ## all of the above: run it before every commit

# Podman is a caller of the CNI plugins that others wrote, and the registry is one that others wrote: without
# them a few tests are skipped, and say so.
.PHONY: test
test: check build docker demo-images image ## check, and then integration and end to end on real Docker, twice
	@sh deploy/packages.sh systemd || echo "test: systemd cannot be installed here, its units are not verified"
	@sh deploy/packages.sh podman containernetworking-plugins \
	    || echo "test: podman cannot be installed here, its test is left out"
	@sh deploy/registry.sh || echo "test: no image registry can be had here, its tests are left out"
	@$(RUN) -m tests.lanes

.PHONY: bench
bench: venv build docker demo-images ## measure: a table, and build/bench.json
	@$(RUN) -m tests.benchmarks

# --- running ---------------------------------------------------------------------------------------

.PHONY: demo
demo: venv docker build demo-images ## set everything up and show the main job (KEEP=1 leaves it running)
	@KEEP="$(KEEP)" $(RUN) -m deploy.demo.show

.PHONY: demo-down
demo-down: venv ## remove every trace of a demo that was kept
	@$(RUN) -m deploy.demo.down

.PHONY: run
run: venv docker build ## the agent in the foreground, with the local backend
	@exec $(BIN)/berth agent

.PHONY: clean
clean: ## remove what was built (.venv stays; remove it by hand)
	@rm -rf build .mypy_cache .pytest_cache .ruff_cache .import_linter_cache .hypothesis ./*.egg-info
	@find . -path ./.venv -prune -o -type d -name __pycache__ -exec rm -rf {} +
