"""The tracker of TensorBoard."""

from pathlib import Path
from typing import Any

import numpy as np

from landscape.errors import InputTypeError
from landscape.extras import imported
from landscape.runtime import ranks
from landscape.storage.files import make_folder
from landscape.trackers.tracker import Tracker

__all__ = ["TensorBoard"]


class TensorBoard(Tracker):
    """Writes numbers and figures for TensorBoard.

    As a hook of `fit`, and for results at any step::

        with ll.trackers.TensorBoard("runs/first") as tracker:
            ll.fit(model, train, test, on_epoch=tracker.on_epoch, epochs=5)
            tracker.add("plane", ll.evaluate(objective, ll.random_plane(model)))

    Args:
        folder: Folder of the run, or a `SummaryWriter` of your own, such as ``trainer.logger.experiment`` of Lightning.

    Raises:
        InputError: the package tensorboard is not installed, or ``folder`` cannot be written into.
    """

    def __init__(self, folder: str | Path | Any):
        super().__init__()
        module: Any = imported("torch.utils.tensorboard", "tensorboard", "the tracker of TensorBoard")
        self._writer: Any = folder
        if isinstance(folder, str | Path):
            self._writer = module.SummaryWriter(str(make_folder(folder))) if ranks.is_first_rank() else None
        elif not hasattr(folder, "add_scalar") or not hasattr(folder, "add_image"):
            raise InputTypeError(f"TensorBoard(folder) takes a folder or a SummaryWriter, not {type(folder).__name__}")

    def send_numbers(self, numbers: dict[str, float], step: int) -> None:
        for name, value in numbers.items():
            self._writer.add_scalar(name, value, global_step=step)

    def send_picture(self, name: str, pixels: np.ndarray, step: int) -> None:
        self._writer.add_image(name, pixels, global_step=step, dataformats="HWC")

    def end(self) -> None:
        if self._writer is not None:
            self._writer.close()
