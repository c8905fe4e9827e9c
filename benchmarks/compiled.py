"""Measure compiled evaluation beside loops written by hand: ResNet-20, torchvision's resnet18 and TinyCNN.

    python benchmarks/compiled.py --cifar cifar10       # about fourteen minutes on two cores
    python benchmarks/compiled.py --quick               # a minute; shows that it works, the numbers mean nothing

Some points are timed in turn: the loops, passes as they are, compiled passes. Times for the whole grid are extrapolated
from two grids and include compilation, which is also given apart; that of Inductor takes less once its cache is warm.
Writes compiled.json (every single time, with the environment) and compiled.md to --out.
"""

import json
import statistics
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Literal

import torch
from torch.nn import functional as F

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

import landscape_lib as ll  # noqa: E402
from benchmarks.peers import PEERS, Task, timed  # noqa: E402
from benchmarks.run import WORKS, environment, load, middle_points, spread, trained, write  # noqa: E402
from benchmarks.tables import head, table  # noqa: E402
from landscape.runtime.devices import has_bf16  # noqa: E402

__all__ = ["main", "markdown"]

SEED = 42
GRID = (51, 51)
LOOPS = ("DataLoader loop", "loop over tensors, tuned by hand")
ASKED = {"resnet20": (1.4, 1.25), "resnet18": (None, 1.2), "cnn": (None, 2.2)}  # times faster than each of the loops
ASKED_BF16, ASKED_LANGUAGE = 1.8, 1.05
POINTS = 8  # of a loop
SHARES = ((2, 5), (2, 25))  # two grids, from which the time of the whole one follows


def main(
    works: tuple[Literal["resnet20", "resnet18", "cnn"], ...] = ("resnet20", "resnet18", "cnn"),
    data_dir: Path = Path("data"),
    cifar: str = "cifar10",
    out: Path = Path("benchmarks/results"),
    repeats: int = 2,
    language: bool = True,
    quick: bool = False,
) -> None:
    """Time compiled passes, passes as they are and two loops in turn.

    Args:
        works: Networks.
        data_dir: Folder where data sets are looked for and downloaded to.
        cifar: Colour images of 32 x 32 pixels: cifar10, folder:PATH or random.
        out: Folder for the results.
        repeats: Timings of everything.
        language: Also time points of a language model of 124 million parameters, where transformers is installed.
        quick: Few samples and points, to see that everything runs.
    """
    out, name = ll.cli.make_folder(out), "compiled-quick" if quick else "compiled"
    results = {"quick": quick, "environment": environment(), "works": {}, "language": None}
    for key in works:
        work = WORKS[key].small() if quick else WORKS[key]
        results["works"][key] = measured(key, replace(work, resolution=GRID), cifar, data_dir, 1 if quick else repeats)
        write(out / f"{name}.json", json.dumps(results, indent=1))
    if language:
        results["language"] = language_model(quick)
    write(out / f"{name}.json", json.dumps(results, indent=1))
    write(out / f"{name}.md", markdown(results))
    print(f"\n{markdown(results)}\nWrote {out / name}.json and {out / name}.md")


def measured(key, work, cifar: str, data_dir: Path, repeats: int) -> dict:
    """All measurements of one network, as JSON types."""
    data = load(cifar, work, data_dir)
    model = trained(work, data)
    task = Task(model, data.inputs, data.targets, ll.random_plane(model, seed=SEED))
    kinds = {"plain": {"compile": "never"}, "compiled": {"compile": "always"}}
    if has_bf16(torch.device("cpu")):
        kinds["compiled bf16"] = {"compile": "always", "precision": "bf16"}
    record = {"title": work.title, "samples": len(data), "points": GRID[0] * GRID[1], "asked": ASKED[key]}
    record["seconds"] = {name: [] for name in (*LOOPS, *kinds)}
    record["compilation"] = {}
    loops = {peer.name: peer for peer in PEERS if peer.name in LOOPS}
    for repeat in range(repeats):
        for name, peer in loops.items():
            seconds = timed(peer, task, middle_points(work, POINTS)).seconds_for(record["points"])
            record["seconds"][name].append(seconds)
        for name, options in kinds.items():
            seconds, compilation = whole_grid(task, data, **options)
            record["seconds"][name].append(seconds)
            record["compilation"].setdefault(name, compilation)  # the first one: Inductor keeps what it has compiled
        last = {name: f"{seconds[-1]:.4g}" for name, seconds in record["seconds"].items()}
        print(f"{work.title}, {repeat + 1}/{repeats}, seconds for the whole grid: {last}", flush=True)
    return record


