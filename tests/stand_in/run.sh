#!/usr/bin/env bash
# Runs the tests that need a GPU on a stand-in for CUDA's runtime (runtime.h), on a machine without
# one: tests/stand_in/run.sh BUILD [pytest's arguments]. It knows torch's inside, so it is for some
# versions of torch; on another it says so and runs nothing.
set -euo pipefail
build=$1
shift
known="2.11 or 2.14 for CUDA 13"
version=$(python -c "import torch; print('.'.join(torch.__version__.split('.')[:2]), 'for CUDA', \
  (torch.version.cuda or 'none').split('.')[0])")
if [[ $version != 2.1[14]" for CUDA 13" ]]; then
  echo "stand-in: written for torch $known, this is $version: not run"
  exit 0
fi
cmake -S . -B "$build" -DDSM_EXT_STAND_IN=ON >/dev/null
if ! grep -q "^DSM_EXT_CUBLASLT:" "$build/CMakeCache.txt"; then
  echo "stand-in: the library is built without CUDA: not run"
  exit 0
fi
cmake --build "$build" --target stand_in
folder=$(realpath "$build")/tests/stand_in
export DSM_EXT_STAND_IN=$folder/libstand_in.so
LD_LIBRARY_PATH=$folder LD_PRELOAD=$folder/libstand_in_runtime.so PYTHONPATH=tests/stand_in \
  python -m pytest -p plugin -m cuda -p no:cacheprovider "${@:-tests}"
