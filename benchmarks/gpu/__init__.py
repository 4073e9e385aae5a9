"""Tests, memory checks and speed on a GPU."""
