"""How passes of a network are run: in which precision and state of torch, and on copies of what they would change."""

import contextlib
import copy
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from landscape.errors import InputError
from landscape.objective.network import Network
from landscape.objective.settings import Precision
from landscape.objective.structure import changes_inputs, is_plain
from landscape.objective.trees import map_tensors, tensors_of
from landscape.runtime import OwnLock, kept_random_state, own_torch_state

__all__ = ["Passes", "Proofs"]


@dataclass(eq=False)
class Proofs:
    """What has been tried of a network, for all copies of its objective."""

    unwritten: bool = True  # no pass has written into samples that it does not get copies of
    twins: bool | None = None  # whether two copies of the network leave each other alone; None before that is tried


class Passes:
    """Runs ``network`` and callable losses; what it knows of them is found out when an objective is made."""

    def __init__(self, network: Network, precision: Precision, loss_is_plain: bool):
        plain = loss_is_plain and is_plain(network.model)
        self.network, self.precision = network, precision
        self.proofs = Proofs()
        self.default_dtype = torch.float32  # of the constants that a pass makes
        self.draws = False  # whether passes draw from the global random generators of torch
        self.touched: set[str] | None = None  # parameters that passes read; None where that could not be watched
        self.differentiates = True  # whether the loss takes derivatives inside
        self.writes = True  # whether passes may write into their batch
        self.keeps = True  # whether a pass leaves something in the network: a buffer, a list, an attribute
        self.is_plain = plain  # whether the layers prove that passes keep nothing and read each parameter in its place
        self.only_reads = plain and not changes_inputs(network.model)  # whether they prove that nothing is written
        self._lock = OwnLock()

    @property
    def are_pure(self) -> bool:
        """Whether a pass does nothing but compute outputs from weights and inputs."""
        return not (self.differentiates or self.writes or self.keeps or self.network.overwrites)

    def __call__(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """``function(*arguments)``, a network or a callable loss, in the requested precision.

        A loss that differentiates inside does so on views of its own, and leaves no graph where none was asked for.
        One that writes into its batch gets a copy.
        """
        self.network.renew()
        if self.only_reads:
            return self._run(function, *arguments)
        if self.writes:
            return self._run(function, *(map_tensors(torch.clone, argument) for argument in arguments))
        tensors = tensors_of(arguments)
        versions = [tensor._version for tensor in tensors]
        outputs = self._run(function, *arguments)
        if versions != [tensor._version for tensor in tensors]:
            self.proofs.unwritten = False
        if not self.proofs.unwritten:  # from now on no pass is right: the samples are no longer what they were
            raise InputError(
                "the network or the loss writes into its batch, though not for the samples and weights that were tried "
                "first; let it work on a copy (x = x.clone()), and make the objective anew"
            )
        return outputs

    def _run(self, function: Callable[..., Any], *arguments: Any) -> Any:
        if not self.differentiates:
            with self.autocast():
                return function(*arguments)
        recorded = torch.is_grad_enabled()
        own = [map_tensors(Tensor.detach, argument) for argument in arguments]
        with self.autocast(), torch.enable_grad():
            outputs = function(*own)
        return outputs if recorded else map_tensors(Tensor.detach, outputs)

    @contextlib.contextmanager
    def arithmetic(self) -> Iterator[None]:
        """Compute in the requested precision, whatever the caller has set in torch, and leave all of that as it was.

        One thread at a time: another one that uses the same network waits.
        """
        device = self.network.device
        state = own_torch_state(self.default_dtype, tf32=self.precision == "tf32", device=device)
        kept = partial(kept_random_state, lambda: self.draws, device)
        with self._lock as outermost, state, kept() if outermost else contextlib.nullcontext():
            yield

    def autocast(self) -> contextlib.AbstractContextManager[None]:
        """What a forward pass runs in; holds for one thread only."""
        if self.precision != "bf16":
            return contextlib.nullcontext()
        return torch.autocast(self.network.device.type, dtype=torch.bfloat16)

    def of(self, network: Network) -> "Passes":
        """The same passes of another network; see `Network.of`."""
        other = copy.copy(self)
        other.network = network
        other.only_reads = self.only_reads and is_plain(network.model) and not changes_inputs(network.model)
        return other

    def twin(self) -> "Passes":
        """The same passes of a copy of the network, for another thread."""
        twin = self.of(self.network.twin())
        twin._lock = OwnLock()
        return twin

    def in_full_precision(self) -> "Passes":
        """The same passes in full precision."""
        full = copy.copy(self)
        full.precision = "full"
        return full

    @property
    def model(self) -> nn.Module:
        """The network as torch knows it."""
        return self.network.model
