"""Alignment: exact on permuted copies, the function kept, optimal where all permutations can be tried."""

import copy
import itertools

import networks
import numpy as np
import pytest
import torch
from networks import images, with_statistics
from torch import nn
from torch.nn import functional as F

import landscape_lib as ll
from landscape.connectivity import matching


class Mixed(nn.Module):
    """What the zoo does not have: depthwise, a functional parameter, channels put side by side, LayerNorm, PReLU."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(2, 6, 3, padding=1, padding_mode="circular")
        self.depthwise = nn.Conv2d(6, 6, 3, padding=1, groups=6)
        self.act = nn.PReLU(6)
        self.side = nn.Conv2d(6, 4, 1, stride=2)
        self.back = nn.ConvTranspose2d(4, 6, 2, stride=2)
        self.scale = nn.Parameter(torch.rand(6, 1, 1))
        self.hidden = nn.Linear(12 * 4, 5)
        self.norm = nn.LayerNorm(5)
        self.head = nn.Linear(5, 3)

    def forward(self, x):
        h = self.act(self.depthwise(self.stem(x)))
        wide = torch.cat([h, torch.sigmoid(self.back(self.side(h))) * self.scale], dim=1)
        wide = wide - wide.mean(1, keepdim=True)
        flat = F.avg_pool2d(wide, 2).permute(0, 2, 3, 1).reshape(len(x), -1)
        return self.head(F.gelu(self.norm(self.hidden(flat))))


class Recurrent(nn.Module):
    """One square layer applied again and again: its weight holds the same units along both axes."""

    def __init__(self):
        super().__init__()
        self.first, self.again, self.last = nn.Linear(32, 6), nn.Linear(6, 6), nn.Linear(6, 3)

    def forward(self, x):
        h = torch.tanh(self.first(x.flatten(1)))
        for _ in range(3):
            h = h + torch.tanh(self.again(h))
        return self.last(h)


def deep(width=7, activation=nn.Tanh):
    sizes = (32, width, width + 2, width, 3)
    layers = [part for a, b in itertools.pairwise(sizes) for part in (nn.Linear(a, b), activation())]
    return nn.Sequential(nn.Flatten(), *layers[:-1])


def zoo(name, **options):
    model = ll.build_model(name, input_shape=(2, 4, 4), classes=3, **options)
    for module in model.modules():  # so that normalisation tells the channels apart
        if isinstance(module, nn.BatchNorm2d | nn.BatchNorm1d | nn.GroupNorm):
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias)
    return with_statistics(model)


NETWORKS = {
    "mlp": (deep, 3),
    "cnn": (networks.NETWORKS["cnn"], 2),
    "batch norm": (networks.NETWORKS["batch_norm_cnn"], 2),
    "vgg9": (lambda: zoo("vgg9"), 8),
    "resnet8": (lambda: zoo("resnet8"), 6),  # three of the stream (16, 16 and 32 channels), three inside the blocks
    "resnet14 without shortcuts": (lambda: zoo("resnet14", shortcuts=False), 13),
    "group norm": (lambda: zoo("resnet8", normalization="group"), 12),  # groups of four channels, and these inside them
    "mixed": (Mixed, 4),
    "recurrent": (Recurrent, 1),
    "tied": (networks.NETWORKS["tied"], 0),  # what reads the inputs writes the hidden units: nothing may move
    "twice": (networks.NETWORKS["twice"], 0),
}


def built(name, seed):
    torch.manual_seed(seed)
    return NETWORKS[name][0]().eval()


def outputs(model, inputs):
    with torch.no_grad():
        return copy.deepcopy(model).double()(inputs.double())


@pytest.mark.parametrize("method", ["weights", "activations"])
@pytest.mark.parametrize("name", NETWORKS)
def test_the_permuted_network_computes_the_same_function(name, method):
    a, b, inputs = built(name, 0), built(name, 2), images(21)[0]
    before = [value.clone() for model in (a, b) for value in model.state_dict().values()]
    aligned = ll.align(a, b.train(), method=method, data=images(50, seed=3))
    torch.testing.assert_close(outputs(aligned.model, inputs), outputs(b.eval(), inputs), rtol=1e-9, atol=1e-9)
    assert aligned.deviation < 1e-9 and aligned.converged and not aligned.model.training
    assert len(aligned.permutations) == NETWORKS[name][1]
    for order in aligned.permutations.values():
        units = np.broadcast_to(np.arange(order.shape[-1]), order.shape)
        np.testing.assert_array_equal(np.sort(order), units)
    if aligned.permutations:
        assert any((order != np.arange(order.shape[-1])).any() for order in aligned.permutations.values())
    for value, old in zip((v for m in (a, b) for v in m.state_dict().values()), before, strict=True):
        assert torch.equal(value, old)


def permuted_mlp(model, generator):
    """A copy whose hidden units are permuted by hand, and the inverse orders."""
    twin, inverse = copy.deepcopy(model), []
    layers = [layer for layer in twin if isinstance(layer, nn.Linear)]
    for layer, following in itertools.pairwise(layers):
        order = torch.randperm(layer.out_features, generator=generator)
        layer.weight.data, layer.bias.data = layer.weight.data[order], layer.bias.data[order]
        following.weight.data = following.weight.data[:, order]
        inverse.append(order.argsort().numpy())
    return twin, inverse


def permuted_resnet8(model, generator):
    """A copy whose channels are permuted by hand: padding keeps those of a stage in the middle of the next one."""
    twin = copy.deepcopy(model)

    def shuffled(count):
        return torch.randperm(count, generator=generator)

    def widened(order):
        count = len(order)
        edge = torch.cat([torch.arange(count // 2), torch.arange(3 * count // 2, 2 * count)])
        wide = torch.empty(2 * count, dtype=torch.int64)
        wide[count // 2 : 3 * count // 2] = order + count // 2
        wide[edge] = edge[shuffled(count)]
        return wide

    def move(convolution, norm, order):
        convolution.weight.data = convolution.weight.data[order]
        for vector in (norm.weight.data, norm.bias.data, norm.running_mean, norm.running_var):
            vector.copy_(vector[order].clone())

    stream = shuffled(16)
    move(twin.stem, twin.norm, stream)
    for k, block in enumerate(twin.blocks):
        block.conv1.weight.data = block.conv1.weight.data[:, stream]
        inner = shuffled(len(block.conv1.weight))
        move(block.conv1, block.norm1, inner)
        block.conv2.weight.data = block.conv2.weight.data[:, inner]
        stream = stream if k == 0 else widened(stream)
        move(block.conv2, block.norm2, stream)
    twin.fc.weight.data = twin.fc.weight.data[:, stream]
    return twin


@pytest.mark.parametrize("method", ["weights", "activations"])
def test_a_permuted_copy_of_an_mlp_is_recovered_exactly(method):
    model = built("mlp", 0)
    twin, inverse = permuted_mlp(model, torch.Generator().manual_seed(1))
    data = images(40)
    aligned = ll.align(model, twin, method=method, data=data)
    for order, expected in zip(aligned.permutations.values(), inverse, strict=True):
        np.testing.assert_array_equal(order, expected)
    for value, expected in zip(aligned.model.parameters(), model.parameters(), strict=True):
        assert torch.equal(value, expected)
    objective = ll.objective(model, data, device="cpu")
    assert ll.barrier(objective, model, aligned.model, resolution=5, progress=False).value == 0
    assert ll.barrier(objective, model, twin, resolution=5, progress=False).value > 0.01


@pytest.mark.parametrize("method", ["weights", "activations"])
def test_a_permuted_copy_of_a_resnet_is_recovered_exactly_with_its_statistics(method):
    torch.manual_seed(0)
    model = zoo("resnet8", activation="gelu").eval()  # a ReLU that is never active could not be told from another one
    twin = permuted_resnet8(model, torch.Generator().manual_seed(1))
    torch.testing.assert_close(outputs(twin, images()[0]), outputs(model, images()[0]))  # the test's own permutation
    assert not torch.equal(twin.stem.weight, model.stem.weight)
    found = ll.align(model, twin, method=method, data=images(40)).model.state_dict()
    for name, expected in model.state_dict().items():
        assert torch.equal(found[name], expected), name


def test_one_hidden_layer_is_matched_as_well_as_all_permutations_allow():
    torch.manual_seed(0)
    a, b = (nn.Sequential(nn.Linear(4, 5), nn.Sigmoid(), nn.Linear(5, 3)).double() for _ in range(2))
    inputs = torch.randn(30, 4, dtype=torch.float64)

    @torch.no_grad()
    def agreement(order):
        order = list(order)
        rows = (a[0].weight * b[0].weight[order]).sum() + (a[0].bias * b[0].bias[order]).sum()
        return float(rows + (a[2].weight * b[2].weight[:, order]).sum())

    with torch.no_grad():
        hidden = [torch.sigmoid(model[0](inputs)).numpy() for model in (a, b)]
    correlation = np.corrcoef(*hidden, rowvar=False)[:5, 5:]
    orders = list(itertools.permutations(range(5)))
    by_weights = max(orders, key=agreement)
    by_activations = max(orders, key=lambda order: sum(correlation[i, j] for i, j in enumerate(order)))
    assert by_weights != by_activations
    assert tuple(ll.align(a, b).permutations["0"]) == by_weights
    data = (inputs, torch.zeros(30, dtype=torch.int64))
    assert tuple(ll.align(a, b, method="activations", data=data).permutations["0"]) == by_activations


def improved_in_full(target, point, groups, orders, seed):
    """The search of `matching._improved`, with every group solved in every round."""
    present, orders, generator = matching._ordered(point, groups, orders), list(orders), np.random.default_rng(seed)
    for rounds in itertools.count(1):
        changed = False
        for k in generator.permutation(len(groups)):
            step = matching.best_orders(groups[k].axes, matching._weight_scores(target, present, groups[k]))
            better = matching._permuted(present, groups[k], step)
            before, after = (
                sum(float((target[n] * tensors[n]).sum()) for n in better) for tensors in (present, better)
            )
            if after - before > matching.GAIN * abs(before):
                present |= better
                orders[k] = matching.composed(groups[k].axes, orders[k], step)
                changed = True
        if not changed:
            return rounds, orders


@pytest.mark.parametrize("name", ["mlp", "resnet8", "resnet14 without shortcuts", "recurrent"])
def test_groups_whose_weights_stayed_are_not_solved_again_and_nothing_else_changes(name, monkeypatch):
    solved, saved, improved, best = [], [], matching._improved, matching.best_orders
    monkeypatch.setattr(matching, "best_orders", lambda *args: solved.append(1) or best(*args))

    def compared(target, point, groups, orders, seed):
        counts = []
        for search in (improved, improved_in_full):
            solved.clear()
            counts.append((search(target, point, groups, orders, seed), len(solved)))
        ((match, present), few), ((rounds, expected), all_of_them) = counts
        assert match.rounds == rounds and match.converged
        for order, other in zip(match.orders, expected, strict=True):
            assert all(np.array_equal(*pair) for pair in zip(order, other, strict=True))
        assert all_of_them == rounds * len(groups)
        saved.append(all_of_them - few)
        return match, present

    monkeypatch.setattr(matching, "_improved", compared)
    ll.align(built(name, 0), built(name, 2), data=images(50, seed=3))
    assert min(saved) >= 0 and (sum(saved) > 0) == (name != "recurrent")  # whose weight holds its units along two axes


def test_the_seed_decides_and_the_random_state_stays():
    a, b = built("resnet8", 0), built("resnet8", 1)
    state = torch.get_rng_state()

    def order(seed):
        return np.concatenate([units.ravel() for units in ll.align(a, b, seed=seed).permutations.values()])

    first, others = order(4), [order(seed) for seed in range(3)]
    np.testing.assert_array_equal(order(4), first)
    assert not all(np.array_equal(other, first) for other in others)  # local optima differ
    assert torch.equal(torch.get_rng_state(), state)


class Grouped(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Conv2d(2, 4, 1), nn.Conv2d(4, 4, 1, groups=2)

    def forward(self, x):
        return self.second(self.first(x)).mean((2, 3))


class Sorted(nn.Sequential):
    def forward(self, x):
        return self[2](torch.sort(self[0](x))[0])


class Outer(nn.Sequential):
    def forward(self, x):
        h = self[0](x)
        return self[2]((h[:, :, None] * h[:, None]).sum(2))


class Computed(nn.Sequential):
    def forward(self, x):
        return self[2](F.linear(x, self[0].weight / self[0].weight.norm(), self[0].bias))


class Pair(nn.Sequential):
    def forward(self, x):
        return super().forward(x), x


def small(kind=nn.Sequential):
    return kind(nn.Linear(4, 5), nn.ReLU(), nn.Linear(5, 3))


DATA = (torch.randn(6, 4), torch.zeros(6, dtype=torch.int64))
BAD = {
    "method": (
        lambda: ll.align(small(), small(), method="best"),
        "unknown method 'best'; use one of weights",
    ),
    "no data": (lambda: ll.align(small(), small(), method="activations"), "pass data=, or use method='weights'"),
    "other sizes": (lambda: ll.align(small(), nn.Linear(4, 3)), "networks of different architectures.*(lacks|foreign)"),
    "other widths": (lambda: ll.align(deep(5), deep(6)), r"different architectures.*shape \(6, 32\) instead of"),
    "other wiring": (
        lambda: ll.align(zoo("resnet8"), zoo("resnet8", shortcuts=False)),
        "different architectures: their units are coupled in different ways",
    ),
    "a point": (lambda: ll.align(small(), ll.parameters_of(small())), "align takes two torch.nn.Module, not dict"),
    "grouped": (lambda: ll.align(Grouped(), Grouped()), "'second.weight' is a conv2d layer with groups=2"),
    "operation": (lambda: ll.align(small(Sorted), small(Sorted)), "the operation 'sort' is not one"),
    "outer product": (lambda: ll.align(small(Outer), small(Outer)), "broadcasting units against units"),
    "computed weight": (
        lambda: ll.align(small(Computed), small(Computed)),
        "'0.weight' .5, 4. is used outside of a linear",
    ),
    "two outputs": (lambda: ll.align(small(Pair), small(Pair)), "returns tuple; units can be aligned"),
    "no shape": (lambda: ll.align(networks.make("attention"), networks.make("attention")), "pass data= as well"),
}


@pytest.mark.parametrize("case", BAD)
def test_what_cannot_be_aligned_is_told_in_one_line(case):
    call, message = BAD[case]
    with pytest.raises(ll.InputError, match=message) as raised:
        call()
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("scale", [1e-15, 1.0, 1e15])
def test_activations_are_matched_whatever_the_scale_of_the_units(scale):
    """Rescaling a hidden ReLU unit and what reads it changes neither the network nor which unit is which."""
    torch.manual_seed(0)
    widths = ((32, 9), (9, 7), (7, 3))
    layers = [part for sizes in widths for part in (nn.Linear(*sizes), nn.ReLU())]
    model = nn.Sequential(nn.Flatten(), *layers[:-1]).double()
    twin, inverse = permuted_mlp(model, torch.Generator().manual_seed(1))
    linears = [layer for layer in twin if isinstance(layer, nn.Linear)]
    with torch.no_grad():
        for first, second in itertools.pairwise(linears):
            factors = scale * torch.linspace(0.5, 2, len(first.weight), dtype=torch.float64)
            first.weight *= factors[:, None]
            first.bias *= factors
            second.weight /= factors
    aligned = ll.align(model, twin, method="activations", data=images(40))
    for order, expected in zip(aligned.permutations.values(), inverse, strict=True):
        np.testing.assert_array_equal(order, expected)


def test_units_that_never_change_take_what_is_left():
    model = built("mlp", 0).double()
    twin, inverse = permuted_mlp(model, torch.Generator().manual_seed(1))
    first = [next(layer for layer in net.modules() if isinstance(layer, nn.Linear)) for net in (model, twin)]
    order = next(iter(inverse))
    with torch.no_grad():
        first[0].weight[2] = 0
        first[0].bias[2] = 1e6
        first[1].weight[order[2]] = 0
        first[1].bias[order[2]] = 1e6
    found = ll.align(model, twin, method="activations", data=images(40)).permutations
    np.testing.assert_array_equal(next(iter(found.values())), order)


class Named(nn.Module):
    """Layers called with keywords."""

    def __init__(self):
        super().__init__()
        self.first, self.norm, self.last = nn.Conv2d(2, 4, 3), nn.BatchNorm2d(4), nn.Linear(4, 3)
        self.pool = nn.AdaptiveAvgPool2d(1)

    def forward(self, x):
        return self.last(input=self.pool(input=torch.relu(input=self.norm(input=self.first(input=x)))).flatten(1))


@pytest.mark.parametrize("method", ["weights", "activations"])
def test_layers_called_with_keywords_are_followed(method):
    torch.manual_seed(0)
    a, b = Named().eval(), Named().eval()
    aligned = ll.align(a, b, method=method, data=images())
    assert aligned.deviation < 1e-9 and len(next(iter(aligned.permutations.values()))) == 4


def diverged(value):
    model = small()
    with torch.no_grad():
        model[0].weight[0, 0] = value
    return model


HUGE = DATA[0].double() * 1e300
FAULTS = {
    "NaN": (lambda: ll.align(small(), diverged(torch.nan)), "second model holds NaN or infinite.*'0.weight'"),
    "infinite": (lambda: ll.align(diverged(torch.inf), small()), "first model holds NaN or infinite"),
    "overflow": (lambda: ll.align(small(), diverged(1e38), data=(HUGE, DATA[1])), "are NaN or infinite"),
    "data of another shape": (lambda: ll.align(small(), small(), data=(DATA[0][:, :3], DATA[1])), "does not take"),
    "NaN in the data": (
        lambda: ll.align(small(), small(), method="activations", data=(torch.full((6, 4), torch.nan), DATA[1])),
        "NaN or infinite",
    ),
    "swapped": (lambda: ll.align(DATA, small()), "align takes two torch.nn.Module, not tuple"),
    "complex": (
        lambda: ll.align(nn.Linear(2, 3, dtype=torch.cfloat), nn.Linear(2, 3, dtype=torch.cfloat)), "is complex"
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", FAULTS)
def test_faults_of_networks_and_data_are_told_in_one_line(case):
    call, message = FAULTS[case]
    with pytest.raises(ll.InputError, match=message) as raised:
        call()
    assert "\n" not in str(raised.value)


def test_networks_of_different_precision_are_aligned():
    model = built("mlp", 0)
    twin, inverse = permuted_mlp(model, torch.Generator().manual_seed(1))
    for method in ("weights", "activations"):
        found = ll.align(model, twin.to(torch.bfloat16), method=method, data=images(40))
        assert next(found.model.parameters()).dtype == torch.bfloat16
        for order, expected in zip(found.permutations.values(), inverse, strict=True):
            np.testing.assert_array_equal(order, expected)
