"""Spectral normalisation at points between networks, by the spectral norm of the weight at the point itself."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrizations import _SpectralNorm
from torch.nn.utils.spectral_norm import SpectralNorm

from landscape.points import as_float64

__all__ = ["SpectralLayer", "spectral_layers"]


@dataclass(frozen=True, eq=False)
class SpectralLayer:
    """A weight W divided by u^T W v; training keeps the buffers u and v near the leading singular vectors of W."""

    left: str  # the name of the buffer u
    right: str  # the name of the buffer v
    u: Tensor
    v: Tensor
    matrix: Callable[[], Tensor]  # returns the present W as a matrix

    @torch.no_grad()
    def ratio(self) -> float:
        """u^T W v / |W|_2, which is 1 if u and v are the leading singular vectors."""
        matrix = as_float64(self.matrix())
        estimate = as_float64(self.u) @ matrix @ as_float64(self.v)
        return float(estimate / torch.linalg.matrix_norm(matrix, ord=2))

    @torch.no_grad()
    def renew(self, ratio: float) -> None:
        """Set v and u / ``ratio`` to the leading singular vectors of the present W, so that `ratio` has that value."""
        matrix = as_float64(self.matrix())
        wide = matrix.shape[0] <= matrix.shape[1]
        vector = torch.linalg.eigh(matrix @ matrix.mT if wide else matrix.mT @ matrix).eigenvectors[:, -1]
        other = nn.functional.normalize((matrix.mT if wide else matrix) @ vector, dim=0)
        u, v = (vector, other) if wide else (other, vector)
        self.u.copy_(u * ratio)
        self.v.copy_(v)


def spectral_layers(model: nn.Module) -> list[SpectralLayer]:
    """The weights of ``model`` with torch's spectral normalisation, as a parametrization or as a hook."""
    names = {id(buffer): name for name, buffer in model.named_buffers()}
    layers = {}
    for module in model.modules():
        for chain in getattr(module, "parametrizations", {}).values():
            for number, step in enumerate(chain):
                if isinstance(step, _SpectralNorm) and hasattr(step, "_u"):
                    matrix = _parametrized(chain, number)
                    layers[id(step._u)] = SpectralLayer(
                        names[id(step._u)], names[id(step._v)], step._u, step._v, matrix
                    )
        for hook in module._forward_pre_hooks.values():
            if isinstance(hook, SpectralNorm):
                u, v = (getattr(module, f"{hook.name}_{side}") for side in "uv")
                layers[id(u)] = SpectralLayer(names[id(u)], names[id(v)], u, v, _hooked(module, hook))
    return list(layers.values())


def _parametrized(chain: nn.ModuleList, number: int) -> Callable[[], Tensor]:
    def matrix() -> Tensor:
        weight: Any = chain.original
        for before in list(chain)[:number]:
            weight = before(weight)
        step: Any = chain[number]
        rows: Tensor = step._reshape_weight_to_matrix(weight)
        return rows

    return matrix


def _hooked(module: nn.Module, hook: SpectralNorm) -> Callable[[], Tensor]:
    return lambda: hook.reshape_weight_to_matrix(getattr(module, f"{hook.name}_orig"))
