"""Language models of the transformers library, from folders that cannot run code when they are loaded."""

import contextlib
import fnmatch
import json
import math
import socket
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any
from urllib.parse import urlsplit

import torch
from torch import nn

from landscape.datasets.text import Text
from landscape.errors import InputError
from landscape.escaping import one_line
from landscape.runtime import own_torch_state

__all__ = ["Pretrained", "adapter_step", "add_adapters", "load_adapters", "load_pretrained"]

PICKLES = (".bin", ".pt", ".pth", ".pkl", ".pickle", ".ckpt", ".joblib")  # suffixes of files that can hold code
ADAPTERS = "adapter_config.json"  # what a folder of the peft library holds
POSITIONS = ("max_position_embeddings", "n_positions", "n_ctx", "max_seq_len")  # names in configurations
PATIENCE = 5.0  # seconds
# What the Trainer of Hugging Face writes beside weights, and nothing here reads.
TRAINER = ("training_args.bin", "optimizer.pt", "optimizer.bin", "scheduler.pt", "scaler.pt", "rng_state*.pth")
WHERE = "give a folder that save_pretrained wrote, or a name of the model hub where this machine is online"


@dataclass(frozen=True, eq=False)
class Pretrained:
    """A causal language model with its tokenizer."""

    model: nn.Module  # on the CPU, in eval mode
    tokenizer: Any  # of the transformers library
    name: str  # of the folder, or of the model hub
    positions: int | None  # tokens of the longest sequence; None where the configuration tells none

    @property
    def vocabulary(self) -> int:
        """How many tokens the model knows."""
        embedding: Any = self.model
        return int(embedding.get_input_embeddings().num_embeddings)

    def check(self, text: Text) -> None:
        """Raise InputError where ``text``, from this tokenizer, has tokens that the model does not know."""
        largest = int(text.tokens.max())
        if largest >= self.vocabulary:
            raise InputError(
                f"the tokenizer of {self.name} gives token {largest:,}, but the model knows {self.vocabulary:,} (from "
                "0 on); use the tokenizer that the model was trained with"
            )


@own_torch_state()
def load_pretrained(source: str | Path, *, dtype: torch.dtype | None = None) -> Pretrained:
    """The causal language model in the folder ``source`` (safetensors), or of that name of the model hub.

    Nothing is unpickled and no code of the folder is run. A folder of adapters of the peft library names the model
    that they were trained for, which is loaded as well.

    Args:
        source: a folder; or a name, which needs a connection or an earlier download.
        dtype: of the weights; None keeps what is stored.

    Raises:
        InputError: the library is missing; the folder holds pickled files, no weights or no tokenizer, or what the
            library cannot read; a name without a connection.
    """
    source, folder = str(source), Path(source)
    local = folder.is_dir()
    if folder.exists() and not local:
        raise InputError(f"{source} is a file; {WHERE}")
    if local:
        _refuse_pickles(folder)
    if local and (folder / ADAPTERS).is_file():
        base = load_pretrained(_base_of(folder), dtype=dtype)
        return Pretrained(load_adapters(base.model, folder), base.tokenizer, folder.name, base.positions)
    library = _library("transformers")
    options: dict[str, Any] = {"trust_remote_code": False, "local_files_only": local or _is_downloaded(source)}
    with _quiet(library), _explained(source, "its model"):
        model = library.AutoModelForCausalLM.from_pretrained(source, use_safetensors=True, **options)
    with _quiet(library), _explained(source, "its tokenizer"):
        tokenizer = library.AutoTokenizer.from_pretrained(source, **options)
    model.config.use_cache = False  # which only generating text needs
    positions = next((getattr(model.config, name) for name in POSITIONS if hasattr(model.config, name)), None)
    moved = model.to(dtype or next(model.parameters()).dtype).eval()
    return Pretrained(moved, tokenizer, folder.name if local else source, positions)


