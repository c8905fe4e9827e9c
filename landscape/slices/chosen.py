"""The choice of parameters to move, record or differentiate: by name, by pattern, or by kind of layer."""

import difflib
import fnmatch
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

from torch import Tensor, nn

from landscape.errors import InputError
from landscape.points import Point, named_parameters, unwrapped, wrapper_free

__all__ = ["KINDS", "choice_of", "chosen_parameters", "entries_of", "kind_of"]

TRAINABLE = "trainable"
NOT_CHOSEN = "not chosen"  # why a parameter is not moved
NORM = re.compile(r"norm|(^|_)(ln|bn)(_|\d|$)")
ATTENTION = re.compile(r"attn|attention|(^|_)mha(_|$)")
HEAD = re.compile(r"((lm|mlm|cls|score|classification)_)?heads?|classifier|score|qa_outputs|logits|cls")
MLP = re.compile(
    r"mlp|ffn?|feed_?forward|intermediate|(fc|linear)_?\d|densereludense|moe|block_sparse_moe|experts|ff_net|swiglu"
)
EMBEDDING = re.compile(r"embed|(^|_)embs?(_|$)|^(wte|wpe|shared)$|(^|_)(cls|class|mask|dist|register)_tokens?$")
KINDS = ("attention", "mlp", "embedding", "head", "norm")
SHOWN = 6  # names in a message, at most
CLOSE = 0.5  # a message suggests names that are more similar to the pattern than this, on difflib's scale from 0 to 1


def chosen_parameters(source: nn.Module | Point, parameters: str | Sequence[str]) -> list[str]:
    """The names of the parameters of ``source`` that ``parameters`` chooses, in the order of ``source``.

    Tied weights are listed under their first name.

    Args:
        source: A network, or a point, which does not record which parameters are ``"trainable"``.
        parameters: Names, glob patterns such as ``"*lora*"``, ``"trainable"`` (parameters that require gradients), and
            kinds of layers that are recognised by the names of parameters: ``"attention"``, ``"mlp"``,
            ``"embedding"``, ``"head"`` and ``"norm"``, see `kind_of`. ``"trainable"`` or a kind of layer may be passed
            as a plain string.

    Raises:
        InputError: An entry matches no parameter, the matched parameters have no elements or are of an integer type,
            or only frozen parameters are matched although others are trainable.
    """
    names = _aliases(source)
    values = dict(named_parameters(source)) if isinstance(source, nn.Module) else source
    movable = {name for name, value in values.items() if value.is_floating_point() or value.is_complex()}
    chosen: set[str] = set()
    for entry in entries_of(parameters):
        chosen |= _matched(entry, source, {name: names[name] for name in names if name in movable})
    if not any(values[name].numel() for name in chosen):
        what = "matches only parameters without entries" if chosen else "is empty"
        raise InputError(f"parameters {what}; give patterns of names, such as '*'")
    if isinstance(source, nn.Module):
        _refuse_frozen(values, chosen, parameters)
    return [name for name in values if name in chosen]


def choice_of(names: Iterable[str], chosen: Collection[str], parameters: str | Sequence[str]) -> dict[str, Any]:
    """The part of a slice's recipe that describes ``parameters``: the entries, and the ``names`` not ``chosen``."""
    return {"parameters": entries_of(parameters), "not_moved": {NOT_CHOSEN: [n for n in names if n not in chosen]}}


def entries_of(parameters: str | Iterable[str]) -> list[str]:
    """``parameters`` as the list of strings that recipes store.

    Raises:
        InputError: ``parameters`` is a pattern instead of a sequence of patterns, or an entry is not a string.
    """
    if isinstance(parameters, str):
        if parameters not in (TRAINABLE, *KINDS):
            raise InputError(
                f"parameters takes a sequence of patterns, not the string {parameters!r}; write ({parameters!r},)"
            )
        return [parameters]
    if not isinstance(parameters, Iterable):
        raise InputError(f"parameters takes a sequence of patterns of names, not {type(parameters).__name__}")
    for entry in parameters:
        if not isinstance(entry, str):
            raise InputError(f"parameters takes patterns of names, not {type(entry).__name__}")
    return list(parameters)


