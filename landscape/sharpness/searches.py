"""Searches for the highest loss of a neighbourhood, and averages over it."""

import math
from dataclasses import dataclass

import numpy as np
import torch
from scipy.optimize import Bounds, minimize
from torch import Tensor

from landscape.sharpness.neighbourhood import Neighbourhood

__all__ = ["Found", "ascend_ball", "average_noise", "search_box", "step_once"]

REST = 0.01  # a search has come to rest where its last step raised the sharpness by less than this share


@dataclass(frozen=True)
class Found:
    """What a search came to; a maximum is a lower bound of the true one."""

    losses: list[float]  # the highest loss of every start, or that of every draw
    converged: bool | None = None


def step_once(around: Neighbourhood, radius: float, **_: object) -> Found:
    """The loss at y = r g / |g|, g the gradient at the point; at y = 0 where that is zero."""
    slope = around.slope_at(torch.zeros(around.size, dtype=torch.float64))[1]
    return Found([around.loss_at(_onto_sphere(slope, radius))])


def ascend_ball(around: Neighbourhood, radius: float, samples: int, steps: int, seed: int) -> Found:
    """The highest loss of |y| <= r that projected gradient ascent finds: y <- project(y + s g / |g|).

    The first start is the one-step solution, the others random points on the sphere. A step that does not rise is
    taken back and s, 2 r at the start (Croce and Hein 2020, section 3.1), halved.
    """
    generator = torch.Generator().manual_seed(seed)
    losses, at_rest = [], True
    for start in range(samples):
        if start == 0:
            y = _onto_sphere(around.slope_at(torch.zeros(around.size, dtype=torch.float64))[1], radius)
        else:
            y = _onto_sphere(around.draw(generator), radius)
        loss, slope = around.slope_at(y)
        size, gain = 2 * radius, math.inf
        for _ in range(steps - 1):
            candidate = _into_ball(y + _onto_sphere(slope, size), radius)
            higher, turned = around.slope_at(candidate)
            gain = higher - loss
            if gain > 0:
                y, loss, slope = candidate, higher, turned
            else:
                size /= 2
        losses.append(loss)
        at_rest &= abs(gain) <= REST * abs(loss - around.loss)
    return Found(losses, at_rest)


def search_box(around: Neighbourhood, radius: float, samples: int, steps: int, seed: int) -> Found:
    """The highest loss of |y_i| <= r that L-BFGS-B finds, from the point itself and from random points of the box."""
    generator = torch.Generator().manual_seed(seed)
    searches = []
    for start in range(samples):
        first = torch.zeros(around.size, dtype=torch.float64)
        if start:
            first = radius * (2 * torch.rand(around.size, generator=generator, dtype=torch.float64) - 1)
        searches.append(_climb_box(around, first, radius, steps))
    losses, at_rest = zip(*searches, strict=True)
    return Found(list(losses), all(at_rest))


def _climb_box(around: Neighbourhood, first: Tensor, radius: float, steps: int) -> tuple[float, bool]:
    """The highest loss seen from ``first`` on, and whether the search ended before its last step."""
    highest, slope = around.slope_at(first)
    unit = slope.abs().mean().item() / radius  # so that the first step, minus the gradient, is as long as the box
    if not unit:
        return highest, True

    def descent(y: np.ndarray) -> tuple[float, np.ndarray]:
        nonlocal highest
        loss, slope = around.slope_at(torch.from_numpy(y))
        highest = max(highest, loss)
        return -loss / unit, -slope.numpy() / unit

    options = {"maxiter": steps, "maxfun": 2 * steps}
    bounds = Bounds(np.full(around.size, -radius), np.full(around.size, radius))
    found = minimize(descent, first.numpy(), jac=True, method="L-BFGS-B", bounds=bounds, options=options)
    return highest, bool(found.success)


def average_noise(around: Neighbourhood, radius: float, samples: int, seed: int, **_: object) -> Found:
    """Losses under Gaussian noise y ~ N(0, r^2 I): of every draw the mean over y and -y, whose odd part cancels."""
    generator = torch.Generator().manual_seed(seed)
    losses = []
    for _pair in range(samples):
        noise = radius * around.draw(generator)
        losses.append((around.loss_at(noise) + around.loss_at(-noise)) / 2)
    return Found(losses)


def _onto_sphere(vector: Tensor, radius: float) -> Tensor:
    length = vector.norm()
    return vector * (radius / length) if length else vector


def _into_ball(vector: Tensor, radius: float) -> Tensor:
    inside: Tensor = vector * min(1.0, radius / max(vector.norm().item(), 1e-300))
    return inside
