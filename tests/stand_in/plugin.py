"""Lets pytest run on the stand-in: `tests/stand_in/run.sh` loads it."""

import os

import torch

torch.ops.load_library(os.environ["DSM_EXT_STAND_IN"])
torch.backends.cudnn.enabled = False  # it has none
torch.backends.cuda.enable_cudnn_sdp(False)