def whole_grid(task: Task, data: ll.Data, *, compile: str, precision: str = "full") -> tuple[float, dict]:
    """Seconds of the whole grid, extrapolated from two small ones, and what the metadata tell of the compilation."""
    points, seconds, records = [], [], []
    for resolution in SHARES:
        began = time.perf_counter()
        objective = ll.objective(task.model, data, device="cpu", precision=precision)
        surface = ll.evaluate(objective, task.plane, resolution=resolution, compile=compile, progress=False)
        elapsed, record = time.perf_counter() - began, surface.metadata["compilation"]
        points.append(surface.loss.size)
        seconds.append(elapsed - record["total_seconds"])
        records.append({**record, "rejected": surface.metadata["methods_rejected"]})
    slope = (seconds[1] - seconds[0]) / (points[1] - points[0])
    fixed = max(0.0, seconds[0] - slope * points[0])
    return records[0]["total_seconds"] + fixed + slope * GRID[0] * GRID[1], records[0]


def language_model(quick: bool) -> dict:
    """Seconds of plain passes of a causal language model and of points of `evaluate`, on 8 sequences of 128 tokens."""
    try:
        from transformers import GPT2Config, GPT2LMHeadModel
    except ImportError:
        return {"skipped": "transformers is not installed"}
    torch.manual_seed(SEED)
    size = {"n_layer": 2, "n_embd": 64, "n_head": 2, "vocab_size": 100} if quick else {}
    model = GPT2LMHeadModel(GPT2Config(**size)).eval()
    tokens = torch.randint(0, 100, (8, 128))
    objective = ll.objective(model, {"input_ids": tokens}, loss="language_model", device="cpu")
    plane, times = ll.random_plane(model, seed=SEED), {"pass": [], "never": [], "always": []}
    compilation = {}
    for policy in ("never", "always"):
        times["pass"] += [plain_pass(model, tokens) for _ in range(3)]
        seconds, points = [], []
        for resolution in ((2, 2), (2, 8)):  # far enough apart that trials and checks, the same for both, do not matter
            began = time.perf_counter()
            surface = ll.evaluate(objective, plane, resolution=resolution, compile=policy, progress=False)
            compilation[policy] = surface.metadata["compilation"]
            seconds.append(time.perf_counter() - began - compilation[policy]["total_seconds"])
            points.append(surface.loss.size)
        times[policy].append((seconds[1] - seconds[0]) / (points[1] - points[0]))
    return {"seconds": times, "compilation": compilation}


@torch.no_grad()
def plain_pass(model: torch.nn.Module, tokens: torch.Tensor) -> float:
    """Seconds of a forward pass with its cross-entropy."""
    began = time.perf_counter()
    logits = model(input_ids=tokens).logits[:, :-1]
    F.cross_entropy(logits.flatten(0, 1), tokens[:, 1:].flatten())
    return time.perf_counter() - began


def markdown(results: dict) -> str:
    """Tables from the content of compiled.json."""
    titles = [
        "network", "samples x points", "DataLoader loop", "tuned loop", "plain", "compiled",
        "compiler, seconds to compile", "compiled / DataLoader loop", "compiled / tuned loop", "bf16",
    ]  # fmt: skip
    rows = []
    for work in results["works"].values():
        seconds, compilation = work["seconds"], work["compilation"]["compiled"]
        cells = [work["title"], f"{work['samples']:,} x {work['points']:,}"]
        cells += [spread(seconds[name]) for name in (*LOOPS, "plain", "compiled")]
        took = ", ".join(f"{name} {value:.2g}" for name, value in compilation["seconds"].items())
        cells.append(f"{compilation['compiler']} ({took})")
        for name, asked in zip(LOOPS, work["asked"], strict=True):
            ratios = [loop / own for loop, own in zip(seconds[name], seconds["compiled"], strict=True)]
            cells.append(f"{spread(ratios)} x" + (f" (asked {asked})" if asked else ""))
        cells.append(bf16_text(work))
        rows.append(cells)
    text = "Seconds for the whole grid, extrapolated, compilation included."
    parts = [head("Compiled passes", results, text), table(titles, rows)]
    language = results["language"]
    if language and "skipped" not in language:
        times = {name: statistics.median(values) for name, values in language["seconds"].items()}
        share = f"{times['never'] / times['pass']:.2f} x, asked at most {ASKED_LANGUAGE}"
        parts.append(
            f"Language model, 8 x 128 tokens: a pass {times['pass']:.3g} s, a point {times['never']:.3g} s ({share}), "
            f"compiled {times['always']:.3g} s."
        )
    return "\n\n".join(parts)


def bf16_text(work: dict) -> str:
    if "compiled bf16" not in work["seconds"]:
        return "this processor has no bf16 instructions"
    ratio = statistics.median(work["seconds"]["compiled"]) / statistics.median(work["seconds"]["compiled bf16"])
    error = work["compilation"]["compiled bf16"]["precision_error"]
    return f"{ratio:.2f} x (asked {ASKED_BF16})" + ("" if error is None else f", error {error:.1e}")


if __name__ == "__main__":
    ll.cli.run_script(main)
