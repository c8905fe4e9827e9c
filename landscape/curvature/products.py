"""Products of the Hessian, or of the generalised Gauss-Newton matrix, with vectors; the matrix is never formed."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor, nn

from landscape.curvature.shares import Method, Share, differentiating, shares_of
from landscape.errors import InputError
from landscape.objective.identity import objective_identity
from landscape.objective.objectives import Objective, check_objective
from landscape.objective.settling import check_source
from landscape.objective.workers import Team
from landscape.points import Point, as_point, check_match, cut, point_moving, without_wrapped_names
from landscape.runtime import own_torch_state
from landscape.slices.chosen import chosen_parameters
from landscape.slices.networks import Networks
from landscape.storage.provenance import fingerprint, versions

__all__ = ["Product", "ggn_product", "hessian_product"]


def hessian_product(
    objective: Objective,
    point: nn.Module | Point,
    *,
    parameters: str | Sequence[str] = ("*",),
    differences: bool = False,
) -> "Product":
    """The linear map v -> H v for the Hessian H = 1/N sum_n d^2 l_n / dtheta^2 of the mean loss at ``point``.

    The product is exact up to rounding: the gradient is differentiated once more (Pearlmutter 1994, "Fast Exact
    Multiplication by the Hessian"). Batches are summed in float64, so that their size does not matter. With the
    BatchNorm policies "running" and "recalibrate" the statistics are constants, taken at ``point``; with "batch" they
    are functions of the weights, and batches have ``objective.batch_size`` samples.

    Args:
        objective: The losses l_n; it is not changed.
        point: The network or point at which H is taken; later changes of it have no effect.
        parameters: The parameters of v, such as ("layer3.*",) or "trainable", see `chosen_parameters`; H is the
            corresponding diagonal block.
        differences: Compute (g(theta + h v) - g(theta - h v)) / 2 h from the gradient g instead, for networks that can
            be differentiated only once; h |v| = cbrt(eps) max(1, |theta|) with the machine epsilon of the dtype.

    Raises:
        InputError: the point belongs to another network, or a pattern matches no parameter; at the first product,
            the loss has no second derivatives or they are not finite.

    Warns:
        UserWarning: u^T H v differs from v^T H u on some samples. Then torch's second derivative of an operation is
            wrong, or the loss is so small that H consists of rounding errors.

    Example:
        >>> from landscape_lib import objective, parameters_of
        >>> model, data = torch.nn.Linear(4, 3), (torch.randn(5, 4), torch.tensor([0, 1, 2, 0, 1]))
        >>> product = hessian_product(objective(model, data), model, parameters=("weight",))
        >>> product.dimension, product(product.names and {"weight": torch.ones(3, 4)})["weight"].shape
        (12, torch.Size([3, 4]))
    """
    return Product(objective, point, parameters, "differences" if differences else "hessian")


def ggn_product(
    objective: Objective, point: nn.Module | Point, *, parameters: str | Sequence[str] = ("*",)
) -> "Product":
    """The linear map v -> G v for the generalised Gauss-Newton matrix G = 1/N sum_n J_n^T (d^2 l_n / dz^2) J_n.

    Here z are the outputs of the network and J_n = dz / dtheta. G is the Hessian without the second derivatives of the
    network; it is positive semidefinite if the loss is convex in z. The arguments are those of `hessian_product`.
    Source: Schraudolph 2002, "Fast Curvature Matrix-Vector Products for Second-Order Gradient Descent", section 3.

    Raises:
        InputError: as for `hessian_product`; or the loss is not a function of the outputs of one call of the network.
    """
    return Product(objective, point, parameters, "ggn")


class Product:
    """A symmetric D x D matrix that can be multiplied with vectors; see `hessian_product` and `ggn_product`.

    `top_eigenpairs`, `trace` and `spectral_density` take a product. It keeps the graphs of the derivatives from one
    multiplication to the next, until `release` is called, so that all measurements share them.

    Attributes: ``point`` is the point of the derivatives; ``names`` are the parameters of a vector, in the order of its
    pieces; ``dimension`` is D; ``count`` is the number of products computed so far; ``networks`` holds the buffers of
    the network at the point (None if the point is a plain dict); ``kind`` is "hessian", "ggn" or "hessian by finite
    differences".
    """

    @own_torch_state()
    def __init__(self, objective: Objective, point: nn.Module | Point, parameters: str | Sequence[str], method: Method):
        check_objective(objective, f"{'ggn' if method == 'ggn' else 'hessian'}_product(objective, model)")
        self.networks = Networks.around(point)
        parameters_of_model: dict[str, Tensor] = dict(objective.model.named_parameters())
        source = point if isinstance(point, nn.Module) else without_wrapped_names(as_point(point), parameters_of_model)
        check_match(point_moving(source, ()), parameters_of_model)
        check_source(objective.network, point)
        self.kind = "hessian by finite differences" if method == "differences" else method
        self.names, self.count = chosen_parameters(source, parameters), 0
        self.point = point_moving(source, self.names)
        self.objective = objective.for_slice(None).in_full_precision().twin()
        self._like = {name: self.point[name].to(self.objective.dtype) for name in self.names}
        self._sizes = [value.numel() for value in self._like.values()]
        self.dimension = sum(self._sizes)
        self._fingerprint = fingerprint(self.point.values())
        with self.objective.arithmetic():
            # Copied, because the caller may continue to train the network with which the point shares these tensors.
            rest = {name: value.clone() for name, value in self.point.items() if name not in self.names}
            self.objective.move_to({**self.point, **rest})
            self.objective.check_moves(self.names)
            self.objective.settle_overwritten()
            self._shares = shares_of(self.objective, self.names, method)

    def __repr__(self) -> str:
        of = f"{len(self.names)} of {len(self.point)} parameters, {self.objective.size:,} samples"
        return f"Product({self.kind}, dimension {self.dimension:,}; {of})"

    @own_torch_state()
    def __call__(self, direction: Point) -> Point:
        """The product with ``direction``, keyed like ``names``, in the dtype of the objective."""
        check_match(direction, self._like, "direction")
        vector = torch.cat([direction[name].detach().flatten().cpu() for name in self.names])
        return self.unflatten(self._multiply(vector))

    @own_torch_state()
    def matvec(self, vector: ArrayLike) -> np.ndarray:
        """The product [D], in float64, with ``vector`` [D], the concatenated parameters of ``names``."""
        array = np.asarray(vector)
        if array.dtype.kind not in "fiub":
            raise InputError(f"the vector holds {array.dtype}; it must hold real numbers")
        if array.size != self.dimension or max(array.shape, default=1) != self.dimension:
            shape = f"the shape {array.shape}" if array.ndim != 1 else f"{array.size} entries"
            raise InputError(f"the vector has {shape}, but the dimension is {self.dimension}")
        return self._multiply(torch.from_numpy(np.ascontiguousarray(array).reshape(-1))).numpy()

    @own_torch_state()
    def gradient(self) -> np.ndarray:
        """The gradient [D] of the mean loss at the point, in float64; statistics are constants as in the products."""
        return self._mean(lambda share, team: share.gradient(team)).numpy()

    def release(self) -> None:
        """Free the graphs of the derivatives; the next product computes them again."""
        for share in self._shares:
            share.kept.clear()

    @own_torch_state()
    def unflatten(self, vector: Tensor | np.ndarray) -> Point:
        """``vector`` [D] as a dict keyed like ``names``, in the dtype of the objective."""
        pieces = cut(torch.as_tensor(vector), self._sizes)
        return {
            name: piece.reshape(like.shape).to(like)
            for (name, like), piece in zip(self._like.items(), pieces, strict=True)
        }

    @property
    def numpy_dtype(self) -> np.dtype:
        """The dtype of the objective as a numpy dtype."""
        return np.dtype(str(self.objective.dtype).removeprefix("torch."))

    @property
    def description(self) -> dict[str, Any]:
        """What the matrix depends on and how products are computed, as metadata of JSON types."""
        return {
            "operator": self.kind,
            "parameters": {name: list(value.shape) for name, value in self._like.items()},
            "dimension": self.dimension,
            "point": self._fingerprint,
            "data": {**self.objective.samples.description, "size": self.objective.size},
            **objective_identity(self.objective),
            "batch_size": self._shares[0].batch_size,
            "device": str(self.objective.device),
            "versions": versions(),
        }

    def _multiply(self, vector: Tensor) -> Tensor:
        vector = vector.to(self.objective.device, self.objective.dtype)
        total = self._mean(lambda share, team: share.product(vector, team))
        self.count += 1
        if not total.isfinite().all():
            overflow = "the loss or a derivative overflows here"
            reason = overflow if vector.isfinite().all() else "the vector is not finite"
            raise InputError(f"the {self.kind} product is not finite: {reason}")
        return total

    def _mean(self, of_share: Callable[[Share, Team], Tensor]) -> Tensor:
        """The mean [D] over samples, in float64 on the CPU, of what ``of_share`` sums over the samples of a share."""
        with self.objective.arithmetic(), differentiating(), Team(self.objective) as team:
            sums = team.map(lambda _, share: of_share(share, team), self._shares)
        return (torch.stack(sums).sum(0) / self.objective.size).cpu()
