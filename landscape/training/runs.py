"""The folder of one training run: checkpoints, metrics, and the state from which it is resumed."""

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

__all__ = ["Run", "check_run", "epochs_to_save"]


class Run:
    """The folder of a run of :func:`fit`: checkpoints ``epoch_000.pth`` ..., ``metrics.json`` and ``state.pth``.

    Pass the method ``keep`` to ``fit`` as ``on_epoch`` and the path ``state`` as ``state``.

    Args:
        folder: Created if it does not exist.
        epochs: Number of epochs of the run.
        save_epochs: Epochs that get a checkpoint, 0 for the initial weights, or "all"; the last epoch always gets one.
        resume: Resume the run in the folder; without it a folder that holds a run is refused.
        checkpoint: The arguments model_name, model_arguments, data and settings of :func:`save_checkpoint`.

    Raises:
        InputError: an epoch to save is beyond the last, the folder cannot be written, it holds a run and ``resume``
            is false, or it does not exist and ``resume`` is true.
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
        check_run(folder, resume=resume)
        self.folder, self.checkpoint = make_folder(folder), checkpoint
        # The lock is held until this object or the process ends, so that no other run can write here after the checks.
        self._claim = claimed(self.folder, "a run") if ranks.is_first_rank() else None
        self.state, self.metrics = self.folder / "state.pth", self.folder / "metrics.json"
        check_run(folder, resume=resume)  # another process may have finished one in between
        self.epochs = self._stored_epochs()
        self._since = time.perf_counter()

    @property
    def notes(self) -> dict[str, Any]:
        """The argument ``notes`` of :func:`fit`: values that must be the same when the run is resumed."""
        shared = {key: value for key, value in self.checkpoint.items() if key != "settings"}
        return {**shared, "save_epochs": self.save_epochs}

    def keep(self, epoch: int, model: nn.Module, metrics: dict[str, Any]) -> None:
        """Write ``metrics.json`` and, for epochs to save, the checkpoint of ``epoch``, whose path is printed."""
        if epoch in self.save_epochs:
            path = self.folder / f"epoch_{epoch:03d}.pth"
            save_checkpoint(path, model, epoch=epoch, metrics=metrics, **self.checkpoint)
            print(f"Wrote {path} (test accuracy {metrics['test_accuracy']:.2%})", flush=True)
        now = time.perf_counter()
        seconds, self._since = now - self._since, now
        # A run killed after writing the metrics of an epoch and before its state repeats that epoch.
        self.epochs = [entry for entry in self.epochs if entry["epoch"] < epoch]
        self.epochs.append({"epoch": epoch, **metrics, "seconds": round(seconds, 3)})
        write_sealed(self.metrics, {**self.checkpoint, "epochs": self.epochs})

    def _stored_epochs(self) -> list[dict[str, Any]]:
        """The entries of metrics.json; none if there is no state to resume from."""
        if not is_there(self.state):
            return []
        form = {"epochs": [{"epoch": int}]}
        record = read_json(self.metrics, form, "record of the epochs of a run", "start another run")
        epochs: list[dict[str, Any]] = record["epochs"]
        return epochs


def check_run(folder: str | Path, *, resume: bool) -> None:
    """Raise InputError if there is no run in ``folder`` to resume, or if a new run would overwrite one."""
    folder = Path(folder)
    if resume and not folder.is_dir():  # an empty folder belongs to a run that was killed early
        raise InputError(f"there is no run {folder} to resume; start it without resuming, or correct the name")
    existing = sorted([*folder.glob("epoch_*.pth"), *folder.glob("metrics.json")])
    if existing and not resume:
        raise InputError(f"{existing[0]} exists: resume that run, or choose another name")


def epochs_to_save(save_epochs: Iterable[int] | Literal["all"], epochs: int) -> list[int]:
    """The epochs that get a checkpoint, in increasing order; the last epoch is always one of them.

    Raises:
        InputError: an epoch to save is not one of 0 to ``epochs``.
    """
    chosen = sorted({*(range(epochs + 1) if save_epochs == "all" else save_epochs), epochs})
    if wrong := [epoch for epoch in chosen if not 0 <= epoch <= epochs]:
        raise InputError(f"there is no epoch {wrong[0]} to save; choose from 0 to {epochs}")
    return chosen
