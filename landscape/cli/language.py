"""Which language model, on which text: the options of a command line, and what they stand for."""

from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

import torch
from torch import nn

from landscape.checks import check_count, check_number
from landscape.cli.messages import refuse_unused
from landscape.cli.settings import check_resolution
from landscape.datasets.text import Bytes, Text, load_text
from landscape.errors import InputError
from landscape.evaluation import check_tolerance
from landscape.models import build_model
from landscape.models.pretrained import add_adapters, load_adapters, load_pretrained
from landscape.objective.objectives import Objective, objective
from landscape.points import copy_of, model_at, parameters_of
from landscape.runtime.devices import select_device
from landscape.slices.chosen import chosen_parameters
from landscape.storage.files import plain_name
from landscape.storage.provenance import fingerprint
from landscape.training.language import LanguageTraining
from landscape.trajectories import RecordedPoints, load_or_record_language_model

__all__ = [
    "ADAPTERS",
    "GPTOptions",
    "LanguageChoice",
    "LanguageSubject",
    "LanguageView",
    "check_language_options",
    "load_language_subject",
    "with_adapters",
]

LENGTH = 128  # tokens of a sequence, where nothing else is asked for
ADAPTERS = ("*lora_*",)  # patterns of the names of adapters
ADAPTER_STEPS = 200
DTYPES = {"float32": torch.float32, "float64": torch.float64}


@dataclass(frozen=True)
class LanguageChoice:
    """Which model, on which text."""

    model: str | None = None
    """Folder of a model of the transformers library (safetensors), or its name on the model hub where this machine is
    online; None trains a small GPT on the text."""
    text: Path | None = None
    """File of text in UTF-8, whose last tenth is held out; None takes the topics of pydoc, which every Python has."""
    tokens: int = 4096
    """Tokens of training text, and as many held out, that the loss is evaluated on, in whole sequences."""
    sequence_length: int | None = None
    """Tokens of a sequence; None is 128, or fewer where the model takes no more."""
    parameters: tuple[str, ...] = ()
    """Only these are moved: patterns of names, trainable, attention, mlp, embedding, head; empty: all but biases and
    normalisation layers."""
    lora: str | None = None
    """Rank of adapters (LoRA) that are trained on the text, or a folder of trained ones: their plane is drawn too."""
    adapter_steps: int = ADAPTER_STEPS
    """Training steps of the adapters."""
    dtype: Literal["float32", "float64"] = "float32"
    """Arithmetic of the forward passes; losses are averaged in float64."""
    device: str = "auto"
    """auto (the first there of cuda, mps, cpu), cpu, cuda, cuda:N or mps."""

    def check(self) -> None:
        """Raise InputError, with one line that says what to change, where a value is out of range."""
        check_count("tokens", self.tokens)
        check_count("sequence_length", self.sequence_length, least=2)
        select_device(self.device)
        if self.lora is not None and self.rank is None and not Path(self.lora).is_dir():
            raise InputError(f"lora is {self.lora!r}; give a rank from 1 on, or a folder of adapters")
        check_count("adapter_steps", self.adapter_steps, least=2)

    @property
    def rank(self) -> int | None:
        """The rank of adapters that are trained here."""
        return int(self.lora) if self.lora and self.lora.isdecimal() and int(self.lora) else None

    def objective_of(self, model: nn.Module, text: Text) -> Objective:
        """The loss of ``model`` on ``text``: cross-entropy of the next token, averaged over tokens."""
        return objective(model, text, loss="language_model", device=self.device, dtype=DTYPES[self.dtype])

    @property
    def directions(self) -> dict[str, Any]:
        """Arguments of `random_plane` and `random_line` besides the seed."""
        return {"parameters": self.parameters} if self.parameters else {}


@dataclass(frozen=True)
class GPTOptions:
    """The GPT that is trained here."""

    layers: int = 5
    """Blocks."""
    heads: int = 4
    """Heads of the attention of every block."""
    width: int = 128
    """Width of the residual stream."""
    tied: bool = True
    """Use the embedding of the tokens as the weight of the head too."""


@dataclass(frozen=True)
class LanguageView:
    """What is measured around the model."""

    resolution: int = 15
    """Grid points along both axes of every plane, an odd number."""
    tolerance: float | None = None
    """Interpolate planes where errors stay below this share of the loss, such as 0.01."""
    edge: float = 1.0
    """Rise of the training loss at the edge of the random plane, in nats a token; the range is found."""
    directions: int = 20
    """Random directions of the basin."""
    rise: float = 0.1
    """Rise of the loss, in nats a token, at which the basin ends."""
    draws: int = 3
    """Pairs of random perturbations of every layer, for the sharpness."""
    judged: int = 8
    """Sequences on which the curvature in the random plane is compared with that of all directions; 0 leaves it out."""

    def check(self) -> None:
        """Raise InputError, with one line that says what to change, where a value is out of range."""
        check_resolution(self.resolution)
        if self.resolution % 2 == 0:
            raise InputError(f"resolution is {self.resolution}; an odd number puts the model itself on the grid")
        check_tolerance(self.tolerance)
        check_number("edge", self.edge, above=0)
        check_number("rise", self.rise, above=0)
        check_count("directions", self.directions, least=2)
        check_count("draws", self.draws, least=2)
        check_count("judged", self.judged, least=0)


