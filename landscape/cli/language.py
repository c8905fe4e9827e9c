"""Language models and texts that are chosen by options of a command line."""

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

LENGTH = 128  # default number of tokens in a sequence
ADAPTERS = ("*lora_*",)  # patterns of the names of adapters
ADAPTER_STEPS = 200
DTYPES = {"float32": torch.float32, "float64": torch.float64}


@dataclass(frozen=True)
class LanguageChoice:
    """The model, and the text on which its loss is evaluated."""

    model: str | None = None
    """Folder of a model of the transformers library (safetensors); on a machine that is online, its name on the hub.
    None trains a small GPT on the text."""
    text: Path | None = None
    """Text file in UTF-8, whose last tenth is held out. None takes the help topics of pydoc, which every Python has."""
    tokens: int = 4096
    """Number of tokens of the training text, and of the held-out text, on which the loss is evaluated.
    It is rounded down to whole sequences."""
    sequence_length: int | None = None
    """Number of tokens in a sequence.
    None stands for 128, or for the largest number that the model accepts if that is smaller."""
    parameters: tuple[str, ...] = ()
    """Parameters that are moved: patterns of names, or one of trainable, attention, mlp, embedding, head.
    If none are given, all parameters except biases and normalisation layers are moved."""
    lora: str | None = None
    """Rank of adapters (LoRA) to train on the text, or a folder of trained adapters.
    The loss is then drawn over a plane of the adapters as well."""
    adapter_steps: int = ADAPTER_STEPS
    """Number of training steps of the adapters."""
    dtype: Literal["float32", "float64"] | None = "float32"
    """Floating-point type of the forward passes; losses are averaged in float64.
    None keeps the type of the parameters of a given model, such as bfloat16.
    Points are then computed in float32 and rounded to it, and curvature is left out."""
    spill: Path | None = None
    """Folder for a large model, which is then moved itself instead of a copy.
    Its own weights and the directions are stored there while it is evaluated.
    Curvature and the sharpness of layers, which need copies, are left out."""
    device: str = "auto"
    """Device: cpu, cuda, cuda:N or mps. auto takes the first one available of cuda, mps, cpu."""

    def check(self) -> None:
        """Raise InputError, with one line that says what to change, if a value is out of range."""
        check_count("tokens", self.tokens)
        check_count("sequence_length", self.sequence_length, least=2)
        select_device(self.device)
        if self.lora is not None and self.rank is None and not Path(self.lora).is_dir():
            raise InputError(f"lora is {self.lora!r}; give a rank of at least 1, or a folder of adapters")
        check_count("adapter_steps", self.adapter_steps, least=2)
        if self.spill is not None and not self.spill.is_dir():
            raise InputError(f"spill is {str(self.spill)!r}, no folder; make it first")

    @property
    def rank(self) -> int | None:
        """The rank of the adapters to train; None if no adapters are trained."""
        return int(self.lora) if self.lora and self.lora.isdecimal() and int(self.lora) else None

    @property
    def kind(self) -> torch.dtype | None:
        """The dtype of torch; None is that of the parameters."""
        return DTYPES[self.dtype] if self.dtype else None

    def objective_of(self, model: nn.Module, text: Text) -> Objective:
        """The loss of ``model`` on ``text``: the cross-entropy of the next token, averaged over tokens."""
        if self.spill is None:
            return objective(model, text, loss="language_model", device=self.device, dtype=self.kind)
        model.to(select_device(self.device))
        return objective(model, text, loss="language_model", dtype=self.kind, copy=False, spill=self.spill)

    @property
    def directions(self) -> dict[str, Any]:
        """Arguments of `random_plane` and `random_line` that choose the moved parameters."""
        return {"parameters": self.parameters} if self.parameters else {}


@dataclass(frozen=True)
class GPTOptions:
    """The GPT that is trained if no model is given."""

    layers: int = 5
    """Number of transformer blocks."""
    heads: int = 4
    """Number of attention heads in each block."""
    width: int = 128
    """Dimension of the residual stream."""
    tied: bool = True
    """Use the token embedding as the weight of the output layer as well."""


