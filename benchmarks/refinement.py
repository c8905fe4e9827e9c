"""Measure evaluation with a tolerance: points, time and true error on analytic surfaces and on trained networks.

    python benchmarks/refinement.py                             # about seven minutes on two cores, training included
    python benchmarks/refinement.py --smooth cifar10_cnn_model.pth --rough runs/resnet14_fashion-mnist/epoch_004.pth

Writes refinement.json (with the environment) and refinement.md to --out. The smooth network is timed beside the fastest
peer of run.py that needs no tuning by hand; the rough one beside its own exact grid. Ratios are those of runs in turn.
Errors are relative to the loss at the point, and where that is less than a hundredth of the median loss of the surface
to this hundredth, as in `evaluate`; the median of the true values is taken here.
"""

import json
import statistics
import sys
import time
from dataclasses import asdict
from pathlib import Path

import numpy as np
from torch import nn

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

import landscape_lib as ll  # noqa: E402
from benchmarks.peers import PEERS, Task, timed  # noqa: E402
from benchmarks.run import environment, spread, write  # noqa: E402
from benchmarks.tables import head  # noqa: E402
from landscape.evaluation.refinement.selection import Refinement  # noqa: E402
from landscape.evaluation.refinement.tolerance import LOSS_FLOOR, error_bound  # noqa: E402
from landscape.training.loop import Training  # noqa: E402
from tests.random_surfaces import random_surface  # noqa: E402

__all__ = ["main", "markdown"]

SEED = 42
PEER, ASKED = "loop over tensors", 60  # times as fast as the peer, at 1 %
TOLERANCES = (0.01, 0.02, 0.05)  # of the rough network
BUDGETS = (5, 15)  # seconds, for all training samples of the smooth network
DATA = "mnist-5k"
SMOOTH = "tiny-cnn", Training(epochs=3, batch_size=64, lr=0.05, seed=SEED, momentum=0.9)
ROUGH = "resnet14", Training(epochs=3, batch_size=64, lr=0.05, seed=SEED, momentum=0.9)


def main(
    smooth: Path | None = None,
    rough: Path | None = None,
    data_dir: Path = Path("data"),
    out: Path = Path("benchmarks/results"),
    surfaces: int = 200,
    smooth_samples: int = 4_000,
    rough_samples: int = 50,
    rounds: int = 3,
) -> None:
    """Time evaluations with a tolerance and compare them with the truth.

    Args:
        smooth: Checkpoint of a network with a smooth surface, 51 x 51 points at 1 %, beside a peer; None trains a
            TinyCNN on 4,000 digits.
        rough: Checkpoint of a network with a rough one, 31 x 31 points at 1, 2 and 5 %, beside the exact grid; None
            trains a ResNet-14 on 4,000 digits.
        data_dir: Folder where data sets are looked for and downloaded to.
        out: Folder for the results.
        surfaces: Number of random analytic surfaces.
        smooth_samples: Samples of the smooth network.
        rough_samples: Samples of the rough one.
        rounds: Times that everything on networks is repeated in turn.
    """
    out = ll.cli.make_folder(out)
    results = {"environment": environment(), "analytic": analytic(surfaces)}
    network = loaded(smooth, data_dir) if smooth else trained(*SMOOTH)
    results["smooth"] = beside_a_peer(*network, smooth_samples, rounds)
    results["budgets"] = within_budgets(*network, rounds)
    network = loaded(rough, data_dir) if rough else trained(*ROUGH)
    results["rough"] = beside_the_exact_grid(*network, rough_samples, rounds)
    write(out / "refinement.json", json.dumps(results, indent=1))
    write(out / "refinement.md", markdown(results))
    print(f"\n{markdown(results)}\nWrote {out / 'refinement.json'} and {out / 'refinement.md'}")


def analytic(count: int) -> dict:
    """Number of random surfaces whose true error is beyond 1.5 times a limit, and the share of points evaluated."""
    generator, shares, beyond = np.random.default_rng(SEED), [], {"tolerance": 0, "error_bound": 0, "largest_error": 0}
    for number in range(count):
        truth = random_surface(generator)
        tolerance = generator.choice([0.005, 0.01, 0.02, 0.05])
        values, asked = truth.reshape(-1, 1), []

        def evaluate(points, values=values, asked=asked):
            asked.append(len(points))
            return values[points]

        floor = LOSS_FLOOR * np.median(np.abs(values))
        allowed = lambda v, _, t=tolerance, floor=floor: t * np.maximum(np.abs(v), floor)  # noqa: E731
        plan = Refinement(truth.shape, evaluate, allowed, number).run()
        error = (np.abs(plan.values - values) / np.maximum(np.abs(values), floor)).max()
        shares.append(sum(asked) / truth.size)
        beyond["tolerance"] += bool(error > 1.5 * tolerance)
        beyond["error_bound"] += bool(error > 1.5 * error_bound(tolerance, plan.errors, plan.reached))
        beyond["largest_error"] += bool(error > 1.5 * plan.errors.max(initial=0.0))
    return {"surfaces": count, "beyond_by_half": beyond, "mean_share_evaluated": float(np.mean(shares))}


