"""Measure the study of small networks: training in stacks against one by one, and the default matrix from end to end.

    python benchmarks/matrix.py            # about half an hour on two cores
    python benchmarks/matrix.py --quick    # a minute; shows that it works, the numbers mean nothing

Writes matrix.json (every single time, with the environment) and matrix.md to --out.
"""

import contextlib
import io
import json
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict
from pathlib import Path

import torch

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

import landscape_lib as ll  # noqa: E402
from benchmarks.run import environment, spread, write  # noqa: E402
from benchmarks.tables import head, table  # noqa: E402

__all__ = ["main", "markdown"]

RATIO_ASKED, MINUTES_ASKED = 3.0, 20.0
TOY = {"architectures": ("shallow-small",), "activations": ("relu",), "epochs": 2, "n_train": 64, "n_test": 32}


def main(
    out: Path = Path("benchmarks/results"), repeats: int = 3, epochs: int = 10, whole: bool = True, quick: bool = False
) -> None:
    """Time the training of every architecture with one activation, and the whole default matrix.

    Args:
        out: Folder for the results.
        repeats: Timings of every training.
        epochs: Epochs of every training.
        whole: Also time both scripts from end to end, once.
        quick: Few epochs and a toy matrix, to see that everything runs.
    """
    out, name = ll.cli.make_folder(out), "matrix-quick" if quick else "matrix"
    repeats, epochs = (1, 1) if quick else (repeats, epochs)
    results = {"quick": quick, "environment": environment(), "epochs": epochs, "architectures": {}}
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # a second one only costs at this size
    for architecture in ll.studies.Matrix().architectures:
        results["architectures"][architecture] = measured(architecture, epochs, repeats)
    torch.set_num_threads(threads)
    chosen = TOY if quick else {}
    results["scripts"] = script_seconds(chosen) if whole else {}
    results["matrix_one_by_one"] = one_by_one_seconds(ll.studies.Matrix(**chosen)) if whole else None
    write(out / f"{name}.json", json.dumps(results, indent=1))
    write(out / f"{name}.md", markdown(results))
    print(f"\n{markdown(results)}\nWrote {out / name}.json and {out / name}.md")


def measured(architecture: str, epochs: int, repeats: int) -> dict:
    """Seconds of the runs of one activation, one by one and stacked, in turn."""
    matrix = ll.studies.Matrix(architectures=(architecture,), activations=("relu",), epochs=epochs)
    plans, record = matrix.plans(), {"one by one": [], "stacked": []}
    train, test = (ll.load_dataset(plans[0].points.name, split=split) for split in ("train", "test"))
    trainings = [plan.training for plan in plans]

    def one_by_one(models: list) -> None:
        with contextlib.redirect_stdout(io.StringIO()):
            for model, training in zip(models, trainings, strict=True):
                ll.fit(model, train, test, device="cpu", **asdict(training))

    def stacked(models: list) -> None:
        ll.fit_stacked(models, [train] * len(models), [test] * len(models), trainings, device="cpu")

    for number in range(repeats + 1):
        for key, work in (("one by one", one_by_one), ("stacked", stacked)):
            models = [ll.build_model(architecture) for _ in plans]
            began = time.perf_counter()
            work(models)
            if number:  # the first round loads what is loaded once
                record[key].append(time.perf_counter() - began)
    print(f"{architecture}: {len(plans)} networks, {record}", flush=True)
    return {"networks": len(plans), **record}


def one_by_one_seconds(matrix: ll.studies.Matrix) -> float:
    """Seconds of all trainings of ``matrix``, one after the other, with torch's own threads; nothing is written."""
    began = time.perf_counter()
    for plan in matrix.plans():
        train, test = (ll.load_dataset(plan.points.name, split=split) for split in ("train", "test"))
        model = ll.build_model(plan.architecture, **plan.model_arguments)
        with contextlib.redirect_stdout(io.StringIO()):
            ll.fit(model, train, test, device="cpu", **asdict(plan.training))
    seconds = time.perf_counter() - began
    print(f"one by one: {seconds:.0f} s", flush=True)
    return seconds


def script_seconds(chosen: dict) -> dict[str, float]:
    """Seconds of both scripts from start to exit."""
    seconds, options = {}, []
    for key, value in chosen.items():
        options += [f"--{key.replace('_', '-')}", *(map(str, value) if isinstance(value, tuple) else [str(value)])]
    with tempfile.TemporaryDirectory() as folder:
        for script, arguments in (("run_full_matrix.py", options), ("run_probes_and_reports.py", [])):
            began = time.perf_counter()
            done = subprocess.run(
                [sys.executable, ROOT / script, *arguments], cwd=folder, capture_output=True, text=True
            )
            if done.returncode:
                raise ll.InputError(f"{script} failed: {done.stderr.strip().splitlines()[-1]}")
            seconds[script] = time.perf_counter() - began
            print(f"{script}: {seconds[script]:.0f} s", flush=True)
    return seconds


def markdown(results: dict) -> str:
    """Tables from the content of matrix.json."""
    titles = ["architecture", "networks", "one by one, s", "stacked, s", f"times faster (asked {RATIO_ASKED:g})", ""]
    rows = []
    every = results["architectures"]
    total = {
        key: [sum(times) for times in zip(*(one[key] for one in every.values()), strict=True)]
        for key in ("one by one", "stacked")
    }
    total["networks"] = sum(one["networks"] for one in every.values())
    for name, one in {**every, "all": total}.items():
        ratios = [a / b for a, b in zip(one["one by one"], one["stacked"], strict=True)]
        verdict = "met" if statistics.median(ratios) >= RATIO_ASKED else "**not met**"
        times = (spread(one["one by one"]), spread(one["stacked"]), spread(ratios))
        rows.append([name, str(one["networks"]), *times, verdict])
    text = f"Training for {results['epochs']} epochs on one core."
    parts = [head("The matrix of small networks", results, text), table(titles, rows)]
    if results["scripts"]:
        minutes = sum(results["scripts"].values()) / 60
        each = ", ".join(f"`{script}` {seconds:,.0f} s" for script, seconds in results["scripts"].items())
        verdict = "met" if minutes <= MINUTES_ASKED else "**not met**"
        ratio = results["matrix_one_by_one"] / results["scripts"]["run_full_matrix.py"]
        parts.append(
            f"The default matrix: {each}; together {minutes:.1f} min (asked {MINUTES_ASKED:g}: {verdict}). Its "
            f"networks one by one, with torch's own threads, take {results['matrix_one_by_one']:,.0f} s of training, "
            f"{ratio:.2f} times as long as `run_full_matrix.py`, which stacks, in a process for each core."
        )
    return "\n\n".join(parts)


if __name__ == "__main__":
    ll.cli.run_script(main)
