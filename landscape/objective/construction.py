"""The checks of a new objective, which take a few passes over the first batch and samples from the whole data."""

import contextlib
from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from landscape.errors import InputError
from landscape.objective.batches import Batches, is_pair
from landscape.objective.contract import Contract
from landscape.objective.criteria import Criterion
from landscape.objective.forward_watch import find_out, find_out_in_place
from landscape.objective.independence import changed_buffer, check_independence
from landscape.objective.losses import IGNORED, check_labels, check_probabilities, check_range, is_classification
from landscape.objective.own_loss import OwnLoss
from landscape.objective.passes import Passes
from landscape.objective.private_network import held_by, require_gradients
from landscape.objective.structure import works_by_row
from landscape.objective.terms import Term, named
from landscape.objective.trees import leaves, map_tensors, tensors_of

__all__ = ["one_pass", "settle", "take_apart", "watch", "watch_in_place"]

RANDOM = "turn off dropout and other random parts in eval mode"
KEPT = (
    "something is kept from one pass to the next (a state, a cache, a counter), or drawn from a generator that is not "
    "torch's; every pass must begin in the same state"
)
SHARE_OF_WEIGHTS = 0.12  # bound on the largest tensor of a pass where memory is scarce, as a share of the weights
LEAST_ROOM = 16 * 2**20  # bytes that the largest tensor may take in any case
FAILURES = (RuntimeError, ValueError, TypeError, LookupError, AttributeError, ArithmeticError)

Terms = Mapping[str, Term]


@torch.no_grad()
def take_apart(contract: Contract, passes: Passes, batches: Batches) -> None:
    """Replace the loss that a model itself returns by losses of single samples, if a known formula reproduces it."""
    if not isinstance(contract.loss, OwnLoss):
        return
    batch = batches.few()
    tried = [batch] if batches.samples.whole else [batch, *batches.spread()]
    with _explained(contract, passes, batch, batches.count(batch)):
        contract.loss = contract.loss.taken_apart(lambda function, part: passes(function, passes.model, part), tried)


def watch(contract: Contract, passes: Passes, batches: Batches, source: nn.Module) -> None:
    """Learn which parameters a pass reads and changes, and whether it draws random numbers or creates constants.

    Raises:
        InputError: the objective is in float64, but the network or loss computes in lower precision inside.
    """
    network = passes.network
    if passes.is_plain:
        passes.touched = set(network.parameters)
        return
    batch = batches.few()
    run = partial(one_pass, contract, passes, batch)
    findings = find_out(passes.model, source, run, network.dtype)
    if findings.constants and network.dtype != passes.default_dtype:
        passes.default_dtype = network.dtype
        with passes.arithmetic():
            findings = find_out(passes.model, source, run, network.dtype)
    passes.draws, passes.touched = findings.draws, findings.touched
    if findings.lowered and network.dtype == torch.float64:
        raise InputError(
            f"the network or the loss computes in lower precision inside ({findings.lowered}), so that results would "
            "not be those of float64; use dtype=torch.float32, or remove the cast"
        )
    network.note_memory(source, findings.elsewhere, findings.written)


def watch_in_place(contract: Contract, passes: Passes, batches: Batches) -> None:
    """Learn what `watch` learns from a pass over one sample at the present weights, and limit the size of batches.

    The limit lets the largest tensor of a pass take the share `SHARE_OF_WEIGHTS` of the memory of all weights, or
    `LEAST_ROOM` bytes if that is more. For a network in shards there is no limit, and it stays unknown which parameters
    a pass uses, because the memory that it reads does not tell.
    """
    _, batch = next(batches(1))
    network, run = passes.network, partial(one_pass, contract, passes, batch)
    findings, largest = find_out_in_place(passes.model, run, network.dtype)
    if findings.constants:
        passes.default_dtype = network.dtype
    passes.draws, passes.touched = findings.draws, None if network.is_sharded else findings.touched
    network.note_memory(passes.model, set(), findings.written)
    if network.is_sharded:  # its passes gather whole layers anyway
        return
    weights = sum(value.numel() * value.element_size() for value in passes.model.parameters())
    room = max(LEAST_ROOM, SHARE_OF_WEIGHTS * weights)
    batches.limit(max(1, int(room * batches.count(batch) / max(1, largest))))


