# make demo        compares the merging methods on pictures of handwritten digits
# make test        runs pytest, the C++ tests, and the fuzzers for half a minute
# make check       checks format, lint and types; changes no file
# make format      formats all files
# make stand-in    runs the tests that need a GPU on a stand-in for a GPU; skips them for a torch that the
#                  stand-in does not know
# make sanitize    runs the C++ tests with the address, undefined-behaviour and thread sanitizers
# make fuzz        runs the fuzzers of the file readers for half an hour
# make bench       measures speed and memory beside other libraries and writes the README's tables:
#                  about three hours
# make study       tests the claims made for token merging and draws docs/study.md's tables and charts:
#                  an hour or two. It needs DSM_EXT_DATA, and goes on after a stop. PARTS="delay shift"
#                  runs these parts alone
# make gpu-report  runs tests, a memory check and benchmarks on a GPU: ten minutes. It uses the installed
#                  Python, torch and CUDA compiler, and downloads nothing
#
# All other targets first create what they need: a virtual environment with the packages, and the build.
# A second run reuses them. VENV=DIR puts the environment into another folder. PYTHON=... makes it with
# another Python (3.11 or newer).

VENV ?= .venv
PYTHON ?= python3
BUILD := build/cmake

bin := $(abspath $(VENV))/bin
export PATH := $(bin):$(PATH)
export DSM_EXT_BUILD_DIR := $(BUILD)
export PIP_DISABLE_PIP_VERSION_CHECK := 1
cxx_files := $(shell find benchmarks cpp cuda examples python tests -name '*.h' -o -name '*.cpp' -o -name '*.cu' -o -name '*.cuh')

.PHONY: demo test check format stand-in sanitize fuzz bench study gpu-report build clean

demo: build
	dsm-ext demo

test: build
	bash tests/cpp/run.sh $(BUILD)
	OMP_WAIT_POLICY=passive python -m pytest -n auto --dist loadfile
	bash tests/fuzz/run.sh

check: $(VENV)/.packages
	ruff check
	ruff format --check
	clang-format --dry-run -Werror $(cxx_files)
	mypy

format: $(VENV)/.packages
	ruff check --fix
	ruff format
	clang-format -i $(cxx_files)

stand-in: build
	bash tests/stand_in/run.sh $(BUILD) -q

sanitize: $(VENV)/.packages
	bash tests/cpp/sanitize.sh

fuzz: $(VENV)/.packages
	bash tests/fuzz/run.sh $(or $(FUZZ_SECONDS),1800)

bench: build
	python -m pip install --quiet "pip>=25.1"  # older versions do not know --group
	python -m pip install --quiet --group bench
	@echo "this takes about three hours on two cores; run nothing else on the machine meanwhile"
	python -m benchmarks.cpu.models
	python -m benchmarks.cpu.precision
	python -m benchmarks.cpu.ops
	python -m benchmarks.embed.embed
	$(if $(DSM_EXT_DATA),python -m benchmarks.cpu.deit_tiny && python -m benchmarks.cpu.dense_features)
	$(if $(DSM_EXT_DATA),python -m benchmarks.cpu.predict --images $(DSM_EXT_DATA)/imagenet_samples)
	python -m benchmarks.cpu.predict_memory
	python -m benchmarks.cpu.charts
	python -m benchmarks.tables

study: build
	python -m pip install --quiet "pip>=25.1"  # older versions do not know --group
	python -m pip install --quiet --group study
	python -m benchmarks.study $(PARTS)
	python -m benchmarks.tables

gpu-report:
	$(PYTHON) -m benchmarks.gpu.report

build: $(VENV)/.packages
	@mkdir -p build
	@echo "building dsm_ext: a few minutes the first time (log: build/install.log)"
	@pip install --verbose --no-build-isolation --no-deps --editable . > build/install.log 2>&1 || \
	  { cat build/install.log; exit 1; }
	@cmake --build $(BUILD) --target _cpu_parts >> build/install.log 2>&1 || \
	  { cat build/install.log; exit 1; }
	@sed -n 's/^ *-- \(dsm_ext: CUDA\)/\1/p' build/install.log

# Installs everything that pyproject.toml requires. The build of dsm_ext needs torch to be installed.
$(VENV)/.packages: pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "dsm_ext needs Python 3.11 or newer; run: make PYTHON=python3.11 $(MAKECMDGOALS)"; exit 1; }
	test -x $(bin)/python || $(PYTHON) -m venv $(VENV)
	@echo "installing packages, with torch: a few GB, only once"
	python cmake/requirements.py pyproject.toml > $(VENV)/requirements.txt
	python -m pip install --quiet --requirement $(VENV)/requirements.txt
	touch $@

clean:
	rm -rf build dsm_ext/*.so dsm_ext/lib dsm_ext/include dsm_ext/_build_info.py
