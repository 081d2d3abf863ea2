"""The benchmark's bookkeeping: who is called, what is kept, what is said of those that fail.

No test asserts a time.
"""

import json
import math
import os
import subprocess
import sys
from pathlib import Path

import pytest

import seqcore as sc
from seqcore.bench import session as session_module
from seqcore.bench.memory import trace
from seqcore.bench.peers import PEERS
from seqcore.bench.protocol import Prepare, Prepared, Ready, Sample, Sampled, Setup
from seqcore.bench.report import (
    Failure,
    Measurement,
    Report,
    choose_baselines,
    ratio,
    tables,
    to_data,
    verdicts,
)
from seqcore.bench.selection import Candidate, candidates
from seqcore.bench.session import Session, SideFailed, WorkerProcess
from seqcore.bench.sides import SideSpec
from seqcore.bench.workloads import Workload, make_workload, named_workload
from seqcore.cli import main

FAKES = """
import os, time
from seqcore.bench.sides import BackendSide

class Numpy(BackendSide):
    def __init__(self):
        super().__init__("numpy")

class Crashing(Numpy):
    def inference(self):
        os.abort()

class Untrainable(Numpy):
    def train(self):
        raise RuntimeError("no backward pass today")

class Unwilling(Numpy):
    def setup(self, workload, threads):
        raise OSError("no such device")

class Wrong(Numpy):
    def output(self):
        return super().output() + 1.0

class Slow(Numpy):
    def train(self):
        time.sleep(600)

class Chatty(Numpy):
    def inference(self):
        print("hello from a library")
"""