@dataclass(frozen=True)
class LanguageView:
    """The measurements around the model."""

    resolution: int = 15
    """Number of grid points along each axis of every plane; it must be odd."""
    tolerance: float | None = None
    """Interpolate a part of the points of every plane, with errors up to this share of the loss, such as 0.01.
    None evaluates all points."""
    edge: float = 1.0
    """Rise of the training loss at the edge of the random plane, in nats per token.
    It determines the range of the plane."""
    directions: int = 20
    """Number of random directions in which the size of the basin is measured."""
    rise: float = 0.1
    """Rise of the loss at which the basin ends, in nats per token."""
    draws: int = 3
    """Number of pairs of random perturbations of each layer, for the sharpness."""
    judged: int = 8
    """Number of sequences on which the curvature in the random plane is compared with that in all directions.
    0 skips the comparison."""

    def check(self) -> None:
        """Raise InputError, with one line that says what to change, if a value is out of range."""
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
    """A language model and the text on which its loss is evaluated, with the training if it was trained here."""

    name: str
    model: nn.Module  # on the CPU, in eval mode
    whole: tuple[Text, Text]  # the whole training text and the whole held-out text
    parts: dict[str, Text]  # the sequences on which the loss is evaluated, by name
    points: RecordedPoints | None  # recorded during training, with the held-out loss; None for a given model
    suffix: str  # the end of the names of all files

    @property
    def facts(self) -> dict[str, str]:
        """The facts about model and text that a reader needs, by name."""
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
    """Raise InputError, with one line, for options that are out of range, contradict each other, or have no effect."""
    for group in (choice, view, training):
        group.check()
    if choice.model is not None:
        refuse_unused("with --model, which gives a trained network", (network, GPTOptions()))
    if choice.model is not None and choice.rank is None:
        trained = (replace(training, seed=LanguageTraining.seed), LanguageTraining())
        refuse_unused("if nothing is trained", trained)
    if choice.rank is None:
        refuse_unused("without a rank of adapters to train", adapter_steps=(choice.adapter_steps, ADAPTER_STEPS))
    if choice.model is None:
        refuse_unused("without --model, because the network is small", spill=(choice.spill, None))
    if choice.lora is not None and choice.spill is not None:
        raise InputError("lora adds adapters to a copy of the model, which spill avoids; give only one of them")
    if choice.lora is not None and choice.parameters:
        raise InputError("parameters and lora both choose the moved parameters; give only one of them")


def load_language_subject(
    choice: LanguageChoice,
    network: GPTOptions,
    training: LanguageTraining,
    out: Path,
    *,
    force: bool = False,
    settings: str = "",
) -> LanguageSubject:
    """The model that ``choice`` names, or a GPT trained on the text, whose training is recorded once in ``out``.

    The ``settings`` are printed once the model and the text are loaded, and before anything is trained.

    Raises:
        InputError: The model, the tokenizer or the text cannot be used, or they do not fit each other.
    """
    if choice.model is None:
        length = choice.sequence_length or LENGTH
        train, held_out = load_text(choice.text, Bytes(), length).divided()
        parts = _parts(choice, {"train": train, "held-out": held_out}, training.seed)
        arguments = {"input_shape": (length,), "classes": len(Bytes()), **asdict(network)}
        suffix = "" if choice.text is None else f"_{plain_name(train.name)}"
        build = partial(build_model, "gpt", **arguments)
        _check_parameters(build(), choice)  # building the network also refuses sizes that do not fit together
        _show(settings)
        points = load_or_record_language_model(
            out / f"language_model{suffix}.points", build, {"name": "gpt", "arguments": arguments}, train, held_out,
            training, device=choice.device, force=force,
        )  # fmt: skip
        model = model_at(build(), points[-1]).eval()
        return LanguageSubject("gpt", model, (train, held_out), parts, points, suffix)
    pretrained = load_pretrained(choice.model, dtype=choice.kind)
    length = choice.sequence_length or min(LENGTH, pretrained.positions or LENGTH)
    if pretrained.positions and length > pretrained.positions:
        raise InputError(
            f"a sequence of {length:,} tokens is longer than the {pretrained.positions:,} positions of "
            f"{pretrained.name}; use shorter sequences"
        )
    text = load_text(choice.text, pretrained.tokenizer, length)
    pretrained.check(text)
    _check_parameters(pretrained.model, choice)
    whole = text.divided() if choice.rank else (text, text)
    parts = {"train": whole[0], "held-out": whole[1]} if choice.rank else {"text": text}
    suffix = f"_{plain_name(f'{pretrained.name}_{text.name}')}"
    parts = _parts(choice, parts, training.seed)
    _show(settings)
    return LanguageSubject(pretrained.name, pretrained.model, whole, parts, None, suffix)


def _show(settings: str) -> None:
    if settings:
        print(f"Settings: {settings}", flush=True)


def with_adapters(
    subject: LanguageSubject, choice: LanguageChoice, training: LanguageTraining, out: Path, *, force: bool = False
) -> nn.Module:
    """The network of ``subject`` with adapters, loaded from a folder, or trained and recorded once in ``out``.

    All its parameters require gradients, so that planes can move the weights or the adapters.
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
    """Raise InputError if ``model`` does not have the parameters that ``choice`` names."""
    if choice.parameters:
        chosen_parameters(model, choice.parameters)


def _adapted(model: nn.Module, rank: int, seed: int) -> nn.Module:
    return add_adapters(copy_of(model), rank, seed)


def _parts(choice: LanguageChoice, parts: dict[str, Text], seed: int) -> dict[str, Text]:
    """Random sequences of each of ``parts``, with the requested number of tokens, or all sequences."""
    length = next(iter(parts.values())).tokens.shape[1]
    if choice.tokens < length:
        raise InputError(
            f"tokens is {choice.tokens}, less than one sequence of {length}; use more tokens, or shorter sequences"
        )
    return {name: text.subset(min(len(text), choice.tokens // length), seed) for name, text in parts.items()}
