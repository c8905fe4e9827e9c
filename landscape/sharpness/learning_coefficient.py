"""The local learning coefficient by Langevin dynamics: how fast the volume of low loss around a point shrinks."""

import itertools
import math
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from landscape.checks import check_count, check_number, check_seed
from landscape.errors import InputError
from landscape.objective.objectives import Objective, check_objective
from landscape.points import Point
from landscape.results import LearningCoefficient
from landscape.runtime import own_torch_state, ranks
from landscape.runtime.progress import progress_bar
from landscape.sharpness.neighbourhood import Neighbourhood, NonFinite
from landscape.storage.provenance import versions

__all__ = ["learning_coefficient"]

ACCEPTED = 0.8  # share of proposals that the step size is fitted to, above the 0.57 that are the most efficient in
# high dimensions, because those of a degenerate minimum get stuck otherwise
UNMIXED = 1.1  # of R-hat, the usual limit


@own_torch_state()
def learning_coefficient(
    objective: Objective,
    point: nn.Module | Point,
    *,
    chains: int = 4,
    draws: int = 400,
    burn_in: int = 200,
    step_size: float | None = None,
    batch_size: int | None = None,
    localization: float = 1.0,
    inverse_temperature: float | None = None,
    parameters: str | Sequence[str] | None = None,
    seed: int = 0,
    progress: bool = True,
) -> LearningCoefficient:
    """lambda = n b (E L(w) - L(w*)) over draws w around w* = ``point`` from exp(-n b L(w) - c |w - w*|^2 / 2).

    The steps are those of stochastic gradient Langevin dynamics (SGLD, Welling and Teh 2011): w' = w + (e / 2) grad log
    p(w) + N(0, e), from w*. With all samples in every step a proposal is accepted or refused by the test of Metropolis
    (Roberts and Tweedie 1996), so that the draws have no error of discretisation, and e is fitted to the chain during
    the burn-in. With mini-batches there is no test: the error grows with e, which must be given; halve it and compare.
    Source: Lau et al. 2023, "The Local Learning Coefficient: A Singularity-Aware Complexity Measure", section 4.

    All chains start at w*, as the coefficient is that of its surroundings. So R-hat and the standard error tell whether
    they agree on the region that they have reached, and cannot see a region of low loss that none of them has visited,
    behind a barrier or far along a valley. Longer chains, and another localization, are the test of that.

    The point should be a minimum: a chain that finds lower losses than L(w*) makes the estimate too small. For a
    regular minimum in d parameters the result is d / 2, less the share of n b c that the localization holds.

    Args:
        objective: The losses; n is the number of its samples.
        point: w*, a network or a point of the objective's network.
        chains: Number of independent chains, at least 2.
        draws: Draws of each chain that are kept.
        burn_in: Steps of each chain before.
        step_size: e; needed with mini-batches.
        batch_size: Samples of each step; None is all of them.
        localization: c.
        inverse_temperature: b; None is 1 / log n.
        parameters: Those that move, see `chosen_parameters`; all by default.
        seed: Of the noise and of the mini-batches.
        progress: Show a progress bar.

    Raises:
        InputError: a value out of range, mini-batches without a step size, a loss that is not finite at the point or,
            with mini-batches, in a chain.

    Warns:
        UserWarning: the chains have not mixed, or the estimate is negative.

    Example:
        >>> from landscape_lib import objective
        >>> model, data = nn.Linear(2, 2), (torch.randn(20, 2), torch.arange(20) % 2)
        >>> with warnings.catch_warnings(action="ignore"):  # of a network that is not trained
        ...     estimate = learning_coefficient(objective(model, data), model, draws=20, burn_in=5, progress=False)
        >>> estimate.losses.shape
        (4, 20)
    """
    check_objective(objective, "learning_coefficient(objective, model)")
    _check(objective, chains, draws, burn_in, step_size, batch_size, localization, inverse_temperature, seed)
    around, size = Neighbourhood(objective, point, parameters), objective.size
    beta = 1 / math.log(size) if inverse_temperature is None else float(inverse_temperature)
    posterior = _Posterior(around, size * beta, localization)
    total = chains * (burn_in + draws)
    results = []
    with progress_bar(progress and ranks.is_first_rank(), "Langevin", total, unit="steps") as bar:
        for number in range(chains):
            generator = torch.Generator().manual_seed((seed + number) % 2**63)
            if batch_size is None:
                steps = _adjusted(posterior, generator, burn_in, step_size)
            else:
                steps = _unadjusted(posterior, generator, batch_size, step_size or 0.0)
            chain = []
            for step in itertools.islice(steps, burn_in + draws):
                chain.append(step)
                bar.update()
            results.append(chain[burn_in:])
    losses = np.array([[step.loss for step in chain] for chain in results])
    accepted = np.array([[step.accepted for step in chain] for chain in results]).mean(1)
    estimate = LearningCoefficient(
        losses, accepted, np.array([chain[-1].size for chain in results]), around.loss, size, beta, float(localization),
        {
            "burn_in": burn_in, "batch_size": batch_size, "seed": seed, "dimension": around.size,
            **around.description, "versions": versions(),
        },
    )  # fmt: skip
    _warn(estimate)
    return estimate


