"""Measure this toolkit and its peers side by side, and write the numbers with their environment.

    pip install --no-deps -r benchmarks/requirements.txt    # the peers; those that are missing are left out
    python benchmarks/run.py                                # everything, about twenty minutes on two cores
    python benchmarks/run.py --works linear mlp-small       # some of it
    python benchmarks/run.py --quick                        # seconds; shows that it works, the numbers mean nothing

Writes results.json (every single time, with the environment) and results.md (tables drawn from it) to --out.
"""

import copy
import importlib.metadata
import itertools
import json
import math
import multiprocessing
import os
import platform
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from functools import partial
from pathlib import Path
from typing import Literal

import numpy as np
import psutil
import torch
from torch import nn
from torch.nn import functional as F

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

import landscape_lib as ll  # noqa: E402
from benchmarks.peers import PEERS, Peer, Task, missing, move, timed  # noqa: E402
from landscape.storage.files import written_whole  # noqa: E402

__all__ = ["WORKS", "main", "markdown"]

SEED = 42
LEAST_POINTS = 4  # a 2 x 2 grid, the smallest that the peers with grids of their own take
COMMAND, COMMAND_SECONDS = "visualize_loss_landscape.py", 15.0
MEMORY_LIMIT = 2**30
BEST = "best peer"


def mlp(*widths: int) -> nn.Module:
    """Fully connected layers with ReLU in between."""
    layers = [nn.Flatten()]
    for before, after in itertools.pairwise(widths):
        layers += [nn.Linear(before, after), nn.ReLU()]
    return nn.Sequential(*layers[:-1])


@dataclass(frozen=True)
class Work:
    """One benchmark: a network, data and a grid, and the speed that is required."""

    title: str
    build: Callable[[], nn.Module]
    data: Literal["mnist", "cifar"]
    samples: int
    resolution: tuple[int, int]
    asked: dict[str, float]  # name of a peer (or BEST) -> how many times faster this toolkit has to be
    memory_grids: tuple[tuple[int, int], ...]  # grids on which the memory is measured; (2, B) holds whole blocks
    affine: bool = False
    largest_error: float | None = None  # relative to float64
    shares: tuple[int, int] | None = None  # rows of two grids over the whole range that are timed instead of all
    every_peer: bool = True  # one timing of this toolkit before every peer; else one before all peers
    seconds_a_peer: float = 2.0  # points are added until a peer runs that long
    training_steps: int = 300

    def small(self) -> "Work":
        """The same in seconds, to see that everything runs."""
        small = {"samples": 300, "resolution": (7, 5), "memory_grids": ((7, 5),), "training_steps": 20}
        return replace(self, **small, shares=self.shares and (2, 3), seconds_a_peer=0.02)


WORKS = {
    "linear": Work(
        "Linear 784-10, all of MNIST",
        ll.LinearMNIST,
        "mnist",
        60_000,
        (51, 51),
        {
            "precomputed logits point by point": 100,
            "loss-landscapes": 200,
            "DataLoader loop": 2000,
            "precomputed logits transposed": 4,
        },
        memory_grids=((51, 51), (301, 301)),
        affine=True,
        largest_error=1e-6,
    ),
    "mlp-small": Work(
        "MLP 784-20-10", lambda: mlp(784, 20, 10), "mnist", 1_000, (50, 50), {BEST: 10}, memory_grids=((50, 50),)
    ),
    "mlp": Work(
        "MLP 784-256-128-10",
        lambda: mlp(784, 256, 128, 10),
        "mnist",
        10_000,
        (51, 51),
        {BEST: 5},
        memory_grids=((11, 51),),
        every_peer=False,
    ),
    "cnn": Work(
        "TinyCNN",
        ll.TinyCNN,
        "cifar",
        10_000,
        (51, 51),
        {BEST: 3},
        memory_grids=((2, 51),),
        shares=(2, 4),
        every_peer=False,
        seconds_a_peer=3.0,
    ),
    **{
        key: Work(
            title,
            partial(ll.build_model, name, input_shape=(3, 32, 32)),
            "cifar",
            1_000,
            (7, 9),
            {BEST: 1},
            memory_grids=((2, 9), (4, 9)),
            shares=(2, 3),
            every_peer=False,
            seconds_a_peer=3.0,
            training_steps=10,
        )
        for key, title, name in (
            ("resnet20", "ResNet-20", "resnet20"),
            ("resnet18", "torchvision's resnet18", "torchvision:resnet18"),
        )
    },
}
LONG_REPEATS = 3  # at most, of works whose own time is minutes


