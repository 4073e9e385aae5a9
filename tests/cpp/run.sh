#!/usr/bin/env bash
# Builds and runs the C++ tests in a build folder, and builds the examples: tests/cpp/run.sh BUILD.
# They need GoogleTest and libjpeg-turbo. On Debian, as root, this script installs both; elsewhere it
# counts the tests as skipped when one is missing.
set -euo pipefail
build=$1

found() { printf '#include <cstdio>\n#include <gtest/gtest.h>\n#include <turbojpeg.h>\n' |
  "${CXX:-c++}" -E -x c++ - >/dev/null 2>&1; }

if ! found; then
  if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
    echo "C++ tests: installing the packages libgtest-dev and libturbojpeg0-dev"
    apt-get update -qq >/dev/null && apt-get install -y -qq libgtest-dev libturbojpeg0-dev pkg-config >/dev/null || true
  fi
fi
if ! found; then
  count=$(cat tests/cpp/*.cpp | grep -c '^TEST')
  echo "C++ tests: 0 passed, 0 failed, $count skipped: GoogleTest or libjpeg-turbo is missing;"
  echo "  install them with: sudo apt-get install libgtest-dev libturbojpeg0-dev pkg-config"
  exit 0
fi
cmake -S . -B "$build" -DDSM_EXT_TESTS=ON -DDSM_EXT_EXAMPLES=ON >"$build/configure.log" 2>&1 ||
  { cat "$build/configure.log"; exit 1; }
cmake --build "$build" --parallel
OMP_WAIT_POLICY=passive ctest --test-dir "$build" --output-on-failure --parallel "$(nproc)"
