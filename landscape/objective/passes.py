"""How passes of a network are run: precision, state of torch, and copies of the data that passes would change."""

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
    """Results of checks of a network, shared by all copies of its objective."""

    unwritten: bool = True  # whether no pass has written into samples that it gets without a copy
    threads: tuple[float, int] | None = None  # (time in seconds of the choice, chosen number of torch's threads)
    twins: bool | None = None  # whether copies of the network do not influence each other; None if not yet checked


class Passes:
    """Runs ``network`` and callable losses; their properties are learned when an objective is made."""

    def __init__(self, network: Network, precision: Precision, loss_is_plain: bool):
        plain = loss_is_plain and is_plain(network.model)
        self.network, self.precision = network, precision
        self.proofs = Proofs()
        self.default_dtype = torch.float32  # dtype of the constants that a pass creates
        self.draws = False  # whether passes draw from torch's global random generators
        self.touched: set[str] | None = None  # parameters that passes read; None if that could not be watched
        self.differentiates = True  # whether the loss itself takes derivatives, such as those with respect to inputs
        self.writes = True  # whether passes may write into their batch
        self.keeps = True  # whether a pass stores something in the network: a buffer, a list, an attribute
        self.is_plain = plain  # whether the layers prove that passes store nothing and read parameters in their memory
        self.only_reads = plain and not changes_inputs(network.model)  # whether they prove that passes change nothing
        self._lock = OwnLock()

    @property
    def are_pure(self) -> bool:
        """Whether a pass only computes outputs from weights and inputs, without side effects."""
        return not (self.differentiates or self.writes or self.keeps or self.network.overwrites)

    def __call__(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """The result of ``function(*arguments)``, a network or a callable loss, in the requested precision.

        A loss that itself takes derivatives gets detached views, and the graph of autograd is dropped unless gradients
        are enabled. A loss that writes into its batch gets a copy.

        Raises:
            InputError: the function writes into a batch of which it got no copy.
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
        if not self.proofs.unwritten:  # the samples have changed, so that all later passes would be wrong
            raise InputError(
                "the network or the loss writes into its batch, though not for the samples and weights that were tried "
                "first; let it work on a copy (x = x.clone()), and make the objective again"
            )
        return outputs

    def _run(self, function: Callable[..., Any], *arguments: Any) -> Any:
        if not self.differentiates:
            with self.autocast():
                return self.network.call(function, *arguments)
        recorded = torch.is_grad_enabled()
        own = [map_tensors(Tensor.detach, argument) for argument in arguments]
        with self.autocast(), torch.enable_grad():
            outputs = self.network.call(function, *own)
        return outputs if recorded else map_tensors(Tensor.detach, outputs)

    @contextlib.contextmanager
    def arithmetic(self) -> Iterator[None]:
        """Compute in the requested precision, independent of the caller's settings in torch, which are restored.

        Only one thread at a time can use the network; others wait.
        """
        device = self.network.device
        state = own_torch_state(self.default_dtype, tf32=self.precision == "tf32", device=device)
        kept = partial(kept_random_state, lambda: self.draws, device)
        with self._lock as outermost, state, kept() if outermost else contextlib.nullcontext(), self.network.lent():
            yield

    def autocast(self) -> contextlib.AbstractContextManager[None]:
        """The autocast context of a forward pass, which holds for the present thread only."""
        if self.precision != "bf16":
            return contextlib.nullcontext()
        return torch.autocast(self.network.device.type, dtype=torch.bfloat16)

    def of(self, network: Network) -> "Passes":
        """The same settings for another network; see `Network.of`."""
        other = copy.copy(self)
        other.network = network
        other.only_reads = self.only_reads and is_plain(network.model) and not changes_inputs(network.model)
        return other

    def twin(self) -> "Passes":
        """The same settings for a copy of the network, for another thread."""
        twin = self.of(self.network.twin())
        twin._lock = OwnLock()
        return twin

    def in_full_precision(self) -> "Passes":
        """The same network in full precision."""
        full = copy.copy(self)
        full.precision = "full"
        return full

    @property
    def model(self) -> nn.Module:
        """The network as a module of torch."""
        return self.network.model