def main(
    works: tuple[Literal["linear", "mlp-small", "mlp", "cnn", "resnet20", "resnet18"], ...] = tuple(WORKS),
    data_dir: Path = Path("data"),
    mnist: str = "mnist",
    cifar: str = "cifar10",
    out: Path = Path("benchmarks/results"),
    repeats: int = 5,
    full: bool = False,
    command: bool = False,
    quick: bool = False,
) -> None:
    """Time this toolkit and its peers in turn, and write results.json and results.md.

    Args:
        works: What to measure.
        data_dir: Folder where data sets are looked for and downloaded to.
        mnist: Data of the linear model and the MLPs: mnist, mnist-5k (smaller: targets are not judged) or random.
        cifar: Data of the CNN: cifar10, folder:PATH or random.
        out: Folder for the results.
        repeats: Timings of everything; at most 3 where one takes minutes.
        full: Time the whole grid of the CNN, once (ten minutes or more), instead of some rows of it.
        command: Also time the whole default command, from start to exit, with the checkpoint in the working folder.
        quick: Small data and grids, to see that everything runs.
    """
    if repeats < 1:
        raise ll.InputError(f"repeats is {repeats}; take at least 1")
    out, name = ll.cli.make_folder(out), "quick" if quick else "results"
    results = {"quick": quick, "environment": environment(), "works": {}, "command": None}
    for key in works:
        work = WORKS[key].small() if quick else WORKS[key]
        if full:
            work = replace(work, shares=None)
        times = min(repeats, 2) if quick else repeats
        if not work.every_peer:
            times = min(times, 1 if full and WORKS[key].shares else LONG_REPEATS)
        results["works"][key] = run_work(key, work, {"mnist": mnist, "cifar": cifar}[work.data], data_dir, times)
    if command:
        results["command"] = time_command(data_dir, min(repeats, LONG_REPEATS))
    write(out / f"{name}.json", json.dumps(results, indent=1))
    text = markdown(results)
    write(out / f"{name}.md", text)
    print(f"\n{text}\nWrote {out / name}.json and {out / name}.md")


def write(path: Path, content: str) -> None:
    with written_whole(path) as temporary:
        temporary.write_text(content + "\n")


def run_work(key: str, work: Work, dataset: str, data_dir: Path, repeats: int) -> dict:
    """All measurements of one benchmark, as JSON types."""
    print(f"\n{work.title}: loading data, training {work.training_steps} steps", flush=True)
    data = load(dataset, work, data_dir)
    began = time.perf_counter()
    _ = data.fingerprint  # computed once and kept by the data, so that it does not count for any tool
    fingerprint_seconds = time.perf_counter() - began
    model = trained(work, data)
    task = Task(model, data.inputs, data.targets, ll.random_plane(model, seed=SEED))
    record = {
        "title": work.title,
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "data": shown_name(data.name),
        "samples": len(data),
        "samples_asked": WORKS[key].samples,
        "resolution": work.resolution,
        "asked": work.asked,
        "largest_error": work.largest_error,
        "fingerprint_seconds": fingerprint_seconds,
    }
    surface, record["ours"], record["peers"] = compare(work, task, data, repeats)
    record["error"] = error_of(surface, task)
    record["memory"] = [memory_of(key, task, resolution) for resolution in work.memory_grids]
    return record


