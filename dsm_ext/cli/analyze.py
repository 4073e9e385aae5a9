"""``dsm-ext analyze``: where a model can merge, block by block."""

from __future__ import annotations

import argparse
import math

from dsm_ext.analysis.analyze import analyze
from dsm_ext.analysis.result import Block, Delay, Figures
from dsm_ext.cli.open_model import open_model
from dsm_ext.cli.output import check_output_file, table, write_json
from dsm_ext.cli.run_settings import run_settings
from dsm_ext.drawing import chart
from dsm_ext.environment import environment


def run(args: argparse.Namespace) -> None:
    args.dtype, args.schedule = "float32", "dense"
    device, dtype = run_settings(args)
    if args.pictures < 2:
        raise ValueError(f"expected --pictures to be at least 2, got {args.pictures}")
    check_output_file(args.json, "--json")
    if args.chart is not None:
        chart.check(args.chart, "--chart")
        check_output_file(args.chart, "--chart")
    opened = open_model(args, dtype, device)
    analysis = analyze(
        opened.model,
        args.images,
        r=args.r,
        speedup=args.speedup,
        transform=opened.transform(),
        most_pictures=args.pictures,
        progress=True,
    )
    if args.chart is not None:
        from dsm_ext.analysis.chart import draw

        draw(analysis, args.chart, args.model)
    write_json(args.json, {"model": args.model, **analysis.to_dict(), **environment()})
    print(text(args.model, analysis))


def text(model: str, analysis: Figures) -> str:
    """The tables of blocks and delays, and the suggestion."""
    gh, gw = analysis.grid
    measure = analysis.measure
    blocks = [
        "block", "partner", "neighbours", "strangers", "distance", "entropy %", "change %",
        f"{measure}, alone", "as dense %", f"{measure}, noise", "amplified",
    ]  # fmt: skip
    delays = ["skip", f"{measure}", "95 % interval", "as dense %", "more than the best's"]
    answers = analysis.delays[0].agreement is not None
    lines = [
        f"{model}: {analysis.pictures} pictures, {gh} x {gw} patches; one step merges "
        f"{analysis.r} tokens",
        table(
            _kept(blocks, answers),
            [_kept(_block_cells(block, gh * gw), answers) for block in analysis.blocks],
        ),
        "",
        f"delays at {analysis.speedup:g} times fewer multiply-adds",
        table(
            _kept(delays, answers),
            [_kept(_delay_cells(delay), answers) for delay in analysis.delays],
        ),
    ]
    longest = len(analysis.blocks) // 2
    if analysis.delays[-1].skip < longest:
        lines.append(f"a skip from {analysis.delays[-1].skip + 1} on cannot save as much")
    if not answers:
        lines.append("the model has no head, so pooled features are compared by their cosine")
    return "\n".join([*lines, "", analysis.verdict])


def _block_cells(block: Block, patches: int) -> list[str | None]:
    most, heads = math.log(patches), len(block.entropy)
    amplified = block.noise.amplification
    return [
        str(block.index),
        f"{block.keys.partner.mean:.2f}",
        f"{block.keys.neighbours.mean:.2f}",
        f"{block.keys.strangers.mean:.2f}",
        f"{sum(block.distance) / heads:.1f}",
        f"{100 * sum(block.entropy) / heads / most:.0f}",
        f"{100 * block.change.mean:.1f}",
        _error(block.step.error.mean),
        _agreement(block.step.agreement),
        _error(block.noise.error.mean),
        "-" if amplified is None else f"{amplified.mean:.2f}",
    ]


def _delay_cells(delay: Delay) -> list[str | None]:
    error, worse = delay.error, delay.worse
    more = "the best" if worse.mean == worse.low == worse.high == 0 else f"{worse.mean:+.4f}"
    if more != "the best" and worse.includes(0):
        more += " (noise)"
    return [
        str(delay.skip),
        f"{error.mean:.4f}",
        f"{error.low:.4f} to {error.high:.4f}",
        _agreement(delay.agreement),
        more,
    ]


def _kept(cells: list[str | None] | list[str], answers: bool) -> list[str]:
    """Leave out the column of same answers if the model gives none."""
    return [cell for cell in cells if cell is not None and (answers or cell != "as dense %")]


def _agreement(value: float | None) -> str | None:
    return None if value is None else f"{value:.1f}"


def _error(value: float) -> str:
    if abs(value) < 1e-7:
        return "0"  # rounding
    return f"{value:.5f}" if value >= 1e-4 else f"{value:.1e}"
