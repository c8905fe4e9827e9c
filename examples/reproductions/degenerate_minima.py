"""The learning coefficient of the model x w1^a w2^b at w = 0 is the smaller of 1 / 2a and 1 / 2b: 1/2, 1/4 or 1/6.

    python examples/reproductions/degenerate_minima.py                          # minutes on two cores
    python examples/reproductions/degenerate_minima.py --draws 20 --burn-in 10 --chains 2

With targets 0 and E x^2 = 1 the loss of this model is L = (w1^a w2^b)^2 / 2. The estimate of its local learning
coefficient is n b E L over draws of Langevin dynamics from exp(-n b L(w) - |w|^2 / 2). At a finite n b it differs from
the published limit, by powers of 1 / n b or, for a = b, by 1 / log n b; so beside it stands what the same posterior
gives by quadrature in two dimensions, which shares no code with the sampler. Around a product the posterior has arms
that get narrower outwards; chains of one step size visit them seldom and may get caught there, so that estimates are
too low, or far too high with an R-hat that shows it; that R-hat is part of the criterion was decided after such a run.

Source: Watanabe 2009, "Algebraic Geometry and Statistical Learning Theory" (learning coefficients at normal crossings);
Lau et al. 2023, "The Local Learning Coefficient: A Singularity-Aware Complexity Measure" (the estimator). The script
writes degenerate_minima.json and degenerate_minima.png to --out.
"""

import sys
import warnings
from fractions import Fraction
from pathlib import Path

import numpy as np
import torch
from matplotlib.figure import Figure
from torch import Tensor, nn

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
import landscape_lib as ll
from examples.reproductions.table import Row, begin, record

__all__ = ["Monomial", "main", "quadrature"]

FACTORS = {(1, 0): 1e4, (2, 0): 1e4, (3, 0): 1e4, (1, 1): 100.0, (1, 2): 100.0, (1, 3): 100.0}  # (a, b): n b
MIXED = 1.1  # the usual limit of R-hat
COLORS = {1: "#0072B2", 2: "#D55E00", 3: "#009E73"}  # of the larger exponent


