"""Are early blocks still diverging, so that merging there is amplified? By ``dsm_ext.analyze``."""
