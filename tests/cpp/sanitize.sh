#!/usr/bin/env bash
# Runs the C++ tests twice: under the sanitizers of memory and undefined behaviour, then under the
# thread sanitizer. Needs GoogleTest. Each of the two builds takes some minutes; a second run reuses
# them. They compile each source without the precompiled headers, so that one which includes too little
# is found.
set -euo pipefail

run() { # NAME SANITIZERS COMMAND...
  local build=build/sanitize-$1 sanitizers=$2
  shift 2
  cmake -G Ninja -S . -B "$build" -DDSM_EXT_CUDA=OFF -DDSM_EXT_TESTS=ON \
    -DCMAKE_DISABLE_PRECOMPILE_HEADERS=ON "-DDSM_EXT_SANITIZE=$sanitizers" >"$build.log" 2>&1 ||
    { cat "$build.log"; exit 1; }
  cmake --build "$build" --target dsm_ext_tests
  env "$@" "$build/tests/cpp/dsm_ext_tests" --gtest_brief=1
}

mkdir -p build
run memory address,undefined OMP_NUM_THREADS=2
# OpenMP has one thread here, because the thread sanitizer does not know the barriers of GCC's OpenMP
# and would report false races. It watches the tests' own threads, which share a model. Random
# addresses are turned off, because they may lie where the sanitizer keeps its own memory.
run threads thread OMP_NUM_THREADS=1 \
  TSAN_OPTIONS="ignore_noninstrumented_modules=1 halt_on_error=1" setarch --addr-no-randomize
