"""What all trackers have in common: hooks of a training run, and the numbers and the picture of a result."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor, nn

from landscape.checks import check_count, check_type
from landscape.errors import InputError, InputTypeError
from landscape.plotting.pixels import pixels_of
from landscape.presenting import Pictured
from landscape.results import SharpnessHistory
from landscape.runtime import ranks
from landscape.trackers.numbers import numbers_of, rows_of_history

__all__ = ["Tracker"]

SIZE = (5.6, 4.6)  # inches of the picture of a result


class Tracker(ABC):
    """Sends numbers and figures to a tool that shows experiments; of several processes, the first one does.

    ``add`` and the hooks of `fit` give every number the step at which the tool shows it.
    """

    def __init__(self) -> None:
        self._step = 0  # of the latest call of a hook
        self._closed = False

    def on_epoch(self, epoch: int, model: nn.Module, metrics: Mapping[str, Any]) -> None:
        """The hook of `fit` after every epoch: those of its metrics that are numbers."""
        self._check_open()
        self._step = epoch
        self._numbers({name: value for name, value in metrics.items() if _is_number(value)}, epoch)

    def on_step(self, step: int, model: nn.Module, loss: Tensor) -> None:
        """The hook of `fit` after every step: the loss of its mini-batch."""
        self._check_open()
        if not _is_number(loss):
            raise InputTypeError(f"on_step(step, model, loss) takes a real number as loss, not {type(loss).__name__}")
        self._step = step
        self._numbers({"loss": loss}, step)

    def add(self, name: str, result: Any, *, step: int | None = None) -> None:
        """Send a result, such as a surface or a sharpness: its main numbers, and its picture.

        The entries of a `SharpnessHistory` are sent at their own steps.

        Args:
            name: The name under which the tool shows it; the numbers are called ``name/...``.
            result: A result, a number, or a figure or axes of matplotlib.
            step: The step at which it is shown; default: that of the latest epoch or step of the hooks.

        Raises:
            InputError: ``result`` is none of these, or a surface with a quantity that has the name of another number;
                the step is no whole number from 0 up; the tracker is closed.
        """
        self._check_open()
        check_type(name, str, "add(name, result)", "a text as name")
        step = self._step if step is None else int(step) if isinstance(step, np.integer) else step
        check_count("step", step, least=0)
        if _is_number(result):
            self._numbers({name: result}, step)
        elif isinstance(result, Figure | Axes):
            self._picture(name, result, step)
        elif isinstance(result, Pictured):
            history = rows_of_history(result) if isinstance(result, SharpnessHistory) else [(step, numbers_of(result))]
            figure = Figure(SIZE, layout="constrained")
            result.draw(figure.add_subplot())  # first, so that nothing is sent of a result that cannot be drawn
            for at, numbers in history:
                self._numbers({f"{name}/{key}": value for key, value in numbers.items()}, at)
            self._picture(name, figure, step)
        else:
            raise InputTypeError(f"add(name, result) takes a result, a number or a figure, not {type(result).__name__}")

    def __enter__(self) -> "Tracker":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Write what has not been written, and end the run; nothing can be sent afterwards."""
        if not self._closed:
            self._closed = True
            self.end()

    def _check_open(self) -> None:
        if self._closed:
            raise InputError(
                f"this {type(self).__name__} tracker is closed; send everything before close(), or make a new one"
            )

    def _numbers(self, numbers: Mapping[str, Any], step: int) -> None:
        if ranks.is_first_rank() and numbers:
            self.send_numbers(
                {name: float(value.item() if hasattr(value, "item") else value) for name, value in numbers.items()},
                step,
            )

    def _picture(self, name: str, figure: Figure | Axes, step: int) -> None:
        if ranks.is_first_rank():
            self.send_picture(name, pixels_of(figure), step)

    @abstractmethod
    def send_numbers(self, numbers: dict[str, float], step: int) -> None:
        """Send numbers by name."""

    @abstractmethod
    def send_picture(self, name: str, pixels: np.ndarray, step: int) -> None:
        """Send a picture [H, W, 3] uint8."""

    @abstractmethod
    def end(self) -> None:
        """Write what has not been written, and end the run."""


def _is_number(value: object) -> bool:
    """Whether ``value`` is one real number: of Python, of numpy, or in a tensor; truth values are none."""
    if isinstance(value, Tensor):
        return value.numel() == 1 and not value.is_complex() and value.dtype != torch.bool
    if isinstance(value, np.ndarray | np.generic):
        return value.size == 1 and value.dtype.kind in "fiu"
    return isinstance(value, int | float) and not isinstance(value, bool)
