"""In random planes a saddle looks like a minimum, a maximum or a flat region: they show the mean curvature only.

    python examples/reproductions/hidden_saddles.py                             # minutes on two cores
    python examples/reproductions/hidden_saddles.py --dataset digits --width 5 --epochs 5 --planes 5 --grid 5 --size 30

First three quadratic saddles in 1,000 dimensions, with 600, 500 or 400 curvatures +1, the others -1: the curvature in
random planes is compared with tr H / D. Then a network 784-20-20-10 trained on 4,000 images of MNIST, which stops at a
saddle within the noise of these images: almost no random plane shows it, the plane along the eigenvectors of the
largest and of the smallest eigenvalue does.

Source: Boettcher and Wheeler 2024, "Visualizing high-dimensional loss landscapes with Hessian directions", abstract and
sections 2 to 4, with networks of up to 7 million parameters. The script writes hidden_saddles.json and
hidden_saddles.png to --out.
"""

import sys
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import torch
from matplotlib.figure import Figure
from torch import Tensor, nn

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
import landscape_lib as ll
from examples.reproductions.table import Row, begin, record

__all__ = ["Quadratic", "main", "plane_curvatures"]

RANDOM = {"normalize": None, "ignore": ()}  # Gaussian directions, as in the paper
SHAPES = {0.6: "a minimum", 0.5: "flat", 0.4: "a maximum"}  # share of upward curvatures: what random planes show


def main(
    dataset: str = "mnist",
    width: int = 20,
    samples: int = 4000,
    epochs: int = 10,
    lr: float = 3e-3,
    size: int = 1000,
    planes: int = 100,
    grid: int = 31,
    seed: int = 0,
    data_dir: Path = Path("data"),
    out: Path = Path("reproduction_results"),
) -> None:
    """Curvature in random planes and in the plane of the outermost eigenvectors.

    Args:
        dataset: Data set by name.
        width: Units of each of two hidden layers.
        samples: Training images, drawn from the seed.
        epochs: Passes of Adam over them, in batches of 100.
        lr: Learning rate at the start; it falls by a cosine.
        size: Dimension of the quadratic saddles.
        planes: Number of random planes.
        grid: Number of points along both axes of the two planes in the figure.
        seed: Seed of images, initial weights and planes.
        data_dir: Folder of the data sets, also for downloads.
        out: Folder for the results.
    """
    settings = dict(locals())  # a copy: a debugger or a coverage tool may add to the original
    begin(settings)
    ll.cli.check_count("planes", planes, least=2)
    rows, measured = [], {}
    for share in SHAPES:
        model = Quadratic(size, share)
        objective = ll.objective(model, torch.zeros(1, 1), loss=lambda model, batch: model(batch), device="cpu")
        product = ll.hessian_product(objective, model)
        values = np.stack([plane_curvatures(product, ll.random_plane(model, seed=k, **RANDOM)) for k in range(planes)])
        measured[f"quadratic, {share:.0%} upward"] = np.round(values, 6).tolist()
        rows.append(quadratic_row(share, size, values))

    train, test = (ll.load_dataset(dataset, split=split, data_dir=data_dir) for split in ("train", "test"))
    train = train.subset(min(samples, len(train)), seed)
    torch.manual_seed(seed)
    network = ll.build_model(
        "mlp", input_shape=train.inputs.shape[1:], classes=len(train.classes), depth=2, width=width
    )
    ll.fit(
        network, train, test, epochs=epochs, batch_size=100, lr=lr, seed=seed, optimizer="adam", schedule="cosine",
        device="cpu",
    )  # fmt: skip
    objective = ll.objective(network, train, device="cpu")
    product = ll.hessian_product(objective, network)
    values = np.stack([plane_curvatures(product, ll.random_plane(network, seed=k, **RANDOM)) for k in range(planes)])
    random = ll.random_plane(network, seed=seed, **RANDOM)
    faithful = ll.faithfulness(objective, random, seed=seed)
    ends = {
        which: ll.top_eigenpairs(product, k=1, tol=1e-2, which=which, progress=False)
        for which in ("largest", "smallest")
    }  # fmt: skip
    vectors = [product.unflatten(pairs.vectors[0]) for pairs in ends.values()]
    hessian_plane = ll.Plane(random.origin, tuple(vectors), networks=1)
    shown = plane_curvatures(product, hessian_plane)
    measured["network"] = np.round(values, 6).tolist()
    measured["network, plane of eigenvectors"] = np.round(shown, 6).tolist()
    rows += network_rows(values, shown, faithful)
    record(
        __file__,
        rows,
        out,
        paper="Boettcher and Wheeler 2024, Visualizing high-dimensional loss landscapes with Hessian directions",
        claim="Saddles look like minima, maxima or flat regions in random planes, which show the mean curvature only",
        settings=settings,
        plane_curvatures=measured,
        faithfulness=faithful.record,
    )
    ll.cli.wrote(ll.save_figure(draw(objective, random, hessian_plane, shown, grid), out / "hidden_saddles.png"))


