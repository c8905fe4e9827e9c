"""Searches for the highest loss in a neighbourhood, and averages over it."""

import math
from dataclasses import dataclass

import numpy as np
import torch
from scipy.optimize import Bounds, minimize
from torch import Tensor

from landscape.sharpness.neighbourhood import Neighbourhood

__all__ = ["SearchResult", "ascend_ball", "average_noise", "search_box", "step_once"]

REST = 0.01  # a search has converged if its last step changed the sharpness by at most this share


@dataclass(frozen=True)
class SearchResult:
    """The losses of a search or an average; the maximum of a search is a lower bound of the true maximum."""

    losses: list[float]  # the highest loss from every start of a search, or the loss of every draw of an average
    converged: bool | None = None  # None for an average and for a single step


def step_once(around: Neighbourhood, radius: float, **_: object) -> SearchResult:
    """The loss at y = r g / |g| for the gradient g at the point; at y = 0 if g is zero."""
    slope = around.slope_at(torch.zeros(around.size, dtype=torch.float64))[1]
    return SearchResult([around.loss_at(_onto_sphere(slope, radius))])


def ascend_ball(around: Neighbourhood, radius: float, samples: int, steps: int, seed: int) -> SearchResult:
    """The highest loss over |y| <= r that projected gradient ascent y <- project(y + s g / |g|) reaches.

    The first start is the point of `step_once`, the others are random points on the sphere. If a step does not raise
    the loss, it is undone and s, which is 2 r at the start (Croce and Hein 2020, section 3.1), is halved.
    """
    generator = torch.Generator().manual_seed(seed)
    losses, converged = [], True
    for start in range(samples):
        if start == 0:
            y = _onto_sphere(around.slope_at(torch.zeros(around.size, dtype=torch.float64))[1], radius)
        else:
            y = _onto_sphere(around.draw(generator), radius)
        loss, slope = around.slope_at(y)
        size, gain = 2 * radius, math.inf
        for _ in range(steps - 1):
            candidate = _into_ball(y + _onto_sphere(slope, size), radius)
            candidate_loss, candidate_slope = around.slope_at(candidate)
            gain = candidate_loss - loss
            if gain > 0:
                y, loss, slope = candidate, candidate_loss, candidate_slope
            else:
                size /= 2
        losses.append(loss)
        converged &= abs(gain) <= REST * abs(loss - around.loss)
    return SearchResult(losses, converged)


def search_box(around: Neighbourhood, radius: float, samples: int, steps: int, seed: int) -> SearchResult:
    """The highest loss over |y_i| <= r that L-BFGS-B reaches from the point itself and from random points."""
    generator = torch.Generator().manual_seed(seed)
    searches = []
    for start in range(samples):
        first = torch.zeros(around.size, dtype=torch.float64)
        if start:
            first = radius * (2 * torch.rand(around.size, generator=generator, dtype=torch.float64) - 1)
        searches.append(_climb_box(around, first, radius, steps))
    losses, converged = zip(*searches, strict=True)
    return SearchResult(list(losses), all(converged))


def _climb_box(around: Neighbourhood, first: Tensor, radius: float, steps: int) -> tuple[float, bool]:
    """The highest loss on the way of a search from ``first``, and whether it ended before its last step."""
    highest, slope = around.slope_at(first)
    unit = slope.abs().mean().item() / radius  # scales the gradient, which is the first step, to the size of the box
    if not unit:
        return highest, True

    def descent(y: np.ndarray) -> tuple[float, np.ndarray]:
        nonlocal highest
        loss, slope = around.slope_at(torch.from_numpy(y))
        highest = max(highest, loss)
        return -loss / unit, -slope.numpy() / unit

    options = {"maxiter": steps, "maxfun": 2 * steps}
    bounds = Bounds(np.full(around.size, -radius), np.full(around.size, radius))
    optimum = minimize(descent, first.numpy(), jac=True, method="L-BFGS-B", bounds=bounds, options=options)
    return highest, bool(optimum.success)


def average_noise(around: Neighbourhood, radius: float, samples: int, seed: int, **_: object) -> SearchResult:
    """Losses under Gaussian noise y ~ N(0, r^2 I); each is the mean over y and -y, in which odd terms cancel."""
    generator = torch.Generator().manual_seed(seed)
    losses = []
    for _pair in range(samples):
        noise = radius * around.draw(generator)
        losses.append((around.loss_at(noise) + around.loss_at(-noise)) / 2)
    return SearchResult(losses)


def _onto_sphere(vector: Tensor, radius: float) -> Tensor:
    length = vector.norm()
    return vector * (radius / length) if length else vector


def _into_ball(vector: Tensor, radius: float) -> Tensor:
    inside: Tensor = vector * min(1.0, radius / max(vector.norm().item(), 1e-300))
    return inside
