"""The state from which training is resumed after a crash, in one file that is replaced after every epoch."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from landscape.errors import InputError
from landscape.runtime.devices import random_state, restore_random_state
from landscape.storage.forms import form_fault
from landscape.storage.reading import is_there
from landscape.storage.recipe import differences
from landscape.storage.tensors import read_tensors, write_tensors

__all__ = ["TrainingState"]

FORM = {
    "settings": {str: object},
    "history": [{str: object}],
    "model": dict,
    "optimizer": dict,
    "generator": torch.Tensor,
    "global generators": {"python": tuple, "numpy": tuple, "torch": torch.Tensor, "cuda": list},
}


@dataclass(frozen=True, eq=False)
class TrainingState:
    """Stores the state of a model, its optimizer and all random generators in ``path``, and restores it."""

    path: Path
    settings: dict[str, Any]  # plain values; a run is resumed only with equal ones
    model: nn.Module
    optimizer: torch.optim.Optimizer
    generator: torch.Generator

    def save(self, history: list[dict[str, Any]]) -> None:
        """Write the state after the epochs of ``history``."""
        state = {
            "settings": self.settings,
            "history": history,
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "generator": self.generator.get_state(),
            "global generators": random_state(),
        }
        write_tensors(self.path, state)

    def restore(self) -> list[dict[str, Any]]:
        """Restore the stored state and return the history, which is empty if there is no file.

        Raises:
            InputError: the file is damaged, or belongs to a run with other settings or another model.
        """
        if not is_there(self.path):
            return []
        state, _ = read_tensors(self.path, "state of a training run", "start another run")
        if fault := form_fault(state, FORM):
            raise InputError(
                f"{self.path} is no state of a training run, or a damaged one ({fault}); start another run"
            )
        if changed := differences(state["settings"], self.settings):
            advice = "use the stored settings, or start another run"
            raise InputError(f"{self.path} belongs to a run with other settings: {', '.join(changed)}; {advice}")
        try:
            self.model.load_state_dict(state["model"])
            self.optimizer.load_state_dict(state["optimizer"])
        except Exception as error:  # torch raises errors of many types for values that it did not write
            reason = " ".join(str(error).split())[:500]
            raise InputError(f"{self.path} belongs to a run with another model: {reason}; start another run") from error
        try:
            self.generator.set_state(state["generator"])
            restore_random_state(state["global generators"])
        except Exception as error:
            reason = " ".join(str(error).split())[:200]
            raise InputError(f"{self.path}: its random generators are damaged: {reason}; start another run") from error
        history: list[dict[str, Any]] = state["history"]
        return history