class Quadratic(nn.Module):
    """The saddle sum_i h_i theta_i^2 / 2 at theta = 0: h_i is 1 for a ``share`` of the coordinates, else -1."""

    def __init__(self, size: int, share: float):
        super().__init__()
        self.theta = nn.Parameter(torch.zeros(size))
        self.register_buffer("curvatures", torch.where(torch.arange(size) < share * size, 1.0, -1.0))

    def forward(self, inputs: Tensor) -> Tensor:
        return (self.curvatures * self.theta.square()).sum() / 2 + 0 * inputs[:, 0]


def plane_curvatures(product: ll.Product, plane: ll.Plane) -> np.ndarray:
    """The two eigenvalues of the Hessian restricted to ``plane``, increasing."""
    directions = [
        torch.cat([direction[name].flatten() for name in product.names]).double().numpy()
        for direction in plane.directions
    ]  # fmt: skip
    basis = np.linalg.qr(np.stack(directions, 1))[0].T
    return np.linalg.eigvalsh(basis @ np.stack([product.matvec(vector) for vector in basis]).T)


def quadratic_row(share: float, size: int, values: np.ndarray) -> Row:
    """What the random planes through a quadratic saddle show, beside what the paper says."""
    mean, error = values.mean(), values.mean(1).std(ddof=1) / np.sqrt(len(values))
    upward, downward = (values > 0).all(1).mean(), (values < 0).all(1).mean()
    near = abs(mean - (2 * share - 1)) <= 3 * error
    agrees = {0.6: upward >= 0.95, 0.5: abs(values).max() <= 0.2, 0.4: downward >= 0.95}[share]
    return Row(
        f"a saddle with {share:.0%} of {size:,} curvatures +1, the others -1, in random planes",
        f"{SHAPES[share]}; mean curvature tr H / D = {2 * share - 1:.1f}",
        f"curvature {mean:.3f}; a minimum in {upward:.0%} of planes, a maximum in {downward:.0%}", "sections 2 and 3",
        bool(agrees and near), "mean within three standard errors; 95 % of planes, or curvatures up to 0.2",
    )  # fmt: skip


def network_rows(values: np.ndarray, shown: np.ndarray, faithful: ll.results.Faithfulness) -> list[Row]:
    """What random planes and the plane of eigenvectors show of a network, beside what the paper says."""
    average, mean = faithful.average_eigenvalue, values.mean()
    error = np.hypot(values.mean(1).std(ddof=1) / np.sqrt(len(values)), faithful.average_error)
    convex = (values > 0).all(1).mean()
    return [
        Row(
            "mean curvature of the network in random planes", f"tr H / D = {average:.3g}",
            f"{mean:.3g}, standard error {error:.2g}", "section 3", bool(abs(mean - average) <= 3 * error),
            "within three standard errors",
        ),
        Row(
            "random planes in which the network is at a minimum", "most, though it is at a saddle", f"{convex:.0%}",
            "section 4", bool(convex > 0.5 and shown[0] < 0), "more than half, and the smallest eigenvalue is negative",
        ),
        Row(
            "the plane along the outermost eigenvectors", "shows the saddle",
            f"curvatures {shown[0]:.3g} and {shown[1]:.3g}", "section 4",
            bool(shown[0] < 0 < shown[1]) and faithful.verdict == "hidden saddle",
            f"of both signs, and faithfulness says of a random plane: {faithful.verdict}",
        ),
    ]  # fmt: skip


def draw(objective: ll.Objective, random: ll.Plane, eigenvectors: ll.Plane, shown: np.ndarray, grid: int) -> Figure:
    """The loss in a random plane and in that of the outermost eigenvectors; coordinates are lengths in both.

    The latter is drawn so far that both curvatures change the loss by the same amount.
    """
    figure, axes = plt.subplots(1, 2, figsize=(10, 4.4), layout="constrained")
    vectors = tuple(
        {name: value / ll.norm(direction) for name, value in direction.items()} for direction in random.directions
    )  # fmt: skip
    panels = {
        "random plane": (
            ll.Plane(random.origin, vectors, networks=1), 1.0, ("random direction 1", "random direction 2"),
        ),
        "plane of the outermost eigenvectors": (
            eigenvectors, np.sqrt(abs(shown[0] / shown[1])), [f"eigenvector of {value:.3g}" for value in shown[::-1]],
        ),
    }  # fmt: skip
    for ax, (title, (plane, end, labels)) in zip(axes, panels.items(), strict=True):
        surface = ll.evaluate(objective, plane, alpha_range=(-end, end), beta_range=(-1, 1), resolution=grid)
        ll.plot_contour(surface, ax, levels=20)
        ax.set(title=title, xlabel=f"length along {labels[0]}", ylabel=f"length along {labels[1]}")
    return figure


if __name__ == "__main__":
    ll.cli.run_script(main)
