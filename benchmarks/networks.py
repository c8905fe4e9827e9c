"""Measure deep networks: share of the machine's convolution peak, lower precision, two processes against two threads.

    python benchmarks/networks.py --dataset cifar10        # about ten minutes on two cores
    python benchmarks/networks.py --quick                  # seconds; shows that it works, the numbers mean nothing

Writes networks.json (every single time, with the environment) and networks.md to --out. The comparison with other tools
on the same networks is in run.py.
"""

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

import landscape_lib as ll  # noqa: E402
from benchmarks.run import environment, spread, write  # noqa: E402
from benchmarks.tables import head, table  # noqa: E402
from landscape.runtime.devices import has_bf16  # noqa: E402

__all__ = ["main", "markdown"]

SEED = 42
MODELS = ("resnet20", "torchvision:resnet18")
SCRIPT = "visualize_loss_landscape.py"
TWO = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
RATIO_ASKED, BF16_ASKED = 1.1, 1.8


def main(
    dataset: str = "cifar10",
    data_dir: Path = Path("data"),
    out: Path = Path("benchmarks/results"),
    repeats: int = 3,
    samples: int = 1000,
    points: tuple[int, int] = (4, 5),
    quick: bool = False,
) -> None:
    """Time ResNet-20 and torchvision's resnet18 on 32 x 32 images.

    Args:
        dataset: Colour images of 32 x 32 pixels: cifar10 or folder:PATH.
        data_dir: Folder where data sets are looked for and downloaded to.
        out: Folder for the results.
        repeats: Timings of everything.
        samples: Samples of the objective.
        points: Grid.
        quick: Few samples and points, to see that everything runs.
    """
    out, name = ll.cli.make_folder(out), "networks-quick" if quick else "networks"
    samples, points, repeats = (40, (2, 2), 1) if quick else (samples, points, repeats)
    data = ll.load_dataset(dataset, "train", data_dir)
    results = {"quick": quick, "environment": environment(), "peak": convolution_peak(0.2 if quick else 3.0)}
    results["models"] = {
        name: measured(name, data, dataset, data_dir.resolve(), samples, points, repeats) for name in MODELS
    }
    write(out / f"{name}.json", json.dumps(results, indent=1))
    write(out / f"{name}.md", markdown(results))
    print(f"\n{markdown(results)}\nWrote {out / name}.json and {out / name}.md")


def measured(name: str, data: ll.Data, dataset: str, data_dir: Path, samples: int, points, repeats: int) -> dict:
    """All measurements of one network, as JSON types."""
    print(f"{name}: training a few steps", flush=True)
    model = trained(name, data)
    record = {
        "samples": samples,
        "points": list(points),
        "operations": operations(model, data.inputs[:1]),
        "threads": [],
        "processes": [],
        "bf16": bf16(model, data.subset(samples, SEED), points),
    }
    with tempfile.TemporaryDirectory() as folder:
        checkpoint = Path(folder) / "network.pth"
        ll.save_checkpoint(
            checkpoint, model, model_name=name, data={"name": dataset, "split": "train", "limit": None, "source": ""},
            epoch=0, metrics={}, settings={},
        )  # fmt: skip
        for _ in range(repeats):
            for key, command in (("threads", []), ("processes", TWO)):
                seconds = script_seconds(command, checkpoint, data_dir, samples, points)
                print(f"  {key}: {seconds:.3g} s for {points[0]} x {points[1]} points", flush=True)
                record[key].append(seconds)
    return record


