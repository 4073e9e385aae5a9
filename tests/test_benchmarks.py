"""The published figures: who is measured, what is compared, and how tables are drawn.

No test here depends on how fast anything is.
"""

import importlib.util
import json
import sys

import numpy
import pytest

from benchmarks import tables
from benchmarks.cpu import result as cpu_result
from benchmarks.cpu import tables as cpu_tables
from benchmarks.cpu import worker
from benchmarks.cpu.job import Job
from benchmarks.cpu.peers import PEERS, Peer
from benchmarks.cpu.turns import Process, take_turns

DSM = "dsm:r=16,skip=1,local=6"
SMALL = {"model": "deit_tiny_patch16_224", "img_size": 64}

# A worker that answers like worker.py, or misbehaves as the name of its peer says.
FAKE = """
import json, sys, time
peer, turns = json.loads(sys.argv[1])["peer"], 0
for line in sys.stdin:
    do = json.loads(line)["do"]
    turns += do == "turn"
    reply = {"rate": float(turns)} if do == "turn" else {}
    if peer == "missing":
        reply = {"not_installed": "some_package"}
    if peer == "refuses" and do == "start":
        reply = {"failed": "ValueError: no"}
    if peer == "dies" and turns == 2:
        raise RuntimeError("out of luck")
    if peer == "hangs":
        time.sleep(60)
    print(json.dumps(reply), flush=True)
"""


@pytest.fixture
def command(tmp_path):
    path = tmp_path / "fake.py"
    path.write_text(FAKE)
    return [sys.executable, str(path)]


def test_a_failing_peer_fails_alone(command):
    jobs = [Job(peer) for peer in ("good", "missing", "refuses", "dies", "better")]
    good, missing, refuses, dies, better = take_turns(jobs, 3, 0.0, command=command, pause=0)
    assert good["rounds"] == better["rounds"] == [2, 3, 4]  # the first turn is not counted
    assert good["rate"] == {"median": 3, "q1": 2.5, "q3": 3.5}
    assert missing == {"not_installed": "some_package"}
    assert refuses == {"failed": "ValueError: no"}
    assert dies == {"failed": "ended with status 1: RuntimeError: out of luck"}


def test_a_peer_that_hangs_is_ended(command):
    process = Process(Job("hangs"), command, patience=0.2)
    assert process.ask("start") == {}
    assert "no answer to 'start'" in process.failure["failed"]
    assert process.ask("turn", least=0) == {}


def test_a_peer_whose_package_is_missing_is_named(monkeypatch):
    monkeypatch.setitem(PEERS, "absent", Peer(None, ("no_such_package",), "dense"))
    with pytest.raises(worker.NotInstalled, match="no_such_package"):
        worker.Worker(Job("absent")).start()


def test_a_peer_that_computes_something_else_is_refused():
    expected = numpy.array([[1.0, -4.0], [2.0, 3.0]])
    error = worker.check(expected + [[0, 0.04], [0, 0]], expected, Job("a", schedule=DSM))
    assert error["largest"] == pytest.approx(0.01)
    assert error["images_equal"] == 0.5
    for found, job in (
        (expected + 0.04, Job("a")),
        (expected + 0.4, Job("a", schedule=DSM)),
        (expected + 3, Job("a", precision="int8")),
        (expected * float("nan"), Job("a", schedule=DSM)),
    ):
        with pytest.raises(ArithmeticError, match="of the scale"):
            worker.check(found, expected, job)


@pytest.mark.parametrize(
    "peers",
    [("timm eager", "dsm_ext"), ("reference onnxruntime",), ("reference openvino",)],
    ids=lambda peers: peers[0],
)
def test_workers_compute_what_eager_does(peers, tmp_path):
    needs = [name for peer in peers for name in PEERS[peer].imports]
    if "reference" in peers[0]:
        needs += ["onnxscript"]
    for name in needs:
        if importlib.util.find_spec(name) is None:
            pytest.skip(f"{name} is not installed")
    schedule = "dsm:r=1" if "reference" in peers[0] else "dense"
    jobs = [Job(peer, schedule=schedule, cache=str(tmp_path), **SMALL) for peer in peers]
    for row in take_turns(jobs, 1, 0.0):
        assert "failed" not in row
        assert row["rate"]["median"] > 0
        assert row["error_to_eager"]["largest"] < 1e-3


