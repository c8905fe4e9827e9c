"""Networks in shards over two processes: the numbers of one process, and ends that all processes share."""

import os
import pickle
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import sharded_ranks
import torch
from torch import nn
from torch.func import functional_call
from torch.nn import functional as F

import landscape_lib as ll

RANKS = 2
ROOT = Path(__file__).parents[1]
ALONE = {name: value for name, value in os.environ.items() if name not in ("RANK", "WORLD_SIZE", "LOCAL_RANK")}


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory):
    """The results of all cases on every rank."""
    pytest.importorskip("torch.distributed.fsdp", reason="this torch has no FSDP")
    if not hasattr(torch.distributed.fsdp, "fully_shard"):
        pytest.skip("this torch has no torch.distributed.fsdp.fully_shard")
    folder = tmp_path_factory.mktemp("ranks")
    command, environment = [sys.executable, Path(sharded_ranks.__file__)], {**ALONE, "PYTHONPATH": str(ROOT)}
    processes = [
        subprocess.Popen([*map(str, [*command, rank, RANKS, folder])], cwd=ROOT, env=environment)
        for rank in range(RANKS)
    ]
    try:
        assert [process.wait(timeout=240) for process in processes] == [0, -signal.SIGKILL]  # see `left_alone`
    finally:
        for process in processes:
            process.kill()
    return [pickle.loads((folder / f"{rank}.pickle").read_bytes()) for rank in range(RANKS)]


@pytest.fixture
def results(outcomes, request):
    """The result of the case that a test is named after, which is the same on both ranks."""
    name = request.node.originalname.replace("test_", "case_", 1)
    first, second = (outcome[name] for outcome in outcomes)
    assert not isinstance(first, str), first
    alike(first, second)
    return first


def alike(first, second):
    """Both are equal to the last bit, but for what tells of one rank."""
    if isinstance(first, dict):
        assert first.keys() == second.keys()
        for key in first.keys() - {"metadata", "shards"}:
            alike(first[key], second[key])
    elif isinstance(first, list | tuple):
        for one, other in zip(first, second, strict=True):
            alike(one, other)
    else:
        np.testing.assert_array_equal(first, second)


def drawn(model, count, seed, moves):
    """Filter-normalised Gaussian directions, in float64: one generator for all entries, in the order of parameters."""
    generator, directions = torch.Generator().manual_seed(seed), []
    for _ in range(count):
        direction = {}
        for name, value in model.named_parameters():
            entries = torch.randn(value.shape, generator=generator).double()
            rows, filters = entries.reshape(len(value), -1), value.detach().double().reshape(len(value), -1)
            scaled = rows / rows.norm(dim=1, keepdim=True) * filters.norm(dim=1, keepdim=True)
            direction[name] = scaled.reshape(value.shape) if moves(name, value) else torch.zeros_like(entries)
        directions.append(direction)
    return directions


def at(model, directions, coordinates):
    """The parameters of ``model``, in float64, at ``coordinates``."""
    point = {name: value.detach().double() for name, value in model.named_parameters()}
    for coordinate, direction in zip(coordinates, directions, strict=True):
        point = {name: value + coordinate * direction[name] for name, value in point.items()}
    return point


def grid(loss, alphas=(-1, -0.25, 0.5), betas=(-0.5, 0, 0.5, 1)):
    return np.array([[float(loss(alpha, beta)) for beta in betas] for alpha in alphas])


def weights_of_layers(_, value):
    return value.ndim > 1


def test_plane(results):
    model, (inputs, targets) = sharded_ranks.network(), sharded_ranks.data()
    directions = drawn(model, 2, 3, weights_of_layers)

    def losses(alpha, beta):
        outputs = functional_call(
            model.double(), at(sharded_ranks.network(), directions, (alpha, beta)), inputs.double()
        )
        return F.cross_entropy(outputs, targets, reduction="none").detach()

    expected = grid(lambda *place: losses(*place).mean())
    assert np.abs(results["loss"] - expected).max() < 1e-6
    errors = grid(lambda *place: losses(*place).std() / len(targets) ** 0.5)
    assert np.abs(results["standard_error"] - errors).max() < 1e-6
    assert np.abs(results["per_sample"][2, 1] - losses(0.5, 0).numpy()).max() < 1e-5
    assert np.abs(results["outputs"] - sharded_ranks.network()(inputs).detach().numpy()).max() < 1e-6
    metadata = results["metadata"]
    assert metadata["method"] == "in_place" and metadata["processes"] == 2
    assert metadata["sharded"]["mesh"] == [2] and metadata["sharded"]["shares_data"]
    norms = [sum(float(value.square().sum()) for value in direction.values()) ** 0.5 for direction in directions]
    assert metadata["direction_norms"] == pytest.approx(norms, rel=1e-6)
    between = sum(float((directions[0][name] * directions[1][name]).sum()) for name in directions[0])
    assert metadata["cosine"] == pytest.approx(between / norms[0] / norms[1], rel=1e-5)


