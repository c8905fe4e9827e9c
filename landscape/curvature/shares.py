"""The shares of a product: each thread computes some of the batches, with a copy of the network."""

import contextlib
import warnings
from collections.abc import Callable, Iterator, Sequence
from typing import Literal

import torch
from torch import Tensor
from torch.autograd.graph import saved_tensors_hooks

from landscape.curvature.batches import BATCH_PRODUCTS, Pieces, gradient_of
from landscape.errors import InputError
from landscape.objective.objectives import Objective
from landscape.objective.responses import check_gradients, explained_checkpoints, without_sparse_gradients
from landscape.objective.trees import tensors_of
from landscape.objective.workers import Team
from landscape.points import as_float64, cut
from landscape.runtime import math_attention

__all__ = ["Method", "Share", "differentiating", "shares_of"]

Method = Literal["hessian", "ggn", "differences"]

MOST_GRAPHS = 768 * 2**20  # bytes of the graphs kept between products, all threads together
CACHED = 24 * 2**20  # bytes of the graph of one batch; a larger graph does not fit into the processor's cache
BATCHES = (16, 4096)  # smallest and largest number of samples in a batch
SYMMETRIC = 0.05  # largest asymmetry that rounding in float32 causes; a wrong derivative causes more


class Share:
    """The part of a product that comes from every ``team``-th batch, beginning with batch ``rank``.

    The graph of a gradient is the same for all products at one point. So the graphs of the first ``most_kept`` batches
    are kept between products; the others are computed again.
    """

    def __init__(self, objective: Objective, names: list[str], method: Method):
        self.objective, self.method = objective, method
        parameters = dict(without_sparse_gradients(objective.model).named_parameters())
        self.parameters = [parameters[name].requires_grad_() for name in names]
        self.kept: dict[int, Callable[[Pieces], Pieces]] = {}

    def arrange(self, rank: int, team: int, batch_size: int, most_kept: int) -> None:
        """Set the batches of this share, and the number of batches whose graphs it keeps."""
        self.rank, self.team, self.batch_size, self.most_kept = rank, team, batch_size, most_kept

    def product(self, vector: Tensor, team: Team) -> Tensor:
        """The sum [D] over the samples of this share, in float64."""
        with torch.enable_grad():  # needed here, because the setting belongs to the thread
            if self.method == "differences":
                return self._difference(vector, team)
            direction = self._pieces(vector)
            return self._sum(lambda number, batch: self._batch_product(number, batch)(direction), team)

    def gradient(self, team: Team) -> Tensor:
        """The sum [D] of the gradients of the samples of this share, in float64."""
        with torch.enable_grad():  # needed here, because the setting belongs to the thread
            return self._sum(lambda _, batch: gradient_of(self.objective, batch, self.parameters), team)

    def try_out(self, batch: object) -> int:
        """Compute one product with a batch, and return the bytes of its graph without weights and data."""
        inputs = {tensor.untyped_storage().data_ptr() for tensor in (*tensors_of(batch), *self.parameters)}
        sizes: dict[int, int] = {}

        def pack(tensor: Tensor) -> Tensor:
            with contextlib.suppress(RuntimeError):  # tensors wrapped by torch.func have no storage
                storage = tensor.untyped_storage()
                if storage.data_ptr() not in inputs:
                    sizes[storage.data_ptr()] = storage.nbytes()
            return tensor

        with torch.enable_grad():
            try:
                with saved_tensors_hooks(pack, lambda tensor: tensor):
                    self._try(batch)
            except RuntimeError as error:
                if "saved tensor hooks" not in str(error):
                    raise
                self._try(batch)  # the loss uses torch.func, which does not allow hooks on its graph
                return CACHED
        return sum(sizes.values())

    def _try(self, batch: object) -> None:
        if self.method == "differences":
            gradient_of(self.objective, batch, self.parameters)
        else:
            BATCH_PRODUCTS[self.method](self.objective, batch, self.parameters)(self.parameters)

    def asymmetry(self, batch: object) -> float:
        """Largest |u^T H v - v^T H u| / |H v| over three random vectors, for the Hessian H on ``batch``."""
        with torch.enable_grad():
            product = BATCH_PRODUCTS["hessian"](self.objective, batch, self.parameters)
            size = sum(parameter.numel() for parameter in self.parameters)
            vectors = torch.randn(3, size, generator=torch.Generator().manual_seed(0)).to(self.parameters[0])
            products = torch.stack([self._flattened(product(self._pieces(vector))) for vector in vectors])
        forms = as_float64(vectors) @ products.T  # u^T H v for every pair of vectors
        return float(((forms - forms.T).abs() / products.norm(dim=1)).nan_to_num(0.0).max())

    def _batch_product(self, number: int, batch: object) -> Callable[[Pieces], Pieces]:
        if number in self.kept:
            return self.kept[number]
        product = BATCH_PRODUCTS[self.method](self.objective, batch, self.parameters)
        if len(self.kept) < self.most_kept:
            self.kept[number] = product
        return product

    def _difference(self, vector: Tensor, team: Team) -> Tensor:
        """(g(theta + h v) - g(theta - h v)) / 2 h; the parameters are restored afterwards."""
        origin = [parameter.detach().clone() for parameter in self.parameters]
        eps, length = torch.finfo(vector.dtype).eps, vector.norm()
        if not length:
            return torch.zeros_like(as_float64(vector))
        size = torch.cat([value.flatten() for value in origin]).norm().clamp(min=1)
        step, ends = eps ** (1 / 3) * size / length, list[Tensor]()
        try:
            for sign in (1, -1):
                self._move(origin, self._pieces(vector), sign * step)
                ends.append(self._sum(lambda _, batch: gradient_of(self.objective, batch, self.parameters), team))
        finally:
            self._move(origin, origin, 0.0)
        difference: Tensor = (ends[0] - ends[1]) / (2 * step.to(ends[0]))
        return difference

    def _move(self, origin: list[Tensor], direction: Sequence[Tensor], step: Tensor | float) -> None:
        for parameter, value, piece in zip(self.parameters, origin, direction, strict=True):
            parameter.data = value + step * piece

    def _sum(self, function: Callable[[int, object], Pieces], team: Team) -> Tensor:
        """The sum [D], in float64, of ``function(number of the batch, batch)`` over the batches of this share."""
        total = as_float64(torch.zeros_like(torch.cat([value.detach().flatten() for value in self.parameters])))
        for number, (_, batch) in enumerate(self.objective.batches(self.batch_size)):
            if number % self.team == self.rank and not team.stopped:
                total += self._flattened(function(number, batch))
        return total

    def _flattened(self, pieces: Pieces) -> Tensor:
        dense = [
            torch.zeros_like(parameter) if piece is None else piece.to_dense() if piece.is_sparse else piece
            for parameter, piece in zip(self.parameters, pieces, strict=True)
        ]
        return as_float64(torch.cat([piece.detach().flatten() for piece in dense]))

    def _pieces(self, vector: Tensor) -> list[Tensor]:
        parts = cut(vector, [parameter.numel() for parameter in self.parameters])
        return [part.view_as(parameter) for part, parameter in zip(parts, self.parameters, strict=True)]


