"""The local learning coefficient: exact values of degenerate and regular minima, quadrature, and what is refused."""

import itertools
import math
import warnings

import numpy as np
import pytest
import torch
from torch import nn

import landscape_lib as ll
from landscape.sharpness.learning_coefficient import _adjusted, _Posterior

SIZE = 120
BETA = 1 / math.log(SIZE)


class Power(nn.Module):
    """w1^a w2^b ..., at its minimum 0 of the square."""

    def __init__(self, *exponents, start=0.0):
        super().__init__()
        self.exponents = exponents
        self.weight = nn.Parameter(torch.full((len(exponents),), start, dtype=torch.float64))

    def forward(self):
        return torch.stack([w**e for w, e in zip(self.weight, self.exponents, strict=True)]).prod()


def square(model, batch):
    """(x w1^a w2^b)^2 / 2, the loss of the linear model x w1^a w2^b for targets 0, and the mean of x^2 one."""
    return (batch * model()) ** 2 / 2


def objective(model, size=SIZE):
    x = torch.randn(size, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    return ll.objective(model, x / x.square().mean().sqrt(), loss=square, dtype=torch.float64, device="cpu")


def estimate(model, **options):
    options = {"chains": 4, "draws": 250, "burn_in": 100, "progress": False, **options}
    return ll.learning_coefficient(objective(model), model, **options)


class Monomial:
    """The loss (w1^a w2^b ...)^2 / 2 around 0 by its formula, as a `Neighbourhood` gives it."""

    def __init__(self, *exponents):
        self.exponents, self.size = torch.tensor(exponents).double(), len(exponents)

    def slope_at(self, y, batch=None):
        value = float((y**self.exponents).prod())
        return value**2 / 2, value**2 * self.exponents / y.where(y != 0, 1)

    def draw(self, generator):
        return torch.randn(self.size, generator=generator).double()


def sampled(around, factor, localization, draws=2500, burn_in=300):
    """n b E L over four chains, and its standard error."""
    posterior, values = _Posterior(around, factor, localization), []
    for seed in range(4):
        steps = _adjusted(posterior, torch.Generator().manual_seed(seed), burn_in, None)
        values.append(factor * np.mean([step.loss for step in itertools.islice(steps, burn_in, burn_in + draws)]))
    return np.mean(values), np.std(values, ddof=1) / 2


@pytest.mark.parametrize(("exponent", "exact"), [(1, 1 / 2), (2, 1 / 4), (3, 1 / 6)])
def test_degenerate_minima_have_their_exact_coefficients(exponent, exact):
    found, error = sampled(Monomial(exponent), SIZE * BETA, 1e-4)
    assert found == pytest.approx(exact, abs=max(5 * error, 0.02)) and error < 0.03


@pytest.mark.parametrize(("a", "b"), [(1, 1), (2, 1), (1, 3)])
def test_products_have_the_mean_of_a_quadrature(a, b):
    found, error = sampled(Monomial(a, b), 100.0, 4.0)
    w = np.linspace(-4, 4, 1601)
    rise = 100 * (w[:, None] ** a * w**b) ** 2 / 2
    weights = np.exp(-rise - 4.0 * (w[:, None] ** 2 + w**2) / 2)
    expected = (rise * weights).sum() / weights.sum()
    assert found == pytest.approx(expected, abs=max(5 * error, 0.02)) and error < 0.03
    # Up to the powers of log n the coefficient is the smaller of 1 / 2a and 1 / 2b.
    assert expected < 1 / (2 * max(a, b)) + 0.03


def test_an_estimate_is_that_of_its_network():
    found = estimate(Power(2), localization=1e-3)
    assert found.value == pytest.approx(1 / 4, abs=max(5 * found.standard_error, 0.05))
    assert found.standard_error < 0.06 and found.below == 0 and 0.5 < found.acceptance.mean() < 1


def test_a_regular_minimum_has_half_the_number_of_its_parameters():
    generator = torch.Generator().manual_seed(2)
    inputs = torch.randn(100, 4, generator=generator).double()
    targets = inputs @ torch.randn(4, 1, generator=generator).double() + torch.randn(100, 1, generator=generator)
    model = nn.Linear(4, 1, bias=False).double()
    model.weight.data = torch.linalg.lstsq(inputs, targets).solution.T
    target = ll.objective(model, (inputs, targets), loss="mse", dtype=torch.float64, device="cpu")
    factor = 100 / math.log(100)
    curvature = torch.linalg.eigvalsh(2 * inputs.T @ inputs / 100).numpy()
    found = ll.learning_coefficient(target, model, draws=200, burn_in=80, localization=0.5, progress=False)
    exact = (factor * curvature / (factor * curvature + 0.5)).sum() / 2  # d / 2, less what the localization holds
    assert exact == pytest.approx(2, abs=0.03)
    assert found.value == pytest.approx(exact, abs=5 * found.standard_error) and found.standard_error < 0.3
    step = 0.1 / factor / curvature.max()
    noisy = ll.learning_coefficient(
        target, model, batch_size=50, step_size=step, draws=200, burn_in=80, localization=0.5, progress=False
    )  # fmt: skip
    assert np.isnan(noisy.acceptance).all() and (noisy.step_sizes == step).all()
    assert noisy.value == pytest.approx(exact, rel=0.7)


def test_chains_are_seeded_kept_and_leave_everything_alone(tmp_path):
    model = Power(1, 2)
    torch.manual_seed(5)
    before = torch.get_rng_state()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        one, other = (estimate(model, draws=30, burn_in=10, chains=2, seed=3) for _ in "ab")
    assert torch.equal(torch.get_rng_state(), before) and not model.weight.any()
    assert np.array_equal(one.losses, other.losses) and not np.array_equal(one.losses[0], one.losses[1])
    loaded = ll.results.LearningCoefficient.load(one.save(tmp_path / "chains.npz"))
    assert loaded.value == one.value and loaded.metadata["burn_in"] == 10 and loaded.metadata["dimension"] == 2
    assert "R-hat" in repr(loaded)
    assert one.value == pytest.approx(SIZE * BETA * one.losses.mean())
    only = ll.learning_coefficient(
        objective(model), model, parameters=("weight",), draws=4, burn_in=0, chains=2, localization=1, progress=False
    )
    assert only.metadata["parameters"] == ["weight"]


def test_the_figure_ends_at_the_estimates(clean_figures):
    from matplotlib.figure import Figure

    losses = np.array([[1.0, 3.0, 2.0, 2.0], [2.0, 2.0, 3.0, 1.0]])
    found = ll.results.LearningCoefficient(losses, np.ones(2), np.ones(2), 1.0, 100, 0.1, 1.0, {})
    ax = Figure().add_subplot()
    found.draw(ax)
    assert [line.get_ydata()[-1] for line in ax.lines[:2]] == pytest.approx(found.values.tolist()) == [10.0, 10.0]
    assert found.value == 10 and found.standard_error == 0 and found.below == 0


def test_what_is_no_minimum_and_what_has_not_mixed_is_said():
    model = Power(1, start=0.5)
    with pytest.warns(UserWarning, match=r"negative: \d+% of the draws have a lower loss than the network"):
        estimate(model, draws=60, burn_in=30, localization=1e-3)
    with pytest.warns(UserWarning, match=r"have not mixed \(R-hat"):
        estimate(Power(1), draws=20, burn_in=0, step_size=1e-9)


FAULTS = {
    "one chain": ({"chains": 1}, "chains is 1"),
    "draws": ({"draws": 3}, "draws is 3"),
    "step": ({"step_size": 0.0}, "step_size is 0.0"),
    "localization": ({"localization": -1.0}, "localization is -1.0"),
    "temperature": ({"inverse_temperature": math.inf}, "inverse_temperature is inf"),
    "mini-batches": ({"batch_size": 10}, "not tested: give step_size too"),
    "large batch": ({"batch_size": 121, "step_size": 0.1}, "batch_size is 121"),
    "diverges": ({"batch_size": 10, "step_size": 1e300}, "a chain diverges"),
    "parameters": ({"parameters": ("bias",)}, "'bias' matches no parameter"),
}


@pytest.mark.parametrize("case", FAULTS)
def test_wrong_arguments_are_told_in_one_line(case):
    options, message = FAULTS[case]
    with pytest.raises(ll.InputError, match=message) as raised:
        estimate(Power(2), **options)
    assert "\n" not in str(raised.value)
    with pytest.raises(ll.InputError, match="there are 2 samples"):
        ll.learning_coefficient(objective(Power(1), 2), Power(1))


def test_r_hat_cannot_see_a_minimum_that_no_chain_visits():
    model = Power(1)  # at the regular one of two minima

    def wells(network, batch):
        w = network.weight[0]
        return batch**2 * w**2 * (w - 2) ** 4 / 2

    x = torch.randn(SIZE, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    target = ll.objective(model, x / x.square().mean().sqrt(), loss=wells, dtype=torch.float64, device="cpu")
    result = ll.learning_coefficient(
        target, model, chains=3, draws=200, burn_in=50, inverse_temperature=1.0, localization=0.01, progress=False
    )
    w = np.linspace(-3, 5, 40_001)
    rise = SIZE * w**2 * (w - 2) ** 4 / 2
    weights = np.exp(-rise - 0.01 * w**2 / 2)
    exact = np.average(rise, weights=weights)  # most of the volume is that of the degenerate minimum
    assert exact < 0.32 and result.r_hat < 1.1
    assert result.value == pytest.approx(0.5, abs=0.1)  # which is that of the minimum at the network
    assert "all start at the network" in repr(result)
