"""``dsm-ext tune``: a schedule for a model and a cost, found on pictures without labels."""

from __future__ import annotations

import argparse
import sys

from dsm_ext.cli.open_model import open_model
from dsm_ext.cli.output import check_output_file, table, write_json
from dsm_ext.cli.run_settings import run_settings
from dsm_ext.drawing import chart
from dsm_ext.environment import environment
from dsm_ext.tuning.result import Row, Tuned
from dsm_ext.tuning.target import Target
from dsm_ext.tuning.tune import tune

USUAL_SPEEDUP = 1.7


def run(args: argparse.Namespace) -> None:
    device, dtype = run_settings(args)
    if args.pictures < 2:
        raise ValueError(f"expected --pictures to be at least 2, got {args.pictures}")
    for path, option in ((args.json, "--json"), (args.state, "--state")):
        check_output_file(path, option)
    if args.chart is not None:
        chart.check(args.chart, "--chart")
        check_output_file(args.chart, "--chart")
    if args.speedup is None and args.gmacs is None and args.latency is None:
        args.speedup = USUAL_SPEEDUP
    named = args.schedule or []
    opened = open_model(args, dtype, device)
    tuned = tune(
        opened.model,
        args.images,
        speedup=args.speedup,
        gmacs=args.gmacs,
        latency=args.latency,
        batch=args.batch,
        precision=opened.precisions[0],
        minutes=args.minutes,
        seed=args.seed,
        state=args.state,
        schedules={name: name for name in named},
        transform=opened.transform(),
        most_pictures=args.pictures,
        chart=args.chart,
        progress=True,
    )
    print(text(args.model, tuned), file=sys.stderr)
    result = {"model": args.model, "dtype": args.dtype, **tuned.to_dict(), **environment()}
    write_json(args.json, result)
    print(tuned.text)


def text(model: str, tuned: Tuned) -> str:
    """The table of all schedules, and what was decided."""
    choosing, judging = tuned.pictures
    timed = tuned.time_error is not None
    head = ["schedule", "GMACs", "times fewer", *(["ms"] if timed else [])]
    for half in ("choosing", "judging"):
        head += [f"{tuned.measure} {half}", *(["as dense %"] if _answers(tuned) else [])]
    rows = [_cells(row, tuned) for row in tuned.rows]
    lines = [
        f"{model}: {Target(**tuned.target)}; {choosing} pictures chose, {judging} judge",
        table(head, rows),
    ]
    if not _answers(tuned):
        lines.append("the model has no head, so pooled features are compared by their cosine")
    if timed:
        lines.append(
            f"ms are predicted by a table of block times; on whole forwards its largest error is "
            f"{100 * (tuned.time_error or 0):.1f} %"
        )
    end = "" if tuned.finished else "; time was over before the end of the search"
    lines.append(f"{tuned.tries} schedules were tried{end}")
    lines.append(tuned.verdict)
    return "\n".join(lines)


def _answers(tuned: Tuned) -> bool:
    return tuned.rows[0].judging_agreement is not None


def _cells(row: Row, tuned: Tuned) -> list[str]:
    cells = [row.name, f"{row.gmacs:.3f}", f"{row.speedup:.3f}"]
    if row.milliseconds is not None:
        cells.append(f"{row.milliseconds:.2f}")
    for error, agreement in (
        (row.choosing_error, row.choosing_agreement),
        (row.judging_error, row.judging_agreement),
    ):
        cells.append(f"{error:.5f}" if error == 0 or error >= 1e-3 else f"{error:.2e}")
        if agreement is not None:
            cells.append(f"{agreement:.1f}")
    return cells
