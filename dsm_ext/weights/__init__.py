"""Reading weights from files of any kind: safetensors, and checkpoints of training scripts."""

from dsm_ext.weights.load import load_weights

__all__ = ["load_weights"]