def shares_of(objective: Objective, names: list[str], method: Method) -> list[Share]:
    """One share for each thread of a team; unless the batch size is fixed, batches are sized for the cache."""
    team = Team(objective).size
    first, fixed = Share(objective, names, method), objective.batches_fixed
    with differentiating():
        check_gradients(objective, names)
        _, batch = next(iter(objective.batches(objective.batch_size if fixed else BATCHES[0])))
        sample = max(1, first.try_out(batch) // len(tensors_of(batch)[0]))
        if method == "hessian" and (asymmetry := first.asymmetry(batch)) > SYMMETRIC:
            warnings.warn(
                f"THE HESSIAN PRODUCT IS NOT SYMMETRIC ({asymmetry:.0%} off): the second derivative of some operation "
                "is wrong or lost in rounding; try hessian_product(..., differences=True), or dtype=torch.float64",
                stacklevel=4,
            )
    batch_size = objective.batch_size
    if not fixed:
        batch_size = min(max(CACHED // sample, BATCHES[0]), BATCHES[1], objective.batch_size)
        batches = -(-objective.size // (batch_size * team)) * team
        batch_size = -(-objective.size // batches)
    shares = [first, *(Share(objective.twin(), names, method) for _ in range(team - 1))]
    for rank, share in enumerate(shares):
        share.arrange(rank, team, batch_size, MOST_GRAPHS // (team * sample * batch_size))
    return shares


@contextlib.contextmanager
def differentiating() -> Iterator[None]:
    """Use kernels that can be differentiated twice, and turn errors of differentiation into InputError."""
    try:
        with math_attention(), explained_checkpoints():
            yield
    except InputError:
        raise
    except torch.OutOfMemoryError as error:
        raise InputError(f"out of memory: {error}; make the objective with a smaller batch_size") from error
    except RuntimeError as error:
        reason = str(error).splitlines()[0]
        if not any(hint in reason for hint in UNDIFFERENTIABLE):
            raise
        raise InputError(
            f"the loss has no second derivatives here ({reason}); use a smooth loss of the network's outputs, or "
            "hessian_product(..., differences=True) if it can be differentiated once"
        ) from error


UNDIFFERENTIABLE = ("not implemented", "once_differentiable", "does not require grad", "not differentiable")