@pytest.fixture
def fakes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Sides that misbehave, importable in the workers."""
    (tmp_path / "fakes.py").write_text(FAKES, encoding="utf-8")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))


def fake(name: str) -> Candidate:
    return Candidate(SideSpec(name=f"fake.{name}", factory=f"fakes:{name}"), None)


def tiny(layer: sc.Layer | None = None, **options: bool) -> Workload:
    return make_workload("tiny", layer or sc.LSTM(3), (2, 4, 5), **options)


def new_session(report: Report, rounds: int = 2) -> Session:
    return Session(report, rounds=rounds, threads=1, timeout=120, progress=lambda *_: None)


def empty_report() -> Report:
    return Report(machine={}, settings={})


def measured(side: str, seconds: list[float], **fields: object) -> Measurement:
    known = {"workload": "w", "mode": "train", "backend": True, "operations": 10} | fields
    return Measurement(side=side, seconds=seconds, first_call=1.0, repeats=1, **known)


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "layer.toml"
    path.write_text('type = "Bidirectional"\n[layer]\ntype = "GRU"\nunits = 3\n', encoding="utf-8")
    return path


def test_a_run_from_end_to_end_gives_valid_json(config: Path, tmp_path: Path) -> None:
    output = tmp_path / "result.json"
    options = "--features 5 --batch 2 --time 4 --rounds 2 --threads 1 --backend numpy --json"
    done = subprocess.run(
        [sys.executable, "-m", "seqcore", "bench", config, *options.split(), "--output", output],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    data = json.loads(done.stdout)
    assert json.loads(output.read_text(encoding="utf-8")) == data
    assert data["machine"]["processors"] >= 1
    assert data["settings"] == {"threads": 1, "rounds": 2, "modes": ["inference", "train"]}
    assert not data["failures"]
    sides = {(m["mode"], m["side"]): m for m in data["measurements"]}
    assert set(sides) == {(m, s) for m in ("inference", "train") for s in ("sgemm", "numpy")}
    for one in sides.values():
        assert len(one["seconds"]) == 2
        assert min(one["seconds"]) > 0
    ours = sides["train", "numpy"]
    assert ours["deviation"] == 0
    assert ours["facts"]["arrays"] == "numpy.ndarray"
    assert ours["operations"] == 3 * 2 * (2 * 2 * 4 * 3 * 3 * (5 + 3))
    assert [v["line"] for v in data["verdict"]] == ['backend = "numpy"'] * 2


def test_sides_that_fail_are_reported_and_the_others_go_on(fakes: None) -> None:
    report = empty_report()
    names = ("Crashing", "Untrainable", "Unwilling", "Wrong", "Chatty")
    refused = Candidate(SideSpec(name="fake.absent", factory="fakes:Absent"), "not installed: x")
    sides = [refused, *map(fake, names), *candidates(tiny(), ["numpy"], None)]
    new_session(report).measure(tiny(), sides, ["inference", "train"])
    reasons = {(f.side, f.mode): f.reason for f in report.failures}
    assert set(reasons) == {
        ("fake.absent", ""),
        ("fake.Unwilling", ""),
        ("fake.Crashing", "inference"),
        ("fake.Crashing", "train"),
        ("fake.Untrainable", "train"),
    }
    assert reasons["fake.absent", ""] == "not installed: x"
    assert "no such device" in reasons["fake.Unwilling", ""]
    assert "SIGABRT" in reasons["fake.Crashing", "inference"]
    assert "no backward pass today" in reasons["fake.Untrainable", "train"]
    sides_measured = {(m.side, m.mode): m for m in report.measurements}
    assert set(sides_measured) == {
        (side, mode)
        for side in ("sgemm", "fake.Wrong", "fake.Chatty", "numpy")
        for mode in ("inference", "train")
    } | {("fake.Untrainable", "inference")}
    assert all(len(m.seconds) == 2 for m in report.measurements)
    assert "computes something else" in sides_measured["fake.Wrong", "train"].check
    assert not sides_measured["fake.Wrong", "train"].same
    assert sides_measured["numpy", "train"].check == ""
    assert [v.backend for v in verdicts(report)] == ["numpy", "numpy"]
    (*_, failures) = tables(report, [])
    assert len(failures.rows) == 5


def test_a_side_that_does_not_answer_is_given_up(fakes: None) -> None:
    side = fake("Slow").side
    worker = WorkerProcess({}, threads=1, timeout=120)
    try:
        worker.ask(Setup(side, tiny(), 1), Ready)
        worker.ask(Prepare("inference"), Prepared)
        worker.timeout = 0.3
        for _ in range(2):
            with pytest.raises(SideFailed, match=r"no answer within 0\.3 s"):
                worker.ask(Prepare("train"), Prepared)
    finally:
        worker.close()


def test_a_worker_pins_the_threads_before_it_starts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    code = (
        "import os\nfrom seqcore.bench.sides import Product\nclass Telling(Product):\n"
        "    def setup(self, workload, threads):\n        super().setup(workload, threads)\n"
        "        return {k: os.environ[k] for k in ('OMP_NUM_THREADS', 'OPENBLAS_NUM_THREADS')}\n"
    )
    (tmp_path / "telling.py").write_text(code, encoding="utf-8")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    worker = WorkerProcess({}, threads=1, timeout=120)
    try:
        spec = SideSpec(name="telling", factory="telling:Telling")
        facts = worker.ask(Setup(spec, tiny(), 1), Ready).facts
        assert facts == {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
        worker.ask(Prepare("inference"), Prepared)
        assert worker.ask(Sample("inference"), Sampled).seconds > 0
    finally:
        worker.close()


def test_an_interrupted_run_prints_what_it_has(
    config: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pauses = iter(range(100))

    def interrupt(seconds: float) -> None:
        if next(pauses) == 3:  # sgemm and numpy in the first round, sgemm in the second
            raise KeyboardInterrupt

    monkeypatch.setattr(session_module.time, "sleep", interrupt)
    options = "--features 5 --batch 2 --time 4 --threads 1 --backend numpy --json"
    assert main(["bench", str(config), *options.split()]) == 130
    data = json.loads(capsys.readouterr().out)
    assert data["interrupted"] is True
    assert [(m["side"], len(m["seconds"])) for m in data["measurements"]] == [
        ("sgemm", 2),
        ("numpy", 1),
    ]


def test_the_table_ends_with_the_line_for_the_configuration(
    config: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = "--features 5 --batch 2 --time 4 --rounds 1 --backend numpy --mode inference"
    assert main(["bench", str(config), *options.split()]) == 0
    written = capsys.readouterr()
    assert written.out.rstrip().endswith('backend = "numpy"')
    assert "inference" in written.out
    assert "train" not in written.out
    assert "set-up" in written.err
    assert "\x1b" not in written.out + written.err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("--workload b23", "did you mean"),
        ("--workload stream --bidirectional", "no future"),
        ("--features 3", "goes with CONFIG"),
        ("layer.toml", "--features: missing"),
        ("layer.toml --features 3 --cell gru", "goes with named workloads"),
        ("--workload b1 --mode training", "expected inference or train"),
        ("--workload b1 --peers torch.nm", "did you mean"),
        ("--workload b1 --backend nunpy", "nunpy"),
    ],
)
def test_a_wrong_request_is_refused_before_any_work(
    arguments: str,
    message: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(session_module, "WorkerProcess", None)
    assert main(["bench", *arguments.split()]) == 1
    assert message in capsys.readouterr().err


def test_ratios_are_taken_round_by_round() -> None:
    ours, theirs = measured("ours", [1.0, 20.0, 3.0]), measured("theirs", [1.0, 10.0, 6.0])
    assert ratio(ours, theirs) == 1.0  # of 1, 2 and 0.5
    assert ours.median / theirs.median == 0.5
    assert ratio(ours, measured("interrupted", [0.5])) == 2.0


def test_the_baseline_is_what_is_named_else_the_first_peer() -> None:
    sides = [
        measured("sgemm", [1.0], backend=False),
        measured("numpy", [1.0]),
        measured("numpy.padded", [1.0], backend=False),
        measured("torch.nn", [1.0], backend=False),
        measured("flax.nnx", [1.0], backend=False),
    ]
    assert [m.side for m in choose_baselines(sides, [])] == ["torch.nn"]
    assert [m.side for m in choose_baselines(sides[:3], [])] == ["numpy"]
    wanted = choose_baselines(sides, ["flax.nnx", "not.measured", "numpy.padded"])
    assert [m.side for m in wanted] == ["flax.nnx", "numpy.padded"]


def test_derived_figures() -> None:
    report = empty_report()
    report.workloads["w"] = "a workload"
    report.measurements = [
        measured("sgemm", [1.0], backend=False, operations=40),
        measured("numpy", [2.0, 4.0], operations=30),
    ]
    _, ours = to_data(report)["measurements"]
    assert ours["median"] == 3.0
    assert ours["gflops"] == pytest.approx(10 / 1e9)
    assert ours["share_of_sgemm"] == pytest.approx(0.25)
    assert ours["ratios"] == {}  # a product is no layer to compare with


def test_the_verdict_is_the_geometric_mean_over_all_workloads() -> None:
    report = empty_report()
    report.measurements = [
        measured("one", [1.0], workload="a"),
        measured("two", [3.0], workload="a"),
        measured("half", [0.1], workload="a"),
        measured("wrong", [0.01], workload="a", same=False),
        measured("peer.fast", [0.001], workload="a", backend=False),
        measured("one", [4.0], workload="b"),
        measured("two", [1.0], workload="b"),
        measured("wrong", [0.01], workload="b", same=False),
    ]
    (verdict,) = verdicts(report)
    assert (verdict.mode, verdict.backend) == ("train", "two")
    assert verdict.among == ["one", "two"]


def test_failures_alone_make_a_report() -> None:
    report = empty_report()
    report.failures.append(Failure(workload="w", side="torch", reason="not installed"))
    (table,) = tables(report, [])
    assert table.rows == [("w", "all", "torch", "not installed")]
    assert verdicts(report) == []


def test_operations_count_valid_steps_only() -> None:
    workload = tiny(sc.LSTM(3), lengths=True)
    lengths = workload.data().lengths
    assert lengths is not None
    per_step = 2 * 4 * 3 * (5 + 3)
    assert workload.operations("inference", padded=False) == int(lengths.sum()) * per_step
    assert workload.operations("train", padded=True) == 3 * 2 * 4 * per_step


def test_lengths_and_stream_sides() -> None:
    names = [c.side.name for c in candidates(tiny(lengths=True), ["numpy"], [])]
    assert names == ["numpy", "numpy.padded", *PEERS]
    assert "torch.packed" not in [c.side.name for c in candidates(tiny(), ["numpy"], [])]
    stack = tiny(sc.Stack([sc.LSTM(3, return_sequences=True), sc.LSTM(3)]))
    assert all(c.refusal for c in candidates(stack, [], []))
    relu = candidates(tiny(sc.LSTM(3, activation="relu")), [], ["torch.nn"])
    assert [c.refusal for c in relu] == ["has activation='tanh' only"]


@pytest.mark.parametrize("mode", ["whole", "stream"])
def test_peers_compute_what_numpy_does(mode: str) -> None:
    for module in ("keras", "onnx", "onnxruntime", "torch"):
        pytest.importorskip(module)
    peers = ["torch.nn", "onnxruntime.session", "keras.numpy"]
    if mode == "stream":
        workload = make_workload("tiny", sc.LSTM(3), (1, 1, 5), stream=True)
    else:
        peers.append("torch.packed")
        workload = tiny(sc.Bidirectional(sc.GRU(3)), lengths=True)
    report = empty_report()
    sides = candidates(workload, ["numpy"], peers)
    new_session(report, rounds=1).measure(workload, sides, ["inference", "train"])
    assert not report.failures
    layers = [m for m in report.measurements if m.side != "sgemm"]
    assert {m.side for m in layers} >= {"numpy", *peers}
    assert {m.check for m in layers} == {""}
    assert all(m.deviation is not None and m.deviation < 1e-6 for m in layers)
    assert {m.side for m in layers if m.mode == "train"} >= {"numpy", "torch.nn"}


def test_memory_is_that_of_a_train_step() -> None:
    def workload(time: int) -> Workload:
        return make_workload("w", sc.LSTM(16), (4, time, 8))

    assert workload(50).saved_bytes() == 4 * (4 * 50) * 16 * 6
    outputs = sum(4 * math.prod(shape) for shape in workload(50).output_shapes())
    short, long = trace(workload(50), "numpy"), trace(workload(100), "numpy")
    assert outputs < short < long


def test_memory_from_the_command_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], config: Path
) -> None:
    arguments = ["bench", str(config), "--features", "5", "--memory", "--json"]
    assert main(arguments) == 0
    (use,) = json.loads(capsys.readouterr().out)["memory"]
    assert (use["workload"], use["backend"]) == ("layer.toml", "numpy")
    assert use["saved"] == 2 * 4 * 4 * 32 * 100 * 3
    assert use["peak"] > 0


def test_named_workloads_return_everything() -> None:
    workload = named_workload("b1", "simple_rnn", bidirectional=True, lengths=False)
    assert workload.layer == sc.Bidirectional(
        sc.SimpleRNN(256, return_sequences=True, return_state=True)
    )
    assert workload.output_shapes() == [(1, 100, 512), (1, 256), (1, 256)]


def test_listing_the_peers_imports_none() -> None:
    code = (
        "import sys, seqcore.bench.peers\n"
        "print([m for m in ('torch', 'jax', 'keras', 'tensorflow', 'onnx') if m in sys.modules])"
    )
    environment = {**os.environ, "PYTHONPATH": ""}
    command = [sys.executable, "-c", code]
    assert subprocess.check_output(command, text=True, env=environment) == "[]\n"
