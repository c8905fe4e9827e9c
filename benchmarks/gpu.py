"""Check and measure everything on one GPU, in one command of at most eight minutes.

    python benchmarks/gpu.py --data-dir data          # CIFAR-10 where it is there, Gaussian images otherwise
    python benchmarks/gpu.py --device cpu --quick     # a minute or two; shows that it works, the numbers mean nothing

Writes gpu.json to --out after each measurement, each of which has a time limit. What failed or was cut off is measured
by the next run of the same command on the same machine and code; what is finished is kept.
"""

import contextlib
import copy
import json
import math
import signal
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

import landscape_lib as ll  # noqa: E402
from benchmarks.networks import trained  # noqa: E402
from benchmarks.run import WORKS, environment, mlp, random_data, write  # noqa: E402

__all__ = ["MEASUREMENTS", "Job", "main"]

SEED = 42
LIMIT = 480.0  # seconds of the whole run
REPEATS = 3


class TimeUp(BaseException):
    """A measurement has reached its limit; no `except Exception` takes it for a failure of what it interrupts."""


@dataclass(frozen=True, eq=False)
class Job:
    """What the measurements run on, and how large they are."""

    device: torch.device
    data_dir: Path = Path("data")
    quick: bool = False

    def size(self, full: int, quick: int) -> int:
        return quick if self.quick else full

    @cached_property
    def images(self) -> ll.Data:
        """Up to 10,000 images of CIFAR-10, or Gaussian ones of that shape."""
        count = self.size(10_000, 40)
        try:
            data = ll.load_dataset("cifar10", "train", self.data_dir)
        except ll.InputError:
            data = random_data(WORKS["cnn"])
        return data.select(torch.arange(count))

    def objective(self, model: nn.Module, data: Any, **options: Any) -> ll.Objective:
        return ll.objective(model, data, device=self.device, **options)

    @contextlib.contextmanager
    def watched(self) -> Iterator[dict[str, float]]:
        """The seconds of the block, and on CUDA its peak of memory in bytes."""
        record: dict[str, float] = {}
        synchronize(self.device)
        if cuda := self.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(self.device)
        began = time.perf_counter()
        yield record
        synchronize(self.device)
        record["seconds"] = time.perf_counter() - began
        if cuda:
            record["peak_bytes"] = torch.cuda.max_memory_allocated(self.device)


def synchronize(device: torch.device) -> None:
    """Wait until ``device`` has done what was asked of it."""
    if device.type != "cpu":
        torch.get_device_module(device.type).synchronize()


# ---------------------------------------------------------------- what is measured


def selftest(job: Job) -> dict[str, Any]:
    """The exact-answer suite on the device."""
    result = ll.selftest(device=job.device, quick=True, progress=False)
    return {"passed": result.passed, "failed": [outcome.name for outcome in result.outcomes if not outcome.passed]}


def exactness(job: Job) -> dict[str, Any]:
    """Largest error of surfaces, relative to passes in float64 on the CPU, by network and precision."""
    data = job.images.select(torch.arange(job.size(500, 20)))
    networks = {"MLP": mlp(math.prod(data.inputs.shape[1:]), 20, 10), "TinyCNN": ll.build_model("tiny-cnn")}
    if not job.quick:
        networks["ResNet-20"] = trained("resnet20", data)
    precisions = ["full", *(["tf32"] if job.device.type == "cuda" else []), "bf16"]
    errors: dict[str, Any] = {}
    for name, model in networks.items():
        plane = ll.random_plane(model, seed=SEED)
        exact = evaluated(
            ll.objective(copy.deepcopy(model).double(), data, device="cpu", dtype=torch.float64), plane, 5
        )
        surfaces = {p: evaluated(job.objective(model, data, precision=p), plane, 5) for p in precisions}
        surfaces["float64"] = evaluated(job.objective(model, data, dtype=torch.float64), plane, 5)
        errors[name] = {key: float(abs(surface.loss / exact.loss - 1).max()) for key, surface in surfaces.items()}
    return errors


