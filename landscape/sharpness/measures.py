"""The measures of sharpness by name, each with its definition and source."""

import math
import statistics
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import torch
from torch import Tensor, nn

from landscape.checks import check_choice, check_count, check_number, check_seed
from landscape.errors import InputError
from landscape.objective.objectives import Objective, check_objective
from landscape.points import Point
from landscape.results import Sharpness
from landscape.runtime import own_torch_state, ranks
from landscape.sharpness.neighbourhood import Neighbourhood, NonFinite
from landscape.sharpness.searches import SearchResult, ascend_ball, average_noise, search_box, step_once

__all__ = [
    "MEASURES",
    "MeasureName",
    "layer_sharpness",
    "layer_sharpness_in",
    "settled_measure",
    "sharpness",
    "sharpness_in",
]

MeasureName = Literal["keskar", "sam", "ascent", "gaussian", "adaptive-sam", "adaptive-ascent", "adaptive-gaussian"]


@dataclass(frozen=True)
class Measure:
    """A neighbourhood, the search or average in it, and the default settings, which are those of the source."""

    search: Callable[..., SearchResult]
    scale: Callable[[Tensor], Tensor]  # the diagonal of T for a parameter; the neighbourhood consists of theta + T y
    radius: float
    samples: int | None  # pairs of draws of an average, or starts of a search; None for a single step
    steps: int | None  # iterations of a search
    definition: str
    source: str

    def with_eta(self, eta: float) -> "Measure":
        """This measure with the constant ``eta`` in its scale and definition, if it is adaptive."""
        if self.scale is not torch.abs:
            return self
        return replace(self, scale=lambda w: w.abs() + eta, definition=f"{self.definition}; eta = {eta:g}")

    def with_settings(self, radius: float | None, samples: int | None, steps: int | None, seed: int) -> "Measure":
        """This measure with all settings that are not None and that it has.

        Raises:
            InputError: A value is out of range.
        """
        check_seed(seed)
        check_number("radius", self.radius if radius is None else radius, above=0)
        changes: dict[str, Any] = {} if radius is None else {"radius": radius}
        if self.samples is not None and samples is not None:
            check_count("samples", samples, 1 + (self.search is average_noise))
            changes["samples"] = samples
        if self.steps is not None and steps is not None:
            check_count("steps", steps)
            changes["steps"] = steps
        return replace(self, **changes)


FORET = "Foret et al. 2021, Sharpness-Aware Minimization for Efficiently Improving Generalization"
KWON = "Kwon et al. 2021, ASAM: Adaptive Sharpness-Aware Minimization"
ANDRIUSHCHENKO = (
    "Andriushchenko et al. 2023, A Modern Look at the Relationship between Sharpness and Generalization, section 2"
)
KESKAR = "Keskar et al. 2017, On Large-Batch Training for Deep Learning, metric 2.1"
LOWER_BOUND = "a lower bound, found by projected gradient ascent"

MEASURES = {
    "keskar": Measure(
        search_box, lambda w: w.abs() + 1, 1e-3, 2, 10,
        "100 (max L(theta + e) - L(theta)) / (1 + L(theta)) over |e_i| <= r (|theta_i| + 1); a lower bound, found by "
        "L-BFGS-B",
        KESKAR,
    ),
    "sam": Measure(
        step_once, torch.ones_like, 0.05, None, None,
        "L(theta + r g / |g|) - L(theta), g the gradient: the worst case of |e| <= r to first order",
        f"{FORET}, section 2",
    ),
    "ascent": Measure(
        ascend_ball, torch.ones_like, 0.05, 2, 20,
        f"max L(theta + e) - L(theta) over |e| <= r; {LOWER_BOUND}",
        f"{FORET}, section 2",
    ),
    "gaussian": Measure(
        average_noise, torch.ones_like, 0.01, 20, None,
        "E L(theta + e) - L(theta), e_i ~ N(0, r^2)",
        ANDRIUSHCHENKO,
    ),
    "adaptive-sam": Measure(
        step_once, torch.abs, 0.5, None, None,
        "L(theta + r T^2 g / |T g|) - L(theta), T = diag (|theta_i| + eta): max over |T^-1 e| <= r to first order",
        f"{KWON}, section 3",
    ),
    "adaptive-ascent": Measure(
        ascend_ball, torch.abs, 0.5, 2, 20,
        f"max L(theta + e) - L(theta) over |T^-1 e| <= r, T = diag (|theta_i| + eta); {LOWER_BOUND}",
        f"{KWON}, section 3",
    ),
    "adaptive-gaussian": Measure(
        average_noise, torch.abs, 0.1, 20, None,
        "E L(theta + e) - L(theta), e_i ~ N(0, r^2 (|theta_i| + eta)^2)",
        ANDRIUSHCHENKO,
    ),
}  # fmt: skip
LAYER = Measure(
    average_noise, torch.ones_like, 0.1, 10, None,
    "E L(theta + e) - L(theta), e_p ~ N(0, r^2 |theta_p|^2 / n_p) on the parameters p of one layer",
    "Neyshabur et al. 2017, Exploring Generalization in Deep Learning, section 2.2, layer by layer",
)  # fmt: skip