@dataclass(frozen=True)
class _Step:
    """One draw of a chain."""

    loss: float
    accepted: float  # 1 or 0; NaN without a test
    size: float  # e


class _Posterior:
    """The potential n b L(w) + c |w - w*|^2 / 2 of the draws, as a function of y = w - w*."""

    def __init__(self, around: Neighbourhood, factor: float, localization: float):
        self.around, self.factor, self.localization = around, factor, localization

    def at(self, y: Tensor, batch: Any = None) -> tuple[float, float, Tensor]:
        """L, the potential and its gradient at ``y``; of one mini-batch, if any.

        Raises:
            NonFinite: the loss is NaN or infinite.
        """
        loss, slope = self.around.slope_at(y, batch)
        potential = self.factor * loss + self.localization * float(y @ y) / 2
        return loss, potential, self.factor * slope + self.localization * y


def _adjusted(posterior: _Posterior, generator: torch.Generator, burn_in: int, fixed: float | None) -> Iterator[_Step]:
    """Langevin proposals with the test of Metropolis; the step size is fitted during the burn-in unless ``fixed``."""
    y = torch.zeros(posterior.around.size, dtype=torch.float64)
    here = posterior.at(y)
    size = fixed or 1 / (posterior.factor + posterior.localization)
    for number in itertools.count(1):
        noise = posterior.around.draw(generator)
        proposal = y - size / 2 * here[2] + math.sqrt(size) * noise
        chance = 0.0
        try:
            there = posterior.at(proposal)
            back = y - proposal + size / 2 * there[2]
            log_ratio = here[1] - there[1] + float(noise @ noise) / 2 - float(back @ back) / (2 * size)
            chance = math.exp(min(0.0, log_ratio)) if math.isfinite(log_ratio) else 0.0
        except NonFinite:
            pass
        accepted = float(torch.rand((), generator=generator, dtype=torch.float64)) < chance
        if accepted:
            y, here = proposal, there
        yield _Step(here[0], float(accepted), size)
        if fixed is None and number <= burn_in:  # Robbins and Monro 1951, on a logarithmic scale
            size *= math.exp(2 * (chance - ACCEPTED) / math.sqrt(number))


def _unadjusted(posterior: _Posterior, generator: torch.Generator, batch_size: int, size: float) -> Iterator[_Step]:
    """Steps along the gradients of mini-batches, without a test."""
    y = torch.zeros(posterior.around.size, dtype=torch.float64)
    batches = posterior.around.mean_loss.objective.batches
    shuffled = (batches.shuffled(batch_size, generator) for _ in itertools.count())
    for batch in itertools.chain.from_iterable(shuffled):
        try:
            loss, _, slope = posterior.at(y, batch)
        except NonFinite as error:
            raise InputError(f"a chain diverges: its loss is {error.args[0]}; lower step_size") from error
        yield _Step(loss, math.nan, size)
        y = y - size / 2 * slope + math.sqrt(size) * posterior.around.draw(generator)


def _check(
    objective: Objective,
    chains: int,
    draws: int,
    burn_in: int,
    step_size: float | None,
    batch_size: int | None,
    localization: float,
    inverse_temperature: float | None,
    seed: int,
) -> None:
    check_count("chains", chains, least=2)
    check_count("draws", draws, least=4)
    check_count("burn_in", burn_in, least=0)
    check_count("batch_size", batch_size, most=objective.size)
    check_seed(seed)
    check_number("localization", localization, least=0)
    for name, value in (("step_size", step_size), ("inverse_temperature", inverse_temperature)):
        if value is not None:
            check_number(name, value, above=0)
    if objective.size < 3 and inverse_temperature is None:
        raise InputError(f"there are {objective.size} samples; 1 / log n needs 3, or give inverse_temperature")
    if batch_size is not None and step_size is None:
        raise InputError("steps of mini-batches are not tested: give step_size too, or leave batch_size out")
    if batch_size is not None and objective.batches_fixed:
        raise InputError("mini-batches are drawn, but the batches of these data are fixed; leave batch_size out")


def _warn(estimate: LearningCoefficient) -> None:
    if estimate.value < 0:
        warnings.warn(
            f"the estimate {estimate.value:.3g} is negative: {estimate.below:.0%} of the draws have a lower loss than "
            "the network, which is no minimum; train it further",
            stacklevel=4,
        )
    elif not estimate.r_hat <= UNMIXED:
        warnings.warn(
            f"the chains have not mixed (R-hat {estimate.r_hat:.2f}, at most {UNMIXED} if they have); take more "
            "burn_in and draws",
            stacklevel=4,
        )
