"""Compiled passes give the losses of plain ones, are compiled once for all points, and only where that pays."""

import importlib
import json
import os
import shutil
import subprocess
import sys

import numpy as np
import pytest
import torch
from networks import NETWORKS, Decides, images, make, plain_losses, with_statistics
from torch import nn
from torch.nn import functional as F

import landscape_lib as ll
from landscape.evaluation import tuning
from landscape.evaluation.compile_times import CompileTimes, Record
from landscape.evaluation.methods import compiled, graphs
from landscape.evaluation.methods.compiled import Program
from landscape.evaluation.methods.direct import Direct
from landscape.evaluation.methods.first_layer import Unsummed
from landscape.evaluation.methods.fusion import fold_batch_norm
from landscape.evaluation.methods.prefix import Prefix
from landscape.evaluation.methods.protocol import Arrangement, NotApplicable
from landscape.objective.workers import Team

compilation = importlib.import_module("landscape.evaluation.compilation")

SAMPLES = 77  # in two batches of 39 and 38, or of 64 and 13: the last one is of another shape
GRID = {"alpha_range": (-1, 1), "beta_range": (-0.5, 1), "resolution": (3, 4), "progress": False}
needs_onednn = pytest.mark.skipif(not torch.backends.mkldnn.is_available(), reason="this torch has no oneDNN")
needs_compiler = pytest.mark.skipif(
    (compiled.cxx_compiler() is None), reason="there is no C++ compiler, which torch's Inductor needs"
)


