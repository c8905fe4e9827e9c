"""The callback of the Trainer of Lightning, in the package lightning or pytorch_lightning; their hooks are the same."""

import importlib
import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lightning.pytorch import Callback

    from landscape.trajectories.recording import TrajectoryRecorder

__all__ = ["RecorderCallback"]

PACKAGES = ("lightning.pytorch", "pytorch_lightning")

if not TYPE_CHECKING:  # from the package that the caller has imported; the other one may be absent
    Callback = importlib.import_module(next(n for n in PACKAGES if n in sys.modules)).Callback


class RecorderCallback(Callback):
    """A callback that records the module before the first and after every optimizer step, on the first process.

    The loss is that of the mini-batch before the step; it is unknown if gradients of several batches are accumulated.
    If a run is resumed from a checkpoint, recording continues at its step, and the `TrajectoryRecorder` must have been
    made with ``resume=True``.
    """

    def __init__(self, recorder: "TrajectoryRecorder"):
        self.recorder = recorder

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        if trainer.is_global_zero:
            self.recorder.record(pl_module, step=trainer.global_step)

    def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        if not trainer.is_global_zero or trainer.global_step < self.recorder.next_step:
            return
        loss = outputs.get("loss") if isinstance(outputs, dict) else outputs
        self.recorder.record(
            pl_module, loss=loss if trainer.accumulate_grad_batches == 1 else None, step=trainer.global_step
        )
