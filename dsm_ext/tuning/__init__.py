"""Tuning a schedule for a model on unlabelled pictures. ``dsm_ext.tune`` is the entry."""
