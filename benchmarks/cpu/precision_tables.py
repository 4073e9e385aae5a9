"""Tables of results/precision.json: all precisions, ours beside peers as their users run them."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from benchmarks.common import line, machine, rule, versions
from benchmarks.cpu.result import Group, Row, best, find, growth, merged_schedule, ratio
from benchmarks.cpu.tables import NAMES, NONE, count, short, speed_cell, table, title

PACKAGES = ("torch", "timm", "torchao", "onnxruntime", "openvino", "nncf")
HEADLINE = ("deit_tiny_patch16_224", 8)  # the group whose answers were measured
OURS = "dsm_ext"
# The README's rows: a schedule, a peer and its precision.
SHOWN = [
    ("dense", "timm eager", "float32"),
    ("dense", "timm compiled", "bfloat16"),
    ("dense", "openvino", "bfloat16"),
    ("dense", OURS, "float32"),
    ("dense", OURS, "int8"),
    ("guided:1.7", OURS, "float32"),
    ("guided:1.7", OURS, "int8"),
]


def headline(result: dict[str, Any]) -> str:
    """The README's table: speed beside agreement, for the main peers and ours."""
    section = result["speed"]
    model, batch = HEADLINE
    group = next(g for g in section["groups"] if (g["model"], g["batch"]) == (model, batch))
    timm = find(group, "timm eager")
    titles = ["images/s", "to timm", "same answers", "KL"]
    lines = [line(f"{short(model)}, batch {batch}", titles), rule(len(titles))]
    for schedule, peer, precision in SHOWN:
        row = find(group, peer, schedule, precision)
        if row is not None:
            name = label(row)
            cells = [count(row["rate"]["median"]), _ratio(ratio(row, timm)), *_answers(row)]
            lines.append(line(f"**{name}**" if peer == OURS else name, cells))
    first, *others = _notes(section, group)
    return table(lines, [first[0].upper() + first[1:], *others])


def precision(result: dict[str, Any]) -> str:
    """Ratios of ours to the best peers, one column for each model and batch."""
    groups = result["speed"]["groups"]
    columns = [_figures(group) for group in groups]
    lines = [line("", [title(group) for group in groups]), rule(len(groups))]
    for name in columns[0]:
        lines.append(line(name, [column[name] for column in columns]))
    schedule = merged_schedule(groups[0])
    return table(lines, [f"DSM is `{schedule}`", *_notes(result["speed"], groups[0])])


def precision_peers(result: dict[str, Any]) -> str:
    """Images a second of every peer at every precision."""
    groups = result["speed"]["groups"]
    lines = [line("images/s", [title(group) for group in groups]), rule(len(groups))]
    for row in groups[0]["rows"]:
        cells = []
        for group in groups:
            same = (row["peer"], row["schedule"], row["precision"])
            found = (r for r in group["rows"] if _key(r) == same)
            cells.append(speed_cell(next(found, None)))
        lines.append(line(label(row), cells))
    return "\n".join(lines)


def answers(result: dict[str, Any]) -> str:
    """Same answers and KL of every peer at every precision, beside its speed."""
    groups = [g for g in result["speed"]["groups"] if g["model"] == HEADLINE[0]]
    judged = next(g for g in groups if g["batch"] == HEADLINE[1])
    titles = ["same answers, %", "KL", "top-1, %"]
    titles += [f"to timm, batch {group['batch']}" for group in groups]
    lines = [line(short(HEADLINE[0]), titles), rule(len(titles))]
    for row in judged["rows"]:
        if "answers" not in row:
            continue
        found = row["answers"]
        cells = [f"{found['agreement']:.1f}", f"{found['kl']:.4f}", f"{found['top1']:.1f}"]
        for group in groups:
            own = find(group, *_key(row))
            cells.append(_ratio(ratio(own, find(group, "timm eager"))))
        lines.append(line(label(row), cells))
    return table(lines, _notes(result["speed"], judged))


def precision_memory(result: dict[str, Any]) -> str:
    """MiB that model and forward add to the process at their peak, and their ratio to timm's."""
    group = result["memory"]["groups"][0]
    lines = [line(title(group), ["MiB", "to timm eager"]), rule(2)]
    for row in group["rows"]:
        part = growth(group, *_key(row))
        if part is not None:
            lines.append(line(label(row), [f"{row['growth'] / 2**20:.0f}", f"{part:.2f}"]))
    return "\n".join(lines)


