#!/usr/bin/env bash
# Builds the fuzzers and runs both at a time, for 30 seconds: tests/fuzz/run.sh [SECONDS].
# If Clang is missing, the script installs it on Debian as root, and elsewhere skips the fuzzers and
# succeeds. When a fuzzer crashes, it saves the input as build/fuzz/crash-*.
set -euo pipefail
cd "$(dirname "$0")/../.."
seconds=${1:-30}

clang() {
  for version in -21 -20 -19 -18 -17 -16 ""; do
    if command -v "clang++$version" >/dev/null &&
      echo 'extern "C" int LLVMFuzzerTestOneInput(const char*, unsigned long) { return 0; }' |
      "clang++$version" -x c++ -fopenmp -fsanitize=fuzzer,address,undefined -o /dev/null - 2>/dev/null; then
      command -v "clang++$version"
      return
    fi
  done
}

if [ -z "$(clang)" ] && [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
  echo "fuzzers: installing the packages clang-19, libclang-rt-19-dev, libomp-19-dev"
  apt-get update -qq >/dev/null &&
    apt-get install -y -qq clang-19 libclang-rt-19-dev libomp-19-dev >/dev/null || true
fi
compiler=$(clang)
if [ -z "$compiler" ]; then
  echo "fuzzers: skipped: no Clang with libFuzzer and OpenMP; install them with"
  echo "  sudo apt-get install clang-19 libclang-rt-19-dev libomp-19-dev"
  exit 0
fi

mkdir -p build/fuzz
cmake -G Ninja -S . -B build/fuzz "-DCMAKE_CXX_COMPILER=$compiler" -DDSM_EXT_CUDA=OFF \
  -DDSM_EXT_FUZZ=ON >build/fuzz/configure.log 2>&1 || { cat build/fuzz/configure.log; exit 1; }
cmake --build build/fuzz --target fuzz_file fuzz_config
fuzz() { # NAME
  local found=build/fuzz/found-$1 # inputs that reach new code, kept for the next run
  mkdir -p "$found"
  build/fuzz/tests/fuzz/fuzz_$1 "-max_total_time=$seconds" -max_len=8192 -verbosity=0 \
    -print_final_stats=1 "-artifact_prefix=build/fuzz/crash-$1-" -dict=tests/fuzz/json.dict \
    "$found" tests/fuzz/corpus/$1 2>&1 |
    grep -E "stat::number|ERROR|SUMMARY|runtime error|crash-" | sed "s/^/$1: /"
}
echo "fuzzing file and config for $seconds s, both at a time"
failed=0
fuzz file &
fuzz config || failed=1
wait $! || failed=1
exit $failed