def evaluated(
    objective: ll.Objective, plane: ll.Plane, resolution: int | tuple[int, int], **options: Any
) -> ll.Surface:
    return ll.evaluate(objective, plane, resolution=resolution, progress=False, **{"compile": "never", **options})


def resnet56(job: Job, precision: str, compile: str) -> dict[str, Any]:
    """ResNet-56 on 10,000 images: seconds of 51 x 51 points, in proportion to those of a few rows."""
    model = trained("resnet8" if job.quick else "resnet56", job.images)
    plane, columns = ll.random_plane(model, seed=SEED), job.size(51, 3)
    with job.watched() as record:
        few = evaluated(job.objective(model, job.images, precision=precision), plane, (2, 3), compile=compile)
    with job.watched() as rows:
        surface = evaluated(job.objective(model, job.images, precision=precision), plane, (2, columns), compile=compile)
    each = (rows["seconds"] - record["seconds"]) / max(1, 2 * columns - 6) or math.nan
    return {
        **rows,
        "points": 2 * columns,
        "seconds_a_point": each,
        "seconds_of_51_x_51": rows["seconds"] + each * (51 * 51 - 2 * columns),
        "method": surface.metadata["method_settings"],
        "rejected": surface.metadata["methods_rejected"],
        "first_losses": few.loss[0].tolist(),
    }


def small_networks(job: Job) -> dict[str, Any]:
    """An MLP of 16,000 parameters on 1,000 digits, 51 x 51 points: points together beside a captured graph."""
    inputs = torch.randn(job.size(1000, 30), 784, generator=torch.Generator().manual_seed(SEED))
    targets = torch.arange(len(inputs)) % 10
    torch.manual_seed(SEED)
    model = mlp(784, 20, 10).requires_grad_(False)
    plane, resolution = ll.random_plane(model, seed=SEED), job.size(51, 4)
    objective = job.objective(model, (inputs, targets))
    times = []
    for _ in range(REPEATS):
        with job.watched() as record:
            surface = evaluated(objective, plane, resolution)
        times.append(record["seconds"])
    captured: dict[str, Any] = {"skipped": "CUDA graphs exist on CUDA only"}
    if job.device.type == "cuda":
        captured = {"seconds": captured_graph(job, model, plane, (inputs, targets), surface)}
    return {"seconds": times, "settings": surface.metadata["method_settings"], "captured graph": captured}


def captured_graph(
    job: Job, model: nn.Module, plane: ll.Plane, data: tuple[Tensor, Tensor], surface: ll.Surface
) -> float:
    """Seconds in which a loop replays a captured pass at every point, the best that a loop can do; checked."""
    own = copy.deepcopy(model).to(job.device)
    inputs, targets = (tensor.to(job.device) for tensor in data)
    there = plane.to(torch.float32)
    steps = [(p, *(point[name].to(job.device) for point in (there.origin, *there.directions)))
             for name, p in own.named_parameters()]  # fmt: skip

    def mean() -> Tensor:
        return nn.functional.cross_entropy(own(inputs), targets)

    side = torch.cuda.Stream()
    with torch.cuda.stream(side):
        mean()
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        loss = mean()
    losses = torch.empty(surface.loss.size, device=job.device)
    with job.watched() as record:
        for number, (a, b) in enumerate((a, b) for a in surface.alphas for b in surface.betas):
            for parameter, origin, first, second in steps:
                torch.add(origin, first, alpha=a, out=parameter).add_(second, alpha=b)
            graph.replay()
            losses[number] = loss
    if not np.allclose(losses.cpu().numpy().reshape(surface.loss.shape), surface.loss, rtol=1e-3):
        raise ArithmeticError("the captured graph gives other losses")
    return record["seconds"]


