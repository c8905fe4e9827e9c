"""The tracker of Weights & Biases."""

from typing import Any

import numpy as np

from landscape.errors import InputTypeError
from landscape.extras import imported
from landscape.runtime import ranks
from landscape.trackers.tracker import Tracker

__all__ = ["Wandb"]

STEP = "step"  # our own axis: that of W&B takes no step before the latest one


class Wandb(Tracker):
    """Sends numbers and figures to a run of Weights & Biases.

    As a hook of `fit`, and for results at any step::

        with ll.trackers.Wandb(project="landscapes", mode="offline") as tracker:
            ll.fit(model, train, test, on_epoch=tracker.on_epoch, epochs=5)
            tracker.add("plane", ll.evaluate(objective, ll.random_plane(model)))

    Args:
        run: A run of your own, which `close` leaves open; default: a new one.
        **settings: The arguments of ``wandb.init`` for a new run, such as ``project`` and ``mode="offline"``.

    Raises:
        InputError: the package wandb is not installed.
    """

    def __init__(self, run: Any = None, **settings: Any):
        super().__init__()
        self._wandb: Any = imported("wandb", "wandb", "the tracker of Weights & Biases")
        if run is not None and not (hasattr(run, "log") and hasattr(run, "define_metric")):
            raise InputTypeError(f"Wandb(run) takes a run, as wandb.init returns it, not {type(run).__name__}")
        self._own = run is None
        self._run = run
        if self._own and ranks.is_first_rank():
            self._run = self._wandb.init(**settings)
        if self._run is not None:
            self._run.define_metric("*", step_metric=STEP)

    def send_numbers(self, numbers: dict[str, float], step: int) -> None:
        self._run.log({**numbers, STEP: step})

    def send_picture(self, name: str, pixels: np.ndarray, step: int) -> None:
        self._run.log({name: self._wandb.Image(pixels), STEP: step})

    def end(self) -> None:
        if self._own and self._run is not None:
            self._run.finish()
