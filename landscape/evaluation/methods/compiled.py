"""Forward passes compiled for batches of one shape: a graph of fused operations, or code by torch's Inductor."""

import contextlib
import functools
import logging
import math
import os
import shutil
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.utils._pytree import TreeSpec, tree_flatten, tree_leaves, tree_unflatten

from landscape.evaluation.methods.first_outputs import FirstOutputs
from landscape.evaluation.methods.fusion import fold_batch_norm, fuse_convolutions
from landscape.evaluation.methods.graphs import Parts, capture, parted
from landscape.evaluation.methods.moved import Block
from landscape.evaluation.methods.protocol import Compiler, NotApplicable
from landscape.objective.objectives import Objective

__all__ = ["CompiledForward", "Programs", "cxx_compiler"]

PLAIN, TENSOR = (bool, int, float, str), object()
MOST = 4  # number of input shapes that are compiled at most: a loss may call its network several times


class Programs:
    """The compiled passes of a network, by the shapes of their inputs; its copies in other threads share them.

    Passes are compiled only within `compiling`; later passes of other shapes run without compilation.
    """

    def __init__(self) -> None:
        self.compiled: dict[Any, Program] = {}
        self.threads: int | None = None  # threads of the compiled code; None outside of `compiling`

    def made_by(self, compiler: Compiler | None) -> list["Program"]:
        """The compiled passes of ``compiler``."""
        return [program for (name, *_), program in self.compiled.items() if name == compiler]

    @contextlib.contextmanager
    def compiling(self, threads: int) -> Iterator[None]:
        """A context in which the passes that run are compiled, for ``threads`` threads of torch."""
        self.threads = threads
        try:
            yield
        finally:
            self.threads = None


class Program:
    """The compiled pass for calls of one shape: outputs from weights and inputs, without side effects."""

    def __init__(self, parts: Parts, run: Callable[..., Any], outputs: "Outputs", folded: int):
        self.constants, self.run, self.outputs = parts.of_weights, run, outputs
        self.folded = folded  # number of BatchNorm layers that are folded into the weights of convolutions

    def __call__(self, constants: list[Tensor], inputs: list[Tensor]) -> Any:
        return self.outputs.of(self.run(*constants, *inputs))


class Outputs:
    """The structure of the outputs of a network, into which other tensors can be put.

    Numbers, booleans and strings are kept. Other objects become None, such as a key-value cache, which no loss reads.
    """

    def __init__(self) -> None:
        self.leaves: list[Any] = []
        self.structure: TreeSpec | None = None

    def tensors(self, outputs: Any) -> list[Tensor]:
        """The tensors of ``outputs``, whose structure is kept for `of`."""
        leaves, self.structure = tree_flatten(outputs)
        plain = [leaf if isinstance(leaf, PLAIN) else None for leaf in leaves]
        self.leaves = [TENSOR if isinstance(leaf, Tensor) else rest for leaf, rest in zip(leaves, plain, strict=True)]
        return [leaf for leaf in leaves if isinstance(leaf, Tensor)]

    def of(self, tensors: Iterable[Tensor]) -> Any:
        """Outputs of the kept structure with these ``tensors``."""
        values = iter(tensors)
        leaves = [next(values) if leaf is TENSOR else leaf for leaf in self.leaves]
        return tree_unflatten(leaves, self.structure) if self.structure else None


