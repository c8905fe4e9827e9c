"""The largest eigenvalue of the Hessian as an optimizer sees it: divided by its preconditioner.

Source: Cohen et al. 2022, Adaptive Gradient Methods at the Edge of Stability, section 3.
"""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from scipy.sparse.linalg import ArpackError, ArpackNoConvergence, LinearOperator, eigsh
from torch import Tensor, nn
from torch.optim import Optimizer

from landscape.curvature.products import hessian_product
from landscape.errors import InputError
from landscape.objective.objectives import Objective
from landscape.points import Point, as_float64, named_parameters

__all__ = ["KINDS", "check_kind", "preconditioned_sharpness", "preconditioner_of"]

KINDS = (torch.optim.SGD, torch.optim.Adam, torch.optim.AdamW, torch.optim.RMSprop)
DENSE = 24  # dimension up to which the whole matrix takes no more products than the Lanczos iteration


def check_kind(optimizer: Optimizer) -> None:
    """Raise InputError unless the preconditioner of ``optimizer`` is known, and one threshold holds for all groups."""
    if not isinstance(optimizer, KINDS):
        known = ", ".join(kind.__name__ for kind in KINDS)
        raise InputError(
            f"the preconditioned sharpness is known for {known}, not for {type(optimizer).__name__}; leave this "
            "measure out"
        )
    for group in optimizer.param_groups:
        if group.get("maximize"):
            raise InputError("the optimizer maximises the loss, so that curvature does not limit its steps")
    factors = {_threshold(optimizer, group) for group in optimizer.param_groups}
    if len(factors) > 1:
        raise InputError("the groups of the optimizer have different momenta, so that no one threshold holds for them")


def preconditioner_of(optimizer: Optimizer, model: nn.Module) -> tuple[dict[str, Tensor], float]:
    """The diagonal P of the last step, for the parameters that it moved, and the threshold of lambda_max(P^-1 H).

    On a quadratic loss the optimizer with this P is unstable where lambda_max(P^-1 H) is above the threshold:

    - SGD: P = 1, (2 + 2 m) / ((1 - d) lr) for the momentum m and dampening d, and (2 + 2 m) / ((1 + 2 m) lr) for
      Nesterov momentum.
    - Adam and AdamW: P = (1 - b1^t) (sqrt(v / (1 - b2^t)) + eps), (2 + 2 b1) / ((1 - b1) lr).
    - RMSprop: P = sqrt(v) + eps, v without the squared mean of the gradients if centered; (2 + 2 m) / lr.

    Weight decay is no part of the loss and is left out. The threshold for Nesterov momentum is from Cohen et al. 2021,
    "Gradient Descent on Neural Networks Typically Occurs at the Edge of Stability", appendix B.

    Raises:
        InputError: the optimizer is another one, its groups have different momenta, it maximises, or it has no
            preconditioner before its first step (all but SGD).
    """
    check_kind(optimizer)
    names = {id(parameter): name for name, parameter in named_parameters(model)}
    diagonal: dict[str, Tensor] = {}
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            if (name := names.get(id(parameter))) and parameter.requires_grad:
                if isinstance(optimizer, torch.optim.SGD):
                    diagonal[name] = torch.ones_like(parameter, dtype=torch.float64)
                elif state := optimizer.state.get(parameter):
                    diagonal[name] = _scale(state, group, isinstance(optimizer, torch.optim.RMSprop))
    if not diagonal:
        raise InputError("the optimizer has made no step, so that it has no preconditioner yet")
    group = optimizer.param_groups[0]
    return diagonal, _threshold(optimizer, group) / float(group["lr"])


def _threshold(optimizer: Optimizer, group: Mapping[str, Any]) -> float:
    """The threshold times the learning rate."""
    if isinstance(optimizer, torch.optim.Adam | torch.optim.AdamW):
        first = float(group["betas"][0])
        return (2 + 2 * first) / (1 - first)
    momentum = float(group["momentum"])
    if group.get("nesterov"):
        return (2 + 2 * momentum) / (1 + 2 * momentum)
    return (2 + 2 * momentum) / (1 - float(group.get("dampening", 0)) * bool(momentum))


def _scale(state: Mapping[str, Any], group: Mapping[str, Any], is_rmsprop: bool) -> Tensor:
    """The entries of P for one parameter of Adam, AdamW or RMSprop."""
    if is_rmsprop:
        square = as_float64(state["square_avg"])
        if group["centered"]:
            square = square - as_float64(state["grad_avg"]).square()
        return square.clamp(min=0).sqrt() + float(group["eps"])
    steps, (first, second) = float(state["step"]), map(float, group["betas"])
    square = as_float64(state["max_exp_avg_sq"] if group["amsgrad"] else state["exp_avg_sq"])
    corrected, spread = 1 - math.pow(first, steps), 1 - math.pow(second, steps)
    return corrected * ((square / spread).sqrt() + float(group["eps"]))


def preconditioned_sharpness(
    objective: Objective, point: Point, diagonal: Mapping[str, Tensor], *, tol: float = 1e-3, seed: int = 0
) -> float:
    """The largest eigenvalue of P^-1/2 H P^-1/2, which is that of P^-1 H, at ``point`` for the ``diagonal`` of P.

    H is the block of the parameters in ``diagonal``. The value comes from a Lanczos iteration (ARPACK) whose residual
    is at most ``tol`` times it; NaN if that does not converge.
    """
    product = hessian_product(objective, point, parameters=list(diagonal))
    root = torch.cat([as_float64(diagonal[name]).flatten().cpu().rsqrt() for name in product.names]).numpy()

    def multiply(vector: np.ndarray) -> np.ndarray:
        image: np.ndarray = root * product.matvec(root * vector.ravel())
        return image

    size = product.dimension
    if size <= DENSE:
        matrix = np.stack([multiply(unit) for unit in np.eye(size)])
        return float(np.linalg.eigvalsh((matrix + matrix.T) / 2)[-1])
    operator = LinearOperator((size, size), matvec=multiply, dtype=np.float64)
    start = np.random.default_rng(seed).standard_normal(size)
    try:
        return float(eigsh(operator, 1, which="LA", tol=tol, v0=start, ncv=min(size, 20), return_eigenvectors=False)[0])
    except (ArpackNoConvergence, ArpackError):
        return float("nan")
