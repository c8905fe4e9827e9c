"""The base class of modes that watch the operations of torch."""

from torch.utils._python_dispatch import TorchDispatchMode

__all__ = ["WatchingMode"]


class WatchingMode(TorchDispatchMode):
    """A `TorchDispatchMode` that does not import torch's compiler, which would take seconds."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # torch does not annotate it

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        return False
