"""Whether the gradient that autograd gives is that of the loss, tried once on a few samples."""

import contextlib
import warnings
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from landscape.errors import InputError
from landscape.objective.objectives import Objective
from landscape.points import as_float64

__all__ = ["check_gradients", "explained_checkpoints", "without_sparse_gradients"]

STEPS = (3e-3, 1e-3)  # of the differences, as shares of the size of every parameter
SHIFT = 0.03  # of the point, away from kinks
DEVIATION = 0.1  # share of the slope by which a gradient may miss differences that agree among themselves
NOISE = 100  # units of rounding in which a loss may vary
WAY_OUT = (
    "a part of the network or of the loss is cut off from it (torch.utils.checkpoint with use_reentrant=True: pass "
    "use_reentrant=False; detach, .data or no_grad: leave them out, or leave the parameter out of `parameters`)"
)


def check_gradients(objective: Objective, names: Sequence[str]) -> None:
    """Refuse parameters by ``names`` that move the loss of some samples, but not by their gradient.

    A gradient that is missing counts as zero in sums, which is right only where the parameter does not matter: such
    parameters are moved at random. The others are moved along their gradients, each in proportion to its size, and
    the slope of the loss is compared with differences by two steps to both sides, where these agree with each other
    (no kink between them). The point is moved by a little first, as a network may stand on a kink exactly (biases of
    zero).

    Raises:
        InputError: a loss that moves with a parameter without gradient, or by another slope than its gradient.

    Warns:
        UserWarning: gradients of a loss that does not move (straight-through estimators).
    """
    own = dict(objective.model.named_parameters())
    parameters = {name: own[name] for name in names if own[name].numel()}
    origin = {name: parameter.data for name, parameter in parameters.items()}
    generator = torch.Generator().manual_seed(0)
    try:
        _Trial(objective, parameters, generator).run()
    finally:
        for name, parameter in parameters.items():
            parameter.data = origin[name]