def script_seconds(launcher: list[str], checkpoint: Path, data_dir: Path, samples: int, points) -> float:
    """Seconds of the evaluation itself, without the start of Python, that the script leaves in its file."""
    with tempfile.TemporaryDirectory() as out:
        options = ["--checkpoint", checkpoint, "--data-dir", data_dir, "--out", out, "--subset", samples]
        options += ["--resolution", *points, "--no-figures", "--device", "cpu"]
        command = [sys.executable, *launcher, ROOT / SCRIPT, *options]
        alone = {key: value for key, value in os.environ.items() if key != "OMP_NUM_THREADS"}
        done = subprocess.run([str(word) for word in command], capture_output=True, text=True, env=alone)
        if done.returncode:
            raise ll.InputError(f"{SCRIPT} failed: {done.stderr.strip().splitlines()[-1]}")
        return ll.Surface.load(next(Path(out).glob("loss_grid_train*.npz"))).metadata["seconds"]


def bf16(model: nn.Module, data: ll.Data, points) -> dict:
    """Time and error of lower precision, where the processor computes in it."""
    if not has_bf16(torch.device("cpu")):
        return {"skipped": "this processor has no bf16 instructions"}
    plane = ll.random_plane(model, seed=SEED)
    surfaces = {
        precision: ll.evaluate(
            ll.objective(model, data, device="cpu", precision=precision), plane, resolution=points, progress=False
        )
        for precision in ("full", "bf16")
    }
    return {
        "seconds": {precision: surface.metadata["seconds"] for precision, surface in surfaces.items()},
        "error": float(abs(surfaces["bf16"].loss / surfaces["full"].loss - 1).max()),
    }


def trained(name: str, data: ll.Data) -> nn.Module:
    """A network whose BatchNorm statistics have seen data."""
    torch.manual_seed(SEED)
    model = ll.build_model(name, input_shape=tuple(data.inputs.shape[1:]), classes=len(data.classes))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9)
    for _ in range(10):
        picked = torch.randint(0, len(data), (64,))
        optimizer.zero_grad()
        F.cross_entropy(model(data.inputs[picked]), data.targets[picked]).backward()
        optimizer.step()
    return model.eval().requires_grad_(False)


def operations(model: nn.Module, inputs: torch.Tensor) -> int:
    """Floating-point operations of one forward pass of one sample: two for every multiplication with addition."""
    with FlopCounterMode(display=False) as counter:
        model(inputs)
    return counter.get_total_flops()


@torch.no_grad()
def convolution_peak(seconds: float) -> float:
    """Operations a second of a convolution that suits the machine: 3 x 3, 128 to 128 channels, channels_last."""
    layer = nn.Conv2d(128, 128, 3, padding=1).to(memory_format=torch.channels_last)
    inputs = torch.randn(16, 128, 16, 16).contiguous(memory_format=torch.channels_last)
    each, best, end = operations(layer, inputs), 0.0, time.perf_counter() + seconds
    while time.perf_counter() < end:
        began = time.perf_counter()
        layer(inputs)
        best = max(best, each / (time.perf_counter() - began))
    return best


def markdown(results: dict) -> str:
    """A table from the content of networks.json."""
    titles = [
        "network", "samples x points", "seconds", "share of the convolution peak",
        f"two processes / two threads (asked at most {RATIO_ASKED})", f"bf16 (asked {BF16_ASKED} x)",
    ]  # fmt: skip
    rows = []
    for name, model in results["models"].items():
        points = model["points"][0] * model["points"][1]
        rate = model["operations"] * model["samples"] * points / statistics.median(model["threads"])
        ratios = [two / one for one, two in zip(model["threads"], model["processes"], strict=True)]
        rows.append([
            name, f"{model['samples']:,} x {points}", spread(model["threads"]), f"{rate / results['peak']:.0%}",
            spread(ratios), bf16_text(model["bf16"]),
        ])  # fmt: skip
    text = f"Convolution peak of the machine: {results['peak'] / 1e9:.0f} GFLOP/s."
    return f"{head('Deep networks', results, text)}\n\n{table(titles, rows)}"


def bf16_text(bf16: dict) -> str:
    if "skipped" in bf16:
        return f"not measured: {bf16['skipped']}"
    return f"{bf16['seconds']['full'] / bf16['seconds']['bf16']:.2f} x, error {bf16['error']:.1e}"


if __name__ == "__main__":
    ll.cli.run_script(main)
