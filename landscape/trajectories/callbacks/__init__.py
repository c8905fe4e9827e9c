"""A recorder as a callback of the training loops of other packages, which are never imported before their users do."""

import importlib
import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from landscape.trajectories.recording import TrajectoryRecorder

__all__ = ["hook_of"]

# What has been imported where a loop can run -> the module here with its callback.
LOOPS = {"transformers.trainer_callback": "transformers", "lightning.pytorch": "lightning"}


def hook_of(recorder: "TrajectoryRecorder", name: str) -> Any:
    """What the callback of a loop that has been imported calls ``name``; None where none has that."""
    for loaded, module in LOOPS.items():
        if loaded in sys.modules and not name.startswith("__"):
            callback = importlib.import_module(f"{__name__}.{module}").RecorderCallback
            if hasattr(callback, name):
                return getattr(callback(recorder), name)
    return None
