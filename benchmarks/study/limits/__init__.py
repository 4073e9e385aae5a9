"""Limits: how far merging goes before answers change, and which pictures fail first."""
