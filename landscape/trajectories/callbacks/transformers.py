"""The callback of the Trainer of Hugging Face."""

from typing import TYPE_CHECKING, Any

from transformers import TrainerCallback

if TYPE_CHECKING:
    from landscape.trajectories.recording import TrajectoryRecorder

__all__ = ["RecorderCallback"]


class RecorderCallback(TrainerCallback):
    """A callback that records the network before the first and after every optimizer step, on the first process.

    If a run is resumed from a checkpoint, recording continues at its step, and the `TrajectoryRecorder` must have been
    made with ``resume=True``.
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
        """Do nothing; defined because Lightning has a hook of the same name, which is looked up as well."""