def large(result: dict[str, Any]) -> str:
    """Images a second for large images, and ratios to timm eager in float32 and in bfloat16."""
    groups = result["large"]["groups"]
    titles = []
    for group in groups:
        size = f"{group['img_size']} pixels"
        titles += [f"{size}: images/s", "to timm float32", "to timm bfloat16"]
    lines = [line("DINOv2-S, batch 1", titles), rule(len(titles))]
    for i, row in enumerate(groups[0]["rows"]):
        cells = []
        for group in groups:
            own = group["rows"][i]
            own = own if "rate" in own else None
            cells.append(NONE if own is None else f"{own['rate']['median']:.2f}")
            for dtype in ("float32", "bfloat16"):
                cells.append(_ratio(ratio(own, find(group, "timm eager", "dense", dtype))))
        lines.append(line(label(row), cells))
    schedules = ", ".join(f"`{merged_schedule(group)}`" for group in groups)
    return table(lines, [f"DSM is {schedules}", *_notes(result["large"], {"rows": []})])


def label(row: Row) -> str:
    """A row's name in tables and charts: schedule, library and precision."""
    precision = row["precision"]
    if precision == "auto":
        precision = f"its own choice ({row.get('setting', '?').partition(',')[0]})"
    name = "dsm_ext, frozen" if row["peer"] == "dsm_ext frozen" else NAMES.get(row["peer"])
    return f"{kind(row)}: {name or row['peer']}, {precision}"


def kind(row: Row) -> str:
    """How a row merges: "dense", "DSM", or another schedule."""
    schedule = row["schedule"]
    return {"dense": "dense", "dsm": "DSM"}.get(schedule.partition(":")[0], f"`{schedule}`")


def _figures(group: Group) -> dict[str, str]:
    schedule = merged_schedule(group)
    ours = {p: find(group, OURS, "dense", p) for p in ("float32", "bfloat16", "int8")}
    dsm = {p: find(group, OURS, schedule, p) for p in ours}
    timm = find(group, "timm eager")
    rival = best(_rows(group, "dense"))
    rival_dsm = best(_rows(group, schedule))
    found = {
        "dense int8, to the fastest dense peer": _named(ratio(ours["int8"], rival), rival),
        "DSM int8, to the fastest dense peer": _ratio(ratio(dsm["int8"], rival)),
        "DSM int8, to the fastest peer with DSM": _named(ratio(dsm["int8"], rival_dsm), rival_dsm),
        "DSM int8, to timm eager float32": _ratio(ratio(dsm["int8"], timm)),
        "dense bfloat16, to OpenVINO bfloat16": _ratio(
            ratio(ours["bfloat16"], find(group, "openvino", "dense", "bfloat16"))
        ),
    }
    for name, rows in (("dense", ours), ("DSM", dsm)):
        for low in ("bfloat16", "int8"):
            value = ratio(rows[low], rows["float32"])
            found[f"{name} {low}, to {name} float32"] = _ratio(value)
    for name in ours:
        value = ratio(dsm[name], ours[name])
        found[f"DSM {name}, to dense {name}"] = _ratio(value)
        if value is not None and ours[name] is not None and dsm[name] is not None:
            value /= ours[name]["multiply_adds"] / dsm[name]["multiply_adds"]
        found[f"the same, to the ratio of multiply-adds ({name})"] = _ratio(value)
    return found


def _rows(group: Group, schedule: str) -> Iterable[Row]:
    """The peers' rows that have figures."""
    return (
        row
        for row in group["rows"]
        if row["peer"] != OURS and row["schedule"] == schedule and "rate" in row
    )


def _key(row: Row) -> tuple[str, str, str]:
    return row["peer"], row["schedule"], row["precision"]


def _ratio(value: float | None) -> str:
    return NONE if value is None else f"{value:.2f}"


def _named(value: float | None, row: Row | None) -> str:
    if value is None or row is None:
        return NONE
    return f"{value:.2f} ({label(row).partition(': ')[2]})"


def _answers(row: Row) -> list[str]:
    if "answers" not in row:
        return [NONE, NONE]
    return [f"{row['answers']['agreement']:.1f} %", f"{row['answers']['kl']:.4f}"]


def _notes(section: dict[str, Any], group: Group) -> list[str]:
    notes = []
    pictures = {row["answers"]["pictures"] for row in group["rows"] if "answers" in row}
    if pictures:
        notes.append(f"answers of {pictures.pop()} pictures, compared with timm's in float32")
    notes += [machine(section), versions(section, *PACKAGES)]
    return [*notes, f"medians of {section['settings']['rounds']} rounds"]


TABLES: dict[str, tuple[tuple[str, ...], Callable[..., str]]] = {
    "headline": (("precision.json",), headline),
    "precision": (("precision.json",), precision),
    "precision_peers": (("precision.json",), precision_peers),
    "precision_memory": (("precision.json",), precision_memory),
    "answers": (("precision.json",), answers),
    "large": (("precision.json",), large),
}
