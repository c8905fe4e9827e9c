"""Where compiling pays beside the deep networks of compiled.py: small networks, BatchNorm policies, derivatives.

    python benchmarks/paying.py                     # about three minutes on two cores
    python benchmarks/paying.py --processor-time    # on a machine that others use: one thread, its processor time
    python benchmarks/paying.py --quick             # a minute; shows that it works, the numbers mean nothing

Records the seconds of a unit of work without and with compilation, the seconds to compile, and the units after which a
compilation pays; and the time with the policy "auto" beside that with "never" where compiling does not pay. Writes
paying.json (every single time, with the environment) and paying.md to --out.
"""

import importlib
import json
import math
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.fx.experimental.proxy_tensor import make_fx
from torch.nn import functional as F

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

import landscape_lib as ll  # noqa: E402
from benchmarks.run import environment, write  # noqa: E402
from benchmarks.tables import head, table  # noqa: E402

__all__ = ["ROWS", "main", "markdown"]

SEED = 42
ALTERNATIONS = 5
LARGEST_ERROR = 1e-3  # relative; of compiled derivatives


def main(out: Path = Path("benchmarks/results"), processor_time: bool = False, quick: bool = False) -> None:
    """Measure where compiling pays.

    Args:
        out: Folder for the results.
        processor_time: Measure the processor time of one thread, which other processes hardly change.
        quick: Few samples and points, to see that everything runs.
    """
    if processor_time:
        torch.set_num_threads(1)
        time.perf_counter = time.process_time  # also in the library, which tells the seconds of a compilation
    out, name = ll.cli.make_folder(out), "paying-quick" if quick else "paying"
    results = {"quick": quick, "environment": environment(), "processor_time": processor_time}
    results |= {"rows": rows(quick), "choices": choices(quick)}
    write(out / f"{name}.json", json.dumps(results, indent=1))
    write(out / f"{name}.md", markdown(results))
    print(f"\n{markdown(results)}\nWrote {out / name}.json and {out / name}.md")


@dataclass(frozen=True)
class Row:
    """A unit of work, whose seconds without and with compilation `measure` gives with the seconds to compile."""

    title: str
    unit: str
    measure: Callable[[bool], dict[str, Any]]


