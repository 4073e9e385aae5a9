"""Which delay an analysis suggests, and what it says of the others."""

import pytest

from dsm_ext.analysis.delays import suggest
from dsm_ext.analysis.result import Delay
from dsm_ext.intervals import Interval


def delay(skip, error, low, high):
    worse = Interval(error, low, high)
    return Delay(skip, f"list:{skip}", 1.7, Interval(error, error, error), 90.0, worse)


@pytest.mark.parametrize(
    "rows, pictures, skip, words",
    [
        (
            [(0.5, 0.1, 0.6), (0.2, -0.1, 0.3), (0.1, 0, 0)],
            300,
            2,
            "all delays; skip 1 may be as good",
        ),
        ([(0.1, 0, 0), (0.2, 0.1, 0.3)], 300, 0, "the smallest error of all delays"),
        ([(0.2, -0.1, 0.3), (0.1, 0, 0)], 300, 1, "300 pictures are too few to tell the delays"),
        ([(0.5, 0.1, 0.6), (0.1, 0, 0)], 20, 1, "20 pictures are few: give 100 or more"),
        ([(0.1, 0, 0)], 300, 0, "no other delay can save as much"),
    ],
)
def test_the_best_delay_is_suggested_and_what_may_be_as_good(rows, pictures, skip, words):
    delays = [delay(i, *row) for i, row in enumerate(rows)]
    chosen, verdict = suggest(delays, "KL", pictures)
    assert chosen.skip == skip
    assert verdict.startswith(f"suggested skip: {skip}, as in list:{skip} (KL") and words in verdict
