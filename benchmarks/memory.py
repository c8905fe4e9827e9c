"""Measure the memory and time of evaluating a language model of 124 million parameters, itself or as a copy.

    python benchmarks/memory.py                  # minutes on one core
    python benchmarks/memory.py --quick          # seconds; shows that it works, the numbers mean nothing

Every case runs in a fresh process with one thread, and its random weights are those of the size of GPT-2. Writes
memory.json (with the environment) and memory.md to --out.
"""

import gc
import json
import multiprocessing
import statistics
import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path

import psutil
import torch
from torch import nn
from torch.nn import functional as F

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

import landscape_lib as ll  # noqa: E402
from benchmarks.run import environment, peak_memory, spread, write  # noqa: E402
from benchmarks.tables import head, table  # noqa: E402

__all__ = ["CASES", "main", "markdown"]

SEED = 42
SIZES = {"classes": 50257, "layers": 12, "heads": 12, "width": 768}
SMALL = {"classes": 64, "layers": 1, "heads": 2, "width": 32}
WAYS = {"in place": {"copy": False}, "in place, spill": {"copy": False}, "copy": {"device": "cpu"}}
ASKED = {"in place": 1.15, "in place, spill": 0.3}  # times the bytes of the model
ASKED_TIME = 1.05  # plain passes that a point may take


@dataclass(frozen=True)
class Case:
    """What one process measures."""

    dtype: str
    way: str
    sequences: int  # of the data
    tokens: int  # of each of them
    quick: bool = False

    def model(self) -> nn.Module:
        """A network with random weights."""
        torch.manual_seed(SEED)
        model = ll.build_model("gpt", input_shape=(1024,), **(SMALL if self.quick else SIZES))
        return model.to(getattr(torch, self.dtype)).eval().requires_grad_(False)

    def data(self) -> torch.Tensor:
        """Random tokens [sequences, tokens]."""
        generator = torch.Generator().manual_seed(SEED)
        classes = (SMALL if self.quick else SIZES)["classes"]
        return torch.randint(classes, (self.sequences, self.tokens), generator=generator)

    def objective(self, model: nn.Module, tokens: torch.Tensor, folder: str) -> ll.Objective:
        """The loss, of the network itself or of a copy."""
        options = WAYS[self.way] | ({"spill": folder} if self.way.endswith("spill") else {})
        return ll.objective(model, {"input_ids": tokens}, loss="language_model", dtype=None, **options)


# Half precision is emulated on processors without instructions for it, hence the few tokens.
CASES = (
    *(Case("float32", way, 4, 16) for way in WAYS),
    *(Case("float32", way, 8, 128) for way in ("in place", "in place, spill")),
    *(Case("bfloat16", way, 2, 4) for way in WAYS),
    *(Case("float16", way, 2, 4) for way in ("in place", "in place, spill")),
)


def main(out: Path = Path("benchmarks/results"), repeats: int = 3, quick: bool = False) -> None:
    """Measure every case in a process of its own.

    Args:
        out: Folder for the results.
        repeats: Points whose time is measured.
        quick: A tiny network and few tokens, to see that everything runs.
    """
    out, name = ll.cli.make_folder(out), "memory-quick" if quick else "memory"
    cases = [Case(case.dtype, case.way, 2, 8, quick=True) for case in CASES[:4]] if quick else CASES
    results = {"quick": quick, "environment": environment(), "cases": []}
    for case in cases:
        with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
            results["cases"].append(asdict(case) | pool.submit(measured, case, repeats).result())
        print(row(results["cases"][-1]), flush=True)
        write(out / f"{name}.json", json.dumps(results, indent=1))
    write(out / f"{name}.md", markdown(results))
    print(f"\n{markdown(results)}\nWrote {out / name}.json and {out / name}.md")


def measured(case: Case, repeats: int) -> dict:
    """Peaks above the process with the model and its data, in bytes, and seconds of the processor."""
    torch.set_num_threads(1)
    model, tokens = case.model(), case.data()
    record = {"model_bytes": sum(value.nbytes for value in model.parameters())}
    with torch.no_grad():
        record["pass_peak"] = peak_of(lambda: plain_loss(model, tokens))
    with tempfile.TemporaryDirectory() as folder:
        record["peak"] = peak_of(lambda: evaluated(case, model, tokens, folder))
        record["seconds"] = seconds_of(case, model, tokens, folder, repeats)
    return record