def language_model(job: Job) -> dict[str, Any]:
    """A causal language model of 124 million parameters in bf16: a point beside one plain pass of the same data."""
    torch.manual_seed(SEED)
    length, count = job.size(128, 8), job.size(8, 2)
    shape = {"layers": 12, "heads": 12, "width": 768} if not job.quick else {"layers": 1, "heads": 2, "width": 8}
    model = ll.build_model("gpt", input_shape=(length,), classes=job.size(50257, 50), **shape)
    model = model.to(job.device, torch.bfloat16).eval().requires_grad_(False)
    tokens = torch.randint(0, job.size(50257, 50), (count, length))
    objective = ll.objective(
        model, {"input_ids": tokens}, loss="language_model", copy=False, dtype=None, device=job.device
    )
    plane, resident, plain = ll.random_plane(model, seed=SEED), tokens.to(job.device), []
    with torch.no_grad():
        for _ in range(REPEATS + 2):
            with job.watched() as record:
                nn.functional.cross_entropy(model(resident).flatten(0, 1).float(), resident.flatten())
            plain.append(record["seconds"])
    with job.watched() as few:
        evaluated(objective, plane, (2, 2))
    with job.watched() as many:
        evaluated(objective, plane, (2, job.size(12, 4)))
    each = (many["seconds"] - few["seconds"]) / (2 * job.size(12, 4) - 4)
    parameters = sum(parameter.numel() for parameter in model.parameters())
    return {**many, "parameters": parameters, "seconds_a_point": each, "plain": plain, "ratio": each / min(plain[2:])}


def curvature(job: Job) -> dict[str, Any]:
    """The top five Hessian eigenvalues of TinyCNN."""
    data, model = job.images.select(torch.arange(job.size(1000, 16))), ll.build_model("tiny-cnn")
    if job.quick:
        model = nn.Sequential(nn.Flatten(), nn.Linear(data.inputs[0].numel(), 3), nn.Tanh(), nn.Linear(3, 10))
    with job.watched() as record:
        pairs = ll.top_eigenpairs(job.objective(model, data), model, k=job.size(5, 1), tol=1e-2, progress=False)
    return {**record, "eigenvalues": pairs.values.tolist(), "products": pairs.metadata.get("products")}


def waits(job: Job) -> dict[str, Any]:
    """How often the host waits for the device in an evaluation of few batches, and of four times as many."""
    if (counting := WAITS.get(job.device.type)) is None:
        return {"skipped": f"waits are not counted on {job.device.type}"}
    torch.manual_seed(SEED)
    model, counts = nn.Sequential(nn.Flatten(), nn.Linear(48, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 3)), []
    plane = ll.random_plane(model, seed=SEED)
    for samples in (64, 256):
        data = torch.randn(samples, 48), torch.arange(samples) % 3
        objective = job.objective(model, data, batch_norm="batch", batch_size=16)  # in batches that are not tuned
        evaluated(objective, plane, 3)
        with counting() as number:
            evaluated(objective, plane, 3)
        counts.append(number())
    return {"few": counts[0], "many": counts[1], "equal": counts[0] == counts[1]}


@contextlib.contextmanager
def cuda_waits() -> Iterator[Callable[[], int]]:
    """Count the operations that make the host wait for CUDA."""
    before = torch.cuda.get_sync_debug_mode()
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        torch.cuda.set_sync_debug_mode("warn")
        try:
            yield lambda: sum("synchronizing" in str(warning.message) for warning in told)
        finally:
            torch.cuda.set_sync_debug_mode(before)


WAITS: dict[str, Callable[[], contextlib.AbstractContextManager[Callable[[], int]]]] = {"cuda": cuda_waits}


@dataclass(frozen=True)
class Measurement:
    """One number or table of numbers, and the seconds that it may take."""

    run: Callable[[Job], dict[str, Any]]
    seconds: float


MEASUREMENTS = {
    "self-test": Measurement(selftest, 60),
    "exactness": Measurement(exactness, 40),
    "waits": Measurement(waits, 15),
    "small networks": Measurement(small_networks, 25),
    "language model, bf16": Measurement(language_model, 45),
    "curvature": Measurement(curvature, 45),
    "ResNet-56, full": Measurement(lambda job: resnet56(job, "full", "never"), 70),
    "ResNet-56, full, compiled": Measurement(lambda job: resnet56(job, "full", "always"), 75),
    "ResNet-56, bf16": Measurement(lambda job: resnet56(job, "bf16", "never"), 35),
    "ResNet-56, bf16, compiled": Measurement(lambda job: resnet56(job, "bf16", "always"), 60),
}


