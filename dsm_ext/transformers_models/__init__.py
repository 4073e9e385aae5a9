"""Hugging Face transformers' checkpoints: reading them and converting them to timm's names."""