def alone(model, samples, slice_, options=None, **settings):
    return ll.evaluate(ll.objective(model, samples, device="cpu", **(options or {})), slice_, **settings)


def agree(result, surface, tolerance=1e-6):
    assert np.abs(result["loss"] - surface.loss).max() < tolerance
    assert np.allclose(result["standard_error"], surface.standard_error, atol=tolerance, equal_nan=True)
    assert result["quantities"].keys() == surface.quantities.keys()
    for name, values in surface.quantities.items():
        np.testing.assert_allclose(result["quantities"][name], values, rtol=1e-5, atol=tolerance)
    assert result["metadata"]["identity"]["slice"] == surface.metadata["identity"]["slice"]


def test_points(results, outcomes):
    plane = ll.random_plane(sharded_ranks.network(), seed=3, orthogonal=True, ignore=())
    for name, value in plane(0.25, -0.5).items():
        assert np.array_equal(results["point"][name], value.numpy())
        assert sum(outcome["case_points"]["shards"][name] for outcome in outcomes) == value.numel()
    assert np.array_equal(results["row"], np.concatenate([v.double().flatten() for v in plane(0.25, -0.5).values()]))
    assert results["norm"] == pytest.approx(np.linalg.norm(results["row"]), rel=1e-12)
    assert abs(results["cosine"]) < 1e-7 and results["moved"] == plane.moved


def test_tied(results):
    model, samples = sharded_ranks.Tied().eval(), sharded_ranks.tokens()
    directions = drawn(model, 2, 3, lambda name, value: value.ndim > 1)

    def loss(alpha, beta):
        point = at(sharded_ranks.Tied(), directions, (alpha, beta))
        logits = functional_call(model.double(), {**point, "head.weight": point["embed.weight"]}, samples["input_ids"])
        return F.cross_entropy(logits[:, :-1].flatten(0, 1), samples["labels"][:, 1:].flatten()).detach()

    assert np.abs(results[0]["loss"] - grid(loss)).max() < 1e-6
    for result, chosen in zip(results, ({}, {"parameters": "trainable"}, {"parameters": ("blocks.*",)}), strict=True):
        plane = ll.random_plane(sharded_ranks.Tied(), seed=3, **chosen)
        agree(result, alone(sharded_ranks.Tied(), samples, plane, {"loss": "language_model"}, **sharded_ranks.GRID))


def test_adapters(results):
    plane = ll.random_plane(sharded_ranks.Adapted(), seed=3, parameters="trainable")
    agree(results, alone(sharded_ranks.Adapted(), sharded_ranks.data(), plane, **sharded_ranks.GRID))


def test_batch_norm(results):
    model = sharded_ranks.Normed()
    line = ll.random_line(model, seed=1)
    agree(results, alone(model, sharded_ranks.data(), line, resolution=5, progress=False))


def network_alone(options=None, **settings):
    model = sharded_ranks.network()
    plane = ll.random_plane(model, seed=3)
    return alone(model, sharded_ranks.data(), plane, options, **{**sharded_ranks.GRID, **settings})


def test_replicas(results):
    agree(results, network_alone())
    assert results["metadata"]["sharded"]["mesh"] == [2, 1]


def test_half_precision(results):
    """The policy of fully_shard rounds weights and inputs in every pass; the shards stay in float32."""
    inputs, targets = sharded_ranks.data()
    plane = ll.random_plane(sharded_ranks.network(), seed=3)

    def loss(alpha, beta):
        rounded = {name: value.bfloat16() for name, value in plane(alpha, beta).items()}
        outputs = functional_call(sharded_ranks.network().bfloat16(), rounded, inputs.bfloat16())
        return F.cross_entropy(outputs.double(), targets)

    expected = grid(loss)
    assert np.abs(results["loss"] - expected).max() < 1e-2 * np.abs(expected).max()  # of another order of sums
    assert np.abs(results["loss"] - network_alone().loss).max() > 1e-5
    assert results["metadata"]["sharded"]["passes_in"] == "bfloat16"


def test_half_precision_weights(results):
    model = sharded_ranks.network().bfloat16()
    options = {"loss": sharded_ranks.float_loss, "dtype": None, "copy": False, "batch_size": 8}
    surface = alone(model, sharded_ranks.data(), ll.random_plane(model, seed=3), options, **sharded_ranks.GRID)
    agree(results, surface)
    assert results["metadata"]["rounding"] == pytest.approx(surface.metadata["rounding"], rel=1e-6)


def test_lines(results):
    a, b = sharded_ranks.network(), sharded_ranks.another()
    inputs, targets = sharded_ranks.data()
    for result in results:
        for position, value in zip((-0.5, 0, 0.5, 1, 1.5), result["loss"], strict=True):
            ends = zip(a.named_parameters(), b.parameters(), strict=True)
            point = {name: ((1 - position) * p.double() + position * q.double()).detach() for (name, p), q in ends}
            outputs = functional_call(sharded_ranks.network().double(), point, inputs.double())
            assert abs(value - float(F.cross_entropy(outputs, targets))) < 1e-6