def one_pass(contract: Contract, passes: Passes, batch: Any) -> None:
    """Run loss, metrics and regularizer once for ``batch``; if they need gradients, let the parameters require them."""
    try:
        _run(contract, passes, batch)
    except RuntimeError as error:
        if "does not require grad" not in str(error):
            raise
        require_gradients(passes.model)
        _run(contract, passes, batch)


@torch.no_grad()
def settle(contract: Contract, passes: Passes, batches: Batches) -> None:
    """Learn the properties of loss, passes and batches from some samples, and check them.

    Raises:
        InputError: labels, shapes or weights do not fit; the forward pass is random; or the loss or a quantity depends
            on the batches.
    """
    batch = batches.few()
    buffers = {name: buffer.clone() for name, buffer in passes.model.named_buffers()}
    if not callable(contract.loss):
        _settle_labels(contract, passes, batches, batch)
    elif isinstance(contract.loss, Criterion):
        _check_criterion(contract.loss, passes, batches, batch)
    terms, again = _settle_gradients(contract, passes, batches, batch)
    _settle_forms(contract, batches, batch, terms)
    with _explained(contract, passes, batch, batches.count(batch)):
        regularizations = [contract.regularization(passes) for _ in range(2)]
    if not _close(terms, again) or not torch.equal(*regularizations):
        advice = changed_buffer(passes.model, buffers) or (RANDOM if passes.draws else KEPT)
        raise InputError(f"the forward pass is not deterministic (two passes over one batch differ): {advice}")
    passes.keeps = not passes.is_plain and _keeps(contract, passes, batch)
    passes.writes = not passes.only_reads and _writes(contract, passes, batches, batch)
    passes.proofs.unwritten = True
    if isinstance(contract.loss, Criterion):
        contract.loss.check(_outputs(passes, batch[0]), batch[1])
    if not batches.samples.whole and not _is_by_row(contract, passes, batches, batch):
        check_independence(contract, passes, batches.spread())
    contract.shares = _shares(contract, passes, batches, batch)
    contract.learn_weights(passes, batches)


def _run(contract: Contract, passes: Passes, batch: Any) -> None:
    if callable(contract.loss):
        passes(contract.loss, passes.model, batch)
    else:
        passes(passes.model, batch[0])
    for metric in contract.metrics.values():
        passes(metric, passes.model, batch)
    contract.regularization(passes)


def _settle_gradients(contract: Contract, passes: Passes, batches: Batches, batch: Any) -> tuple[Terms, Terms]:
    """Learn whether the loss differentiates inside, and return the terms of two passes over ``batch``.

    The loss does so if a pass without gradients fails or has another result. The parameters of the network require
    gradients afterwards only if the loss differentiates with respect to them.
    """
    attempt = partial(_terms, contract, passes, batch, batches.count(batch))
    try:
        terms = attempt()
    except RuntimeError as error:
        if "does not require grad" not in str(error):
            raise
        require_gradients(passes.model)
        return attempt(), attempt()
    passes.differentiates = False
    with contextlib.suppress(RuntimeError):
        again = attempt()
        if _close(terms, again):
            return terms, again
    passes.differentiates = True
    return terms, attempt()