def beside_a_peer(name: str, model: nn.Module, data: ll.Data, samples: int, rounds: int) -> dict:
    """A 51 x 51 surface at 1 %, its error at points that it did not evaluate, and the time of the peer."""
    data = data.subset(samples, SEED)
    task = task_of(model, data)
    peer = next(peer for peer in PEERS if peer.name == PEER)
    middle = [(a, b) for a in (-0.02, 0.02) for b in (-0.02, 0.02)]
    ours, theirs = [], []
    for _ in range(rounds):
        surface, seconds = evaluated(task, data, (51, 51), 0.01)
        ours.append(seconds)
        theirs.append(timed(peer, task, middle).seconds_for(51 * 51))
    generator = np.random.default_rng(SEED)
    unseen = generator.permutation(np.argwhere(~surface.evaluated))[:60]
    objective = ll.objective(task.model, data, device="cpu")
    truths = [objective(task.plane(surface.alphas[i], surface.betas[j])).double().mean().item() for i, j in unseen]
    errors = [abs(surface.loss[i, j] / truth - 1) for (i, j), truth in zip(unseen, truths, strict=True)]
    return {
        "model": name,
        "samples": len(data),
        "resolution": [51, 51],
        "seconds": ours,
        "interpolation": surface.metadata["interpolation"],
        "largest_error_at_unseen_points": max(errors, default=0.0),
        "unseen_points": len(errors),
        "peer": PEER,
        "peer_seconds": theirs,
    }


def within_budgets(name: str, model: nn.Module, data: ll.Data, rounds: int) -> list[dict]:
    """Samples, sampling error, interpolation error and time of a 51 x 51 surface under each time budget."""
    task = task_of(model, data)
    records = [{"budget": seconds, "seconds": [], "surfaces": []} for seconds in BUDGETS]
    for _ in range(rounds):
        for entry in records:
            began = time.perf_counter()
            whole = ll.objective(task.model, data, device="cpu")
            planned = ll.cli.plan_budget(whole, task.plane, entry["budget"], SEED, resolution=(51, 51))
            part = whole.subset(planned.samples, SEED)
            options = {"tolerance": planned.tolerance, "budget": planned.seconds}
            surface = ll.evaluate(part, task.plane, resolution=(51, 51), progress=False, **options)
            entry["seconds"].append(time.perf_counter() - began)
            entry["surfaces"].append(
                {
                    "samples": part.size,
                    "relative_standard_error": float(np.median(surface.standard_error / surface.loss)),
                    "interpolation": surface.metadata["interpolation"],
                }
            )
            print(f"  budget {entry['budget']} s: {entry['seconds'][-1]:.1f} s", flush=True)
    return [{"model": name, "of_samples": len(data), **entry} for entry in records]


def beside_the_exact_grid(name: str, model: nn.Module, data: ll.Data, samples: int, rounds: int) -> dict:
    """A 31 x 31 surface exactly and at several tolerances."""
    data = data.subset(samples, SEED)
    task = task_of(model, data)
    times, surfaces = {tolerance: [] for tolerance in (None, *TOLERANCES)}, {}
    for _ in range(rounds):
        for tolerance, seconds in times.items():
            surfaces[tolerance], took = evaluated(task, data, (31, 31), tolerance)
            seconds.append(took)
    exact = surfaces[None].loss
    return {
        "model": name,
        "samples": len(data),
        "resolution": [31, 31],
        "exact_seconds": times[None],
        "loss": [float(np.nanmin(exact)), float(np.nanmax(exact))],
        "tolerances": [
            {
                "seconds": times[tolerance],
                "true_error": float(np.nanmax(np.abs(surfaces[tolerance].loss / exact - 1))),
                "interpolation": surfaces[tolerance].metadata["interpolation"],
            }
            for tolerance in TOLERANCES
        ],
    }


def loaded(path: Path, data_dir: Path) -> tuple[str, nn.Module, ll.Data]:
    """Name, network and training data of a checkpoint."""
    checkpoint = ll.load_checkpoint(path)
    return checkpoint.model_name, checkpoint.model, ll.cli.load_checkpoint_data(checkpoint, "train", data_dir)


