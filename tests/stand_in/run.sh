#!/usr/bin/env bash
# Runs the tests that need a GPU on a stand-in for CUDA's runtime (runtime.h), without a GPU:
#   tests/stand_in/run.sh BUILD [pytest's arguments]
# The stand-in replaces functions of torch that are not public. So it works with some versions of
# torch alone, and needs a library that was built with CUDA. Where it cannot run, pytest reports its
# tests as skipped, with the reason. With DSM_EXT_STAND_IN_REQUIRED=1, which .ci/run sets, the script
# fails instead, so that continuous integration cannot lose these tests unnoticed.
set -euo pipefail
build=$1
shift

torch=$(python -c "import torch; print('.'.join(torch.__version__.split('.')[:2]), 'for CUDA', \
  (torch.version.cuda or 'none').split('.')[0])")
reason=
if [[ $torch != 2.1[14]" for CUDA 13" ]]; then
  reason="the stand-in is written for torch 2.11 or 2.14 for CUDA 13, and torch $torch is installed"
elif ! grep -q "^DSM_EXT_CUBLASLT:" "$build/CMakeCache.txt"; then
  reason="the library in $build is built without CUDA"
fi
if [ -n "$reason" ] && [ -n "${DSM_EXT_STAND_IN_REQUIRED:-}" ]; then
  echo "stand-in: cannot run: $reason" >&2
  exit 1
elif [ -n "$reason" ]; then
  export DSM_EXT_STAND_IN_MISSING=$reason
  exec python -m pytest -rs -p no:cacheprovider "$@" tests/stand_in
fi

cmake -S . -B "$build" -DDSM_EXT_STAND_IN=ON >/dev/null
cmake --build "$build" --target stand_in
folder=$(realpath "$build")/tests/stand_in
export DSM_EXT_STAND_IN=$folder/libstand_in.so
OMP_WAIT_POLICY=passive LD_LIBRARY_PATH=$folder LD_PRELOAD=$folder/libstand_in_runtime.so \
  PYTHONPATH=tests/stand_in \
  python -m pytest -n auto --dist loadfile -p plugin -m cuda -p no:cacheprovider "${@:-tests}"
