"""A plugin of pytest that loads the stand-in. tests/stand_in/run.sh passes it to pytest."""

import os

import torch

torch.ops.load_library(os.environ["DSM_EXT_STAND_IN"])
torch.backends.cudnn.enabled = False  # the stand-in has no cuDNN
torch.backends.cuda.enable_cudnn_sdp(False)
