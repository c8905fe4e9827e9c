"""The peers of the benchmark compute the loss that they are timed for, and its verdicts follow from the numbers."""

import dataclasses
import importlib
import itertools
import json
from concurrent.futures import Future
from pathlib import Path

import pytest
import torch
from networks import images, make, plain_losses
from torch.nn import functional as F

import landscape_lib as ll
from benchmarks import memory, paying, run
from benchmarks.peers import PEERS, Task, Timing, missing, timed

POINTS = [(-1.0, -1.0), (-1.0, 0.5), (0.0, 0.0), (0.3, -0.7)]
# float32 logits of a few units: 1e-7 relative each, averaged over 300 samples.
TOLERANCE = 2e-6
OWN_PLANE = [peer for peer in PEERS if peer.package]
SAME_PLANE = [peer for peer in PEERS if not peer.package]


def task_of(name):
    model, (inputs, targets) = make(name), images(300)  # two batches of 128 and a ragged one
    return Task(model.requires_grad_(False), inputs, targets, ll.random_plane(model, seed=3))


def losses_of(peer, task, coordinates):
    losses = []
    peer.run(task, coordinates, losses.append)
    return losses


@pytest.mark.parametrize("network", ["linear", "mlp", "cnn"])
@pytest.mark.parametrize("peer", SAME_PLANE, ids=lambda peer: peer.name)
def test_baseline_equals_plain_float64_passes(peer, network):
    if peer.affine_only and network != "linear":
        pytest.skip("right for linear models only")
    task = task_of(network)
    before = ll.parameters_of(task.model)
    expected = [plain_losses(task.model, task.plane, p, task.inputs, task.targets)[0].mean().item() for p in POINTS]
    assert losses_of(peer, task, POINTS) == pytest.approx(expected, rel=TOLERANCE)
    assert all(torch.equal(value, before[name]) for name, value in task.model.named_parameters())


@pytest.mark.parametrize("network", ["linear", "mlp", "cnn"])
@pytest.mark.parametrize("peer", OWN_PLANE, ids=lambda peer: peer.name)
def test_package_computes_the_loss_of_its_weights(peer, network):
    if reason := missing(peer):
        pytest.skip(reason)
    task, weights = task_of(network), []
    before = ll.parameters_of(task.model)
    _ = task.fastest_batch  # runs the model, so before anything is recorded
    # Copies of the model keep the hook: it tells at which weights the package evaluates.
    task.model.register_forward_pre_hook(lambda model, _: weights.append(ll.parameters_of(model)))
    found = []
    peer.run(task, [(0.0, 0.0)] * 10, lambda loss: found.append((loss, weights[-1])))
    assert len(found) == 9  # the largest square grid in ten points
    for loss, point in found:
        exact = {name: value.double() for name, value in point.items()}
        logits = torch.func.functional_call(make(network).double(), exact, (task.inputs.double(),))
        assert loss == pytest.approx(F.cross_entropy(logits, task.targets).item(), rel=TOLERANCE)
    assert len({round(loss, 9) for loss, _ in found}) > 5  # it does move
    assert all(torch.equal(value, before[name]) for name, value in task.model.named_parameters())


def test_time_for_the_grid_is_measured_or_in_proportion_after_the_first_point():
    assert Timing(first=3.0, last=5.0, points=5).seconds_for(5) == 5.0
    assert Timing(first=3.0, last=5.0, points=5).seconds_for(101) == 3.0 + 100 * 0.5
    timing = timed(SAME_PLANE[0], task_of("linear"), POINTS)
    assert timing.points == 4 and 0 < timing.first < timing.last


def test_error_is_that_of_the_surface():
    model, (inputs, targets) = make("mlp"), images(300)
    task = Task(model, inputs, targets, ll.random_plane(model, seed=3))
    surface = ll.evaluate(
        ll.objective(model, (inputs, targets), device="cpu"), task.plane, resolution=(2, 2), progress=False
    )
    assert run.error_of(surface, task)["largest_relative"] < TOLERANCE
    wrong = dataclasses.replace(surface, loss=surface.loss * 1.01)
    assert run.error_of(wrong, task)["largest_relative"] == pytest.approx(0.01, rel=1e-3)


