"""Results at toy size of everything that makes numbers, from fixed weights: the present code's, by name."""

import numpy as np
import torch
from torch import nn

import landscape_lib as ll

GRID = {"alpha_range": (-1, 0.5), "beta_range": (-0.5, 1), "resolution": (4, 3), "progress": False}
LINE = {"alpha_range": (-0.25, 1.25), "resolution": 7, "progress": False}


class Small(nn.Module):
    """A convolution with BatchNorm, a skip connection and a head."""

    def __init__(self, seed: int):
        super().__init__()
        torch.manual_seed(seed)
        self.stem = nn.Conv2d(1, 4, 3, padding=1)
        self.norm = nn.BatchNorm2d(4)
        self.conv = nn.Conv2d(4, 4, 3, padding=1)
        self.head = nn.Linear(4, 3)
        with torch.no_grad():
            self.norm.running_mean.uniform_(-0.2, 0.2)
            self.norm.running_var.uniform_(0.5, 1.5)
        self.eval()

    def forward(self, x):
        h = torch.relu(self.norm(self.stem(x)))
        return self.head(torch.relu(h + self.conv(h)).mean((2, 3)))


def mlp(seed: int) -> nn.Module:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Flatten(), nn.Linear(16, 6), nn.Tanh(), nn.Linear(6, 6), nn.ReLU(), nn.Linear(6, 3)).eval()


def linear(seed: int) -> nn.Module:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Flatten(), nn.Linear(16, 3)).eval()


def samples() -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(7)
    return torch.randn(37, 1, 4, 4, generator=generator), torch.randint(0, 3, (37,), generator=generator)


def results(dtype: torch.dtype) -> dict[str, np.ndarray]:
    """Name -> numbers in ``dtype``."""
    with torch.random.fork_rng(devices=[]):
        parts = (_surfaces(dtype), _connections(dtype), _curvature(dtype), _sharpness(dtype), _trajectories(dtype))
    return {name: np.asarray(value, dtype=np.float64) for part in parts for name, value in part.items()}


def _surfaces(dtype: torch.dtype) -> dict:
    found, data = {}, samples()
    for name, model, methods in (
        ("linear", linear(0), ("affine", "prefix", "direct")),
        ("mlp", mlp(0), ("prefix", "direct")),
        ("convolutional", Small(0), ("prefix", "direct")),
    ):
        for method in methods:
            objective, plane = ll.objective(model, data, dtype=dtype, device="cpu"), ll.random_plane(model, seed=3)
            found |= _arrays(f"{name} {method}", ll.evaluate(objective, plane, method=method, per_sample=True, **GRID))
    for policy in ("running", "recalibrate", "batch"):
        objective = ll.objective(Small(0), data, dtype=dtype, device="cpu", batch_norm=policy, batch_size=10)
        found |= _arrays(f"BatchNorm {policy}", ll.evaluate(objective, ll.random_plane(Small(0), seed=4), **GRID))
    for number, options in enumerate(
        ({"normalize": "layer"}, {"normalize": "model", "ignore": ()}, {"orthogonal": True, "distribution": "uniform"})
    ):
        objective = ll.objective(mlp(1), data, dtype=dtype, device="cpu", loss="mse")
        found |= _arrays(f"plane {number}", ll.evaluate(objective, ll.random_plane(mlp(1), seed=5, **options), **GRID))
    objective = ll.objective(mlp(1), data, dtype=dtype, device="cpu")
    return found | _arrays("random line", ll.evaluate(objective, ll.random_line(mlp(1), seed=6), **LINE))


def _connections(dtype: torch.dtype) -> dict:
    data, a, b, c = samples(), Small(0), Small(1), Small(2)
    objective = ll.objective(a, data, dtype=dtype, device="cpu")
    found = _arrays("interpolation", ll.evaluate(objective, ll.interpolation_line(a, b), **LINE))
    found |= _arrays("three points", ll.evaluate(objective, ll.three_point_plane(a, b, c), **GRID))
    aligned = ll.align(a, b, method="weights", seed=0)
    by_activations = ll.align(mlp(0), mlp(1), method="activations", data=data, seed=0)
    for name, alignment in (("weights", aligned), ("activations", by_activations)):
        found |= {f"aligned by {name} {key}": v.detach() for key, v in ll.parameters_of(alignment.model).items()}
    between = ll.barrier(objective, a, b, resolution=7, progress=False)
    found["barrier"] = [between.value]
    own = ll.objective(mlp(0), data, dtype=dtype, device="cpu")
    curve = ll.fit_curve(own, mlp(0), mlp(1), epochs=2, batch_size=10, seed=0, progress=False)
    return found | _arrays("curve", ll.evaluate(own, curve, **{**LINE, "alpha_range": (0, 1)}))


def _curvature(dtype: torch.dtype) -> dict:
    data, found = samples(), {}
    tol = 1e-9 if dtype == torch.float64 else 1e-5
    for name, model in (("mlp", mlp(0)), ("convolutional", Small(0))):
        objective = ll.objective(model, data, dtype=dtype, device="cpu")
        pairs = ll.top_eigenpairs(objective, model, k=3, tol=tol, progress=False)
        found[f"{name} eigenvalues"] = pairs.values
        plane = ll.eigenvector_plane(model, pairs)
        found |= _arrays(f"{name} eigenvector plane", ll.evaluate(objective, plane, **GRID))
        found[f"{name} ggn"] = ll.top_eigenpairs(objective, model, k=2, operator="ggn", tol=tol, progress=False).values
        found[f"{name} trace"] = [ll.trace(objective, model, seed=0, progress=False).value]
        density = ll.spectral_density(objective, model, seed=0, progress=False)
        found |= {f"{name} density {key}": getattr(density, key) for key in ("nodes", "weights")}
    return found


def _sharpness(dtype: torch.dtype) -> dict:
    objective = ll.objective(mlp(0), samples(), dtype=dtype, device="cpu")
    measures = ("keskar", "sam", "ascent", "gaussian", "adaptive-gaussian")
    found = {f"sharpness {m}": [ll.sharpness(objective, mlp(0), measure=m).value] for m in measures}
    return found | {"sharpness by layer": [part.value for part in ll.layer_sharpness(objective, mlp(0))]}


def _trajectories(dtype: torch.dtype) -> dict:
    points = [ll.parameters_of(mlp(seed)) for seed in range(4)]
    plane = ll.pca_plane(points)
    objective = ll.objective(mlp(0), samples(), dtype=dtype, device="cpu")
    path = ll.project(points, plane, objective, progress=False)
    arrays = {name: getattr(path, name) for name in ("coordinates", "loss", "shadow_loss", "distance")}
    found = {f"trajectory {name}": value for name, value in arrays.items()}
    return found | _arrays("pca plane", ll.evaluate(objective, plane, **GRID))


def _arrays(name: str, surface: ll.Surface) -> dict:
    kept = ("loss", "standard_error", "accuracy", "per_sample")
    return {f"{name}: {key}": getattr(surface, key) for key in kept if getattr(surface, key) is not None}