@own_torch_state()
def sharpness(
    objective: Objective,
    point: nn.Module | Point,
    measure: MeasureName,
    *,
    radius: float | None = None,
    samples: int | None = None,
    steps: int | None = None,
    seed: int = 0,
    eta: float = 0.0,
    parameters: str | Sequence[str] | None = None,
) -> Sharpness:
    """The rise of the mean loss L around ``point`` theta, by the definition ``measure``.

    With the perturbation e, the radius r and the gradient g at theta (`MEASURES` and the result name the papers):

    - keskar: 100 (max L(theta + e) - L(theta)) / (1 + L(theta)) over |e_i| <= r (|theta_i| + 1)
    - sam: L(theta + r g / |g|) - L(theta)
    - ascent: max L(theta + e) - L(theta) over |e| <= r
    - gaussian: E L(theta + e) - L(theta), e_i ~ N(0, r^2)
    - adaptive-sam, adaptive-ascent, adaptive-gaussian: the same with e_i / (|theta_i| + eta) instead of e_i

    Maxima are found by a search and therefore are lower bounds. With eta = 0 the adaptive measures do not change when a
    ReLU unit is rescaled (its incoming weights and bias multiplied by a, its outgoing weights divided by a), which
    changes the weights, but not the function of the network. Kwon et al. train with eta = 0.01, for which weights of
    zero are perturbed as well. Sharpness alone does not predict generalisation, see `SHARPNESS_CAUTION`.

    Args:
        objective: The loss and the data; its network is not changed.
        point: A module, or a point of the objective's network.
        measure: A key of `MEASURES`.
        radius: Radius r; None: 0.001 for keskar, 0.05 for sam and ascent, 0.5 for their adaptive versions (the values
            of the papers), 0.01 for gaussian and 0.1 for adaptive-gaussian.
        samples: Pairs of opposite draws of an average (default 20), or starts of a search (default 2).
        steps: Iterations of a search (default 10 of L-BFGS-B, as in the paper, or 20 of the ascent).
        seed: Seed of the draws and random starts.
        eta: Constant that the adaptive measures add to every |theta_i|; it is part of the definition in the result.
        parameters: The parameters to perturb, such as ("*lora*",) or "trainable", see `chosen_parameters`; default:
            all.

    Raises:
        InputError: the measure is unknown, a value is out of range, the point belongs to another network, its loss is
            not finite, or keskar is requested for a loss of -1 or less, for which its divisor is not positive.

    Example:
        >>> from landscape_lib import objective
        >>> model, data = nn.Linear(4, 3), (torch.randn(5, 4), torch.tensor([0, 1, 2, 0, 1]))
        >>> result = sharpness(objective(model, data), model, "gaussian", samples=5)
        >>> result.samples, result.standard_error > 0
        (5, True)
    """
    check_objective(objective, "sharpness(objective, model, measure)")
    settled = settled_measure(measure, radius=radius, samples=samples, steps=steps, seed=seed, eta=eta)
    return _sharpness(measure, settled, Neighbourhood(objective, point, parameters), seed)


@own_torch_state()
def sharpness_in(
    neighbourhood: Neighbourhood, measure: str, *, samples: int | None = None, steps: int | None = None, seed: int = 0
) -> Sharpness:
    """Like `sharpness`, in a neighbourhood that several measures share; its T becomes that of this measure."""
    return _sharpness(measure, settled_measure(measure, samples=samples, steps=steps, seed=seed), neighbourhood, seed)


def settled_measure(
    name: str,
    *,
    radius: float | None = None,
    samples: int | None = None,
    steps: int | None = None,
    seed: int = 0,
    eta: float = 0.0,
) -> Measure:
    """The measure ``name`` with these settings instead of its defaults, see `sharpness`.

    Raises:
        InputError: The measure is unknown, or a value is out of range.
    """
    check_choice("measure", name, MEASURES)
    default = MEASURES[name]
    if eta and default.scale is not torch.abs:
        adaptive = ", ".join(key for key, value in MEASURES.items() if value.scale is torch.abs)
        raise InputError(f"{name} has no eta; only {adaptive} have one")
    check_number("eta", eta, least=0)
    return default.with_eta(eta).with_settings(radius, samples, steps, seed)


