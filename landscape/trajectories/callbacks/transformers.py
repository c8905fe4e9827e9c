"""The callback of the Trainer of Hugging Face."""

from typing import TYPE_CHECKING, Any

from transformers import TrainerCallback

if TYPE_CHECKING:
    from landscape.trajectories.recording import TrajectoryRecorder

__all__ = ["RecorderCallback"]


class RecorderCallback(TrainerCallback):
    """Records the network before the first step and after every step, on the first process.

    A step is one of the optimizer. A run that goes on from a checkpoint goes on from its step, see
    `TrajectoryRecorder`, whose ``resume`` must be set then.
    """

    def __init__(self, recorder: "TrajectoryRecorder"):
        self.recorder = recorder

    def on_train_begin(self, args: Any, state: Any, control: Any, **keywords: Any) -> None:
        if state.is_world_process_zero:
            self.recorder.record(keywords["model"], step=state.global_step)

    def on_step_end(self, args: Any, state: Any, control: Any, **keywords: Any) -> None:
        if state.is_world_process_zero:
            self.recorder.record(keywords["model"], step=state.global_step)

    def on_train_end(self, *_: Any, **__: Any) -> None:
        """Nothing, whichever loop ends: this name is that of a hook of Lightning, too."""