def trained(name: str, training: Training) -> tuple[str, nn.Module, ll.Data]:
    """Name, network and training data of a network that is trained here."""
    print(f"training {name} for {training.epochs} epochs", flush=True)
    train, test = (ll.load_dataset(DATA, split=split) for split in ("train", "test"))
    ll.cli.seed_everything(training.seed)
    model = ll.build_model(name, input_shape=tuple(train.inputs.shape[1:]), classes=len(train.classes))
    ll.fit(model, train, test, device="cpu", **asdict(training))
    return name, model, train


def task_of(model: nn.Module, data: ll.Data) -> Task:
    return Task(model.requires_grad_(False), data.inputs, data.targets, ll.random_plane(model, seed=SEED))


def evaluated(task: Task, data: ll.Data, resolution: tuple[int, int], tolerance) -> tuple[ll.Surface, float]:
    began = time.perf_counter()
    objective = ll.objective(task.model, data, device="cpu")
    surface = ll.evaluate(objective, task.plane, resolution=resolution, tolerance=tolerance, progress=False)
    seconds = time.perf_counter() - began
    print(f"  tolerance {tolerance}: {seconds:.1f} s", flush=True)
    return surface, seconds


def ratios(these: list[float], those: list[float]) -> list[float]:
    return [one / other for one, other in zip(these, those, strict=True)]


def markdown(results: dict) -> str:
    """Text and a table from the content of refinement.json."""
    analytic = results["analytic"]
    beyond = analytic["beyond_by_half"]
    lines = [
        head("Evaluation with a tolerance", results),
        "",
        f"{analytic['surfaces']} random analytic surfaces at tolerances of 0.5 to 5 %: on "
        f"{analytic['mean_share_evaluated']:.0%} of the points on average; the true error went beyond one and a half "
        f"times the tolerance on {beyond['tolerance']} of them, the reported bound on {beyond['error_bound']}, the "
        f"largest error seen by the verification on {beyond['largest_error']}.",
        "",
        "| network | tolerance | points evaluated | largest error seen by the verification | reported bound | largest "
        "true error | seconds | of it planning | compared with |",
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    smooth, rough = results["smooth"], results["rough"]
    interpolation, total = smooth["interpolation"], int(np.prod(smooth["resolution"]))
    lines.append(
        f"| {smooth['model']}, {smooth['samples']:,} samples, 51 x 51 | 1% | "
        f"{interpolation['evaluated_points']:,} of {total:,} | {interpolation['largest_error']:.2%} | "
        f"{interpolation['error_bound']:.2%} | "
        f"{smooth['largest_error_at_unseen_points']:.2%} (at {smooth['unseen_points']} further points) | "
        f"{spread(smooth['seconds'])} | {planning(smooth)} | {smooth['peer']}: "
        f"{statistics.median(smooth['peer_seconds']):,.0f} s, "
        f"{spread(ratios(smooth['peer_seconds'], smooth['seconds']))} x (asked {ASKED}) |"
    )
    for entry in rough["tolerances"]:
        interpolation = entry["interpolation"]
        lines.append(
            f"| {rough['model']}, {rough['samples']:,} samples, 31 x 31, loss {rough['loss'][0]:.3g} to "
            f"{rough['loss'][1]:.3g} | {interpolation['tolerance']:.0%} | "
            f"{interpolation['evaluated_points']:,} of 961 | {interpolation['largest_error']:.2%} | "
            f"{interpolation['error_bound']:.2%} | {entry['true_error']:.2%} | "
            f"{spread(entry['seconds'])} | {planning(entry)} | every point: "
            f"{statistics.median(rough['exact_seconds']):.0f} s, "
            f"{spread(ratios(entry['seconds'], rough['exact_seconds']))} of it |"
        )
    lines += [
        "",
        "| network | budget, s | seconds taken | samples | points evaluated | tolerance | reported bound | standard "
        "error, share of the loss |",
        "| --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for entry in results["budgets"]:
        each = [surface["interpolation"] for surface in entry["surfaces"]]
        samples, errors = ([run[key] for run in entry["surfaces"]] for key in ("samples", "relative_standard_error"))
        lines.append(
            f"| {entry['model']}, {entry['of_samples']:,} samples, 51 x 51 | {entry['budget']} | "
            f"{spread(entry['seconds'])} | {spread(samples)} | {spread([run['evaluated_points'] for run in each])} | "
            f"{percent([run['tolerance'] for run in each])} | {percent([run['error_bound'] for run in each])} | "
            f"{percent(errors)} |"
        )
    return "\n".join(lines)


def planning(entry: dict) -> str:
    """The share of the time that planning and interpolation took."""
    return f"{entry['interpolation']['planning_seconds'] / entry['seconds'][-1]:.1%}"


def percent(values: list[float]) -> str:
    """Smallest and largest of them."""
    return " to ".join(dict.fromkeys(f"{value:.1%}" for value in (min(values), max(values))))


if __name__ == "__main__":
    ll.cli.run_script(main)