def _settle_forms(contract: Contract, batches: Batches, batch: Any, terms: Terms) -> None:
    """Learn names and shapes of all terms and, if all data are one batch, the number of samples of the loss."""
    contract.learn_forms(terms)
    if batches.samples.whole:
        lengths = {len(terms[name].values) if contract.forms[name] else None for name in contract.parts}
        if len(lengths) == 1 and (length := lengths.pop()):
            batches.declare(length)
        if wrong := [name for name, (values, _) in terms.items() if values.ndim > 1 or not values.numel()]:
            raise InputError(
                f"{named(wrong[0])} gives shape {tuple(terms[wrong[0]].values.shape)}; it must be a vector or a scalar"
            )
        return
    count = batches.count(batch)
    for name, (values, _) in terms.items():
        if values.shape not in ((), (count,)):
            raise InputError(
                f"{named(name)} gives shape {tuple(values.shape)}; it must be [{count}] (one value a sample) or a "
                "scalar, the mean over the batch"
            )


def _keeps(contract: Contract, passes: Passes, batch: Any) -> bool:
    """Whether a pass stores something in the network: a buffer, a list, an attribute."""
    before = held_by(passes.model)
    contract.terms(passes, map_tensors(torch.clone, batch))
    after = held_by(passes.model)
    return len(before) != len(after) or any(a is not b for a, b in zip(before, after, strict=True))


def _writes(contract: Contract, passes: Passes, batches: Batches, batch: Any) -> bool:
    """Whether passes need copies of their batch: network or loss write into it, or it is the caller's memory."""
    if not batches.samples.own:
        return True
    passes.writes = False
    for tried in [batch] if batches.samples.whole else [batch, *batches.spread()]:
        copied = map_tensors(torch.clone, tried)
        with contextlib.suppress(*FAILURES):  # reported later
            contract.terms(passes, copied)
        same = len(leaves(copied)) == len(leaves(tried))  # entries may be added to a dictionary or removed
        if not (same and all(map(torch.equal, tensors_of(copied), tensors_of(tried))) and passes.proofs.unwritten):
            return True
    return False


def _shares(contract: Contract, passes: Passes, batches: Batches, batch: Any) -> bool:
    """Whether metrics have the same values, bit for bit, if the network is not run again for the same tensors."""
    if not contract.metrics or passes.draws or not passes.are_pure:
        return False
    for tried in [batch] if batches.samples.whole else [batch, *batches.spread()]:
        contract.shares = False
        plain, _ = contract.terms(passes, tried)
        contract.shares = True
        shared, _ = contract.terms(passes, tried)
        if not all(torch.equal(term.values, shared[name].values) for name, term in plain.items()):
            return False
    return True


def _is_by_row(contract: Contract, passes: Passes, batches: Batches, batch: Any) -> bool:
    """Whether the types of the layers alone prove that no loss depends on the other samples of its batch."""
    resident = passes.is_plain and batches.samples.tensors is not None
    return resident and isinstance(batch[0], Tensor) and batch[0].ndim > 1 and works_by_row(passes.model)


def _check_pairs(name: str, batch: Any) -> None:
    """Raise InputError unless a named loss, or a criterion, gets pairs of tensors."""
    if not is_pair(batch) or not isinstance(batch[1], Tensor):
        raise InputError(f"loss={name} needs data of pairs of tensors (inputs, targets); pass a callable loss instead")


def _settle_labels(contract: Contract, passes: Passes, batches: Batches, batch: Any) -> None:
    """Raise InputError unless the targets are labels for the outputs; learn whether some are ignored."""
    loss = str(contract.loss)
    _check_pairs(repr(loss), batch)
    inputs, targets = batch
    outputs = _outputs(passes, inputs)
    check_labels(outputs, targets, loss)
    if targets.is_floating_point():
        for part in batches.targets() if loss == "cross_entropy" else ():
            check_probabilities(outputs.shape[1], part)
        return
    classes = outputs.ndim > 1 and (loss == "cross_entropy" or outputs.shape[1] > 1)
    if not classes or (loss == "mse" and outputs.shape == targets.shape):
        return
    every = [*batches.targets()]
    for part in every:
        check_range(outputs.shape[1], part, IGNORED if loss == "cross_entropy" else None)
    contract.ignores = loss == "cross_entropy" and any(bool((part < 0).any()) for part in every)
    contract.has_accuracy = outputs.ndim == 2 and all(map(is_classification, every))


