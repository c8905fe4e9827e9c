"""Which kind of network serves an objective: a private copy, the caller's own, or one in shards."""

from torch import nn

from landscape.objective.borrowed import BorrowedNetwork
from landscape.objective.network import Network
from landscape.objective.settings import Settings
from landscape.objective.sharded import ShardedNetwork
from landscape.runtime.shards import is_sharded

__all__ = ["network_of"]


def network_of(model: nn.Module, settings: Settings) -> Network:
    """A private copy of ``model``, or ``model`` itself, perhaps in shards, if ``settings.copy`` is False."""
    if not settings.copy:
        kind = ShardedNetwork if is_sharded(model) else BorrowedNetwork
        return kind(model, settings.device, settings.dtype, settings.batch_norm, settings.spill)
    assert settings.device is not None
    return Network(model, settings.device, settings.dtype, settings.batch_norm)
