"""Text as sequences of tokens, with a part held out."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor

from landscape.datasets.base import checked_limit
from landscape.errors import InputError
from landscape.presenting import Presented
from landscape.runtime import own_torch_state
from landscape.storage.provenance import fingerprint
from landscape.storage.reading import file_content

__all__ = ["Bytes", "Text", "Tokenizer", "load_text", "python_topics"]


class Tokenizer(Protocol):
    """What turns text into tokens and back, as those of the transformers library do."""

    def __len__(self) -> int: ...

    def encode(self, text: str, /, *, add_special_tokens: bool) -> list[int]: ...


class Bytes:
    """One token for every byte of the UTF-8 encoding: fits every text, and needs no vocabulary to be learnt.

    Example:
        >>> Bytes().encode("aé")
        [97, 195, 169]
        >>> Bytes().decode([97, 195, 169])
        'aé'
    """

    def __len__(self) -> int:
        return 256

    def encode(self, text: str, /, *, add_special_tokens: bool = False) -> list[int]:
        return list(text.encode())

    def decode(self, tokens: Sequence[int]) -> str:
        return bytes(tokens).decode(errors="replace")


@dataclass(frozen=True, eq=False, repr=False)
class Text(Presented):
    """One part of a text, cut into sequences of one length; every token but the first of a sequence is predicted."""

    tokens: Tensor  # [N, T] int64
    name: str  # "python-topics", or the name of the file
    split: str  # "all", "train" or "held-out"
    source: str  # where the text came from, for people

    @property
    def facts(self) -> dict[str, str]:
        return {
            "name": self.name,
            "split": self.split,
            "sequences": f"{len(self):,}",
            "tokens each": f"{self.tokens.shape[1]:,}",
            "source": self.source,
        }

    def __len__(self) -> int:
        return len(self.tokens)

    @property
    def inputs(self) -> dict[str, Tensor]:
        """A batch of all sequences, as language models of the transformers library take it."""
        return {"input_ids": self.tokens}

    @property
    def predicted(self) -> int:
        """How many tokens are predicted: all but the first of every sequence."""
        return len(self) * (self.tokens.shape[1] - 1)

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 (hex) over shape, type and bytes of the tokens."""
        return fingerprint((self.tokens,))

    @property
    def description(self) -> dict[str, Any]:
        """Which data these are: name, split, size and fingerprint."""
        return {"name": self.name, "split": self.split, "size": len(self), "fingerprint": self.fingerprint}

    def divided(self, share: float = 0.1) -> tuple["Text", "Text"]:
        """The beginning of the text for training, and the last ``share`` of its sequences held out.

        Raises:
            InputError: one of them would be empty.
        """
        held_out = round(share * len(self))
        if not 0 < held_out < len(self):
            raise InputError(
                f"{self.name} has {len(self)} sequence{'s' * (len(self) > 1)} of {self.tokens.shape[1]:,} tokens, of "
                f"which a share of {share:g} cannot be held out; give a longer text, or shorter sequences"
            )
        first = len(self) - held_out
        return (
            replace(self, tokens=self.tokens[:first], split="train"),
            replace(self, tokens=self.tokens[first:], split="held-out"),
        )

    @own_torch_state()
    def subset(self, n: int, seed: int) -> "Text":
        """``n`` sequences drawn without replacement from ``seed``, in the order of the text.

        Raises:
            InputError: ``n`` is below 1 or above the number of sequences.
        """
        n = checked_limit(n, len(self), f"{self.name} {self.split}")
        drawn = torch.randperm(len(self), generator=torch.Generator().manual_seed(seed))[:n]
        return replace(self, tokens=self.tokens[drawn.sort().values])


@own_torch_state()
def load_text(path: str | Path | None, tokenizer: Tokenizer, length: int) -> Text:
    """A text in sequences of ``length`` tokens that do not overlap; what is left over at its end is left out.

    Args:
        path: a file of text in UTF-8; None takes `python_topics`, which every Python has.
        tokenizer: `Bytes`, or one of the transformers library.
        length: tokens of a sequence, at least 2.

    Raises:
        InputError: a file that is missing or no text, or shorter than one sequence.
    """
    if length < 2:
        raise InputError(f"a sequence of {length} tokens predicts none; take at least 2")
    text = python_topics() if path is None else _read(Path(path))
    tokens = torch.tensor(tokenizer.encode(text, add_special_tokens=False), dtype=torch.int64)
    if len(tokens) < length:
        raise InputError(
            f"{path or 'the text'} has {len(tokens):,} tokens, fewer than one sequence of {length:,}; give a longer "
            "text, or shorter sequences"
        )
    name, source = ("python-topics", "topics of pydoc") if path is None else (Path(path).name, str(path))
    return Text(tokens[: len(tokens) // length * length].reshape(-1, length), name, "all", source)


def python_topics() -> str:
    """The language reference that ``help()`` shows: about 80 topics, 460 thousand characters.

    It differs a little from one version of Python to the next.
    """
    from pydoc_data.topics import topics  # only here: half a megabyte

    return "\n\n".join(topics[name] for name in sorted(topics))


def _read(path: Path) -> str:
    content = file_content(path, "text", "give a file of text")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(
            f"{path} is no text in UTF-8 (byte {error.start:,}); convert it, or give another file"
        ) from error
