"""Callbacks that connect a recorder to training loops of other packages, which are imported only if the user has."""

import importlib
import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from landscape.trajectories.recording import TrajectoryRecorder

__all__ = ["hook_of"]

# Module that is imported if the loop is in use -> module of this folder with its callback.
LOOPS = {
    "transformers.trainer_callback": "transformers",
    "lightning.pytorch": "lightning",
    "pytorch_lightning": "lightning",
}


def hook_of(recorder: "TrajectoryRecorder", name: str) -> Any:
    """The method ``name`` of the callback of an imported training loop; None if there is none."""
    for loaded, module in LOOPS.items():
        if loaded in sys.modules and not name.startswith("__"):
            callback = importlib.import_module(f"{__name__}.{module}").RecorderCallback
            if hasattr(callback, name):
                return getattr(callback(recorder), name)
    return None
