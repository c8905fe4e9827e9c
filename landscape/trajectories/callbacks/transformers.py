"""The callback of the Trainer of Hugging Face."""

from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

from torch import Tensor, nn
from transformers import TrainerCallback

from landscape.objective.model_calls import loss_of

if TYPE_CHECKING:
    from landscape.trajectories.recording import TrajectoryRecorder

__all__ = ["RecorderCallback"]


class _LastLoss:
    """Keeps the loss that a network returned last in training mode, while it is watched."""

    def __init__(self, model: nn.Module):
        self.value: Tensor | None = None
        self.handle = model.register_forward_hook(self._note)

    def _note(self, model: nn.Module, _: Any, outputs: Any) -> None:
        if model.training:
            loss = loss_of(outputs)
            self.value = None if loss is None else loss.detach()


_watched: "WeakKeyDictionary[TrajectoryRecorder, _LastLoss]" = WeakKeyDictionary()


class RecorderCallback(TrainerCallback):
    """Records the network before the first step and after every step, on the first process.

    A step is a step of the optimizer. The loss is that of the mini-batch, before the step, if the network returns it;
    there is none if several batches make one step, or if the Trainer computes another loss. If training continues from
    a checkpoint, the records continue from its step, for which the `TrajectoryRecorder` needs ``resume``.
    """

    def __init__(self, recorder: "TrajectoryRecorder"):
        self.recorder = recorder

    def on_train_begin(self, args: Any, state: Any, control: Any, **keywords: Any) -> None:
        if not state.is_world_process_zero:
            return
        self.on_train_end()
        self.recorder.record(keywords["model"], step=state.global_step)
        if args.gradient_accumulation_steps == 1:
            _watched[self.recorder] = _LastLoss(keywords["model"])

    def on_step_end(self, args: Any, state: Any, control: Any, **keywords: Any) -> None:
        if state.is_world_process_zero:
            last = _watched.get(self.recorder)
            self.recorder.record(keywords["model"], loss=last.value if last else None, step=state.global_step)

    def on_train_end(self, *_: Any, **__: Any) -> None:
        """Watch the network no longer; a hook of Lightning has the same name, for which there is nothing to do."""
        if last := _watched.pop(self.recorder, None):
            last.handle.remove()