@own_torch_state()
def layer_sharpness(
    objective: Objective,
    point: nn.Module | Point,
    *,
    radius: float = 0.1,
    samples: int = 10,
    seed: int = 0,
    parameters: str | Sequence[str] | None = None,
) -> tuple[Sharpness, ...]:
    """The average rise of the mean loss under Gaussian noise in a single layer, for each layer.

    A layer consists of the parameters whose names share the part before the last dot. The noise in a parameter p with
    n_p entries is e_p ~ N(0, r^2 |theta_p|^2 / n_p), so that |e_p| is about r |theta_p| and layers of different size
    and scale are comparable. Source: the average-case sharpness of Neyshabur et al. 2017, "Exploring Generalization in
    Deep Learning", section 2.2, applied to one layer at a time.

    Args:
        objective: The loss and the data; its network is not changed.
        point: A module, or a point of the objective's network.
        radius: r, relative to the norm of every parameter.
        samples: Pairs of opposite draws.
        seed: Seed of the draws, the same for every layer.
        parameters: The parameters to perturb, layer by layer, see `chosen_parameters`; default: all.

    Raises:
        InputError: a value is out of range, the point belongs to another network, or its loss is not finite.
    """
    check_objective(objective, "layer_sharpness(objective, model)")
    measure = LAYER.with_settings(radius, samples, None, seed)  # before anything is computed
    neighbourhood = Neighbourhood(objective, point, parameters)
    layers = _layers_of(neighbourhood)
    mine = _in_layers(layers[ranks.rank() :: ranks.count()], measure, neighbourhood, seed)
    results = {layer: result for others in ranks.gathered(mine) for layer, result in others.items()}
    return tuple(results[layer] for layer in layers)


@own_torch_state()
def layer_sharpness_in(
    neighbourhood: Neighbourhood, *, radius: float = 0.1, samples: int = 10, seed: int = 0
) -> tuple[Sharpness, ...]:
    """Like `layer_sharpness`, in a neighbourhood that other measures share, and on this rank alone."""
    measure = LAYER.with_settings(radius, samples, None, seed)
    return tuple(_in_layers(_layers_of(neighbourhood), measure, neighbourhood, seed).values())


def _layers_of(neighbourhood: Neighbourhood) -> list[str]:
    """The names of all layers that have entries."""
    return list(dict.fromkeys(name.rpartition(".")[0] for name, value in neighbourhood.moved.items() if value.numel()))


def _in_layers(
    layers: Sequence[str], measure: Measure, neighbourhood: Neighbourhood, seed: int
) -> dict[str, Sharpness]:
    """The sharpness of every one of ``layers``, by its name."""
    point, results = neighbourhood.moved, {}
    for layer in layers:
        neighbourhood.rescale({name: _rms(value, name.rpartition(".")[0] == layer) for name, value in point.items()})
        results[layer] = _measured("layer", measure, neighbourhood, seed, layer)
    return results


def _sharpness(name: str, settled: Measure, neighbourhood: Neighbourhood, seed: int) -> Sharpness:
    if name == "keskar" and neighbourhood.loss <= -1:
        raise InputError(
            f"keskar divides by 1 + L, but the loss L is {neighbourhood.loss:.6g}; use another measure, such as "
            "ascent, or a loss that is not negative"
        )
    neighbourhood.rescale({name: settled.scale(value.detach()) for name, value in neighbourhood.moved.items()})
    return _measured(name, settled, neighbourhood, seed)


def _measured(
    name: str, measure: Measure, neighbourhood: Neighbourhood, seed: int, layer: str | None = None
) -> Sharpness:
    random = measure.search is average_noise
    settings: dict[str, Any] = {"samples": measure.samples, "steps": measure.steps, "seed": seed}
    try:
        result = measure.search(neighbourhood, measure.radius, **settings)
    except NonFinite as error:
        result = SearchResult([error.args[0]], converged=False)
    losses, loss = result.losses, neighbourhood.loss
    value = (statistics.fmean(losses) if random else max(losses)) - loss
    if not math.isfinite(value):
        warnings.warn(
            f"{name}: A LOSS WITHIN RADIUS {measure.radius:g} IS NOT FINITE, so the sharpness is {value}", stacklevel=3
        )
    finite = all(map(math.isfinite, losses))
    return Sharpness(
        measure=name,
        value=100 * value / (1 + loss) if name == "keskar" else value,
        standard_error=(_standard_error(losses) if finite else math.nan) if random else None,
        converged=result.converged,
        radius=measure.radius,
        definition=measure.definition,
        source=measure.source,
        loss=loss,
        losses=tuple(losses),
        layer=layer,
        metadata=neighbourhood.description,
        **settings,
    )


def _standard_error(values: list[float]) -> float:
    return statistics.stdev(values) / math.sqrt(len(values))


def _rms(value: Tensor, moved: bool) -> Tensor:
    """A tensor like ``value`` whose entries are all its root mean square, or zero unless ``moved``."""
    rms = value.detach().double().square().mean().sqrt() if moved and value.numel() else 0.0
    return torch.ones_like(value, dtype=torch.float64) * rms