def test_run_writes_json_and_the_table_drawn_from_it(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(run, "memory_of", lambda *_: {"resolution": (7, 5), "data_bytes": 1, "bytes_above_data": 2**20})
    run.main(works=("mlp-small",), mnist="random", out=tmp_path, quick=True)
    results = json.loads((tmp_path / "quick.json").read_text())
    text = (tmp_path / "quick.md").read_text()
    assert text == run.markdown(results) + "\n" and text in capsys.readouterr().out + "\n"
    assert "mean nothing" in text and "not judged" in text
    work = results["works"]["mlp-small"]
    measured = [peer for peer in work["peers"] if not peer.get("skipped")]
    assert {"DataLoader loop", "loop over tensors"} <= {peer["name"] for peer in measured}
    assert all(len(peer["ratios"]) == len(peer["seconds"]) == 2 for peer in measured)
    assert work["error"]["largest_relative"] < 1e-5


@pytest.mark.parametrize(("seconds", "verdict"), [(10.0, "met"), (9.9, "**not met**")])
def test_verdict_is_computed_from_the_numbers(seconds, verdict):
    assert row_of(table(seconds), "loop (best)").endswith(f"| 10 | {verdict} |")


def test_other_samples_are_not_judged_and_absent_peers_named():
    assert row_of(table(10.0, samples=99), "loop (best)").endswith("| 10 | not judged |")
    assert "not installed" in row_of(table(10.0), "package 1")


def table(seconds, samples=100):
    peer = {"name": "loop", "shown": "loop", "use": "", "is_target": True, "points_timed": 4, "extrapolated": True}
    work = {
        "title": "Work",
        "data": "random",
        "samples": samples,
        "samples_asked": 100,
        "resolution": [5, 5],
        "asked": {"best peer": 10},
        "largest_error": None,
        "fingerprint_seconds": 0.0,
        "ours": {"method": "direct", "extrapolated": False, "seconds": [1.0]},
        "peers": [
            {**peer, "seconds": [seconds], "ratios": [seconds]},
            {**peer, "name": "hand", "shown": "hand", "is_target": False, "seconds": [0.1], "ratios": [0.1]},
            {"name": "package", "shown": "package 1", "use": "", "is_target": True, "skipped": "not installed"},
        ],
        "error": {"points": 4, "largest_relative": 1e-7},
        "memory": [{"resolution": [5, 5], "data_bytes": 1, "bytes_above_data": 2**20}],
    }
    return run.table(work, judge=True)


def row_of(lines, name):
    return next(line for line in lines if line.startswith(f"| {name} "))


def test_targets_name_peers_that_exist():
    names = {peer.name for peer in PEERS} | {run.BEST}
    assert set(itertools.chain.from_iterable(work.asked for work in run.WORKS.values())) <= names


class Inline:
    """Stands for a pool of one process, and runs what is submitted in this one."""

    def __init__(self, *_, **__):
        pass

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass

    def submit(self, function, *arguments):
        future = Future()
        future.set_result(function(*arguments))
        return future


def test_memory_and_time_in_place_are_written_with_the_table_drawn_from_them(tmp_path, monkeypatch):
    monkeypatch.setattr(memory, "ProcessPoolExecutor", Inline)
    cases = [memory.Case("float32", way, 4, 16) for way in memory.WAYS] + [memory.Case("bfloat16", "in place", 2, 4)]
    monkeypatch.setattr(memory, "CASES", cases)
    memory.main(out=tmp_path, repeats=1, quick=True)
    results = json.loads((tmp_path / "memory-quick.json").read_text())
    text = (tmp_path / "memory-quick.md").read_text()
    assert text == memory.markdown(results) + "\n" and "mean nothing" in text
    half, whole = (next(c for c in results["cases"] if c["dtype"] == dtype) for dtype in ("bfloat16", "float32"))
    assert 2 * half["model_bytes"] == whole["model_bytes"] > 0
    for case in results["cases"]:
        assert (case["seconds"] is None) == (case["way"] == "copy")
        assert case["seconds"] is None or all(len(times) == 1 for times in case["seconds"].values())


def test_rows_of_memory_are_in_multiples_of_the_weights_and_of_passes():
    case = {"dtype": "float32", "way": "in place, spill", "sequences": 8, "tokens": 128, "model_bytes": 100}
    case |= {"peak": 25, "pass_peak": 50, "seconds": {"move": [0.1, 0.1], "losses": [0.9, 1.1], "pass": [1.0, 1.0]}}
    assert memory.row(case) == [
        "float32", "in place, spill", "8 x 128", "0.25", "0.50", "0.3", "1.10 (1.00-1.20)", "0.1",
    ]  # fmt: skip


@pytest.mark.parametrize("name", ["compiled", "curvature", "matrix", "memory", "networks", "paying", "refinement"])
def test_page_of_a_benchmark_is_that_of_its_results(name):
    folder = Path(run.__file__).parent / "results"
    results = json.loads((folder / f"{name}.json").read_text())
    page = importlib.import_module(f"benchmarks.{name}").markdown(results)
    assert page + "\n" == (folder / f"{name}.md").read_text()
    assert "mean nothing" in importlib.import_module(f"benchmarks.{name}").markdown(results | {"quick": True})


def test_where_compiling_pays_follows_from_the_times(monkeypatch):
    def fails(quick):
        raise RuntimeError("no compiler\nbecause there is none")

    record = {"compiler": "inductor", "seconds_to_compile": 3.0, "plain": [0.05, 0.04], "compiled": [0.02, 0.03]}
    slower = {**record, "compiled": [0.06]}
    makers = {"faster": lambda quick: record, "slower": lambda quick: slower, "failed": fails}
    monkeypatch.setattr(paying, "ROWS", [paying.Row(title, "point", maker) for title, maker in makers.items()])
    faster, lost, failed = map(paying.cells, paying.rows(quick=True))
    assert faster == ["faster", "40", "20", "2.00 x", "inductor (3)", "150 points"]  # 3 s / 20 ms
    assert lost[-1] == "never" and lost[3] == "0.67 x"
    assert failed == ["failed", "", "", "", "cannot be compiled: RuntimeError: no compiler", ""]


def test_derivatives_that_are_compiled_are_compared_with_plain_ones():
    model, (inputs, targets) = make("mlp").double(), images(9)
    names, weights = zip(*model.named_parameters(), strict=True)
    vector = [torch.ones_like(weight) for weight in weights]
    loss = lambda *parts: F.cross_entropy(  # noqa: E731
        torch.func.functional_call(model, dict(zip(names, parts, strict=True)), (inputs.double(),)),
        targets,
        reduction="sum",
    )
    common = ([*names], model, inputs.double(), targets)
    own = paying.gradient([*weights], *common)
    assert all(map(torch.allclose, own, torch.autograd.functional.jacobian(loss, weights)))
    own = paying.hessian([*weights], vector, *common)
    assert all(map(torch.allclose, own, torch.autograd.functional.hvp(loss, weights, tuple(vector))[1]))
    paying.check(own, own)
    with pytest.raises(ArithmeticError, match="differ"):
        paying.check([part + 1 for part in own], own)
