"""What training needs to go on after a crash, in one file that is written whole after every epoch."""

import pickle
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from landscape.devices import random_state, restore_random_state
from landscape.errors import InputError
from landscape.files import written_whole

__all__ = ["TrainingState"]


@dataclass(frozen=True, eq=False)
class TrainingState:
    """The objects whose state is kept in ``path`` together with that of all global random generators."""

    path: Path
    settings: dict  # plain values; a run goes on only with those that it began with
    model: nn.Module
    optimizer: torch.optim.Optimizer
    generator: torch.Generator

    def save(self, history: list[dict]) -> None:
        """Write the state after the epochs of ``history``."""
        state = {
            "settings": self.settings,
            "history": history,
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "generator": self.generator.get_state(),
            "global generators": random_state(),
        }
        with written_whole(self.path) as temporary:
            torch.save(state, temporary)

    def restore(self) -> list[dict]:
        """Put everything back where it was, and return the history; an empty one where there is no file.

        Raises:
            InputError: the file is damaged, or of a run with other settings.
        """
        if not self.path.exists():
            return []
        try:
            state = torch.load(self.path, map_location="cpu", weights_only=True)
            found = state["settings"]
        except (OSError, RuntimeError, EOFError, pickle.UnpicklingError, KeyError, TypeError) as error:
            raise InputError(
                f"{self.path} is no state of a training run, or a damaged one; start another run"
            ) from error
        self._compare(found)
        try:
            self.model.load_state_dict(state["model"])
            self.optimizer.load_state_dict(state["optimizer"])
        except (RuntimeError, ValueError) as error:
            reason = " ".join(str(error).split())
            raise InputError(f"{self.path} is of a run with another model: {reason}; start another run") from error
        self.generator.set_state(state["generator"])
        restore_random_state(state["global generators"])
        return state["history"]

    def _compare(self, found: dict) -> None:
        changed = [
            f"{key} was {found.get(key)!r} and is {self.settings.get(key)!r}"
            for key in {**found, **self.settings}
            if found.get(key) != self.settings.get(key)
        ]
        if changed:
            advice = "go on with the old settings, or start another run"
            raise InputError(f"{self.path} is of a run with other settings: {', '.join(changed)}; {advice}")