class CompiledForward:
    """A replacement of the forward method of a network: the compiled pass where there is one, else the method itself.

    The weights are inputs of the pass, so that nothing is compiled again at another point. What depends on them alone
    is computed once for every point of a block, for all threads. If oneDNN's outputs are not all finite, the method
    itself computes them again, because fused operations may change such values.

    Raises:
        NotApplicable: the passes have side effects, or the network as a whole is the first layer that moves.
    """

    def __init__(self, objective: Objective, first: FirstOutputs | None, programs: Programs, compiler: Compiler):
        if not objective.passes.are_pure:
            raise NotApplicable("passes do more than to compute outputs from weights and inputs")
        self.objective, self.model, self.programs, self.compiler = objective, objective.model, programs, compiler
        self.first = None if first is None else first.first
        if self.first is not None and self.first.layer is self.model:
            raise NotApplicable("the network is the layer that moves first")
        self.method: Callable[..., Any] = self.model.forward
        self._here: dict[Program, list[Tensor]] = {}

    @property
    def replacements(self) -> dict[nn.Module, Callable[..., Any]]:
        return {self.model: self}

    def go_to(self, block: Block, index: int) -> None:
        """Let the next passes be those at the point ``index`` of ``block``; the network must have moved there."""
        self._here = block.constants[index]

    def prepare(self) -> None:
        """Compute what depends on the weights alone at this point, for the passes that are compiled already."""
        for program in self.programs.made_by(self.compiler):
            self._constants_of(program)

    def __call__(self, *arguments: Any, **keywords: Any) -> Any:
        given, structure = tree_flatten((arguments, keywords))
        tensors = [value for value in given if isinstance(value, Tensor)]
        fixed = tuple(None if isinstance(value, Tensor) else value for value in given)
        shared = [] if self.first is None else self.first.shared
        inputs = [*shared, *tensors]
        key = (self.compiler, structure, fixed, *map(_form, inputs))
        program = self.programs.compiled.get(key)
        if program is None and self.programs.threads and len(self.programs.made_by(self.compiler)) < MOST:
            rest = functools.partial(self._captured, given, structure, len(shared))
            program = self.programs.compiled[key] = self._compile(rest, inputs, self.programs.threads)
        if program is not None:
            with self._without_autocast():
                outputs = program(self._constants_of(program), inputs)
            if self.compiler == "inductor" or all(map(_is_finite, tree_leaves(outputs))):
                if self.first is not None:
                    self.first.take()
                return outputs
        return self.method(*arguments, **keywords)

    def _constants_of(self, program: Program) -> list[Tensor]:
        if program not in self._here:
            with self._without_autocast():
                self._here[program] = program.constants(*self._weights())
        return self._here[program]

    def _weights(self) -> list[Tensor]:
        return [value.detach() for value in (*self.model.parameters(), *self.model.buffers())]

    def _captured(
        self, given: list[Any], structure: TreeSpec, shared: int, outputs: Outputs, weights: Any, inputs: Any
    ) -> list[Tensor]:
        """The tensors in the output of the pass as a function of ``weights`` and ``inputs``."""
        values = iter(inputs[shared:])
        arguments, keywords = tree_unflatten(
            [next(values) if isinstance(value, Tensor) else value for value in given], structure
        )
        named = (*self.model.named_parameters(), *self.model.named_buffers())
        moved = {f"network.{name}": value for (name, _), value in zip(named, weights, strict=True)}
        replayed = contextlib.nullcontext() if self.first is None else self.first.replaying(inputs[:shared])
        with replayed:
            return outputs.tensors(functional_call(_Pass(self.model, self.method), moved, arguments, keywords))

    def _compile(self, function: Callable[..., Any], inputs: list[Tensor], threads: int) -> Program:
        weights, outputs = self._weights(), Outputs()
        graph = capture(functools.partial(function, outputs), weights, inputs)
        folded = fold_batch_norm(graph)
        if self.compiler == "onednn" and not fuse_convolutions(graph):
            raise NotApplicable("there is no convolution that oneDNN could fuse")
        parts = parted(graph, len(weights))
        run: Callable[..., Any] = parts.of_batch
        if self.compiler == "inductor":
            with self._without_autocast():
                run = _by_inductor(parts, weights, inputs, threads)
        return Program(parts, run, outputs, folded)

    def _without_autocast(self) -> contextlib.AbstractContextManager[None]:
        """A context without autocast, whose casts are operations of the graph already."""
        if self.objective.precision != "bf16":
            return contextlib.nullcontext()
        return torch.autocast(self.objective.device.type, enabled=False)


class _Pass(nn.Module):
    """A network that is run by the given ``method`` in place of its present forward method."""

    def __init__(self, network: nn.Module, method: Callable[..., Any]):
        super().__init__()
        self.network, self.method = network, method

    def forward(self, *arguments: Any, **keywords: Any) -> Any:
        return self.method(*arguments, **keywords)


def cxx_compiler() -> str | None:
    """The path of the C++ compiler that Inductor would use on this machine; None if there is none."""
    named = os.environ.get("CXX")
    usual = ("cl",) if sys.platform == "win32" else ("clang++",) if sys.platform == "darwin" else ("g++", "g++-10")
    return next(filter(None, map(shutil.which, (named,) if named else usual)), None)


_ONE_AT_A_TIME = threading.Lock()


def _by_inductor(parts: Parts, weights: list[Tensor], inputs: list[Tensor], threads: int) -> Callable[..., Any]:
    if inputs[0].device.type == "cpu" and cxx_compiler() is None:
        raise NotApplicable("torch's Inductor needs a C++ compiler, and there is none")
    with _ONE_AT_A_TIME, _quiet_start():
        import torch._inductor

        examples = [*parts.of_weights(*weights), *inputs]
        options = {"cpp.threads": threads}
        run: Callable[..., Any] = torch._inductor.compile(parts.of_batch, examples, options)
        run(*examples)
    return run


@contextlib.contextmanager
def _quiet_start() -> Iterator[None]:
    """A context to load Inductor in: it hides messages, and does not leave a cache folder in the environment."""
    logger, place = logging.getLogger("torch.utils.cpp_extension"), "TORCHINDUCTOR_CACHE_DIR"
    before, kept = logger.level, os.environ.get(place)
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(before)
        if kept is None:
            os.environ.pop(place, None)


def _is_finite(output: Any) -> bool:
    """Whether ``output`` is finite, judged by its sum; also True if it is no tensor of floating-point numbers."""
    return not isinstance(output, Tensor) or not output.is_floating_point() or math.isfinite(float(output.sum()))


def _form(tensor: Tensor) -> tuple[Any, ...]:
    """The properties of an input that a compiled program relies on."""
    return tensor.shape, tensor.stride(), tensor.dtype, tensor.requires_grad
