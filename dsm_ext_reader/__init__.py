"""Reads pictures from folders, archives and tables, without torch.

This package is outside of ``dsm_ext`` because importing that imports torch, which takes seconds.
Processes that only read and decode pictures import this package and start quickly.
"""