def main(
    samples: int = 20,
    chains: int = 8,
    draws: int = 2500,
    burn_in: int = 300,
    seed: int = 0,
    out: Path = Path("reproduction_results"),
) -> None:
    """Estimate the learning coefficients of six models at w = 0.

    Args:
        samples: Number n of inputs x; the inverse temperature b is chosen such that n b is 10,000 for powers of one
            weight and 100 for products, on whose posterior chains mix slowly.
        chains: Number of chains for each model.
        draws: Draws of each chain that are kept.
        burn_in: Steps of each chain before.
        seed: Seed of inputs and noise.
        out: Folder for the results.
    """
    settings = dict(locals())  # a copy: a debugger or a coverage tool may add to the original
    begin(settings)
    inputs = torch.randn(samples, 1, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    inputs /= inputs.square().mean().sqrt()
    estimates = {}
    for exponents, factor in FACTORS.items():
        model = Monomial(*exponents)
        data = inputs, torch.zeros_like(inputs)
        objective = ll.objective(model, data, loss=half_square, dtype=torch.float64, batch_size=samples, device="cpu")
        with warnings.catch_warnings():  # of chains that have not mixed, in a quick look
            warnings.simplefilter("ignore")
            estimates[exponents] = ll.learning_coefficient(
                objective, model, chains=chains, draws=draws, burn_in=burn_in, inverse_temperature=factor / samples,
                seed=seed,
            )  # fmt: skip
    record(
        __file__,
        [row_of(exponents, estimate) for exponents, estimate in estimates.items()],
        out,
        paper="Watanabe 2009, Algebraic Geometry and Statistical Learning Theory; Lau et al. 2023, The Local Learning "
        "Coefficient: A Singularity-Aware Complexity Measure",
        claim="The learning coefficient of x w1^a w2^b at 0 is the smaller of 1 / 2a and 1 / 2b",
        settings=settings,
        estimates={
            f"{a}, {b}": {
                "nb": FACTORS[a, b], "value": estimate.value, "standard_error": estimate.standard_error,
                "r_hat": estimate.r_hat, "acceptance": float(estimate.acceptance.mean()),
                "quadrature": quadrature(a, b, FACTORS[a, b]),
            }
            for (a, b), estimate in estimates.items()
        },
    )  # fmt: skip
    ll.cli.wrote(ll.save_figure(draw(estimates), out / "degenerate_minima.png"))


class Monomial(nn.Module):
    """The model x w1^a w2^b, at w = 0."""

    def __init__(self, a: int, b: int):
        super().__init__()
        self.exponents = torch.tensor([a, b])
        self.w = nn.Parameter(torch.zeros(2, dtype=torch.float64))

    def forward(self, x: Tensor) -> Tensor:
        return x * (self.w**self.exponents).prod()


def half_square(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
    """Half the squared error of every sample."""
    x, y = batch
    return (model(x) - y).square()[:, 0] / 2


def quadrature(a: int, b: int, factor: float) -> float:
    """n b E L over exp(-n b L(w) - |w|^2 / 2) with n b = ``factor``, on a grid that is even in log w1 and log w2."""
    w = np.exp(np.linspace(np.log(1e-12), np.log(8), 301))
    rise = factor * np.outer(w**a, w**b) ** 2 / 2
    mass = np.exp(-rise - np.add.outer(w**2, w**2) / 2) * np.outer(w, w)
    return float((rise * mass).sum() / mass.sum())


def row_of(exponents: tuple[int, int], estimate: ll.results.LearningCoefficient) -> Row:
    """The estimate beside the published limit and the value at its own temperature."""
    (a, b), factor = exponents, FACTORS[exponents]
    expected, limit = quadrature(a, b, factor), Fraction(1, 2 * max(a, b))
    return Row(
        f"learning coefficient of {monomial(a, b)}",
        f"{limit} in the limit; {expected:.3f} at n b = {factor:,.0f}, by quadrature",
        f"{estimate.value:.3f}, standard error {estimate.standard_error:.3f}, R-hat {estimate.r_hat:.2f}",
        "1 / (2 max(a, b))",
        abs(estimate.value - expected) <= 3 * estimate.standard_error and estimate.r_hat <= MIXED,
        f"within three standard errors, R-hat at most {MIXED}",
    )  # fmt: skip


def monomial(a: int, b: int) -> str:
    """The formula of the model."""
    powers = ((1, a), (2, b))
    return " ".join(["x", *(f"w{k}^{exponent}".removesuffix("^1") for k, exponent in powers if exponent)])


def draw(estimates: dict[tuple[int, int], ll.results.LearningCoefficient]) -> Figure:
    """The coefficient against n b by quadrature, its limits, and the estimates."""
    figure = Figure(figsize=(6.4, 4), layout="constrained")
    ax, factors = figure.subplots(), np.geomspace(10, 1e10, 19)
    for (a, b), estimate in estimates.items():
        color, curve = COLORS[max(a, b)], [quadrature(a, b, factor) for factor in factors]
        ax.plot(factors, curve, "--" if b else "-", color=color, linewidth=1.2, label=monomial(a, b))
        ax.errorbar(
            FACTORS[a, b], estimate.value, 2 * estimate.standard_error, fmt="o", color=color, capsize=3,
            markerfacecolor=color if estimate.r_hat <= MIXED else "white", elinewidth=1.2,
        )  # fmt: skip
        ax.axhline(1 / (2 * max(a, b)), color=color, linewidth=0.8, linestyle=":")
    ax.errorbar([], [], [], fmt="o", color="0.3", capsize=3, label="sampled, 2 standard errors")
    ax.plot([], [], "o", color="0.3", markerfacecolor="white", label=f"sampled, R-hat above {MIXED}")
    ax.plot([], [], color="0.3", linewidth=0.8, linestyle=":", label="1/2, 1/4 and 1/6")
    ax.set(xscale="log", xlabel="n b", ylabel="learning coefficient", ylim=(0, 0.55))
    ax.legend(fontsize=7, ncols=3, loc="lower right")
    return figure


if __name__ == "__main__":
    ll.cli.run_script(main)