def row(peer, rounds, schedule="dense", threads=2, **rest):
    median = sorted(rounds)[len(rounds) // 2]
    rate = {"median": median, "q1": min(rounds), "q3": max(rounds)}
    macs = 1_000_000_000 if schedule == "dense" else 500_000_000
    named = {} if peer.startswith("sgemm") else {"schedule": schedule, "multiply_adds": macs}
    return {
        "peer": peer, "rounds": rounds, "rate": rate, "threads": threads, **named, **rest,
    }  # fmt: skip


@pytest.fixture
def result():
    blocks = [{"qkv": 0.5, "match": 0.06}, {"merge": 0.04, "unmatched": 1}]
    at = {"model": "deit_small_patch16_224", "batch": 8, "img_size": 224}
    models = [
        row("sgemm torch.mm", [1e11, 1e11, 1e11]),
        row("sgemm oneDNN", [4e11, 2e11, 4e11]),
        row("dsm_ext", [100, 50, 100]),
        row("dsm_ext", [150, 75, 150], DSM, profile={"wall": 1, "threads": 2, "blocks": blocks}),
        row("timm eager", [50, 20, 50]),
        {"peer": "timm compiled", "schedule": "dense", "threads": 2, "failed": "Error: no"},
        row("openvino", [80, 40, 81]),
        row("reference", [50, 25, 50], DSM),
        {"peer": "reference openvino", "schedule": DSM, "threads": 2, "not_installed": "openvino"},
    ]
    threads = [
        row("dsm_ext", [100], threads=2), row("dsm_ext", [60], DSM, threads=2),
        row("dsm_ext", [50], threads=1), row("dsm_ext", [40], DSM, threads=1),
    ]  # fmt: skip
    memory = [
        {"peer": "dsm_ext", "schedule": "dense", "growth": 30 << 20},
        {"peer": "dsm_ext", "schedule": DSM, "growth": 20 << 20},
        {"peer": "timm eager", "schedule": "dense", "growth": 40 << 20},
    ]
    place = {
        "machine": {"processor": "a processor", "threads": 2, "capability": "AVX512"},
        "versions": {"torch": "2.15", "timm": "1.0", "openvino": None},
        "settings": {"rounds": 3},
    }
    sections = {"models": models, "threads": threads, "memory": memory}
    found = {name: {**place, "groups": [{**at, "rows": rows}]} for name, rows in sections.items()}
    sweep = [row("dsm_ext", [10, 11, 12]), row("timm eager", [5, 5, 5])]
    for name, key, places in (("batch", "batch", (1, 2)), ("image", "img_size", (224, 384))):
        found[name] = {**place, "groups": [{**at, key: x, "rows": sweep} for x in places]}
    merged = [row("dsm_ext", [20 + r], f"dsm:r={r},skip=1") for r in (0, 8, 16)]
    found["r"] = {**place, "groups": [{**at, "rows": sweep + merged}]}
    return found


def test_figures(result):
    sections = (result[name]["groups"][0] for name in ("models", "threads", "memory"))
    assert cpu_result.figures(*sections) == {
        "dense": 100,
        "dense / best": (pytest.approx(1.25), "openvino"),
        "dense / timm": 2,  # the median of the rounds' ratios 2, 2.5 and 2
        "dense / sgemm": pytest.approx(0.5),  # 100 images of 2 GFLOPs against 400 GFLOP/s
        "dsm": 150,
        "dsm / dense": 1.5,
        "dsm / arithmetic": pytest.approx(0.75),
        "dsm / timm": 3,
        "dsm / reference": 3,
        "dsm / best": (3, "reference"),
        "merging": pytest.approx(0.05),
        "dense threads": 2,
        "dsm threads": 1.5,
        "dense memory": 0.75,
        "dense memory, frozen": None,
    }


def test_figures_without_peers(result):
    group = result["models"]["groups"][0]
    group["rows"] = [r for r in group["rows"] if r["peer"] == "dsm_ext"]
    found = cpu_result.figures(group)
    assert found["dense"] == 100
    assert found["dense / best"] is found["dsm / best"] is found["dense / sgemm"] is None
    assert "dense, images/s | 100 |" in cpu_tables.cpu(result)


def test_tables(result):
    table = cpu_tables.cpu(result)
    assert table.startswith("|  | DeiT-S, 8 |\n|---|---:|\n")
    assert "| dense, to the best dense peer (OpenVINO) | 1.25 |" in table
    assert "| DSM, to the best peer with DSM (plain PyTorch) | 3.00 |" in table
    assert "DSM: `dsm:r=16,skip=1,local=6`" in table
    assert "sgemm 400 GFLOP/s by oneDNN" in table
    peers = cpu_tables.cpu_peers(result)
    assert "| dense: timm, compiled | failed |" in peers
    assert "| DSM: OpenVINO | not installed |" in peers
    memory = cpu_tables.cpu_memory(result)
    assert "| timm eager | 40 |" in memory
    assert "| dense | 30 (0.75) |" in memory


def test_only_marked_tables_are_drawn(result, tmp_path):
    (tmp_path / "cpu.json").write_text(json.dumps(result))
    text = "a\n<!-- cpu_memory -->\nold\n<!-- /cpu_memory -->\nb\n"
    drawn = tables.draw(text, tmp_path)
    assert drawn.startswith("a\n<!-- cpu_memory -->\n| MiB")
    assert drawn.endswith("|\n<!-- /cpu_memory -->\nb\n")
    assert tables.draw(drawn, tmp_path) == drawn
    with pytest.raises(KeyError, match="no_such_table"):
        tables.draw("<!-- no_such_table -->\n<!-- /no_such_table -->\n", tmp_path)


def test_charts(result, tmp_path):
    pytest.importorskip("matplotlib", reason="matplotlib is not installed")
    from benchmarks.cpu import charts

    charts.draw(result, tmp_path / "cpu.png")
    assert (tmp_path / "cpu.png").read_bytes().startswith(b"\x89PNG")
    points = charts.lines(result["r"]["groups"], lambda g, r: charts.count(r["schedule"]))
    assert [(x, round(1e3 / cost)) for x, cost, *_ in points["dsm_ext", True]] == [
        (0, 20), (8, 28), (16, 36),
    ]  # fmt: skip
    with pytest.raises(ValueError, match="no sweep"):
        charts.draw({}, tmp_path / "none.png")