def compare(work: Work, task: Task, data: ll.Data, repeats: int) -> tuple[ll.Surface, dict, list[dict]]:
    """Timings of this toolkit and of every peer, in turn."""
    rows, columns = work.resolution
    rows, total = (work.shares[1] if work.shares else rows), rows * columns
    run_ours(task, data, (3, 3))
    fixed, small = 0.0, None
    if work.shares:
        small, _ = run_ours(task, data, (work.shares[0], columns))
    peers, skipped = [], []
    for peer in PEERS:
        if work.affine or not peer.affine_only:
            (skipped if missing(peer) else peers).append(peer)
    plans = {peer.name: plan(peer, work, task) for peer in peers}

    ours, timings = [], {peer.name: [] for peer in peers}
    for repeat in range(repeats):
        for number, peer in enumerate(peers):
            if work.every_peer or number == 0:
                seconds, surface = run_ours(task, data, (rows, columns))
                ours.append(seconds)
                print(f"  {repeat + 1}/{repeats} ours: {seconds:.3g} s for {rows} x {columns} points", flush=True)
            timing = timed(peer, task, plans[peer.name])
            timings[peer.name].append((len(ours) - 1, timing))
            print(f"  {repeat + 1}/{repeats} {peer.name}: {timing.last:.3g} s for {timing.points} points", flush=True)

    if work.shares:
        small_points, points = work.shares[0] * columns, rows * columns
        slope = (statistics.median(ours) - small) / (points - small_points)
        fixed = min(max(0.0, small - slope * small_points), small)
    whole = [fixed + (seconds - fixed) * total / (rows * columns) for seconds in ours]
    record = {
        "method": surface.metadata["method"],
        "dtype": surface.metadata["objective"]["dtype"],
        "rows_timed": rows,
        "seconds_timed": ours,
        "seconds_of_smaller_share": small,
        "fixed_seconds": fixed,
        "extrapolated": rows * columns < total,
        "seconds": whole,
    }
    found = [peer_record(peer, timings[peer.name], whole, total) for peer in peers]
    return surface, record, found + [{**described(peer), "skipped": missing(peer)} for peer in skipped]


def run_ours(task: Task, data: ll.Data, resolution: tuple[int, int]) -> tuple[float, ll.Surface]:
    """Seconds of this toolkit, all of its checks and tuning included, and its surface."""
    began = time.perf_counter()
    objective = ll.objective(task.model, data, device="cpu")
    surface = ll.evaluate(objective, task.plane, resolution=resolution, progress=False)
    return time.perf_counter() - began, surface


def plan(peer: Peer, work: Work, task: Task) -> list[tuple[float, float]]:
    """As many points around the middle of the grid as ``peer`` can evaluate in the time allowed for it."""
    first = timed(peer, task, middle_points(work, LEAST_POINTS))  # also warms up
    each = (first.last - first.first) / (first.points - 1)
    return middle_points(work, max(LEAST_POINTS, int(work.seconds_a_peer / each)))


def middle_points(work: Work, count: int) -> list[tuple[float, float]]:
    """``count`` points around the middle of the grid, or all if there are fewer."""
    every = list(itertools.product(*(np.linspace(-1, 1, count).tolist() for count in work.resolution)))
    return every[max(0, len(every) - count) // 2 :][:count]


def described(peer: Peer) -> dict:
    name = f"{peer.name} {version(peer.package)}" if peer.package and version(peer.package) else peer.name
    return {"name": peer.name, "shown": name, "use": peer.use, "is_target": peer.is_target}


def peer_record(peer: Peer, timings: list, whole: list[float], total: int) -> dict:
    seconds = [timing.seconds_for(total) for _, timing in timings]
    return {
        **described(peer),
        "points_timed": timings[0][1].points,
        "extrapolated": timings[0][1].points < total,
        "seconds_timed": [timing.last for _, timing in timings],
        "seconds": seconds,
        "ratios": [value / whole[index] for value, (index, _) in zip(seconds, timings, strict=True)],
    }


def load(name: str, work: Work, data_dir: Path) -> ll.Data:
    """The first samples of the training set ``name``, as many as there are up to those of ``work``."""
    if name == "random":
        return random_data(work)
    data = ll.load_dataset(name, "train", data_dir, limit=work.samples if name.startswith("folder:") else None)
    return data.select(torch.arange(min(work.samples, len(data))))


def random_data(work: Work) -> ll.Data:
    """Gaussian images with random labels."""
    shape = (1, 28, 28) if work.data == "mnist" else (3, 32, 32)
    generator = torch.Generator().manual_seed(SEED)
    return ll.Data(
        inputs=torch.randn(work.samples, *shape, generator=generator),
        targets=torch.randint(0, 10, (work.samples,), generator=generator),
        classes=tuple("0123456789"),
        name="random",
        split="train",
        source="Gaussian noise with random labels",
        mean=(0.0,) * shape[0],
        std=(1.0,) * shape[0],
        indices=torch.arange(work.samples),
    )


def trained(work: Work, data: ll.Data) -> nn.Module:
    """A network after a few hundred steps of SGD, in eval mode."""
    torch.manual_seed(SEED)
    model = work.build()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9)
    for _ in range(work.training_steps):
        picked = torch.randint(0, len(data), (128,))
        optimizer.zero_grad()
        F.cross_entropy(model(data.inputs[picked]), data.targets[picked]).backward()
        optimizer.step()
    return model.eval().requires_grad_(False)