def kind_of(name: str) -> str | None:
    """The kind of layer, one of `KINDS`, by which a parameter is named; None if its ``name`` matches none of them.

    Example:
        >>> kind_of("transformer.h.0.attn.c_attn.weight"), kind_of("model.layers.3.mlp.gate_proj.weight")
        ('attention', 'mlp')
    """
    parts = [part.lower() for part in name.split(".")]
    if any(NORM.search(part) for part in parts):
        return "norm"
    if any(ATTENTION.search(part) for part in parts):
        return "attention"
    if any(HEAD.fullmatch(part) for part in parts) or parts[0] == "fc":
        return "head"
    # BERT and similar networks name the two layers of an MLP layer.0.intermediate.dense and layer.0.output.dense.
    if any(MLP.fullmatch(part) for part in parts) or re.search(r"(^|\.)layer\.\d+\.output\.dense\.", name.lower()):
        return "mlp"
    return "embedding" if any(EMBEDDING.search(part) for part in parts) else None


def _aliases(source: nn.Module | Point) -> dict[str, list[str]]:
    """All names of each parameter, by its first name; tied weights have several."""
    if not isinstance(source, nn.Module):
        return {name: [name] for name in source}
    first: dict[int, str] = {}
    names: dict[str, list[str]] = {}
    for full, parameter in unwrapped(source).named_parameters(remove_duplicate=False):
        name = wrapper_free(full)
        names.setdefault(first.setdefault(id(parameter), name), []).append(name)
    return names


def _matched(entry: str, source: nn.Module | Point, names: Mapping[str, list[str]]) -> set[str]:
    """The names that one entry chooses."""
    # Names are also compared as they are, because a name with brackets does not match itself as a pattern.
    if matched := {
        name
        for name, aliases in names.items()
        if any(alias == entry or fnmatch.fnmatchcase(alias, entry) for alias in aliases)
    }:
        return matched
    if entry == TRAINABLE:
        return _trainable(source)
    if entry in KINDS:
        if matched := {name for name, aliases in names.items() if any(kind_of(alias) == entry for alias in aliases)}:
            return matched
        raise InputError(
            f"parameters: no parameter of this network is named like a layer of the kind {entry!r}; give patterns of "
            f"its names: {_some(names)}"
        )
    raise InputError(f"parameters: {entry!r} matches no parameter; {_near(entry, names)}")


def _trainable(source: nn.Module | Point) -> set[str]:
    if not isinstance(source, nn.Module):
        raise InputError(
            "parameters='trainable' needs a network, because a point does not record which parameters are trainable; "
            "give the network, or patterns of names"
        )
    names = {name for name, parameter in named_parameters(source) if parameter.requires_grad}
    if not names:
        raise InputError(
            "parameters='trainable', but no parameter of this network is trainable (requires_grad is False "
            "everywhere); give patterns of names, or unfreeze some parameters"
        )
    return names


def _refuse_frozen(values: Mapping[str, Tensor], chosen: set[str], parameters: str | Sequence[str]) -> None:
    trainable = [name for name, value in values.items() if value.requires_grad]
    if trainable and chosen.isdisjoint(trainable):
        raise InputError(
            f"parameters={entries_of(parameters)} matches only frozen parameters, which do not require gradients; "
            f"choose among the trainable ones ({_some(trainable)}), or unfreeze those that you choose"
        )


def _near(entry: str, names: Iterable[str]) -> str:
    """The end of a message: names of the network that resemble ``entry``."""
    names = list(names)
    if inside := [name for name in names if name.startswith(f"{entry}.")]:
        return f"{f'{entry}.*'!r} matches the {len(inside)} parameters of that module"
    ratios = {name: difflib.SequenceMatcher(None, entry.strip("*.").lower(), name.lower()).ratio() for name in names}
    if close := [name for name in sorted(names, key=lambda name: -ratios[name]) if ratios[name] > CLOSE]:
        return f"near names are {', '.join(close[:SHOWN])}"
    words = [word for word in re.split(r"[*?.\[\]]+", entry.lower()) if len(word) > 2]
    close = [name for name in names if any(word in name.lower() for word in words)]
    return f"near names are {_some(close)}" if close else f"the network has {_some(names)}"


def _some(names: Iterable[str]) -> str:
    names = list(names)
    return (", ".join(names[:SHOWN]) or "none") + (f" ... ({len(names)} in all)" if len(names) > SHOWN else "")