def peak_of(run) -> int:
    """Bytes by which ``run()`` raises the resident memory at its height."""
    gc.collect()
    before, reset = psutil.Process().memory_info().rss, Path("/proc/self/clear_refs")
    if reset.exists():
        reset.write_text("5")  # forgets the peak so far
    run()
    return max(0, peak_memory() - before)


def plain_loss(model: nn.Module, tokens: torch.Tensor) -> torch.Tensor:
    """The mean loss of all tokens from one pass, as anybody would compute it."""
    return F.cross_entropy(model(tokens)[:, :-1].flatten(0, 1).float(), tokens[:, 1:].flatten())


def evaluated(case: Case, model: nn.Module, tokens: torch.Tensor, folder: str) -> ll.Surface:
    """A small surface, from the network to the end: objective, plane, points and checks."""
    plane = ll.random_plane(model, seed=SEED)
    ranges = {
        "alpha_range": (-1, 0),
        "beta_range": (-1, 0),
        "resolution": 2,
    }  # with the origin, where losses are compared
    return ll.evaluate(case.objective(model, tokens, folder), plane, progress=False, **ranges)


@torch.no_grad()
def seconds_of(case: Case, model: nn.Module, tokens: torch.Tensor, folder: str, repeats: int) -> dict | None:
    """Seconds of moving to a point, of its losses, and of a plain pass over the data, one after the other."""
    if case.way == "copy":
        return None
    objective, plane = case.objective(model, tokens, folder), ll.random_plane(model, seed=SEED)
    seconds: dict[str, list[float]] = {"move": [], "losses": [], "pass": []}
    with objective.arithmetic():
        objective.network.move_along(plane, (0.1, 0.1))  # draws the directions
        for number in range(repeats):
            steps = {
                "move": lambda place=(0.1 * number, -0.2): objective.network.move_along(plane, place),
                "losses": lambda: [objective.losses(batch) for _, batch in objective.batches()],
                "pass": lambda: plain_loss(model, tokens),
            }
            for step, run in steps.items():
                began = time.process_time()
                run()
                seconds[step].append(time.process_time() - began)
    return seconds


def ratios(seconds: dict) -> list[float]:
    """The time of a point, in plain passes over the same data."""
    return [
        (move + losses) / plain
        for move, losses, plain in zip(seconds["move"], seconds["losses"], seconds["pass"], strict=True)
    ]


def row(case: dict) -> list[str]:
    """The cells of one line of the table."""
    peak, plain = (case[key] / case["model_bytes"] for key in ("peak", "pass_peak"))
    seconds, asked = case["seconds"], ASKED.get(case["way"])
    return [
        case["dtype"], case["way"], f"{case['sequences']} x {case['tokens']}", f"{peak:.2f}",
        f"{plain:.2f}", f"{asked}" if asked else "", spread(ratios(seconds)) if seconds else "",
        f"{statistics.median(seconds['move']):.2g}" if seconds else "",
    ]  # fmt: skip


def markdown(results: dict) -> str:
    """A table from the content of memory.json."""
    model_bytes = {}
    for case in results["cases"]:
        model_bytes.setdefault(case["dtype"], case["model_bytes"])
    sizes = ", ".join(f"{size / 2**20:.0f} MiB in {dtype}" for dtype, size in model_bytes.items())
    text = (
        f"One thread. The weights take {sizes}. Memory is the largest resident size above that of the process with the "
        "model and its data, in multiples of the weights, passes included; time is of the processor."
    )
    titles = [
        "weights", "way", "sequences x tokens", "peak", "a plain pass alone, all data as one batch",
        "peak asked at most", f"a point, in plain passes (asked at most {ASKED_TIME})", "seconds of moving",
    ]  # fmt: skip
    return f"{head('One copy of the weights', results, text)}\n\n{table(titles, map(row, results['cases']))}"


if __name__ == "__main__":
    ll.cli.run_script(main)
