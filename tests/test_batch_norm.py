"""Statistics estimated anew where layers run more than once, with keywords, in turns or not at all."""

import pytest
import torch
from torch import nn

import landscape_lib as ll
from landscape.objective.batch_norm import recalibrate


def data(count=13):
    generator = torch.Generator().manual_seed(0)
    inputs = torch.randn(count, 6, generator=generator, dtype=torch.float64)
    inputs[:, 3:] = inputs[:, 3:] * 5 + 10
    return inputs, torch.randint(0, 3, (count,), generator=generator)


class Siamese(nn.Module):
    """One branch for both halves of the input."""

    def __init__(self, layer=nn.BatchNorm1d, **options):
        super().__init__()
        self.first, self.norm, self.last = nn.Linear(3, 4), layer(4, **options), nn.Linear(8, 3)

    def forward(self, x):
        return self.last(torch.cat([self.norm(self.first(half)) for half in x.split(3, 1)], 1))


class Recurrent(nn.Module):
    """Every step normalises what the step before has made with the same statistics."""

    def __init__(self, steps=4):
        super().__init__()
        self.inner, self.norm, self.last, self.steps = nn.Linear(6, 6), nn.BatchNorm1d(6), nn.Linear(6, 3), steps

    def forward(self, x):
        h = x
        for _ in range(self.steps):
            h = torch.tanh(self.norm(self.inner(h)))
        return self.last(h)


class Turns(nn.Module):
    """Two layers in turns."""

    def __init__(self):
        super().__init__()
        self.a, self.b, self.inner, self.last = nn.BatchNorm1d(6), nn.BatchNorm1d(6), nn.Linear(6, 6), nn.Linear(6, 3)

    def forward(self, x):
        for _ in range(2):
            x = self.inner(torch.relu(self.b(self.inner(torch.relu(self.a(x))))))
        return self.last(x)


class Keywords(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.norm, self.last = nn.Linear(6, 4), nn.BatchNorm1d(4), nn.Linear(4, 3)

    def forward(self, x):
        return self.last(input=torch.tanh(self.norm(input=self.first(input=x))))


class Skips(nn.Module):
    """Batches of large inputs pass through another layer before the common one."""

    def __init__(self):
        super().__init__()
        self.common, self.sometimes, self.last = nn.BatchNorm1d(6), nn.BatchNorm1d(6), nn.Linear(6, 3)

    def forward(self, x):
        x = self.sometimes(x) if x.mean() > 5 else x
        return self.last(self.common(x))


def inputs_of(model, name, inputs, batches=(slice(None),)):
    """All inputs of layer ``name`` in eval mode, joined."""
    found = []
    handle = model.get_submodule(name).register_forward_hook(
        lambda _, args, kwargs, __: found.append(next(iter((*args, *kwargs.values())))), with_kwargs=True
    )
    with torch.no_grad():
        for batch in batches:
            model(inputs[batch])
    handle.remove()
    return torch.cat(found)


def recalibrated(model, **options):
    objective = ll.objective(
        model.double().eval(), data(), batch_norm="recalibrate", device="cpu", dtype=torch.float64, **options
    )
    objective(ll.parameters_of(model))
    return objective.model


BUILD = {
    "siamese": (Siamese, ["norm"]),
    "synchronised": (lambda: Siamese(nn.SyncBatchNorm), ["norm"]),
    "no momentum": (lambda: Siamese(momentum=None), ["norm"]),
    "not affine": (lambda: Siamese(affine=False), ["norm"]),
    "recurrent": (Recurrent, ["norm"]),
    "turns": (Turns, ["a", "b"]),
    "keywords": (Keywords, ["norm"]),
}


@pytest.mark.parametrize("batch_size", [13, 5])
@pytest.mark.parametrize("case", BUILD)
def test_statistics_are_those_of_all_inputs_that_they_lead_to(case, batch_size):
    torch.manual_seed(0)
    build, names = BUILD[case]
    model = recalibrated(build(), batch_size=batch_size)
    for name in names:
        seen, layer = inputs_of(model, name, data()[0]), model.get_submodule(name)
        torch.testing.assert_close(layer.running_mean, seen.mean(0), rtol=1e-8, atol=1e-8)
        torch.testing.assert_close(layer.running_var, seen.var(0, correction=0), rtol=1e-8, atol=1e-8)


def test_siamese_means_are_those_of_torch_update_bn():
    torch.manual_seed(0)
    model = Siamese().double()
    found = recalibrated(model).norm.running_mean
    torch.optim.swa_utils.update_bn([data()], model)
    torch.testing.assert_close(found, model.norm.running_mean)


def test_a_layer_that_only_some_batches_reach_comes_first_all_the_same():
    torch.manual_seed(0)
    inputs, _ = data(12)
    inputs[4:8] += 10  # the second of three batches
    model = Skips().double().eval()
    batches = [slice(start, start + 4) for start in (0, 4, 8)]
    recalibrate(model, model, lambda: (inputs[batch] for batch in batches))
    for name in ("sometimes", "common"):
        seen, layer = inputs_of(model, name, inputs, batches), model.get_submodule(name)
        torch.testing.assert_close(layer.running_mean, seen.mean(0))
        torch.testing.assert_close(layer.running_var, seen.var(0, correction=0))


def test_the_surface_between_siamese_networks_is_that_of_pooled_statistics():
    torch.manual_seed(0)
    a, b = Siamese().double().eval(), Siamese().double().eval()
    surface = ll.barrier(
        ll.objective(a, data(), device="cpu", dtype=torch.float64), a, b, resolution=3, progress=False
    ).surface
    line = ll.interpolation_line(a, b)
    for t, loss in zip(surface.alphas, surface.loss, strict=True):
        model = Siamese().double().eval()
        model.load_state_dict(line(float(t)), strict=False)
        model.norm.reset_running_stats()
        seen = inputs_of(model, "norm", data()[0])
        model.norm.running_mean, model.norm.running_var = seen.mean(0), seen.var(0, correction=0)
        assert loss == pytest.approx(nn.functional.cross_entropy(model(data()[0]), data()[1]).item(), rel=1e-9)


class Functional(Siamese):
    def forward(self, x):
        h = nn.functional.batch_norm(self.first(x[:, :3]), self.norm.running_mean, self.norm.running_var)
        return self.last(torch.cat([h, h], 1))


class Swinging(Recurrent):
    """Low statistics make high inputs, and high ones low inputs: none is left as it is."""

    def forward(self, x):
        self.norm(x)
        return self.last(self.norm(x + (50.0 if self.norm.running_mean.mean() < 10 else 0.0)))


@pytest.mark.parametrize(
    ("build", "message"),
    [(Functional, "'norm' are used outside of the layer's own forward pass"), (Swinging, "do not settle")],
)
def test_statistics_that_cannot_be_estimated_are_told(build, message):
    torch.manual_seed(0)
    with pytest.raises(ll.InputError, match=message):
        recalibrated(build())