@own_torch_state()
def add_adapters(model: nn.Module, rank: int, seed: int) -> nn.Module:
    """Low-rank adapters W + B A in every linear layer of the blocks of ``model``, which is changed; B begins at zero.

    All other parameters are frozen. Source: Hu et al. 2022, "LoRA: Low-Rank Adaptation of Large Language Models".

    Raises:
        InputError: the peft library is missing, or there is no such layer.
    """
    library = _library("peft")
    blocks = [
        name
        for name, module in model.named_modules()
        if type(module).__name__ in ("Linear", "Conv1D") and any(part.isdigit() for part in name.split("."))
    ]
    if not blocks:
        raise InputError("the network has no linear layer in a numbered block, to which adapters could be added")
    transposed = any(type(module).__name__ == "Conv1D" for module in model.modules())
    config = library.LoraConfig(r=rank, lora_alpha=rank, target_modules=blocks, fan_in_fan_out=transposed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        adapted: nn.Module = library.inject_adapter_in_model(config, model)
    for name, parameter in adapted.named_parameters():
        parameter.requires_grad_("lora_" in name)
    return adapted.eval()


@own_torch_state()
def load_adapters(model: nn.Module, folder: str | Path) -> nn.Module:
    """``model`` with the adapters in ``folder`` (safetensors); everything else is frozen.

    Raises:
        InputError: the peft library is missing, the folder holds pickled files or no adapters, or they do not fit.
    """
    folder = Path(folder)
    if not (folder / ADAPTERS).is_file():
        raise InputError(f"{folder} holds no {ADAPTERS}; give a folder that save_pretrained of the peft library wrote")
    _refuse_pickles(folder)
    library = _library("peft")
    with _explained(str(folder), "its adapters"):
        adapted: nn.Module = library.PeftModel.from_pretrained(model, str(folder), is_trainable=True)
    return adapted.eval()


@own_torch_state()
@torch.no_grad()
def adapter_step(model: nn.Module, moved: nn.Module) -> float:
    """|dW| / |W| over all adapted layers, from ``model`` to ``moved``: of the base weights with their adapters."""
    change, size = 0.0, 0.0
    for one, other in zip(_adapted(model), _adapted(moved), strict=True):
        first, second = (
            layer.get_base_layer().weight.double() + layer.get_delta_weight("default").double()
            for layer in (one, other)
        )
        change += float((second - first).square().sum())
        size += float(first.square().sum())
    return math.sqrt(change / size) if size else 0.0


def _adapted(model: nn.Module) -> list[Any]:
    """The layers of ``model`` that have adapters."""
    return [module for module in model.modules() if hasattr(module, "get_delta_weight")]


def _base_of(folder: Path) -> str:
    """The model for which the adapters in ``folder`` were trained."""
    with _explained(str(folder), ADAPTERS):
        base = json.loads((folder / ADAPTERS).read_text(encoding="utf-8"))["base_model_name_or_path"]
    if not isinstance(base, str) or not base:
        raise InputError(f"{folder / ADAPTERS} names no model that the adapters belong to; load that model, then them")
    return base


def _refuse_pickles(folder: Path) -> None:
    """Raise InputError for a folder with files that could run code when somebody loads them.

    Those of a training run are no reason if the weights beside them are safetensors.
    """
    unread = TRAINER if any(folder.glob("*.safetensors")) else ()
    pickled = sorted(
        path.relative_to(folder)
        for path in folder.rglob("*")
        if path.suffix.lower() in PICKLES and not any(fnmatch.fnmatchcase(path.name, pattern) for pattern in unread)
    )
    if pickled:
        names = ", ".join(map(str, pickled[:3])) + ", ..." * (len(pickled) > 3)
        raise InputError(
            f"{folder} holds pickled files ({names}), which can run code when they are loaded; write the model as "
            "safetensors with save_pretrained into a folder without them"
        )


def _library(name: str) -> ModuleType:
    """The library, imported where it is used only."""
    try:
        return __import__(name)
    except ImportError as error:
        raise InputError(f"this needs the {name} library: pip install {name} ({one_line(str(error))[:120]})") from error


@contextlib.contextmanager
def _quiet(library: Any) -> Iterator[None]:
    """Without bars and reports of the library."""
    level = library.logging.get_verbosity()
    library.logging.set_verbosity_error()
    library.logging.disable_progress_bar()
    try:
        yield
    finally:
        library.logging.set_verbosity(level)
        library.logging.enable_progress_bar()


@contextlib.contextmanager
def _explained(source: str, what: str) -> Iterator[None]:
    """Turn whatever the libraries raise into one line."""
    try:
        yield
    except InputError:
        raise
    except Exception as error:  # files of any content, and a connection, make them fail in any way
        reason = one_line(str(error))[:200] or type(error).__name__
        raise InputError(f"{source}: {what} cannot be loaded ({reason}); {WHERE}") from error


def _is_downloaded(name: str) -> bool:
    """Whether the model ``name`` was downloaded before; else there must be a connection.

    Raises:
        InputError: neither.
    """
    hub = _library("huggingface_hub")
    with _explained(name, "a model of that name"):
        if isinstance(hub.try_to_load_from_cache(name, "config.json"), str):
            return True
    host = urlsplit(hub.constants.ENDPOINT).hostname or ""
    try:
        socket.create_connection((host, 443), timeout=PATIENCE).close()
    except OSError as error:
        raise InputError(f"there is no folder {name} here, and no connection to {host}; {WHERE}") from error
    return False