@dataclass(frozen=True, eq=False)
class LanguageSubject:
    """A language model, the text that its loss is evaluated on, and how it was trained, where it was trained here."""

    name: str
    model: nn.Module  # on the CPU, in eval mode
    whole: tuple[Text, Text]  # for training, held out
    parts: dict[str, Text]  # what the loss is evaluated on, by name
    points: RecordedPoints | None  # of the training, the held-out loss beside them
    suffix: str  # of the names of all files

    @property
    def facts(self) -> dict[str, str]:
        """What a reader has to know; name -> text."""
        parameters = sum(parameter.numel() for parameter in self.model.parameters())
        texts = [
            f"{len(part):,} sequences of {part.tokens.shape[1]:,} tokens ({split})"
            for split, part in self.parts.items()
        ]
        facts = {"model": f"{self.name}, {parameters:,} parameters"}
        return facts | {"text": f"{self.whole[0].source}; the loss is evaluated on {' and '.join(texts)}"}


def check_language_options(
    choice: LanguageChoice, view: LanguageView, network: GPTOptions, training: LanguageTraining
) -> None:
    """Raise InputError, with one line, for options that cannot be used, or on which nothing depends."""
    for group in (choice, view, training):
        group.check()
    if choice.model is not None:
        refuse_unused("with --model, which names a trained network", (network, GPTOptions()))
    if choice.model is not None and choice.rank is None:
        trained = (replace(training, seed=LanguageTraining.seed), LanguageTraining())
        refuse_unused("where nothing is trained", trained)
    if choice.rank is None:
        refuse_unused("without a rank of adapters to train", adapter_steps=(choice.adapter_steps, ADAPTER_STEPS))
    if choice.lora is not None and choice.parameters:
        raise InputError("parameters and lora choose both what is moved; give one of them")


def load_language_subject(
    choice: LanguageChoice, network: GPTOptions, training: LanguageTraining, out: Path, *, force: bool = False
) -> LanguageSubject:
    """The model that ``choice`` names, or the GPT that is trained on the text, recorded in ``out`` and trained once.

    Raises:
        InputError: a model, tokenizer or text that cannot be used or do not fit each other.
    """
    if choice.model is None:
        length = choice.sequence_length or LENGTH
        train, held_out = load_text(choice.text, Bytes(), length).divided()
        parts = _parts(choice, {"train": train, "held-out": held_out}, training.seed)
        arguments = {"input_shape": (length,), "classes": len(Bytes()), **asdict(network)}
        suffix = "" if choice.text is None else f"_{plain_name(train.name)}"
        build = partial(build_model, "gpt", **arguments)
        _check_parameters(build(), choice)  # which also refuses sizes that fit no network
        points = load_or_record_language_model(
            out / f"language_model{suffix}.points", build, {"name": "gpt", "arguments": arguments}, train, held_out,
            training, device=choice.device, force=force,
        )  # fmt: skip
        model = model_at(build(), points[-1]).eval()
        return LanguageSubject("gpt", model, (train, held_out), parts, points, suffix)
    known = load_pretrained(choice.model, dtype=DTYPES[choice.dtype])
    length = choice.sequence_length or min(LENGTH, known.positions or LENGTH)
    if known.positions and length > known.positions:
        raise InputError(
            f"a sequence of {length:,} tokens is longer than the {known.positions:,} positions of {known.name}"
        )
    text = load_text(choice.text, known.tokenizer, length)
    known.check(text)
    _check_parameters(known.model, choice)
    whole = text.divided() if choice.rank else (text, text)
    parts = {"train": whole[0], "held-out": whole[1]} if choice.rank else {"text": text}
    suffix = f"_{plain_name(f'{known.name}_{text.name}')}"
    return LanguageSubject(known.name, known.model, whole, _parts(choice, parts, training.seed), None, suffix)


def with_adapters(
    subject: LanguageSubject, choice: LanguageChoice, training: LanguageTraining, out: Path, *, force: bool = False
) -> nn.Module:
    """The network of ``subject`` with adapters: trained here, recorded in ``out`` and trained once, or from a folder.

    Everything is trainable in it, so that planes may move the weights or the adapters.
    """
    if choice.rank is None:
        model = load_adapters(copy_of(subject.model), str(choice.lora))
    else:
        build = partial(_adapted, subject.model, choice.rank, training.seed)
        identity = {"base": fingerprint(parameters_of(subject.model).values()), "rank": choice.rank}
        steps = replace(training, steps=choice.adapter_steps, points=2)
        points = load_or_record_language_model(
            out / f"adapters_{choice.rank}{subject.suffix}.points", build, identity, *subject.whole, steps,
            device=choice.device, parameters=ADAPTERS, force=force,
        )  # fmt: skip
        model = build()
        model = model_at(model, {**parameters_of(model), **points[-1]})
    return model.requires_grad_(True).eval()


def _check_parameters(model: nn.Module, choice: LanguageChoice) -> None:
    """Raise InputError where the parameters that are chosen are not in ``model``."""
    if choice.parameters:
        chosen_parameters(model, choice.parameters)


def _adapted(model: nn.Module, rank: int, seed: int) -> nn.Module:
    return add_adapters(copy_of(model), rank, seed)


def _parts(choice: LanguageChoice, parts: dict[str, Text], seed: int) -> dict[str, Text]:
    """Random sequences of each of ``parts``, of as many tokens as are asked for, or all."""
    length = next(iter(parts.values())).tokens.shape[1]
    if choice.tokens < length:
        raise InputError(f"tokens is {choice.tokens}, less than one sequence of {length}; take more, or shorter ones")
    return {name: text.subset(min(len(text), choice.tokens // length), seed) for name, text in parts.items()}