def test_state_dict(outcomes):
    gathered, expected = outcomes[0]["case_state_dict"], sharded_ranks.network().state_dict()
    assert gathered.keys() == expected.keys()
    assert all(np.array_equal(gathered[name], value) for name, value in expected.items())


def test_terms(results):
    size = {"size": lambda net, batch: net(batch[0]).square().mean(1)}
    agree(results, network_alone({"regularizer": sharded_ranks.penalty, "metrics": size}))


def test_derivatives(results):
    agree(results, network_alone({"loss": sharded_ranks.slopes}))


def test_whole_batch(results):
    surface = network_alone()
    assert np.abs(results["loss"] - surface.loss).max() < 1e-6
    assert np.isnan(results["standard_error"]).all()


def test_tolerance(results):
    expected = network_alone(resolution=17, alpha_range=(-1, 1), beta_range=(-1, 1)).loss
    assert results["evaluated"] is not None and 0 < results["evaluated"].mean() < 1
    assert np.all(np.abs(results["loss"] - expected) <= 0.02 * np.maximum(np.abs(expected), np.median(expected) / 100))


def test_basin(results):
    model = sharded_ranks.network()
    objective = ll.objective(model, sharded_ranks.data(), device="cpu")
    radii = ll.basin_radii(objective, model, directions=2, progress=False).radii
    np.testing.assert_allclose(results, radii, rtol=1e-4)


def test_stored(results):
    assert np.array_equal(results[0]["loss"], results[1]["loss"])
    agree(results[0], network_alone())


def test_gathered(results):
    agree(results, network_alone())


def test_wrapped(results):
    agree(results, network_alone())


def test_parallel(results):
    model = sharded_ranks.two_layers()
    plane = ll.random_plane(model, seed=3)
    agree(results, alone(model, sharded_ranks.data(), plane, **sharded_ranks.GRID))
    assert not results["metadata"]["sharded"]["shares_data"]


def test_a_rank_that_is_killed_ends_the_others(outcomes):
    message, restored = outcomes[0]["killed"]
    assert restored and message.startswith("rank 0: another rank has ended (killed, or out of memory)")


def test_documented(results):
    model, options = sharded_ranks.gpt(), {"loss": "language_model"}
    samples = {"input_ids": sharded_ranks.letters()}
    agree(results, alone(model, samples, ll.random_plane(model, seed=0), options, resolution=5, progress=False))


def test_failures(outcomes):
    """Where a rank fails in the middle of a pass, all of them end, say why, and have their shards as before."""
    first, second = (outcome["case_failures"] for outcome in outcomes)
    assert not isinstance(first, str), first
    model = sharded_ranks.Stops(None)
    plane = ll.random_plane(model, seed=3)
    expected = alone(model, sharded_ranks.data(), plane, **{**sharded_ranks.GRID, "resolution": 2}).loss
    for told, loss in (*first, *second):
        assert told and np.abs(loss - expected).max() < 1e-6
    assert [told for told, _ in first] == [
        "InputError: rank 1 has failed: ValueError: no", "InputError: out of memory with batches of 1: full",
        "InputError: rank 1 has failed: KeyboardInterrupt", "ValueError: no",
    ]  # fmt: skip
    assert [told for told, _ in second] == [
        "ValueError: no", "InputError: out of memory with batches of 1: rank 0 has failed: MemoryError: full",
        "KeyboardInterrupt: ", "ValueError: no",
    ]  # fmt: skip


REFUSALS = {
    "curvature": "a network of its own, which a network in shards cannot serve; gather all weights",
    "sharpness": "a network of its own, which a network in shards cannot serve; gather all weights",
    "alignment": "this needs the whole model in one process, but it is sharded over several processes; gather",
    "checkpoint": "the weights are in shards over several processes; give a network that holds all of them",
    "recorder": "this needs the whole model in one process",
    "buffers": "the buffer 'norm.running_mean' of rank 1 is not that of rank 0",
    "statistics": "batch_norm='recalibrate' changes the statistics of the network, which a network in shards cannot",
    "dtype": "moves parameters in their own dtype, which is bfloat16 and not torch.float32: pass dtype=None",
    "seeds": "rank 1 has another seed than rank 0 (1 instead of 0)",
    "resolutions": "rank 1 has another resolution than rank 0 (4 instead of 3)",
    "data": "rank 1 has another data than rank 0",
}


@pytest.mark.parametrize("name", REFUSALS)
def test_refusals(outcomes, name):
    for outcome in outcomes:
        assert not isinstance(outcome["case_refusals"], str), outcome["case_refusals"]
        message = outcome["case_refusals"][name]
        assert REFUSALS[name] in message and "\n" not in message


def test_what_is_in_no_shards_is_left_alone():
    from landscape.runtime import shards

    model, value = nn.Linear(2, 2), torch.ones(3)
    assert not shards.is_sharded(model) and not shards.is_sharded(None)
    assert shards.whole(value) is value and shards.own_shard(value) is value and shards.summed(value, value) is value