class Blocks(nn.Module):
    """Residual blocks with every form of addition, in place and not, and a pooled shortcut."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(2, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8), nn.ReLU(inplace=True))
        self.one = nn.Sequential(nn.Conv2d(8, 8, 3, padding=1), nn.BatchNorm2d(8, affine=False))
        self.two = nn.Sequential(nn.Conv2d(8, 8, 3, padding=1, stride=2), nn.BatchNorm2d(8))
        self.short = nn.Sequential(nn.Conv2d(8, 8, 1, stride=2, bias=False), nn.BatchNorm2d(8, eps=0.1))
        self.last = nn.Conv2d(8, 8, 3, padding=1)
        self.head = nn.Linear(8, 3)

    def forward(self, x):
        h = self.stem(x)
        h = F.relu(self.one(h) + h)
        h = F.relu(self.short(h) + self.two(h))
        kept = h[:, :, :1]  # a view, read after the addition
        h = torch.relu_(self.last(h).add_(h))
        return self.head(h.mean((2, 3)) + kept.mean((2, 3)))


@pytest.fixture(autouse=True)
def _own_times(monkeypatch, tmp_path):
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path))


@pytest.fixture
def fused(monkeypatch):
    """Without Inductor, whose compiler takes seconds."""
    monkeypatch.setattr(compilation, "COMPILERS", ("onednn",))


def blocks():
    torch.manual_seed(0)
    model = with_statistics(Blocks())
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d) and module.affine:
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias)
    return model


def evaluated(model, method="direct", ignore=("bias", "norm"), options=(), **kwargs):
    target = ll.objective(model, images(SAMPLES), device="cpu", **dict(options))
    plane = ll.random_plane(model, seed=1, ignore=ignore)
    return plane, ll.evaluate(target, plane, method=method, **{"compile": "always", **GRID, **kwargs})


def expected_losses(model, plane, surface):
    """Mean losses on the grid of ``surface`` by plain float64 passes."""
    inputs, targets = images(SAMPLES)
    return np.array(
        [
            [plain_losses(model, plane, (a, b), inputs, targets)[0].mean().item() for b in surface.betas]
            for a in surface.alphas
        ]
    )


@needs_onednn
@pytest.mark.parametrize("method", ["direct", "prefix"])
@pytest.mark.parametrize("maker", [blocks, NETWORKS["cnn"], NETWORKS["batch_norm_cnn"]])
def test_losses_are_those_of_plain_passes(fused, maker, method):
    torch.manual_seed(0)
    model = maker().eval()
    plane, surface = evaluated(model, method, ignore=("bias", "norm") if method == "prefix" else ())
    # float32: a few units of 6e-8 in logits and weights
    assert surface.loss == pytest.approx(expected_losses(model, plane, surface), rel=3e-6)
    assert surface.metadata["method"] == method
    assert surface.metadata["method_settings"]["compiler"] == surface.metadata["compilation"]["compiler"] == "onednn"


@needs_onednn
def test_every_batch_norm_after_a_convolution_is_folded(fused):
    _, surface = evaluated(blocks())
    assert surface.metadata["compilation"]["folded_batch_norm"] == 4


@needs_onednn
def test_one_compilation_serves_all_points_and_threads(fused, monkeypatch):
    calls = []
    monkeypatch.setattr(compiled, "capture", lambda *arguments: calls.append(1) or graphs.capture(*arguments))
    _, surface = evaluated(blocks(), resolution=(7, 5))
    assert len(calls) == surface.metadata["compilation"]["graphs"] == 1


@needs_onednn
@pytest.mark.parametrize("method", [Direct, Prefix])
def test_what_depends_on_weights_alone_is_computed_once_for_all_threads(method):
    target = ll.objective(blocks(), images(20), device="cpu")
    leader = method(target, ll.random_plane(target.model, seed=1).to(torch.float32))
    twin, (_, batch) = leader.twin(), next(target.batches(20))
    points = torch.tensor([[0.5, -1.0], [0.0, 0.25], [1.0, 1.0]], dtype=torch.float64)
    for member in (leader, twin):
        member.arrange(Arrangement(20, "channels_last", compiler="onednn"))
    with target.arithmetic(), torch.no_grad():
        leader.load(batch)
        leader.prepare(points)
        with leader.programs.compiling(1):
            list(leader.run())
        (program,) = leader.programs.made_by("onednn")
        calls, original = [], program.constants
        program.constants = lambda *weights: calls.append(1) or original(*weights)
        leader.prepare(points)
        twin.prepare(points, leader=leader)
        losses = []
        for member in (leader, twin):
            member.load(batch)
            (scores,) = member.run()
            losses.append(scores.losses.clone())
    assert len(calls) == len(points)
    assert torch.equal(*losses)


@needs_onednn
def test_losses_that_are_not_finite_stay_so(fused):
    model = blocks()
    wide = {"alpha_range": (-1, 1e25), "beta_range": (0, 1e30)}
    _, plain = evaluated(model, compile="never", **wide)
    _, surface = evaluated(model, **wide)
    assert surface.metadata["compilation"]["compiler"] == "onednn"
    assert not np.isfinite(plain.loss).all() and np.isfinite(plain.loss).any()
    assert surface.loss == pytest.approx(plain.loss, rel=3e-6, nan_ok=True)


@needs_onednn
@pytest.mark.parametrize("policy", ["batch", "recalibrate"])
def test_other_statistics_of_batch_norm(fused, policy):
    model = blocks()
    _, plain = evaluated(model, compile="never", options={"batch_norm": policy, "batch_size": 40})
    _, surface = evaluated(model, options={"batch_norm": policy, "batch_size": 40})
    assert surface.loss == pytest.approx(plain.loss, rel=1e-5)
    assert surface.metadata["compilation"]["compiler"] == "onednn"
    assert surface.metadata["compilation"]["folded_batch_norm"] == {"batch": 0, "recalibrate": 4}[policy]


@needs_onednn
def test_a_callable_loss_that_calls_the_network_twice(fused):
    def loss(model, batch):
        inputs, targets = batch
        both = model(inputs) + model(inputs.flip(-1))
        return {"loss": F.cross_entropy(both, targets, reduction="none"), "size": both.square().mean(1)}

    model = blocks()
    _, plain = evaluated(model, compile="never", options={"loss": loss})
    _, surface = evaluated(model, options={"loss": loss})
    assert surface.metadata["compilation"]["graphs"] == 1
    assert surface.loss == pytest.approx(plain.loss, rel=3e-6)
    assert surface.quantities["size"] == pytest.approx(plain.quantities["size"], rel=3e-6)


def test_batch_norm_is_folded_before_the_casts_of_autocast():
    model, (inputs, _) = make("batch_norm_cnn"), images(9)
    weights = [value.detach() for value in (*model.parameters(), *model.buffers())]
    names = [name for name, _ in (*model.named_parameters(), *model.named_buffers())]

    def run(weights, inputs):
        return [torch.func.functional_call(model, dict(zip(names, weights, strict=True)), (inputs[0],))]

    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        graph = graphs.capture(run, weights, [inputs])
    assert fold_batch_norm(graph) == 2
    parts = graphs.parted(graph, len(weights))
    with torch.no_grad():
        outputs = parts.of_batch(*parts.of_weights(*weights), inputs)[0]
        expected = model(inputs)
    assert outputs.dtype == torch.bfloat16
    casts = [str(node.target) for node in parts.of_batch.graph.nodes if "_to_copy" in str(node.target)]
    assert len(casts) == 1  # of the inputs: those of the weights are made once a point
    assert (outputs.float() - expected).abs().max() < 2**-6 * expected.abs().max()


def test_short_work_is_not_compiled(monkeypatch):
    monkeypatch.setattr(compilation, "_Trial", None)
    _, surface = evaluated(blocks(), compile="auto")
    assert surface.metadata["compilation"]["compiler"] is None and not surface.metadata["methods_rejected"]


@needs_onednn
def test_long_work_is_compiled(fused, monkeypatch):
    monkeypatch.setattr(compilation, "WORTH", 0.0)
    monkeypatch.setattr(Direct, "_can_run_together", lambda *_: False)
    _, surface = evaluated(blocks(), compile="auto")
    assert surface.metadata["compilation"]["compiler"] is None  # the first compilation is expected to take too long
    monkeypatch.setattr(compilation, "_pays", lambda *_: True)
    monkeypatch.setattr(compilation._Trial, "_gain", lambda *_: 0.25)
    _, surface = evaluated(blocks(), compile="auto")
    assert surface.metadata["compilation"]["speedup"] == {"onednn": pytest.approx(4 / 3)}
    monkeypatch.setattr(compilation._Trial, "_gain", lambda *_: -0.1)
    _, surface = evaluated(blocks(), compile="auto")
    assert surface.metadata["compilation"]["compiler"] is None
    assert "compiler" not in surface.metadata["method_settings"]


def test_what_is_known_of_a_network_decides():
    pays = compilation._pays
    assert pays(Record(5.0, 0.1), 5.0, 0.0, 60.0) and not pays(Record(5.0, 0.1), 5.0, 0.0, 40.0)
    assert not pays(Record(5.0, -0.1), 5.0, 0.0, 1e6)
    assert pays(None, 1.0, 0.0, 60.0) and not pays(None, 1.0, 0.0, 20.0)  # at most 3 % of the work
    assert not pays(None, 1.0, 1.0, 60.0)  # with those before, whose gain was not known either


def test_trials_that_do_not_pay_take_a_bounded_share_of_the_work(monkeypatch):
    tried = []

    def run(self, compiled):
        tried.append(compiled.compiler)
        raise NotApplicable("slower")

    monkeypatch.setattr(compilation._Trial, "run", run)
    target = ll.objective(blocks(), images(20), device="cpu")
    member = Direct(target, ll.random_plane(target.model, seed=1).to(torch.float32))
    first = compilation._seconds_of_first
    cost = first("onednn", member) + first("inductor", member)
    with Team(target) as team:
        for share, names in ((0.028, ["onednn", "inductor"]), (0.035, ["onednn"])):
            tried.clear()
            points = torch.zeros(100_000, 2, dtype=torch.float64)
            compilation.Compilation("auto").settle([member], points, team, cost / share / len(points))
            assert tried == names


def test_times_are_remembered_by_network_and_arrangement(tmp_path):
    few, other = (ll.objective(make(name), images(9), device="cpu") for name in ("cnn", "batch_norm_cnn"))
    arrangement = Arrangement(8, "channels_last", compiler="onednn")
    CompileTimes(few, 1).keep(arrangement, Record(2.0, 0.5))
    assert CompileTimes(few, 1).record(arrangement) == Record(2.0, 0.5)
    assert CompileTimes(few, 1).record(arrangement.with_batch_size(9)) is None
    assert CompileTimes(few, 2).record(arrangement) is CompileTimes(other, 1).record(arrangement) is None
    (path,) = tmp_path.glob("*.json")
    path.write_text(json.dumps({"a": {"seconds": "long", "gain": 1}}))
    assert CompileTimes(few, 1).record(arrangement) is None
    CompileTimes(few, 1).keep(arrangement, Record(3.0, 0.5))
    assert CompileTimes(few, 1).record(arrangement) == Record(3.0, 0.5)


@needs_onednn
def test_a_wrong_graph_is_refused(fused, monkeypatch):
    original = compiled.fold_batch_norm

    def wrong(graph):
        count = original(graph)
        for node in graphs.nodes_of(graph, torch.ops.aten.rsqrt.default):
            node.target = torch.ops.aten.sqrt.default
        return count

    monkeypatch.setattr(compiled, "fold_batch_norm", wrong)
    model = blocks()
    plane, surface = evaluated(model)
    assert "differs from plain forward passes" in surface.metadata["methods_rejected"]["compiled by onednn"]
    assert surface.loss == pytest.approx(expected_losses(model, plane, surface), rel=3e-6)


class Keeps(nn.Module):
    """A network that keeps something of every pass."""

    def __init__(self, net):
        super().__init__()
        self.net, self.last = net, None

    def forward(self, x):
        self.last = self.net(x)
        return self.last


@pytest.mark.parametrize(
    ("maker", "reason"),
    [
        (lambda: Decides(make("cnn"), bound=1e9), "DataDependent"),
        (lambda: Keeps(make("cnn")), "do more than"),
        (lambda: make("mlp"), "no convolution"),
    ],
)
def test_what_cannot_be_compiled_is_evaluated_as_it_is(fused, maker, reason):
    model = maker()
    plane, surface = evaluated(model)
    assert reason in surface.metadata["methods_rejected"]["compiled by onednn"]
    assert surface.metadata["compilation"]["compiler"] is None
    assert surface.loss == pytest.approx(expected_losses(model, plane, surface), rel=3e-6)


@needs_onednn
def test_a_failure_on_the_way_ends_compiled_passes(fused, monkeypatch):
    original, calls = Program.__call__, []

    def fails(self, *arguments):
        calls.append(1)
        if len(calls) > 60:
            raise RuntimeError("a kernel fails")
        return original(self, *arguments)

    monkeypatch.setattr(Program, "__call__", fails)
    model = blocks()
    plane, surface = evaluated(model, resolution=(9, 9))
    assert "a kernel fails" in str(surface.metadata["methods_rejected"])
    assert "compiler" not in surface.metadata["method_settings"]
    assert surface.loss == pytest.approx(expected_losses(model, plane, surface), rel=3e-6)


def test_an_unknown_policy_is_refused():
    with pytest.raises(ll.InputError, match="unknown value of compile 'maybe'; use one of auto, always, never"):
        evaluated(make("cnn"), compile="maybe")


def test_without_a_compiler_passes_stay_as_they_are(monkeypatch):
    monkeypatch.setenv("CXX", "/nonexistent")
    monkeypatch.setattr(compilation, "COMPILERS", ("inductor",))
    model = make("mlp")
    plane, surface = evaluated(model)
    assert "C++ compiler" in surface.metadata["methods_rejected"]["compiled by inductor"]
    assert surface.loss == pytest.approx(expected_losses(model, plane, surface), rel=3e-6)


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="the broken compiler is a shell script")
def test_with_a_broken_compiler_passes_stay_as_they_are(tmp_path):
    broken = tmp_path / "g++"
    broken.write_text("#!/bin/sh\nexit 1\n")
    broken.chmod(0o755)
    # A process of its own: Inductor looks at its compiler once.
    environment = {**os.environ, "CXX": str(broken), "PYTHONPATH": os.pathsep.join(sys.path)}
    code = "import test_compiled; test_compiled.check_with_a_broken_compiler()"
    subprocess.run([sys.executable, "-c", code], check=True, env=environment, capture_output=True, timeout=300)


def check_with_a_broken_compiler():
    compilation.COMPILERS = ("inductor",)
    model = nn.Sequential(nn.Flatten(), nn.Linear(32, 7), nn.GELU(), nn.LayerNorm(7), nn.Linear(7, 3))
    plane, surface = evaluated(model)
    assert surface.metadata["methods_rejected"]["compiled by inductor"]
    assert surface.metadata["compilation"]["compiler"] is None
    assert surface.loss == pytest.approx(expected_losses(model, plane, surface), rel=3e-6)


@pytest.mark.parametrize("resolution", [(3, 4), (2, 2)])
def test_the_last_addition_of_the_first_layer_is_part_of_code_by_inductor(monkeypatch, resolution):
    captured, sums = [], []
    monkeypatch.setattr(Unsummed, "sum", property(lambda terms: sums.append(terms) or torch.addcmul(*terms)))

    def interpreted(parts, weights, inputs, threads):
        captured.append([tuple(value.shape) for value in inputs])
        return parts.of_batch

    monkeypatch.setattr(compilation, "COMPILERS", ("inductor",))
    monkeypatch.setattr(compiled, "_by_inductor", interpreted)
    model = blocks()
    plane, surface = evaluated(model, "prefix", resolution=resolution)
    assert surface.metadata["compilation"]["compiler"] == "inductor", surface.metadata["methods_rejected"]
    ((base, step, factor, _),) = captured
    assert base == step != factor == ()
    assert len(sums) == 1  # while the graph is captured
    assert surface.loss == pytest.approx(expected_losses(model, plane, surface), rel=3e-6)


@pytest.mark.slow
@needs_compiler
@pytest.mark.parametrize("method", ["direct", "prefix"])
def test_inductor_gives_the_losses_of_plain_passes(monkeypatch, method):
    monkeypatch.setattr(compilation, "COMPILERS", ("inductor",))
    model = blocks()
    plane, surface = evaluated(model, method)
    assert surface.metadata["compilation"]["compiler"] == "inductor", surface.metadata["methods_rejected"]
    assert surface.loss == pytest.approx(expected_losses(model, plane, surface), rel=3e-6)


@pytest.mark.slow
@needs_compiler
def test_inductor_compiles_a_transformer_and_leaves_torch_as_it_was(monkeypatch):
    from torch._inductor import config

    before = config.save_config_portable()
    monkeypatch.setattr(compilation, "COMPILERS", ("inductor",))
    torch.manual_seed(0)
    layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
    model = nn.Sequential(nn.Flatten(1), nn.Unflatten(1, (4, 8)), layer, nn.Flatten(), nn.Linear(32, 3)).eval()
    plane, surface = evaluated(model)
    assert surface.metadata["compilation"]["compiler"] == "inductor", surface.metadata["methods_rejected"]
    assert surface.loss == pytest.approx(expected_losses(model, plane, surface), rel=3e-6)
    assert config.save_config_portable() == before


def test_outputs_keep_their_form_without_objects_that_are_no_tensors():
    outputs = compiled.Outputs()
    first, second = torch.zeros(2), torch.ones(3)
    tensors = outputs.tensors({"logits": first, "cache": object(), "scale": 2.0, "rest": (None, second)})
    assert tensors[0] is first and tensors[1] is second and len(tensors) == 2
    again = outputs.of([second, first])
    assert again["logits"] is second and again["rest"][1] is first
    assert again["cache"] is None and again["scale"] == 2.0


def test_programs_belong_to_shapes():
    target = ll.objective(make("cnn"), images(20), device="cpu")
    evaluator = Direct(target, ll.random_plane(target.model, seed=1).to(torch.float32))
    assert evaluator.twin().programs is evaluator.programs


def test_the_compiler_that_is_named_is_looked_for(monkeypatch):
    monkeypatch.setenv("CXX", "no-such-compiler")
    assert compiled.cxx_compiler() is None
    monkeypatch.setenv("CXX", sys.executable)
    assert compiled.cxx_compiler() == shutil.which(sys.executable)


def test_what_is_computed_once_a_point_counts(monkeypatch):
    """A clock that moves while points are prepared only, by a second each."""
    now = [0.0]
    target = ll.objective(make("cnn"), images(20), device="cpu")
    member = Direct(target, ll.random_plane(target.model, seed=1).to(torch.float32))
    original = member.prepare

    def prepare(points, *others):
        now[0] += len(points)
        original(points, *others)

    member.prepare = prepare
    monkeypatch.setattr(tuning.time, "perf_counter", lambda: now[0])
    with Team(target) as team, target.arithmetic():
        seconds = tuning.seconds_per_sample([member], torch.rand(9, 2, dtype=torch.float64), team)
    assert seconds * 20 == pytest.approx(1.0)
