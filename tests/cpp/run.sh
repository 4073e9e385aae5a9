#!/usr/bin/env bash
# Builds and runs the C++ tests in a build folder. GoogleTest comes from the distribution: it is
# installed where that is possible (Debian, as root); elsewhere the tests count as skipped.
set -euo pipefail
build=$1

found() { echo '#include <gtest/gtest.h>' | "${CXX:-c++}" -E -x c++ - >/dev/null 2>&1; }

if ! found; then
  if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
    echo "C++ tests: installing the package libgtest-dev"
    apt-get update -qq >/dev/null && apt-get install -y -qq libgtest-dev >/dev/null || true
  fi
fi
if ! found; then
  count=$(cat tests/cpp/*.cpp | grep -c '^TEST(')
  echo "C++ tests: 0 passed, 0 failed, $count skipped: GoogleTest is missing; install it with"
  echo "  sudo apt-get install libgtest-dev"
  exit 0
fi
cmake -S . -B "$build" -DDSM_EXT_TESTS=ON >"$build/configure.log" 2>&1 ||
  { cat "$build/configure.log"; exit 1; }
cmake --build "$build" --parallel
ctest --test-dir "$build" --output-on-failure