# ---------------------------------------------------------------- the run


def main(
    device: str = "cuda",
    data_dir: Path = Path("data"),
    out: Path = Path("benchmarks/results"),
    works: tuple[str, ...] = tuple(MEASUREMENTS),
    limit: float = LIMIT,
    quick: bool = False,
) -> None:
    """Run the measurements that are not finished yet, and write gpu.json after each.

    Args:
        device: cuda or cuda:N; any other one shows that it works.
        data_dir: Folder where CIFAR-10 is looked for.
        out: Folder for the results.
        works: What to measure.
        limit: Seconds of the whole run.
        quick: Small networks and data, to see that everything runs.
    """
    if unknown := sorted(set(works) - MEASUREMENTS.keys()):
        raise ll.InputError(f"unknown work {unknown[0]!r}; use one of {', '.join(map(repr, MEASUREMENTS))}")
    if not 0 < limit < math.inf:
        raise ll.InputError(f"the limit is {limit} seconds; it must be a positive number")
    job = Job(ll.select_device(device), data_dir, quick)
    path = ll.cli.make_folder(out) / ("gpu-quick.json" if quick else "gpu.json")
    results = {"quick": quick, "environment": environment(), "device": described(job.device), "measurements": {}}
    results["measurements"] = finished_before(path, results)
    ends = time.monotonic() + limit
    for name in works:
        if results["measurements"].get(name, {}).get("finished"):
            print(f"{name}: finished before", flush=True)
            continue
        left = min(MEASUREMENTS[name].seconds, ends - time.monotonic())
        results["measurements"][name] = record = measured(MEASUREMENTS[name], job, left)
        write(path, json.dumps(finite(results), indent=1, allow_nan=False))
        print(f"{name}: {record.get('error') or 'finished'} ({record['seconds']:.0f} s)", flush=True)
    missing = [name for name in works if not results["measurements"][name]["finished"]]
    print(f"Wrote {path}" + (f"; run again for {', '.join(missing)}" if missing else ""))


def measured(measurement: Measurement, job: Job, seconds: float) -> dict[str, Any]:
    """What a measurement gives within ``seconds``, or why it gives nothing."""
    began, values, error = time.monotonic(), None, None
    try:
        with time_limit(seconds):
            values = measurement.run(job)
    except TimeUp:
        error = f"cut off after {seconds:.0f} s" if seconds > 0 else "no time was left"
    except Exception as failure:  # the others can still be measured
        error = f"{type(failure).__name__}: {' '.join(str(failure).split())[:300]}"
    return {"finished": error is None, "error": error, "seconds": time.monotonic() - began, "values": values}


def finite(values: Any) -> Any:
    """``values`` of JSON types with null in place of numbers that are not finite, which JSON cannot hold."""
    if isinstance(values, dict):
        return {key: finite(value) for key, value in values.items()}
    if isinstance(values, list | tuple):
        return [finite(value) for value in values]
    return None if isinstance(values, float) and not math.isfinite(values) else values


@contextlib.contextmanager
def time_limit(seconds: float) -> Iterator[None]:
    """Raise TimeUp in the block after ``seconds``; at once where none are left."""
    if seconds <= 0:
        raise TimeUp

    def end(*_: object) -> None:
        raise TimeUp

    before = signal.signal(signal.SIGALRM, end)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def described(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else str(device)


def finished_before(path: Path, results: dict[str, Any]) -> dict[str, Any]:
    """The finished measurements of an earlier run of the same code on the same machine."""
    if not path.exists():
        return {}
    try:
        earlier = json.loads(path.read_text())
        same = all(earlier["environment"][key] == results["environment"][key] for key in ("commit", "cpu", "versions"))
        if not same or any(earlier[key] != results[key] for key in ("quick", "device")):
            print(f"{path} is of other code or of another machine: everything is measured again", flush=True)
            return {}
        return {name: record for name, record in earlier["measurements"].items() if record["finished"]}
    except (ValueError, KeyError, TypeError) as error:
        raise ll.InputError(f"{path} holds no results of this benchmark; remove it") from error


if __name__ == "__main__":
    ll.cli.run_script(main)
