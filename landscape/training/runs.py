"""The folder of one training run: checkpoints, metrics, and the state to go on from."""

import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Literal

from torch import nn

from landscape.errors import InputError
from landscape.runtime import ranks
from landscape.storage.files import make_folder
from landscape.storage.json_files import read_json, write_sealed
from landscape.storage.locks import claimed
from landscape.storage.reading import is_there
from landscape.training.checkpoints import save_checkpoint

__all__ = ["Run", "epochs_to_save"]


class Run:
    """``folder`` with ``epoch_000.pth`` ... (checkpoints), ``metrics.json`` and ``state.pth``, for :func:`fit`.

    Its method ``keep`` is the hook after every epoch, its path ``state`` what ``fit`` goes on from.

    Args:
        folder: Made where it is missing.
        epochs: Number of epochs of the run.
        save_epochs: Epochs that get a checkpoint, 0 for the initial weights, or "all"; the last one always does.
        resume: Go on with the run that is in the folder, instead of refusing it.
        checkpoint: What all checkpoints share: model_name, model_arguments, data and settings, see
            :func:`save_checkpoint`.

    Raises:
        InputError: an epoch beyond the last, the folder cannot be written, holds a run that is not to be resumed, or
            none that could be.
    """

    def __init__(
        self,
        folder: str | Path,
        *,
        epochs: int,
        save_epochs: Iterable[int] | Literal["all"],
        resume: bool,
        checkpoint: dict[str, Any],
    ):
        self.save_epochs = epochs_to_save(save_epochs, epochs)
        if resume and not Path(folder).is_dir():  # an empty one is of a run that was killed early
            raise InputError(f"there is no run {folder} to resume; start it without that, or mend the name")
        self.folder, self.checkpoint = make_folder(folder), checkpoint
        # Held until this object or the process ends: what the checks below find stays so.
        self._claim = claimed(self.folder, "a run") if ranks.is_first_rank() else None
        self.state, self.metrics = self.folder / "state.pth", self.folder / "metrics.json"
        found = sorted([*self.folder.glob("epoch_*.pth"), *self.folder.glob(self.metrics.name)])
        if found and not resume:
            raise InputError(f"{found[0]} exists: resume that run, or choose another name")
        self.epochs = self._earlier()
        self._since = time.perf_counter()

    @property
    def notes(self) -> dict[str, Any]:
        """What a run has to share with the one that it goes on from, apart from how it is trained."""
        shared = {key: value for key, value in self.checkpoint.items() if key != "settings"}
        return {**shared, "save_epochs": self.save_epochs}

    def keep(self, epoch: int, model: nn.Module, metrics: dict[str, Any]) -> None:
        """Write the checkpoint of ``epoch``, where one is asked for, and ``metrics.json``; print what was written."""
        if epoch in self.save_epochs:
            path = self.folder / f"epoch_{epoch:03d}.pth"
            save_checkpoint(path, model, epoch=epoch, metrics=metrics, **self.checkpoint)
            print(f"Wrote {path} (test accuracy {metrics['test_accuracy']:.2%})", flush=True)
        now = time.perf_counter()
        seconds, self._since = now - self._since, now
        # An epoch that a killed run had finished, but not stored as its state, is there already.
        self.epochs = [entry for entry in self.epochs if entry["epoch"] < epoch]
        self.epochs.append({"epoch": epoch, **metrics, "seconds": round(seconds, 3)})
        write_sealed(self.metrics, {**self.checkpoint, "epochs": self.epochs})

    def _earlier(self) -> list[dict[str, Any]]:
        """The epochs in metrics.json; none where training has to begin anew."""
        if not is_there(self.state):
            return []
        form = {"epochs": [{"epoch": int}]}
        record = read_json(self.metrics, form, "record of the epochs of a run", "start another run")
        epochs: list[dict[str, Any]] = record["epochs"]
        return epochs


def epochs_to_save(save_epochs: Iterable[int] | Literal["all"], epochs: int) -> list[int]:
    """The epochs that get a checkpoint, the last one always.

    Raises:
        InputError: there is no such epoch.
    """
    chosen = sorted({*(range(epochs + 1) if save_epochs == "all" else save_epochs), epochs})
    if wrong := [epoch for epoch in chosen if not 0 <= epoch <= epochs]:
        raise InputError(f"there is no epoch {wrong[0]} to save; choose from 0 to {epochs}")
    return chosen
