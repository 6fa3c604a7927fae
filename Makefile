# OpenDojo. `make help` lists the targets; docs/decisions/001-build.md says how they hang together.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DELETE_ON_ERROR:
.DEFAULT_GOAL := help

PYTHON ?= /usr/bin/python3
JOBS ?= $(shell nproc)
# Arguments for what `make demo`, `make bench` and `make test-python` run.
ARGS ?=

venv_python := .venv/bin/python
in_venv := $(venv_python) -m
cxx_files = $(shell find src bench tests -name '*.h' -o -name '*.cc' -o -name '*.cu' -o -name '*.cuh')
# Compilations are shared between clones and build folders where ccache is installed.
export CCACHE_BASEDIR := $(CURDIR)
export CCACHE_NOHASHDIR := 1

##@ To use
demo: package ## Train the driving network on a virtual training tile and write its report
	@$(venv_python) examples/drive/train.py $(ARGS)

bench: package build-benches ## Paired benchmarks, answers checked first; leaves build/bench/results.json
	@$(venv_python) bench/run.py $(ARGS)

##@ To work on it
test: build package sanitize ## All tests: C++ (fast, slow), Python, C++ under sanitizers
	@scripts/test.sh cpp python sanitize

test-fast: build package ## The tests that together take about a minute
	@scripts/test.sh cpp-fast python-fast

test-cpp: build ## C++ tests alone
	@scripts/test.sh cpp

test-python: package ## Python tests alone, e.g. ARGS='-k capture'
	@scripts/test.sh python $(ARGS)

test-sanitize: sanitize ## Fast C++ tests under AddressSanitizer and UndefinedBehaviorSanitizer
	@scripts/test.sh sanitize

test-cuda: build-cuda ## Tests of numerics/cuda; needs nvcc and a GPU
	@build/cuda/bin/dojo_numerics_cuda_test

bench-cuda: build-cuda ## Ratios of numerics/cuda on the GPU at hand, as JSON
	@build/cuda/bin/dojo_cuda_bench

# Not in CI: run it whenever an encoder changes, and put the result into the commit.
test-exhaustive: build ## Every input at every bias, hours; a part: ARGS='--gtest_filter=*avx512_cf8*'
	@build/bin/dojo_numerics_slow_test --gtest_also_run_disabled_tests \
	  --gtest_filter='*EveryBias*' $(ARGS)

format: packages-lint .venv/.stamp ## Format all C++ and Python
	@clang-format-19 -i $(cxx_files)
	@$(in_venv) ruff format -q . && $(in_venv) ruff check -q --fix-only .

lint: lint-quick build ## Format check, layering, ruff, mypy, then clang-tidy on changed files
	@echo "==> lint: clang-tidy"
	@$(venv_python) scripts/tidy.py -j $(JOBS)
	@echo "==> make lint: clean"

# All of `lint` that needs no build.
lint-quick: packages-lint .venv/.stamp
	@echo "==> lint: format"
	@clang-format-19 --dry-run --Werror $(cxx_files)
	@$(in_venv) ruff format -q --check .
	@echo "==> lint: layering"
	@$(venv_python) tests/layering/layering.py src/dojo
	@echo "==> lint: ruff, mypy"
	@$(in_venv) ruff check -q .
	@$(in_venv) mypy

lock: packages ## Write requirements.lock anew with the newest versions
	@scripts/lock.sh $(PYTHON)

clean: ## Remove what was built; the virtual environment and runs/ stay
	@rm -rf build

help: ## This list
	@awk 'BEGIN {FS = ":.*## "} /^##@/ {print "\n" substr($$0, 5) ":"} \
	  /^[a-z-]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' Makefile
	@echo
	@echo "ARGS='...' goes to the program that demo and bench run. JOBS=$(JOBS) PYTHON=$(PYTHON)"
	@echo "TORCH_WHEEL=path|url installs that build of PyTorch when .venv is first made."

# --- The steps in between. Stamps stand for what is done; they depend on what it was done from.
packages:
	@scripts/install_packages.sh build

packages-lint:
	@scripts/install_packages.sh build lint

.venv/.stamp: requirements.lock scripts/make_venv.sh | packages
	@scripts/make_venv.sh $(PYTHON)
	@touch $@

build/build.ninja: CMakePresets.json | .venv/.stamp
	@echo "==> configure: build"
	@cmake --preset release > /dev/null

# ninja knows what is out of date, CMakeLists and globs included, and is quick when nothing is.
build: build/build.ninja
	@echo "==> build: all, in build/"
	@ninja -C build -j $(JOBS)

build-product: build/build.ninja
	@echo "==> build: the command and the Python extension, in build/"
	@ninja -C build -j $(JOBS) product

build-benches: build/build.ninja
	@echo "==> build: programs that the benchmarks run, in build/"
	@ninja -C build -j $(JOBS) benches

build/asan/build.ninja: CMakePresets.json | packages
	@echo "==> configure: build/asan"
	@cmake --preset sanitize > /dev/null

sanitize: build/asan/build.ninja
	@echo "==> build: tests with sanitizers, in build/asan/"
	@ninja -C build/asan -j $(JOBS)

build-cuda: | packages
	@command -v nvcc > /dev/null || { echo "error: nvcc is not on the PATH; install the CUDA toolkit" >&2; exit 1; }
	@cmake --preset cuda > /dev/null
	@echo "==> build: numerics/cuda, in build/cuda/"
	@ninja -C build/cuda -j $(JOBS) dojo_numerics_cuda_test dojo_cuda_bench

# The Python sources are used in place, and the extension that build/ made is copied beside them.
.venv/.stamp-package: pyproject.toml CMakeLists.txt .venv/.stamp | build-product
	@echo "==> package: opendojo, editable, into .venv"
	@$(in_venv) pip install -q --disable-pip-version-check --no-build-isolation --no-deps \
	  --config-settings=wheel.cmake=false -e .
	@touch $@

package: build-product .venv/.stamp-package
	@cmake --install build --component python --prefix python > /dev/null

.PHONY: demo bench test test-fast test-cpp test-python test-sanitize test-exhaustive test-cuda \
  bench-cuda build-cuda format lint lint-quick lock clean help packages packages-lint build \
  build-product build-benches sanitize package
.NOTPARALLEL:
