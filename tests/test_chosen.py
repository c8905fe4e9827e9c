"""Chosen parameters: what is chosen, that only this is moved, kept and measured, and low-rank adapters among them."""

import contextlib
import copy
import hashlib
import math
import pickle
import warnings

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from networks import images, make
from torch import nn

import landscape_lib as ll
from landscape.slices.chosen import chosen_parameters, kind_of
from landscape.trajectories import JoinedPoints

DATA = torch.randn(23, 6, generator=torch.Generator().manual_seed(5)).double(), torch.arange(23) % 3


class LoRA(nn.Module):
    """W x + B A x with W frozen."""

    def __init__(self, layer, rank=4):
        super().__init__()
        self.base = layer.requires_grad_(False)
        self.lora_A = nn.Parameter(torch.randn(rank, layer.in_features).double() / 2)
        self.lora_B = nn.Parameter(torch.randn(layer.out_features, rank).double() / 2)

    def forward(self, x):
        return self.base(x) + x @ self.lora_A.T @ self.lora_B.T


def dense(seed=0):
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 3)).double()


def adapted(seed=0):
    network = dense(seed)
    network[0], network[2] = LoRA(network[0]), LoRA(network[2])
    return network


def objective(model, **options):
    return ll.objective(model, DATA, dtype=torch.float64, device="cpu", **options)


def digest(model, without="lora"):
    values = [value for name, value in model.named_parameters() if without not in name]
    return hashlib.sha256(b"".join(value.detach().numpy().tobytes() for value in values)).hexdigest()


def stored(point):
    """Bytes that the memory of ``point`` takes."""
    return sum(value.untyped_storage().nbytes() for value in point.values())


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("transformer.h.0.attn.c_attn.weight", "attention"),
        ("transformer.h.0.ln_1.weight", "norm"),
        ("transformer.wte.weight", "embedding"),
        ("lm_head.weight", "head"),
        ("model.layers.0.self_attn.q_proj.weight", "attention"),
        ("model.layers.0.post_attention_layernorm.weight", "norm"),
        ("model.layers.0.mlp.gate_proj.weight", "mlp"),
        ("model.embed_tokens.weight", "embedding"),
        ("bert.encoder.layer.0.attention.output.dense.weight", "attention"),
        ("bert.encoder.layer.0.output.dense.weight", "mlp"),
        ("bert.embeddings.LayerNorm.bias", "norm"),
        ("decoder.block.0.layer.1.EncDecAttention.q.weight", "attention"),
        ("encoder.block.0.layer.1.DenseReluDense.wi.weight", "mlp"),
        ("vit.embeddings.cls_token", "embedding"),
        ("blocks.0.attn.qkv.weight", "attention"),
        ("classifier.weight", "head"),
        ("fc.weight", "head"),
        ("ensemble.0.weight", None),
        ("layer1.0.conv1.weight", None),
    ],
)
def test_names_tell_the_kind_of_a_layer(name, kind):
    assert kind_of(name) == kind


def test_patterns_names_and_words_choose():
    model = adapted()
    assert chosen_parameters(model, "trainable") == ["0.lora_A", "0.lora_B", "2.lora_A", "2.lora_B"]
    assert chosen_parameters(model, ("*lora_B", "0.lora_A")) == ["0.lora_A", "0.lora_B", "2.lora_B"]
    tied = make("tied")
    assert chosen_parameters(tied, ("b.weight",)) == ["a.weight"]  # under the name that a point has
    encoder = nn.TransformerEncoderLayer(8, 2, 16)
    assert chosen_parameters(encoder, "attention")[0] == "self_attn.in_proj_weight"
    assert chosen_parameters(encoder, "mlp") == ["linear1.weight", "linear1.bias", "linear2.weight", "linear2.bias"]
    assert chosen_parameters(encoder, "norm")[0] == "norm1.weight"


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        (("*lora_C",), r"'\*lora_C' matches no parameter; near names are 0.lora_A, 0.lora_B"),
        (("0.lora_a",), "'0.lora_a' matches no parameter; near names are 0.lora_A"),
        (("0",), r"'0' matches no parameter; '0\.\*' matches the 4 parameters of that module"),
        (("*base*",), r"matches only frozen parameters.* trainable ones \(0.lora_A, 0.lora_B, 2.lora_A, 2.lora_B\)"),
        ("0.lora_A", r"write \('0.lora_A',\)"),
        ("attention", "no parameter of this network is named like a layer of the kind 'attention'"),
        ((), "parameters is empty"),
        ((1,), "patterns of names, not int"),
        (3, "a sequence of patterns of names, not int"),
    ],
)
@pytest.mark.parametrize(
    "maker",
    ["random_plane", "random_line", "hessian_product", "sharpness", "recorder", "barrier", "fit_curve", "connectivity"],
)
def test_what_chooses_nothing_is_refused_in_one_line(maker, parameters, message, tmp_path):
    model = adapted()
    makers = {
        "random_plane": lambda: ll.random_plane(model, parameters=parameters),
        "random_line": lambda: ll.random_line(model, parameters=parameters),
        "hessian_product": lambda: ll.hessian_product(objective(model), model, parameters=parameters),
        "sharpness": lambda: ll.sharpness(objective(model), model, "sam", parameters=parameters),
        "recorder": lambda: ll.TrajectoryRecorder(tmp_path / "a.points", parameters=parameters).record(model),
        "barrier": lambda: ll.barrier(objective(model), model, adapted(1), parameters=parameters),
        "fit_curve": lambda: ll.fit_curve(objective(model), model, adapted(1), parameters=parameters),
        "connectivity": lambda: ll.connectivity(objective(model), model, adapted(1), methods=(), parameters=parameters),
    }
    with pytest.raises(ll.InputError, match=message) as refused:
        makers[maker]()
    assert "\n" not in str(refused.value)


def test_nothing_trainable_and_points_are_told():
    model = dense().requires_grad_(False)
    with pytest.raises(ll.InputError, match="no parameter of this network is"):
        ll.random_plane(model, parameters="trainable")
    assert ll.random_plane(model, parameters=("2.*",)).not_moved["not chosen"] == ["0.weight", "0.bias"]
    with pytest.raises(ll.InputError, match="a point does not record which parameters are trainable"):
        ll.interpolation_line(ll.parameters_of(model), ll.parameters_of(dense(1)), parameters="trainable")


@pytest.mark.parametrize("normalize", ["filter", "layer", "model", None])
@pytest.mark.parametrize("distribution", ["gaussian", "uniform", "rademacher"])
def test_only_the_chosen_are_drawn_normalised_and_stored(normalize, distribution):
    model = adapted()
    settings = {"seed": 3, "normalize": normalize, "ignore": (), "distribution": distribution}
    plane = ll.random_plane(model, parameters=("*lora*",), **settings)
    whole = ll.random_plane(model, **settings)
    lora = {name: value for name, value in ll.parameters_of(model).items() if "lora" in name}
    for direction, other in zip(plane.directions, whole.directions, strict=True):
        assert list(direction) == list(ll.parameters_of(model))
        for name in direction:
            if name not in lora:
                assert not direction[name].any() and direction[name].shape == plane.origin[name].shape
            elif normalize != "model":  # whose norm is that of what moves
                torch.testing.assert_close(direction[name], other[name], rtol=0, atol=0)
        moved = {name: direction[name] for name in lora}
        if normalize == "model":
            assert ll.norm(moved) == pytest.approx(ll.norm(lora), rel=1e-6)
            ratio = {name: (direction[name] / other[name]).flatten() for name in lora}
            assert torch.cat([*ratio.values()]).std() < 1e-6
        assert stored(direction) == stored(moved) + 4 * 8  # one number for each of four others
    assert plane.recipe["parameters"] == ["*lora*"]
    assert plane.not_moved == {"not chosen": ["0.base.weight", "0.base.bias", "2.base.weight", "2.base.bias"]}
    assert "moves 4 of 8 parameters, not: not chosen 4" in str(plane).replace("moves: ", "moves ")


def test_a_plane_of_adapters_is_that_of_the_dense_network():
    model = adapted()
    before = digest(model)
    plane = ll.random_plane(model, seed=1, parameters="trainable")
    ranges = {"alpha_range": (-1, 1.5), "beta_range": (-0.5, 1)}
    surface = ll.evaluate(objective(model), plane, resolution=(5, 4), progress=False, **ranges)
    for i, alpha in enumerate(surface.alphas):
        for j, beta in enumerate(surface.betas):
            network = dense()
            for layer, name in ((network[0], "0"), (network[2], "2")):
                a, b = (
                    plane.origin[f"{name}.lora_{key}"]
                    + alpha * plane.directions[0][f"{name}.lora_{key}"]
                    + beta * plane.directions[1][f"{name}.lora_{key}"]
                    for key in "AB"
                )
                layer.weight.data += b @ a
            expected = F.cross_entropy(network(DATA[0]), DATA[1]).item()
            assert surface.loss[i, j] == pytest.approx(expected, abs=1e-10)
    assert digest(model) == before
    assert surface.metadata["slice"]["parameters"] == ["trainable"]
    assert "only trainable moved" in ll.plot_contour(surface).axes.get_title()
    assert "not moved: 4 (not chosen)" in ll.cli.summarize(surface)


def test_fresh_adapters_are_warned_about_and_move_when_told_how():
    model = adapted()
    for layer in (model[0], model[2]):
        layer.lora_B.data.zero_()
    with pytest.warns(UserWarning, match=r"2 weight\(s\) are zero, first '0.lora_B'.* pass normalize='model' or None"):
        plane = ll.random_plane(model, parameters=("*lora*",))
    flat = ll.evaluate(objective(model), plane, resolution=3, progress=False)
    assert flat.loss.std() < 1e-12
    for normalize in ("model", None):
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            plane = ll.random_plane(model, parameters=("*lora*",), normalize=normalize)
        assert ll.evaluate(objective(model), plane, resolution=3, progress=False).loss.std() > 1e-3


def test_what_is_zero_moves_only_by_draws_as_they_are():
    model = adapted()
    model[0].lora_B.data.zero_()
    with pytest.raises(ll.InputError, match=r"are zero, first '0\.lora_B', .*normalize='model'; pass normalize=None"):
        ll.random_plane(model, parameters=("0.lora_B",), normalize="model")
    plane = ll.random_plane(model, parameters=("0.lora_B",), normalize=None)
    assert ll.evaluate(objective(model), plane, resolution=3, progress=False).loss.std() > 1e-3


def test_parameters_of_one_number_that_are_not_chosen_have_a_fingerprint():
    model = dense()
    model.scale = nn.Parameter(torch.ones(1).double())
    plane = ll.random_plane(model, parameters=("2.*",))
    assert plane.directions[0]["scale"].tolist() == [0] and len(plane.fingerprint) == 64


def test_a_network_that_was_changed_since_is_noticed():
    model = adapted()
    target, plane = objective(model), ll.random_plane(model, parameters=("*lora*",))
    with torch.no_grad():
        model[0].lora_A.mul_(2)  # copied: of no matter
    before = ll.evaluate(target, plane, resolution=3, progress=False).loss
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    model.requires_grad_(True)
    F.cross_entropy(model(DATA[0]), DATA[1]).backward()
    optimizer.step()
    with pytest.raises(ll.InputError, match=r"the network has been changed since: its parameter '0\.base\.w"):
        ll.evaluate(target, plane, resolution=3, progress=False)
    fresh = ll.evaluate(objective(model), ll.random_plane(model, parameters=("*lora*",)), resolution=3, progress=False)
    assert abs(fresh.loss - before).max() > 1e-3


def test_copies_and_pickles_of_a_slice_share_nothing():
    model = adapted()
    plane = ll.random_plane(model, parameters=("*lora*",))
    before = ll.evaluate(objective(model), plane, resolution=2, progress=False).loss
    others = [copy.deepcopy(plane), pickle.loads(pickle.dumps(plane))]
    target = objective(model)
    with torch.no_grad():
        model[0].base.weight.add_(1)
    for other in others:
        assert (ll.evaluate(target, other, resolution=2, progress=False).loss == before).all()


def test_a_pass_that_rarely_writes_into_what_is_shared_leaves_the_network_alone():
    class Rare(nn.Linear):
        def forward(self, x):
            if bool((x[:, 0] == 0.125).any()):
                self.weight.data.mul_(0.5)
            return super().forward(x)

    torch.manual_seed(0)
    model = nn.Sequential(Rare(6, 8), nn.Tanh(), nn.Linear(8, 3)).double()
    inputs = DATA[0].repeat(40, 1)
    inputs[500, 0] = 0.125  # none of the samples that are tried first
    written = copy.deepcopy(model)
    written(inputs)
    before = digest(model)
    assert digest(written) != before  # a pass over all samples writes
    plane = ll.random_plane(model, parameters=("2.*",))
    with contextlib.suppress(ll.InputError, RuntimeError):
        target = ll.objective(model, (inputs, DATA[1].repeat(40)), dtype=torch.float64, device="cpu", batch_size=8)
        ll.evaluate(target, plane, resolution=3, progress=False)
    assert digest(model) == before


def test_ignored_parameters_are_left_out_of_the_chosen():
    model = dense()
    plane = ll.random_plane(model, parameters=("2.*",))
    assert plane.not_moved == {"not chosen": ["0.weight", "0.bias"], "bias": ["2.bias"]}
    with pytest.raises(ll.InputError, match="no parameter is left to perturb"):
        ll.random_plane(model, parameters=("*.bias",))
    assert ll.random_plane(model, parameters=("*.bias",), ignore=()).directions[0]["0.bias"].any()


def test_lines_through_networks_move_the_chosen():
    a, b = adapted(), adapted(1)
    for layer, other in ((a[0], b[0]), (a[2], b[2])):
        other.base.load_state_dict(layer.base.state_dict())
    line = ll.interpolation_line(a, b, parameters="trainable")
    surface = ll.evaluate(objective(a), line, alpha_range=(0, 1), resolution=3, progress=False)
    for loss, model in ((surface.loss[0], a), (surface.loss[2], b)):
        assert loss == pytest.approx(F.cross_entropy(model(DATA[0]), DATA[1]).item(), abs=1e-12)
    assert [network["coordinates"] for network in surface.metadata["checks"]["networks"]] == [[0.0], [1.0]]
    assert stored(line.directions[0]) < stored(ll.interpolation_line(a, b).directions[0])
    c = adapted(2)
    with pytest.warns(UserWarning, match=r"differ in 4 parameter\(s\) that are not chosen, first '0.base.weight'"):
        plane = ll.three_point_plane(a, b, c, parameters=("*lora*",))
    mixed = adapted()
    mixed.load_state_dict({**a.state_dict(), **{k: v for k, v in c.state_dict().items() if "lora" in k}})
    found = ll.evaluate(objective(a), plane, alpha_range=(0, 1), beta_range=(0, 1), resolution=2, progress=False)
    assert found.loss[0, 1] == pytest.approx(F.cross_entropy(mixed(DATA[0]), DATA[1]).item(), abs=1e-12)
    scaled = ll.interpolation_line(a, b, parameters="trainable", normalize="layer")
    assert scaled.directions[0]["0.lora_A"].norm() == pytest.approx(a[0].lora_A.norm().item())


def tuned(seed):
    """Adapters of another seed on the same base network."""
    model = adapted()
    torch.manual_seed(10 + seed)
    for layer in (model[0], model[2]):
        layer.lora_A.data, layer.lora_B.data = torch.randn_like(layer.lora_A) / 2, torch.randn_like(layer.lora_B)
    return model


def loss_at(model, point):
    return F.cross_entropy(torch.func.functional_call(model, point, DATA[0]), DATA[1])


def test_a_barrier_of_chosen_parameters_is_that_of_plain_passes_between_them():
    a = tuned(0)
    optimizer = torch.optim.Adam([p for p in a.parameters() if p.requires_grad], lr=0.05)
    for _ in range(50):
        optimizer.zero_grad()
        F.cross_entropy(a(DATA[0]), DATA[1]).backward()
        optimizer.step()
    b = copy.deepcopy(a)
    with torch.no_grad():
        for layer in (b[0], b[2]):  # the same function
            layer.lora_A.neg_(), layer.lora_B.neg_()
        b[0].base.weight += 1  # which stays that of a
    with pytest.warns(UserWarning, match=r"differ in 1 parameter\(s\) that are not chosen, first '0.base.weight'"):
        found = ll.barrier(objective(a), a, b, parameters="trainable", resolution=7, progress=False)
    ends = [ll.parameters_of(model) for model in (a, b)]
    losses = []
    for t in torch.linspace(0, 1, 7, dtype=torch.float64):
        mixed = {n: torch.lerp(ends[0][n], ends[1][n], t) if "lora" in n else ends[0][n] for n in ends[0]}
        losses.append(loss_at(a, mixed).item())
    torch.testing.assert_close(
        torch.from_numpy(found.surface.loss), torch.tensor(losses, dtype=torch.float64), atol=1e-12, rtol=0
    )
    assert found.value == pytest.approx(
        max(0, *(v - losses[0] - k / 6 * (losses[-1] - losses[0]) for k, v in enumerate(losses)))
    )
    assert found.surface.metadata["slice"]["parameters"] == ["trainable"] and found.value > 0.01


def test_a_curve_of_chosen_parameters_is_that_of_a_plain_loop():
    a, b = tuned(0), tuned(1)
    curve = ll.fit_curve(
        objective(a), a, b, parameters=("*lora*",), bends=1, epochs=4, lr=0.05, seed=3, progress=False
    )  # fmt: skip
    ends = [{n: v for n, v in ll.parameters_of(model).items() if "lora" in n} for model in (a, b)]
    base = {n: v for n, v in ll.parameters_of(a).items() if "lora" not in n}
    bend = {name: ((ends[0][name] + ends[1][name]) / 2).requires_grad_() for name in ends[0]}
    optimizer, generator = torch.optim.Adam(bend.values(), lr=0.05), torch.Generator().manual_seed(3)
    for epoch in range(4):
        torch.randperm(len(DATA[0]), generator=generator)  # the order of the samples, which are one batch here
        t = torch.rand(1, generator=generator, dtype=torch.float64)
        optimizer.param_groups[0]["lr"] = 0.05 * (1 + math.cos(math.pi * epoch / 4)) / 2
        at = {n: (1 - t) ** 2 * ends[0][n] + 2 * t * (1 - t) * bend[n] + t**2 * ends[1][n] for n in bend}
        optimizer.zero_grad()
        loss_at(a, base | at).backward()
        optimizer.step()
    for name, value in curve.points[1].items():
        torch.testing.assert_close(value, bend[name].detach() if name in bend else base[name], atol=1e-9, rtol=0)
    assert (curve.points[1]["0.lora_A"] - (ends[0]["0.lora_A"] + ends[1]["0.lora_A"]) / 2).abs().max() > 0.01
    assert curve.recipe["not_moved"] == {"not chosen": [*base]} and all(
        torch.equal(curve(0.3)[n], base[n]) for n in base
    )
    surface = ll.evaluate(objective(a), curve, alpha_range=(0, 1), resolution=3, progress=False)
    expected = [loss_at(a, ll.parameters_of(model)).item() for model in (a, b)]
    assert surface.loss[[0, -1]] == pytest.approx(expected, abs=1e-12)


def test_all_ways_between_two_networks_move_the_chosen():
    torch.manual_seed(0)
    a = nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 7), nn.Tanh(), nn.Linear(7, 3)).double()
    b, order = copy.deepcopy(a), torch.randperm(7)
    b[2].weight.data, b[2].bias.data = a[2].weight.data[order], a[2].bias.data[order]
    b[4].weight.data = a[4].weight.data[:, order]
    found = ll.connectivity(
        objective(a), a, b, methods=("weights",), curve="bezier", parameters=("2.*", "4.*"), resolution=5, epochs=1,
        progress=False,
    )  # fmt: skip
    assert found.barriers["aligned by weights"].value == pytest.approx(0, abs=1e-12)
    assert found.barriers["unaligned"].value > 1e-4
    for way in found.barriers.values():
        assert way.surface.metadata["slice"]["parameters"] == ["2.*", "4.*"]
    with pytest.raises(ll.InputError, match="choose the next layer, which reads them, as well"):
        ll.connectivity(objective(a), a, b, parameters=("2.*",), progress=False)


