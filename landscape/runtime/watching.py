"""The base of modes that watch the operations of torch."""

from torch.utils._python_dispatch import TorchDispatchMode

__all__ = ["WatchingMode"]


class WatchingMode(TorchDispatchMode):
    """A `TorchDispatchMode` that does not load torch's compiler, which takes seconds, only to be left out of it."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # torch leaves it without types

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        return False