def images(count: int, *shape: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(SEED)
    return torch.randn(count, *shape, generator=generator), torch.arange(count) % 10


def built(name: str, **options: Any) -> nn.Module:
    torch.manual_seed(SEED)
    return ll.build_model(name, **options).eval().requires_grad_(False)


def points(
    name: str, data: tuple[Tensor, Tensor], few: tuple[int, int], many: tuple[int, int], **options: Any
) -> dict[str, Any]:
    """Seconds of a point of `evaluate`, from two grids, with the policies "never" and "always" in turn."""
    model = built(name, **({} if data[0].ndim == 4 else {"classes": 10}), input_shape=tuple(data[0].shape[1:]))
    plane, objective = ll.random_plane(model, seed=SEED), ll.objective(model, data, device="cpu", **options)
    seconds: dict[str, list[float]] = {"never": [], "always": []}
    for _ in range(3):
        for policy, times in seconds.items():
            taken, record = [], {}
            for resolution in (few, many):
                began = time.perf_counter()
                surface = ll.evaluate(objective, plane, resolution=resolution, compile=policy, progress=False)
                record = surface.metadata["compilation"]
                taken.append(time.perf_counter() - began - record["total_seconds"])
            times.append((taken[1] - taken[0]) / (math.prod(many) - math.prod(few)))
    compiled = {"compiler": record["compiler"], "seconds_to_compile": sum(record["seconds"].values())}
    return {"plain": seconds["never"], "compiled": seconds["always"], **compiled}


def gradient(
    weights: list[Tensor], names: list[str], model: nn.Module, inputs: Tensor, targets: Tensor
) -> list[Tensor]:
    """The gradient of the summed cross-entropy."""
    leaves = [weight.detach().requires_grad_() for weight in weights]
    outputs = functional_call(model, dict(zip(names, leaves, strict=True)), (inputs,))
    return list(torch.autograd.grad(F.cross_entropy(outputs, targets, reduction="sum"), leaves))


def hessian(
    weights: list[Tensor], vector: list[Tensor], names: list[str], model: nn.Module, inputs: Tensor, targets: Tensor
) -> list[Tensor]:
    """The product of the Hessian of the summed cross-entropy with ``vector``."""
    leaves = [weight.detach().requires_grad_() for weight in weights]
    outputs = functional_call(model, dict(zip(names, leaves, strict=True)), (inputs,))
    first = torch.autograd.grad(F.cross_entropy(outputs, targets, reduction="sum"), leaves, create_graph=True)
    return list(torch.autograd.grad(first, leaves, vector))


def derivative(kind: str, quick: bool) -> dict[str, Any]:
    """Seconds of a gradient of one batch, or of a Hessian product by `hessian_product`, and of compiled ones."""
    inputs, targets = images(4 if quick else 64, 1, 28, 28)
    inputs = inputs.contiguous(memory_format=torch.channels_last)
    model = built("norm-cnn")
    names, weights = zip(*((name, value.detach()) for name, value in model.named_parameters()), strict=True)
    vector = [torch.ones_like(weight) for weight in weights]
    if kind == "gradient":
        run, arguments = lambda *w: gradient([*w], [*names], model, inputs, targets), [*weights]
        plain = lambda: run(*arguments)  # noqa: E731
    else:
        count = len(weights)
        run = lambda *both: hessian([*both[:count]], [*both[count:]], [*names], model, inputs, targets)  # noqa: E731
        arguments = [*weights, *vector]
        product = ll.hessian_product(ll.objective(model, (inputs, targets), device="cpu"), model)
        plain = lambda: product(dict(zip(names, vector, strict=True)))  # noqa: E731
    began = time.perf_counter()
    graph = make_fx(run, tracing_mode="fake", _allow_non_fake_inputs=True)(*arguments)
    compiled = importlib.import_module("torch._inductor").compile(
        graph, arguments, {"cpp.threads": torch.get_num_threads()}
    )
    check(compiled(*arguments), run(*arguments))
    record = {"compiler": "inductor", "seconds_to_compile": time.perf_counter() - began, "plain": [], "compiled": []}
    plain()
    for _ in range(2 if quick else ALTERNATIONS):
        for name, work in (("plain", plain), ("compiled", lambda: compiled(*arguments))):
            began = time.perf_counter()
            work()
            record[name].append(time.perf_counter() - began)
    return record


def check(values: list[Tensor], expected: list[Tensor]) -> None:
    """Raise ArithmeticError unless compiled derivatives are those of plain ones."""
    for value, exact in zip(values, expected, strict=True):
        if not (value - exact).norm() <= LARGEST_ERROR * exact.norm() + 1e-5:
            raise ArithmeticError("compiled derivatives differ from plain ones")


def small(quick: bool, full: int) -> int:
    return 20 if quick else full


ROWS = (
    Row(
        "MLP of the studies (deep-small), 1,000 samples",
        "point",
        lambda quick: points("deep-small", images(small(quick, 1000), 2), (5, 5), (7, 7) if quick else (41, 41)),
    ),
    Row(
        "NormCNN, 200 samples",
        "point",
        lambda quick: points("norm-cnn", images(small(quick, 200), 1, 28, 28), (2, 2), (2, 3) if quick else (3, 5)),
    ),
    Row(
        "ResNet-8, batch_norm='recalibrate', 100 samples",
        "point",
        lambda quick: points(
            "resnet8",
            images(small(quick, 100), 3, 32, 32),
            (2, 2),
            (2, 3) if quick else (3, 5),
            batch_norm="recalibrate",
        ),
    ),
    Row(
        "ResNet-8, batch_norm='batch', 100 samples",
        "point",
        lambda quick: points(
            "resnet8", images(small(quick, 100), 3, 32, 32), (2, 2), (2, 3) if quick else (3, 5), batch_norm="batch"
        ),
    ),
    Row(
        "gradient of NormCNN (sharpness searches), 64 samples", "gradient", lambda quick: derivative("gradient", quick)
    ),
    Row("Hessian product of NormCNN, 64 samples", "product", lambda quick: derivative("hessian", quick)),
)


def rows(quick: bool) -> list[dict[str, Any]]:
    """One record for each of `ROWS`, of JSON types."""
    records = []
    for row in ROWS:
        try:
            record = row.measure(quick)
            least = {name: min(record[name]) for name in ("plain", "compiled")}
            gain = least["plain"] - least["compiled"]
            record["pays_after"] = math.ceil(record["seconds_to_compile"] / gain) if gain > 0 else None
        except Exception as error:  # of a compiler, say: the other rows can still be measured
            record = {"error": f"{type(error).__name__}: {(str(error).splitlines() or [''])[0]}"}
        records.append({"title": row.title, "unit": row.unit, **record})
        print(f"{row.title}: {record}", flush=True)
    return records


def choices(quick: bool) -> list[dict[str, Any]]:
    """Works for which compiling does not pay, with the policies "never" and "auto" in turn."""
    works = (
        ("linear classifier of MNIST, 51 x 51 points", nn.Sequential(nn.Flatten(), nn.Linear(784, 10)), 60_000, 51),
        (
            "MLP 784-20-10, 50 x 50 points",
            nn.Sequential(nn.Flatten(), nn.Linear(784, 20), nn.ReLU(), nn.Linear(20, 10)),
            1000,
            50,
        ),
        ("TinyCNN, 11 x 11 points", built("tiny-cnn", input_shape=(1, 28, 28)), 100, 11),
    )
    records = []
    for title, model, samples, side in works:
        data = images(small(quick, samples), 1, 28, 28)
        plane, seconds = ll.random_plane(model, seed=SEED), {"never": [], "auto": []}
        for turn in range(1 + (2 if quick else 2 * ALTERNATIONS)):
            for policy, times in seconds.items():
                objective = ll.objective(model, data, device="cpu")
                began = time.perf_counter()
                ll.evaluate(objective, plane, resolution=3 if quick else side, compile=policy, progress=False)
                if turn:  # the first one warms up
                    times.append(time.perf_counter() - began)
        ratio = min(seconds["auto"]) / min(seconds["never"])
        records.append({"title": f"{title}, {samples:,} samples", "seconds": seconds, "ratio": ratio})
        print(f"{records[-1]['title']}: auto takes {ratio:.3f} of the time of never", flush=True)
    return records


def markdown(results: dict[str, Any]) -> str:
    """Tables from the content of paying.json."""
    clock = "Processor time of one thread" if results["processor_time"] else "All cores"
    titles = ["work", "plain, ms", "compiled, ms", "speedup", "compiler, seconds to compile", "pays after"]
    choices = [[row["title"], f"{row['ratio']:.3f}"] for row in results["choices"]]
    return "\n\n".join(
        [
            head("Where compiling pays", results, f"{clock}; least of several times."),
            table(titles, map(cells, results["rows"])),
            table(["work, not worth a compilation", "auto / never"], choices),
        ]
    )


def cells(row: dict[str, Any]) -> list[str]:
    """The cells of a record of `rows`."""
    if "error" in row:
        return [row["title"], "", "", "", f"cannot be compiled: {row['error']}", ""]
    plain, compiled = min(row["plain"]), min(row["compiled"])
    after = f"{row['pays_after']:,} {row['unit']}s" if row["pays_after"] else "never"
    compiler = f"{row['compiler']} ({row['seconds_to_compile']:.2g})" if row["compiler"] else "none fits"
    return [row["title"], f"{1e3 * plain:.3g}", f"{1e3 * compiled:.3g}", f"{plain / compiled:.2f} x", compiler, after]


if __name__ == "__main__":
    ll.cli.run_script(main)