def test_products_are_blocks_of_the_dense_hessian():
    model = adapted()
    product = ll.hessian_product(objective(model), model, parameters="trainable")
    parameters = {name: value.detach() for name, value in model.named_parameters()}

    def loss(vector):
        pieces = vector.split([value.numel() for name, value in parameters.items() if "lora" in name])
        moved = iter(pieces)
        point = {n: next(moved).reshape(v.shape) if "lora" in n else v for n, v in parameters.items()}
        return F.cross_entropy(torch.func.functional_call(model, point, DATA[0]), DATA[1])

    vector = torch.cat([value.flatten() for name, value in parameters.items() if "lora" in name])
    matrix = torch.autograd.functional.hessian(loss, vector)
    assert product.dimension == len(vector) == 4 * (6 + 8 + 8 + 3)
    torch.testing.assert_close(torch.from_numpy(product.matvec(vector.numpy())), matrix @ vector)
    estimate = ll.trace(product, seed=1)
    assert abs(estimate.value - matrix.trace().item()) < 4 * estimate.standard_error < 0.3 * abs(estimate.value)
    pairs = ll.top_eigenpairs(product, k=2, progress=False)
    assert max(abs(pairs.values)) == pytest.approx(torch.linalg.eigvalsh(matrix).abs().max().item())
    plane = ll.eigenvector_plane(product, pairs)
    assert stored(plane.directions[0]) == 8 * len(vector) + 4 * 8
    assert not plane.directions[0]["0.base.weight"].any()


def test_a_product_is_not_changed_with_the_network():
    model = dense()
    product = ll.hessian_product(objective(model), model, parameters=("2.*",))
    vector = torch.ones(product.dimension).numpy()
    before = product.matvec(vector)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(1)
    product.release()
    assert (product.matvec(vector) == before).all()


def test_sharpness_perturbs_the_chosen_alone():
    model = adapted()
    found = ll.sharpness(objective(model), model, "sam", radius=0.3, parameters="trainable")
    lora = [value for name, value in model.named_parameters() if "lora" in name]
    loss = F.cross_entropy(model(DATA[0]), DATA[1])
    gradient = torch.autograd.grad(loss, lora)
    length = math.sqrt(sum(float(piece.square().sum()) for piece in gradient))
    with torch.no_grad():
        for value, piece in zip(lora, gradient, strict=True):
            value += 0.3 * piece / length
    risen = F.cross_entropy(model(DATA[0]), DATA[1]).item()
    assert found.value == pytest.approx(risen - loss.item(), abs=1e-10)
    assert found.metadata["parameters"] == ["trainable"]
    layers = ll.layer_sharpness(objective(model), model, samples=2, parameters=("2.lora*",))
    assert [one.layer for one in layers] == ["2"]


def test_only_units_of_the_chosen_parameters_change_places():
    torch.manual_seed(0)
    a = nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 7), nn.Tanh(), nn.Linear(7, 3)).double()
    first, second = torch.randperm(8), torch.randperm(7)
    b = copy.deepcopy(a)
    b[2].weight.data, b[2].bias.data = a[2].weight.data[second], a[2].bias.data[second]
    b[4].weight.data = a[4].weight.data[:, second]
    found = ll.align(a, b, parameters=("2.*", "4.*"))
    assert len(found.permutations) == 1
    assert all(torch.equal(one, other) for one, other in zip(found.model.parameters(), a.parameters(), strict=True))
    b[0].weight.data, b[0].bias.data = a[0].weight.data[first], a[0].bias.data[first]
    b[2].weight.data = b[2].weight.data[:, first]
    found = ll.align(a, b, parameters=("2.*", "4.*"))
    assert torch.equal(found.model[0].weight, b[0].weight) and not torch.equal(b[0].weight, a[0].weight)
    torch.testing.assert_close(found.model(DATA[0]), b(DATA[0]))
    assert torch.equal(ll.align(a, b).model[0].weight, a[0].weight)
    with pytest.raises(ll.InputError, match="choose the next layer, which reads them, as well"):
        ll.align(a, b, parameters=("2.*",))
    with pytest.raises(ll.InputError, match=r"'9\.\*' matches no parameter"):
        ll.align(a, b, parameters=("9.*",))