def error_of(surface: ll.Surface, task: Task, points: int = 4) -> dict:
    """Largest relative difference between ``surface`` and plain float64 forward passes, at points of its grid."""
    rows, columns = surface.loss.shape
    drawn = np.random.default_rng(SEED).choice(rows * columns, points - 1, replace=False).tolist()
    worst = 0.0
    exact = Task(copy.deepcopy(task.model).double(), task.inputs, task.targets, task.plane.to(torch.float64))
    for i, j in [divmod(index, columns) for index in (*drawn, rows * columns - 1)]:
        expected = reference_loss(exact, surface.alphas[i], surface.betas[j])
        worst = max(worst, abs(surface.loss[i, j] - expected) / abs(expected))
    return {"points": points, "largest_relative": worst}


def reference_loss(task: Task, alpha: float, beta: float) -> float:
    """Mean loss at a point by plain forward passes in float64."""
    move(task.model, task.plane, alpha, beta)
    total = 0.0
    for inputs, targets in task.batches(1000):
        logs = torch.log_softmax(task.model(inputs.double()), 1)
        total -= logs.gather(1, targets[:, None]).sum().item()
    return total / len(task.targets)


def memory_of(key: str, task: Task, resolution: tuple[int, int]) -> dict:
    """Peak memory of an evaluation above that of its process with the data loaded, in a process of its own."""
    print(f"  memory on {resolution[0]} x {resolution[1]} points", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "task.pt"
        torch.save({"state": task.model.state_dict(), "inputs": task.inputs, "targets": task.targets}, path)
        with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
            above = pool.submit(memory_above_data, key, path, resolution).result()
    return {"resolution": resolution, "data_bytes": task.inputs.nbytes, "bytes_above_data": above}


def memory_above_data(key: str, path: Path, resolution: tuple[int, int]) -> int:
    """Bytes; run in a fresh process, whose peak nothing else has raised."""
    file = torch.load(path, weights_only=True)
    model = WORKS[key].build().eval()
    model.load_state_dict(file["state"])
    before = psutil.Process().memory_info().rss
    objective = ll.objective(model, (file["inputs"], file["targets"]), device="cpu")
    ll.evaluate(objective, ll.random_plane(model, seed=SEED), resolution=resolution, progress=False)
    return peak_memory() - before


def peak_memory() -> int:
    """Largest resident size of this process so far, in bytes.

    Linux hands ru_maxrss of the parent down to its children; VmHWM starts anew.
    """
    status = Path("/proc/self/status")
    if status.exists():
        line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
        return int(line.split()[1]) * 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def time_command(data_dir: Path, repeats: int) -> dict:
    """Seconds of the whole default command, from the start of Python to its exit."""
    for needed in (ROOT / COMMAND, Path("mnist_linear_model.pth")):
        if not needed.exists():
            return {"skipped": f"no {needed.name} here"}
    seconds = []
    for _ in range(repeats):
        with tempfile.TemporaryDirectory() as folder:
            line = [sys.executable, str(ROOT / COMMAND), "--data-dir", str(data_dir), "--out", folder]
            began = time.perf_counter()
            done = subprocess.run(line, capture_output=True, text=True)
            seconds.append(time.perf_counter() - began)
        if done.returncode:
            raise ll.InputError(f"{COMMAND} failed: {done.stderr.strip().splitlines()[-1]}")
        print(f"  {COMMAND}: {seconds[-1]:.1f} s", flush=True)
    return {"seconds": seconds}


def environment() -> dict:
    """Where and with what the numbers were measured."""
    packages = ("torch", "torchvision", "numpy", "scipy", *(peer.package for peer in PEERS if peer.package))
    return {
        "date": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "commit": commit(),
        "cpu": f"{cpu_model()} ({torch.backends.cpu.get_cpu_capability()})",  # other instructions are another machine
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "threads": torch.get_num_threads(),
        "load_average": os.getloadavg()[0],
        "system": f"{platform.system()} {platform.machine()}",
        "versions": {"python": platform.python_version()} | {name: version(name) for name in packages},
    }


def version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def cpu_model() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor()


def commit() -> str | None:
    """The commit checked out, with "+" where files differ from it."""
    git = lambda *words: subprocess.run(  # noqa: E731
        ["git", "-C", str(ROOT), *words], capture_output=True, text=True
    )
    try:
        head = git("rev-parse", "--short", "HEAD")
    except OSError:
        return None
    return None if head.returncode else head.stdout.strip() + ("+" if git("status", "--porcelain").stdout else "")


def shown_name(name: str) -> str:
    """The name of a data set without the folders that lead to it."""
    kind, _, path = name.partition(":")
    return f"image folder {Path(path).name}" if kind == "folder" else kind


def markdown(results: dict) -> str:
    """Tables from the content of results.json."""
    environment, lines = results["environment"], ["# Benchmark", ""]
    if results["quick"]:
        lines += ["**A quick look at small data: these numbers mean nothing.**", ""]
    versions = ", ".join(f"{name} {value or 'absent'}" for name, value in environment["versions"].items())
    lines += [
        f"{environment['date']}, commit {environment['commit']}, {environment['cpu']}, {environment['cores']} cores, "
        f"{environment['threads']} threads, load average at the start {environment['load_average']:.1f}, "
        f"{environment['system']}; "
        f"{versions}.",
        "",
        "Medians with the smallest and largest value in brackets. Ratios pair every time of a peer with the time of "
        "this toolkit measured just before it. `*`: extrapolated from the number of points shown.",
    ]
    works = results["works"].values()
    lines += ["", *summary(works, judge=not results["quick"])]
    for work in works:
        lines += ["", *table(work, judge=not results["quick"])]
    if results["command"]:
        lines += ["", command_line(results["command"])]
    lines += ["", "What each peer does here:", ""]
    uses = {peer["shown"]: peer["use"] for work in works for peer in work["peers"]}
    return "\n".join([*lines, *(f"- **{name}**: {use}." for name, use in uses.items())])


def summary(works: Iterable[dict], *, judge: bool) -> list[str]:
    """A row for each benchmark: our numbers, and the ratios to the peers for which a ratio is required."""
    lines = ["| work | seconds | memory, MiB | error | times faster than (asked) |", "| --- | --- | --- | --- | --- |"]
    for work in works:
        (rows, columns), ours, best = work["resolution"], work["ours"], best_of(work["peers"])
        asked = {peer["name"]: peer for peer in work["peers"] if peer["name"] in work["asked"] and "ratios" in peer}
        asked |= {BEST: best} if BEST in work["asked"] and best else {}
        ratios = {key: statistics.median(peer["ratios"]) for key, peer in asked.items()}
        faster = (
            f"{peer['shown']} {rounded(ratios[key])} ({work['asked'][key]:g}: "
            f"{verdict(ratios[key] >= work['asked'][key], judge and work['samples'] == work['samples_asked'])})"
            for key, peer in asked.items()
        )
        cells = (
            f"{work['title']}, {rows} x {columns} points, {work['samples']:,} samples",
            rounded(statistics.median(ours["seconds"])) + ("*" if ours["extrapolated"] else ""),
            f"{max(entry['bytes_above_data'] for entry in work['memory']) / 2**20:.0f}",
            f"{work['error']['largest_relative']:.1e}",
            "; ".join(faster),
        )
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def table(work: dict, *, judge: bool) -> list[str]:
    """The heading, our numbers, and one row for each peer."""
    judge = judge and work["samples"] == work["samples_asked"]
    ours, (rows, columns) = work["ours"], work["resolution"]
    error, limit = work["error"], work["largest_error"]
    accuracy = f"largest error {error['largest_relative']:.1e} of the loss at {error['points']} points against float64"
    if limit:
        accuracy += f" (asked {limit:.0e}: {verdict(error['largest_relative'] <= limit, judge)})"
    star = f"* ({ours['rows_timed']} of {rows} rows)" if ours["extrapolated"] else ""
    lines = [
        f"## {work['title']}: {rows} x {columns} points, {work['samples']:,} samples ({work['data']})",
        "",
        f"This toolkit: **{spread(ours['seconds'])} s**{star}, method {ours['method']}; {accuracy}; "
        f"{memory_line(work['memory'], judge)}. The data are hashed once when loaded, "
        f"{work['fingerprint_seconds']:.2f} s.",
        "",
        "| peer | seconds | points timed | times slower than this toolkit | asked | |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    best = best_of(work["peers"])
    for peer in work["peers"]:
        asked = work["asked"].get(peer["name"]) or (work["asked"].get(BEST) if peer is best else None)
        lines.append(row(peer, asked, peer is best and BEST in work["asked"], judge))
    return lines


def row(peer: dict, asked: float | None, best: bool, judge: bool) -> str:
    if peer.get("skipped"):
        return f"| {peer['shown']} | {peer['skipped']} | | | {f'{asked:g}' if asked else ''} | |"
    star = "*" if peer["extrapolated"] else ""
    name = f"{peer['shown']} (best)" if best else peer["shown"]
    met = verdict(statistics.median(peer["ratios"]) >= asked, judge) if asked else ""
    cells = (name, spread(peer["seconds"]) + star, f"{peer['points_timed']:,}", spread(peer["ratios"]))
    return f"| {' | '.join(cells)} | {f'{asked:g}' if asked else ''} | {met} |"


def best_of(peers: list[dict]) -> dict | None:
    """The fastest of the peers that are targets of the comparison."""
    candidates = [peer for peer in peers if not peer.get("skipped") and peer["is_target"]]
    return min(candidates, key=lambda peer: statistics.median(peer["seconds"]), default=None)


def memory_line(memory: list[dict], judge: bool) -> str:
    parts = [
        f"{entry['bytes_above_data'] / 2**20:.0f} MiB on {entry['resolution'][0]} x {entry['resolution'][1]} points"
        for entry in memory
    ]
    met = all(entry["bytes_above_data"] <= MEMORY_LIMIT for entry in memory)
    return f"peak memory above the data {', '.join(parts)} (asked 1024 MiB: {verdict(met, judge)})"


def command_line(command: dict) -> str:
    if "skipped" in command:
        return f"`python {COMMAND}`: not measured, {command['skipped']}."
    met = verdict(statistics.median(command["seconds"]) <= COMMAND_SECONDS, True)
    return f"`python {COMMAND}`: {spread(command['seconds'])} s (asked {COMMAND_SECONDS:g} s: {met})."


def verdict(met: bool, judge: bool) -> str:
    return "not judged" if not judge else "met" if met else "**not met**"


def spread(values: list[float]) -> str:
    """Median (smallest-largest), three digits."""
    low, middle, high = (rounded(value) for value in (min(values), statistics.median(values), max(values)))
    return f"{middle} ({low}-{high})" if len(values) > 1 else middle


def rounded(value: float) -> str:
    if value <= 0:
        return "0"
    digits = max(0, 2 - math.floor(math.log10(value)))
    return f"{value:,.{digits}f}" if value < 1000 else f"{round(value, -math.floor(math.log10(value)) + 2):,.0f}"


if __name__ == "__main__":
    ll.cli.run_script(main)
