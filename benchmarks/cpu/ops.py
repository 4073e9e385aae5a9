"""Measures match, merge, attention and product by size, and compares them with the machine.

    python -m benchmarks.cpu.ops [--quick]

All run in one process, in float32, in turn with their peers. An operator cannot be faster than its
operations at the speed of the largest matrix product, nor than its bytes at the speed of a large
copy. Small operands stay in the caches, which are faster than that copy.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

import dsm_ext
from benchmarks.common import RESULTS
from benchmarks.cpu.job import Job
from benchmarks.cpu.peers import CEILINGS, PEERS, onednn_linear
from dsm_ext import reference
from dsm_ext.cli.output import table, write_json
from dsm_ext.environment import environment
from dsm_ext.timing import time_in_turn
from dsm_ext_cli import integers
from tools import cpu_parts

RESULT = RESULTS / "cpu_ops.json"
GRID, DIM = (14, 14), 64
TOKENS = GRID[0] * GRID[1] + 1
LATER = 117  # tokens after half of the blocks of dsm:r=16
OURS = "dsm_ext"
PARTS = cpu_parts.load()


class Case(NamedTuple):
    op: str
    shape: str
    operations: int
    bytes: int
    calls: dict[str, Callable[[], Any]]


def matches(batch: int) -> Iterator[Case]:
    order, windows = reference.window_order(GRID, 7)
    for kind, r, arguments in (
        ("global", 16, {}),
        ("windows of 49", 16, {"windows": windows, "order": order.int()}),
    ):
        metric = torch.randn(batch, TOKENS, DIM)
        sizes = windows if arguments else [TOKENS - 1]  # without the class token
        pairs = sum((size // 2) * (size - size // 2) for size in sizes)
        given = {"prefix": 1, **arguments}
        yield Case(
            "match",
            f"{batch}x{TOKENS}x{DIM}, {kind}, r={r}",
            2 * batch * pairs * DIM,
            metric.nbytes + 4 * batch * TOKENS,
            {
                OURS: lambda m=metric, r=r, a=given: dsm_ext.match(m, r, **a),
                "reference": lambda m=metric, r=r, a=given: reference.match(m, r, **a),
            },
        )


def merges(batch: int, channels: int) -> Iterator[Case]:
    tokens = TOKENS - 16
    x, size = torch.randn(batch, TOKENS, channels), torch.ones(batch, TOKENS)
    place = dsm_ext.match(torch.randn(batch, TOKENS, DIM), 16, prefix=1)
    yield Case(
        "merge",
        f"{batch}x{TOKENS}x{channels} to {tokens}",
        2 * x.numel(),
        4 * batch * (TOKENS + tokens) * channels,
        {
            OURS: lambda: dsm_ext.merge(x, size, place, tokens),
            "reference": lambda: reference.merge(x, size, place, tokens),
        },
    )


def attentions(batch: int, channels: int) -> Iterator[Case]:
    heads = channels // DIM
    for tokens, sized in ((TOKENS, False), (LATER, True)):
        qkv = torch.randn(batch, tokens, 3, heads, DIM)
        size = torch.randint(1, 5, (batch, tokens)).float() if sized else None

        def sdpa(qkv: Tensor = qkv, size: Tensor | None = size) -> Tensor:
            q, k, v = qkv.permute(2, 0, 3, 1, 4)
            bias = None if size is None else size.log()[:, None, None]
            out = F.scaled_dot_product_attention(q, k, v, attn_mask=bias)
            return out.transpose(1, 2).flatten(2).contiguous()

        calls: dict[str, Callable[[], Any]] = {
            OURS: lambda q=qkv, s=size: PARTS.attention(q, s),
            "PyTorch": sdpa,
        }
        yield Case(
            "attention",
            f"{batch}x{tokens}, {heads} heads of {DIM}{', sizes' if sized else ''}",
            4 * batch * tokens * tokens * channels,
            4 * batch * tokens * channels * 4,
            calls,
        )


def products(batch: int, channels: int) -> Iterator[Case]:
    rows = batch * TOKENS
    for name, k, n in (
        ("qkv", channels, 3 * channels),
        ("proj", channels, channels),
        ("fc1", channels, 4 * channels),
        ("fc2", 4 * channels, channels),
    ):
        gelu = name == "fc1"
        x, weight, bias = torch.randn(rows, k), torch.randn(n, k) / k**0.5, torch.randn(n)

        def linear(
            x: Tensor = x, w: Tensor = weight, b: Tensor = bias, gelu: bool = gelu
        ) -> Tensor:
            return F.gelu(F.linear(x, w, b)) if gelu else F.linear(x, w, b)

        ours = PARTS.PackedLinear(weight, bias)
        calls: dict[str, Callable[[], Any]] = {
            OURS: lambda p=ours, x=x, gelu=gelu: p.forward(x, gelu),
            "PyTorch": linear,
        }
        if torch.backends.mkldnn.is_available():
            packed = onednn_linear(weight, bias, rows, gelu)
            calls["oneDNN"] = lambda p=packed, x=x: p(x)
        yield Case(
            "product",
            f"{name}: {rows}x{k} by {k}x{n}{', GELU' if gelu else ''}",
            2 * rows * k * n,
            4 * (rows * k + n * k + rows * n),
            calls,
        )


def check(case: Case) -> None:
    """Checks that all calls of a case give the same result.

    Raises:
        ArithmeticError: names the call that differs.
    """
    found = {name: call() for name, call in case.calls.items()}
    name, first = next(iter(found.items()))
    for other, value in found.items():
        for a, b in zip(_tensors(first), _tensors(value), strict=True):
            if case.op == "match":  # near-ties may be decided differently
                same = (a != b).double().mean() < 0.05
            else:
                same = torch.allclose(a.view_as(b), b, rtol=1e-4, atol=1e-4)
            if not same:
                raise ArithmeticError(f"{case.op} {case.shape}: {name} and {other} differ")


def _tensors(value: Any) -> tuple[Tensor, ...]:
    return value if isinstance(value, tuple) else (value,)


def ceilings(threads: int) -> dict[str, float]:
    """The machine's limits: operations a second of large products, bytes a second of a copy."""
    calls, units = {}, {}
    for name in CEILINGS:
        call = PEERS[name].build(Job(name, threads=threads), None)
        calls[name], units[name] = call.run, call.units
    rates = time_in_turn(calls, 1, rounds=5)
    return {name: rates[name]["median"] * units[name] for name in calls}


