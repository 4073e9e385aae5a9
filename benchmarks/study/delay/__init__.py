"""Delay and windows: what each of the two keeps, at equal r and at equal multiply-adds."""