def _check_criterion(criterion: Criterion, passes: Passes, batches: Batches, batch: Any) -> None:
    """Raise InputError if a criterion takes class labels and some targets are outside the range of the classes."""
    _check_pairs(criterion.name, batch)
    if not criterion.by_class or batch[1].is_floating_point():
        return
    outputs = _outputs(passes, batch[0])
    if outputs.ndim > 1:
        for part in batches.targets():
            check_range(outputs.shape[1], part, criterion.criterion.ignore_index)


def _outputs(passes: Passes, inputs: Any) -> Tensor:
    try:
        outputs = passes(passes.model, inputs)
    except InputError:
        raise
    except (RuntimeError, ValueError, TypeError, IndexError) as error:
        shape = tuple(inputs.shape) if isinstance(inputs, Tensor) else type(inputs).__name__
        raise InputError(f"the model does not accept inputs of shape {shape}: {_reason(error)}") from error
    if not isinstance(outputs, Tensor):
        raise InputError(f"the model returns {type(outputs).__name__}, not a tensor; pass loss=callable(model, batch)")
    return outputs


def _terms(contract: Contract, passes: Passes, batch: Any, count: int) -> Terms:
    """The terms of loss and metrics for ``batch`` of ``count`` samples; errors of callables are explained."""
    if not callable(contract.loss) and not contract.metrics:
        return contract.terms(passes, batch)[0]
    with _explained(contract, passes, batch, count):
        return contract.terms(passes, batch)[0]


@contextlib.contextmanager
def _explained(contract: Contract, passes: Passes, batch: Any, count: int) -> Iterator[None]:
    """Turn errors on ``batch`` into an InputError that names the failing function and the reason."""
    try:
        yield
    except InputError:
        raise
    except FAILURES as error:
        if "does not require grad" in str(error):
            raise
        what = _failing(contract, passes, batch)
        text = f"{what} fails on a batch of {count} samples: {type(error).__name__}: {_reason(error)}"
        raise InputError(text + _way_out(text, contract.loss, passes)) from error


def _failing(contract: Contract, passes: Passes, batch: Any) -> str:
    """The function of a contract that fails on ``batch``: the loss, the regularizer or a metric."""
    what = "the loss"
    try:
        contract.terms(passes, batch, metrics=False)
        what = "the regularizer"
        contract.regularization(passes)
        for name, metric in contract.metrics.items():
            what = f"the metric {name!r}"
            passes(metric, passes.model, batch)
    except FAILURES:
        pass
    return what


def _way_out(failure: str, loss: Any, passes: Passes) -> str:
    """Advice about a loss that fails with this text; empty if there is none."""
    if "dtype" in failure:
        return f"; network and data are in {passes.network.dtype} here, so other tensors of the loss must be, too"
    if type(passes.model).__name__ in failure:  # the loss treats the network as if it were outputs
        return "; a loss is called with (model, batch), not with (outputs, targets), and calls the model itself"
    if isinstance(loss, Criterion) and "missing" in failure:
        return "; pass loss=callable(model, batch), which can give the criterion all that it takes"
    return ""


def _close(terms: Terms, again: Terms) -> bool:
    """Whether two passes over one batch agree up to rounding."""
    pairs = [(term.values, again[name].values) for name, term in terms.items() if name in again]
    return terms.keys() == again.keys() and all(
        one.shape == other.shape and torch.allclose(one.double(), other.double(), rtol=1e-4, atol=1e-6, equal_nan=True)
        for one, other in pairs
    )


def _reason(error: Exception) -> str:
    """The first line of the message of an exception."""
    text = str(error).strip()
    return text.splitlines()[0] if text else type(error).__name__
