"""The state of torch in which everything is computed, independent of the caller's settings."""

import contextlib
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils._python_dispatch import _disable_current_modes

from landscape.runtime.random_state import THREAD_NAME
from landscape.runtime.shared import Shared

__all__ = ["math_attention", "own_torch_state", "started_threads"]


class Numerics(NamedTuple):
    """Process-wide settings of torch on which results depend."""

    default_dtype: torch.dtype
    tf32: bool
    cuda: bool  # whether the settings of CUDA matter


@contextlib.contextmanager
def own_torch_state(
    default_dtype: torch.dtype = torch.float32, *, tf32: bool = False, device: torch.device | None = None
) -> Iterator[None]:
    """Compute in the state of torch of a new process, and restore the caller's settings afterwards.

    In this thread that concerns autocast, inference mode (gradients stay off inside it), the default device, and modes
    that watch or replace operations, such as FakeTensorMode. In the whole process it concerns the default dtype, the
    precision of float32 products, deterministic algorithms and anomaly detection; these are changed only if they
    differ, and for as long as some thread needs them. The function can also be used as a decorator.
    """
    numerics = Numerics(default_dtype, tf32, device is not None and device.type == "cuda")
    if _NUMERICS.is_held(numerics) and _is_own_thread_state():
        yield
        return
    with contextlib.ExitStack() as stack:
        if torch._C._len_torch_function_stack():
            stack.enter_context(_no_function_modes())
        if torch._C._len_torch_dispatch_stack():
            stack.enter_context(_disable_current_modes())
        if torch.is_inference_mode_enabled():
            stack.enter_context(torch.inference_mode(False))
            stack.enter_context(torch.no_grad())
        for kind in _autocast_kinds():
            stack.enter_context(torch.autocast(kind, enabled=False))
        stack.enter_context(_NUMERICS.held(numerics))
        yield


@contextlib.contextmanager
def math_attention() -> Iterator[None]:
    """Use torch's "math" kernel of attention, the only one that can be differentiated twice."""
    with _ATTENTION.held("math"):
        yield


def started_threads(count: int, torch_threads: int) -> ThreadPoolExecutor:
    """``count`` running threads, each of which uses ``torch_threads`` threads of torch; others are not affected.

    torch passes the setting of one thread on to all threads started later, so it is restored at once.
    """
    with _THREADS_LOCK:
        before = torch.get_num_threads()
        pool = ThreadPoolExecutor(count, thread_name_prefix=THREAD_NAME)
        together = threading.Barrier(count)

        def start() -> None:
            torch.get_num_threads()  # at its first use of torch a thread copies the setting of the process
            torch.set_num_threads(torch_threads)
            together.wait()

        try:
            for future in [pool.submit(start) for _ in range(count)]:
                future.result()
        finally:
            torch.set_num_threads(before)
    return pool


def _is_own_thread_state() -> bool:
    """Whether `own_torch_state` would have nothing to change in this thread."""
    modes = torch._C._len_torch_function_stack() or torch._C._len_torch_dispatch_stack()
    return not (modes or torch.is_inference_mode_enabled() or _autocast_kinds())


def _autocast_kinds() -> list[str]:
    """The types of devices for which autocast is enabled in this thread."""
    return [kind for kind in _AUTOCAST if torch.is_autocast_enabled(kind)]


@contextlib.contextmanager
def _no_function_modes() -> Iterator[None]:
    modes = [torch._C._pop_torch_function_stack() for _ in range(torch._C._len_torch_function_stack())]
    try:
        yield
    finally:
        for mode in reversed(modes):
            torch._C._push_on_torch_function_stack(mode)


def _set_numerics(numerics: Numerics) -> Callable[[], None]:
    """Change the settings that differ from ``numerics``, and return the function that restores them."""
    undo = contextlib.ExitStack()
    undo.callback(_set_precisions, _precisions())  # restored last, because the settings below change them as well
    _set_precisions({pair: "ieee" for pair, value in _precisions().items() if pair in _ON_CPU and value != "none"})
    for read, write, value in _settings(numerics):
        try:
            before = read()
        except RuntimeError:  # the caller has used both the old and the new interface of the precision
            before = None
        if before == value:
            continue
        write(value)
        if before is not None:
            undo.callback(write, before)
    return undo.close


def _settings(numerics: Numerics) -> Iterator[tuple[Callable[[], Any], Callable[[Any], Any], Any]]:
    """(function that reads, function that writes, value in ``numerics``) of every setting."""
    yield torch.get_default_dtype, torch.set_default_dtype, numerics.default_dtype
    yield (
        lambda: (torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()),
        lambda mode: torch.use_deterministic_algorithms(mode[0], warn_only=mode[1]),
        (False, False),
    )
    yield (
        lambda: (torch.is_anomaly_enabled(), torch.is_anomaly_check_nan_enabled()),
        lambda mode: torch.set_anomaly_enabled(*mode),
        (False, torch.is_anomaly_check_nan_enabled()),
    )
    yield (
        torch.get_float32_matmul_precision,
        torch.set_float32_matmul_precision,
        "high" if numerics.tf32 else "highest",
    )
    if numerics.cuda:
        yield (
            lambda: torch.backends.cudnn.allow_tf32,
            lambda value: setattr(torch.backends.cudnn, "allow_tf32", value),
            numerics.tf32,
        )


_AUTOCAST = tuple(kind for kind in ("cpu", "cuda", "mps") if torch.amp.is_autocast_available(kind))
_ON_CPU = (("mkldnn", "conv"), ("mkldnn", "rnn"))


def _precisions() -> dict[tuple[str, str], str]:
    """The precisions in the newer interface of torch; empty if this version does not have it."""
    if not hasattr(torch._C, "_get_fp32_precision_getter"):
        return {}
    pairs = [(backend, kind) for backend in ("mkldnn", "cuda") for kind in ("matmul", "conv", "rnn")]
    return {pair: torch._C._get_fp32_precision_getter(*pair) for pair in pairs}


def _set_precisions(precisions: dict[tuple[str, str], str]) -> None:
    present = _precisions()
    for pair, value in precisions.items():
        if present[pair] != value:
            torch._C._set_fp32_precision_setter(*pair, value)


def _use_math_attention(_: object) -> Callable[[], None]:
    undo = contextlib.ExitStack()
    undo.enter_context(sdpa_kernel(SDPBackend.MATH))
    return undo.close


_NUMERICS, _ATTENTION = Shared(_set_numerics), Shared(_use_math_attention)
_THREADS_LOCK = threading.Lock()
