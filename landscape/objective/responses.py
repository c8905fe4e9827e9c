"""The check, on a few samples, that the gradient from autograd is the gradient of the loss."""

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

STEPS = (3e-3, 1e-3)  # of the finite differences, relative to the size max |theta| of every parameter
SHIFT = 0.03  # of the point, away from kinks: standard deviation relative to the size of every parameter
DEVIATION = 0.1  # largest relative difference between the slope and the finite differences, and between two of these
NOISE = 100  # units in the last place by which rounding may change a loss
WAY_OUT = (
    "a part of the network or of the loss is detached from it (torch.utils.checkpoint with use_reentrant=True: pass "
    "use_reentrant=False; detach, .data or no_grad: leave them out, or leave the parameter out of `parameters`)"
)


def check_gradients(objective: Objective, names: Sequence[str]) -> None:
    """Raise InputError if the gradient with respect to one of the parameters ``names`` is not that of the loss.

    A missing gradient counts as zero in sums, which is right only if the loss does not depend on the parameter. So
    parameters without a gradient are moved at random, and the loss must not change.

    The other parameters are moved along their gradients g: a parameter of size s = max |theta| (0.1 if all its entries
    are zero) moves by h d, where d = s g / max |g| and h is 3e-3, -3e-3, 1e-3 and -1e-3. The finite differences
    (L(theta + h d) - L(theta)) / h of the summed losses L are compared with the slope sum g d, unless they differ among
    each other, because then a kink lies between the points. Before all this the point is moved a little, because a
    network may lie exactly on a kink (biases of zero).

    Raises:
        InputError: the loss changes with a parameter that has no gradient, or with another slope than its gradient.

    Warns:
        UserWarning: the loss does not change with a parameter that has a gradient (straight-through estimators).
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
            pieces = torch.autograd.grad(losses.sum(), list(self.parameters.values()), allow_unused=True)
        gradients = {
            name: None if value is None else as_float64(value.to_dense() if value.is_sparse else value)
            for name, value in zip(self.parameters, pieces, strict=True)
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
            raise InputError(f"the loss changes with {_listed(moved)}, for which autograd gives no gradient: {WAY_OUT}")

    def _moves(self, names: list[str]) -> bool:
        """Whether the loss of at least one sample changes when the parameters ``names`` are moved at random."""
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
                f"THE LOSS DOES NOT CHANGE WITH {_listed(wrong)} BY SMALL STEPS, although autograd gives a gradient "
                "(a straight-through estimator?); results are computed from that gradient, not from the loss",
                stacklevel=5,
            )
        elif wrong:
            named = _listed([name for name in wrong if name not in silent])
            raise InputError(
                f"the gradient with respect to {named} is not that of the loss (differences of the loss give another "
                f"slope): a custom backward is wrong, or {WAY_OUT}"
            )

    def _agree(self, gradients: dict[str, Tensor]) -> bool | None:
        """Whether gradient and finite differences agree; None if rounding or a kink prevents a decision."""
        differences, slope = self._slope(gradients)
        rounding = float(self._rounding().norm()) / 10 / min(STEPS)  # the typical error of a sum, not the largest
        spread = float(differences.max() - differences.min())
        if spread > DEVIATION * max(float(differences.abs().max()), slope) or rounding > DEVIATION * slope:
            return None
        return bool((differences.mean() - slope).abs() <= DEVIATION * slope)

    def _slope(self, gradients: dict[str, Tensor]) -> tuple[Tensor, float]:
        """(finite differences [4] for all steps in both directions, slope from the gradients) of the summed losses."""
        direction = {name: value * (self.sizes[name] / value.abs().max()) for name, value in gradients.items()}
        slope = sum(float((direction[name] * value).sum()) for name, value in gradients.items())
        centre = self.losses.sum()
        differences = [
            (self._losses({name: sign * step * value for name, value in direction.items()}).sum() - centre)
            / (sign * step)
            for step in STEPS
            for sign in (1, -1)
        ]
        return torch.stack(differences), slope

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
    """Turn torch's error about reentrant checkpointing into an InputError."""
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
    """``model`` itself, after making the gradients of its embeddings dense, so that these can be differentiated."""
    for module in model.modules():
        if isinstance(module, nn.Embedding | nn.EmbeddingBag):
            module.sparse = False
    return model


def _listed(names: Sequence[str]) -> str:
    shown = ", ".join(map(repr, names[:3]))
    return shown if len(names) <= 3 else f"{shown} and {len(names) - 3} more parameters"