def trained(model, recorder, steps=6):
    """Points of training of the adapters, as dictionaries; ``recorder`` records them, too."""
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.3)
    kept = []
    for _ in range(steps):
        optimizer.zero_grad()
        loss = F.cross_entropy(model(DATA[0]), DATA[1])
        loss.backward()
        optimizer.step()
        recorder.record(model)
        kept.append(ll.parameters_of(model))
    return kept


def test_a_recorder_keeps_the_chosen_alone_and_their_plane_is_evaluated(tmp_path):
    model, path = adapted(), tmp_path / "run.points"
    target = objective(model)
    kept = trained(model, ll.TrajectoryRecorder(path, parameters="trainable", dtype=torch.float64))
    points = ll.RecordedPoints(path)
    assert list(points[0]) == ["0.lora_A", "0.lora_B", "2.lora_A", "2.lora_B"] and len(points) == 6
    assert path.stat().st_size < 6 * 8 * 110 + 2000
    plane, expected = ll.pca_plane(points), ll.pca_plane(kept)
    for direction, other in zip(plane.directions, expected.directions, strict=True):
        for name, value in direction.items():
            torch.testing.assert_close(value, other[name])
    assert plane.recipe["parameters"] == ["trainable"]
    path_found = ll.project(points, plane, target, progress=False)
    path_expected = ll.project(kept, expected, target, progress=False)
    for name in ("coordinates", "distance", "loss", "shadow_loss"):
        torch.testing.assert_close(
            torch.from_numpy(getattr(path_found, name)),
            torch.from_numpy(getattr(path_expected, name)),
            atol=1e-9,
            rtol=1e-9,
        )
    surface = ll.evaluate(target, plane, resolution=3, progress=False)
    reference = ll.evaluate(target, expected, resolution=3, progress=False)
    assert abs(surface.loss - reference.loss).max() < 1e-12
    plane = ll.random_plane(model, parameters="trainable")
    random, whole = (ll.project(each, plane, progress=False) for each in (points, kept))
    np.testing.assert_allclose(random.coordinates, whole.coordinates, atol=1e-9)
    np.testing.assert_allclose(random.distance, whole.distance, atol=1e-9)
    assert random.distance.max() > 1e-3


def test_a_run_of_chosen_parameters_is_resumed_and_others_are_refused(tmp_path):
    model, path = adapted(), tmp_path / "run.points"
    trained(model, ll.TrajectoryRecorder(path, parameters=("*lora*",)), 3)
    more = ll.TrajectoryRecorder(path, parameters=("*lora*",), resume=True)
    more.record(model)
    assert ll.RecordedPoints(path).steps.tolist() == [0, 1, 2, 3]
    for parameters in (None, ("*lora_A",)):
        with pytest.raises(ll.InputError, match="points of another network or run"):
            ll.TrajectoryRecorder(path, parameters=parameters, resume=True).record(model)
    points = ll.RecordedPoints(path)
    ll.TrajectoryRecorder(tmp_path / "other.points", parameters=("*lora*",)).record(adapted(3))
    with pytest.raises(ll.InputError, match="began with other values of those that were not chosen"):
        JoinedPoints([points, ll.RecordedPoints(tmp_path / "other.points")])
    with pytest.warns(UserWarning, match="4 parameters were not recorded, first '0.base.weight'"):
        ll.evaluate(objective(adapted(3)), ll.pca_plane(points), resolution=2, progress=False)


def test_pca_planes_take_chosen_parameters_of_models():
    models = [make("mlp", seed) for seed in range(4)]
    plane = ll.pca_plane(models, parameters=("5.*",))
    rows = torch.stack([torch.cat([model[5].weight.flatten(), model[5].bias]).detach() for model in models]).double()
    vectors = torch.linalg.svd(rows - rows.mean(0), full_matrices=False)[2]
    for direction, vector in zip(plane.directions, vectors, strict=False):
        found = torch.cat([direction["5.weight"].flatten(), direction["5.bias"]]).double()
        assert abs(found @ vector) == pytest.approx(1, abs=1e-5)
        assert not direction["1.weight"].any()
    surface = ll.evaluate(ll.objective(models[3], images(), device="cpu"), plane, resolution=3, progress=False)
    assert surface.loss.std() > 0
