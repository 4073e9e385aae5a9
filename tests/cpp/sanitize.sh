#!/usr/bin/env bash
# The C++ tests under sanitizers: memory and undefined behaviour together, then threads. Needs
# GoogleTest, as tests/cpp/run.sh. Two builds of some minutes each; a second run reuses them.
set -euo pipefail

run() { # NAME SANITIZERS COMMAND...
  local build=build/sanitize-$1 sanitizers=$2
  shift 2
  cmake -G Ninja -S . -B "$build" -DDSM_EXT_CUDA=OFF -DDSM_EXT_TESTS=ON \
    "-DDSM_EXT_SANITIZE=$sanitizers" >"$build.log" 2>&1 || { cat "$build.log"; exit 1; }
  cmake --build "$build" --target dsm_ext_tests
  env "$@" "$build/tests/cpp/dsm_ext_tests" --gtest_brief=1
}

mkdir -p build
run memory address,undefined OMP_NUM_THREADS=2
# One thread of OpenMP's each: GCC's OpenMP is not built for this sanitizer, which takes its barriers
# for none. What is looked at are the tests' own threads, which share a model. Addresses that are
# drawn at random may lie where the sanitizer keeps its own.
run threads thread OMP_NUM_THREADS=1 \
  TSAN_OPTIONS="ignore_noninstrumented_modules=1 halt_on_error=1" setarch --addr-no-randomize