class _Trial:
    def __init__(self, objective: Objective, parameters: Mapping[str, Tensor], generator: torch.Generator):
        self.objective, self.parameters, self.generator = objective, parameters, generator
        self.batch: Any = objective.batches.few()
        self.sizes = {name: float(value.detach().abs().max()) or 0.1 for name, value in parameters.items()}
        self._shift({name: SHIFT * self.sizes[name] * self._noise(value) for name, value in parameters.items()})
        self.centre = {name: value.data for name, value in parameters.items()}

    def run(self) -> None:
        with torch.enable_grad(), explained_checkpoints():
            losses = self.objective.losses(self.batch)
            if not losses.requires_grad:
                raise InputError(
                    f"the loss has no gradient with respect to {_listed(list(self.parameters))}: it is no smooth "
                    f"function of them (argmax, counts, thresholds), or {WAY_OUT}"
                )
            found = torch.autograd.grad(losses.sum(), list(self.parameters.values()), allow_unused=True)
        gradients = {
            name: None if value is None else as_float64(value.to_dense() if value.is_sparse else value)
            for name, value in zip(self.parameters, found, strict=True)
        }
        self.losses = as_float64(losses.detach())
        if not self.losses.isfinite().all():
            return
        self._check_missing([name for name, value in gradients.items() if value is None])
        present = {name: value for name, value in gradients.items() if value is not None and bool(value.any())}
        self._check_slopes({name: value for name, value in present.items() if bool(value.isfinite().all())})

    def _check_missing(self, names: list[str]) -> None:
        moved = [name for name in names if self._moves(names) and self._moves([name])]
        if moved:
            raise InputError(
                f"the loss moves with {_listed(moved)}, but autograd gives it no gradient there: {WAY_OUT}"
            )

    def _moves(self, names: list[str]) -> bool:
        """Whether the loss of some sample is another one where parameters are moved at random."""
        steps = {name: 0.1 * self.sizes[name] * self._noise(self.parameters[name]) for name in names}
        change = (self._losses(steps) - self.losses).abs()
        return bool((change > self._rounding()).any())

    def _check_slopes(self, gradients: dict[str, Tensor]) -> None:
        if self._agree(gradients) is not False:
            return
        wrong = [name for name in gradients if self._agree({name: gradients[name]}) is False]
        silent = [
            name for name in wrong if not self._moves([name]) or not self._slope({name: gradients[name]})[0].any()
        ]
        if wrong and wrong == silent:
            warnings.warn(
                f"THE LOSS DOES NOT MOVE WITH {_listed(wrong)} BY SMALL STEPS, although autograd gives a gradient "
                "there (a straight-through estimator?); what is computed belongs to that gradient, not to the loss",
                stacklevel=5,
            )
        elif wrong:
            named = _listed([name for name in wrong if name not in silent])
            raise InputError(
                f"the gradient with respect to {named} is not that of the loss (differences of the loss give another "
                f"slope): a custom backward is wrong, or {WAY_OUT}"
            )

    def _agree(self, gradients: dict[str, Tensor]) -> bool | None:
        """Whether gradient and differences agree; None where rounding or a kink lets nothing be said."""
        found, slope = self._slope(gradients)
        rounding = float(self._rounding().norm()) / 10 / min(STEPS)  # of a sum of many, not the worst of one
        spread = float(found.max() - found.min())
        if spread > DEVIATION * max(float(found.abs().max()), slope) or rounding > DEVIATION * slope:
            return None
        return bool((found.mean() - slope).abs() <= DEVIATION * slope)

    def _slope(self, gradients: dict[str, Tensor]) -> tuple[Tensor, float]:
        """(differences to both sides, slope by the gradients) of the summed losses, each gradient in its own size."""
        direction = {name: value * (self.sizes[name] / value.abs().max()) for name, value in gradients.items()}
        slope = sum(float((direction[name] * value).sum()) for name, value in gradients.items())
        centre = self.losses.sum()
        found = [
            (self._losses({name: sign * step * value for name, value in direction.items()}).sum() - centre)
            / (sign * step)
            for step in STEPS
            for sign in (1, -1)
        ]
        return torch.stack(found), slope

    def _losses(self, steps: dict[str, Tensor]) -> Tensor:
        self._shift(steps)
        try:
            with torch.no_grad():
                return as_float64(self.objective.losses(self.batch))
        finally:
            for name in steps:
                self.parameters[name].data = self.centre[name]

    def _shift(self, steps: dict[str, Tensor]) -> None:
        for name, step in steps.items():
            parameter = self.parameters[name]
            parameter.data = parameter.data + step.to(parameter)

    def _noise(self, like: Tensor) -> Tensor:
        return torch.randn(like.shape, generator=self.generator)

    def _rounding(self) -> Tensor:
        return NOISE * torch.finfo(self.objective.dtype).eps * (self.losses.abs() + self.losses.abs().mean())


@contextlib.contextmanager
def explained_checkpoints() -> Iterator[None]:
    """Say in one line that reentrant checkpointing has no gradients with respect to chosen parameters."""
    try:
        yield
    except RuntimeError as error:
        if "use_reentrant" not in str(error):
            raise
        raise InputError(
            "the network uses torch.utils.checkpoint with use_reentrant=True, which gives no gradients with respect to "
            "chosen parameters; pass use_reentrant=False"
        ) from error


def without_sparse_gradients(model: nn.Module) -> nn.Module:
    """``model`` itself, with embeddings whose gradients are dense tensors, which can be differentiated once more."""
    for module in model.modules():
        if isinstance(module, nn.Embedding | nn.EmbeddingBag):
            module.sparse = False
    return model


def _listed(names: Sequence[str]) -> str:
    shown = ", ".join(map(repr, names[:3]))
    return shown if len(names) <= 3 else f"{shown} and {len(names) - 3} more parameters"