def result_rows(case: Case, rates: dict[str, dict[str, float]], limits: dict[str, float]) -> Any:
    """One row for each peer: its speed, and that speed as a share of the machine's limit."""
    peak = max(rate for name, rate in limits.items() if name.startswith("sgemm"))
    least = max(case.operations / peak, case.bytes / limits["copy"])
    for peer, rate in rates.items():
        calls = rate["median"]
        yield {
            "op": case.op,
            "shape": case.shape,
            "peer": peer,
            "operations": case.operations,
            "bytes": case.bytes,
            "calls_per_second": rate,
            "gflops": calls * case.operations / 1e9,
            "gbytes_per_second": calls * case.bytes / 1e9,
            "of_ceiling": calls * least,
        }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--batches", type=integers, default=[1, 8])
    parser.add_argument("--channels", type=integers, default=[192, 384, 768])
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--least", type=float, default=0.1, help="seconds of a turn")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--json", type=Path, metavar="F", help=f"default: {RESULT.name}")
    parser.add_argument("--quick", action="store_true", help="few sizes, few rounds, no file")
    args = parser.parse_args()
    if args.quick:
        args.batches, args.channels, args.rounds = args.batches[:1], args.channels[:1], 2
    elif args.json is None:
        args.json = RESULT
    torch.set_num_threads(args.threads)
    torch.manual_seed(0)
    place = environment()
    with torch.inference_mode():
        cases = [case for batch in args.batches for case in matches(batch)]
        for batch in args.batches:
            for channels in args.channels:
                for make in (merges, attentions, products):
                    cases += make(batch, channels)
        calls = sum(len(case.calls) for case in cases)
        seconds = 10 + (args.rounds + 1) * args.least * 1.2 * calls
        print(f"{len(cases)} cases, about {seconds / 60:.0f} minutes", flush=True)
        limits = ceilings(args.threads)
        print(", ".join(f"{name} {rate / 1e9:.0f} G/s" for name, rate in limits.items()))
        rows: list[dict[str, Any]] = []
        for case in cases:
            check(case)
            rates = time_in_turn(case.calls, 1, args.rounds, args.least)
            rows += result_rows(case, rates, limits)
            write_json(args.json, {"dtype": "float32", "ceilings": limits, "rows": rows, **place})
    print(draw(rows))


def draw(rows: list[dict[str, Any]]) -> str:
    head = ["", "peer", "us", "GFLOP/s", "GB/s", "% of ceiling"]
    lines = []
    for row in rows:
        speed = [1e6 / row["calls_per_second"]["median"], row["gflops"], row["gbytes_per_second"]]
        cells = [f"{value:.1f}" for value in [*speed, 100 * row["of_ceiling"]]]
        lines.append([f"{row['op']} {row['shape']}", row["peer"], *cells])
    return table(head, lines)


if __name__ == "__main__":
    main()
