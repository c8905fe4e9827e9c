"""Merge trees of surfaces, against gudhi, brute force and wells in closed form."""

import dataclasses
import itertools

import matplotlib
import numpy as np
import pytest
import torch

import landscape_lib as ll

matplotlib.use("agg")


def surface(values, error=0.0, axes=None, per_sample=None, metadata=None):
    values = np.asarray(values, float)
    axes = axes or [np.linspace(-1, 1 + k, n) for k, n in enumerate(values.shape)]
    betas = axes[1] if len(axes) == 2 else None
    return ll.Surface(axes[0], betas, values, np.full(values.shape, error), None, per_sample, metadata or {})


def random_grids():
    generator = np.random.default_rng(3)
    for trial in range(100):
        shape = tuple(generator.integers(2, 13, size=2))
        tied = trial % 3 == 0
        yield generator.integers(0, 6, size=shape).astype(float) if tied else generator.normal(size=shape)


def pairs(topology):
    return sorted(zip(topology.births.tolist(), topology.deaths.tolist(), strict=True))


@pytest.mark.parametrize("neighbours", ["corners", "faces"])
def test_births_and_deaths_are_those_of_gudhi(neighbours):
    gudhi = pytest.importorskip("gudhi")
    for values in random_grids():
        key = "top_dimensional_cells" if neighbours == "corners" else "vertices"
        complex_ = gudhi.CubicalComplex(**{key: values})
        complex_.compute_persistence()
        intervals = complex_.persistence_intervals_in_dimension(0)
        expected = sorted((birth, death) for birth, death in intervals.tolist() if death > birth)
        assert pairs(ll.topology(surface(values), neighbours=neighbours)) == expected


@pytest.mark.parametrize("neighbours", ["corners", "faces"])
def test_a_transposed_surface_has_the_same_basins(neighbours):
    for values in random_grids():
        topology = ll.topology(surface(values), neighbours=neighbours)
        transposed = ll.topology(surface(values.T), neighbours=neighbours)
        assert pairs(topology) == pairs(transposed)


def components(mask, corners):
    """Number of connected components of a mask, by flooding."""
    left, count = set(map(tuple, np.argwhere(mask))), 0
    while left:
        count += 1
        front = [left.pop()]
        while front:
            i, j = front.pop()
            for di, dj in itertools.product((-1, 0, 1), repeat=2):
                near = (i + di, j + dj)
                if near in left and (corners or abs(di) + abs(dj) == 1):
                    left.remove(near)
                    front.append(near)
    return count


def test_sublevel_sets_have_as_many_components_as_basins_live():
    values = np.random.default_rng(0).normal(size=(9, 14))
    values[2:4, 3:9] = np.nan
    for neighbours in ("corners", "faces"):
        topology = ll.topology(surface(values), neighbours=neighbours)
        for level in np.linspace(-2.5, 2.5, 21):
            alive = ((topology.births <= level) & (topology.deaths > level)).sum()
            assert alive == components(values <= level, neighbours == "corners")


def test_wells_in_closed_form():
    x, y = np.linspace(-2, 2, 41), np.linspace(-1.5, 1.5, 61)
    values = (x[:, None] ** 2 - 1) ** 2 + 0.2 * x[:, None] + 2 * y[None] ** 2
    topology = ll.topology(surface(values, axes=[x, y]))
    assert len(topology.births) == 2 and topology.parents.tolist() == [-1, 0]
    low, high = (x[topology.minima[:, 0]], y[topology.minima[:, 1]])
    assert np.allclose(low, [-1, 1], atol=0.11) and np.allclose(high, 0)
    roots = np.sort(np.roots([4, 0, -4, 0.2]).real)  # of the derivative: minimum, saddle, minimum
    heights = (roots**2 - 1) ** 2 + 0.2 * roots
    assert topology.persistence[1] == pytest.approx(heights[1] - heights[2], abs=0.02)
    assert y[topology.saddles[1, 1]] == 0 and abs(x[topology.saddles[1, 0]] - roots[1]) < 0.1
    left = topology.labels[x < -0.2]
    assert (left == 0).all() and (topology.labels[x > 0.2] == 1).all()


@pytest.mark.parametrize("count", [1, 3, 7])
def test_as_many_basins_as_wells(count):
    x = np.linspace(0, count, 20 * count + 1)
    values = np.cos(2 * np.pi * x)[:, None] + np.linspace(-1, 1, 15)[None] ** 2 + 0.01 * x[:, None]
    assert len(ll.topology(surface(values)).births) == count


def test_a_line_and_a_constant_and_a_monotone_surface():
    line = ll.topology(surface([3.0, 1.0, 2.0, 0.0, 4.0]))
    assert pairs(line) == [(0.0, np.inf), (1.0, 2.0)] and line.minima.tolist() == [[3], [1]]
    for values in (np.ones((4, 6)), np.arange(24.0).reshape(4, 6)):
        one = ll.topology(surface(values))
        assert one.deaths.tolist() == [np.inf] and (one.labels == 0).all()


def test_gaps_are_never_filled():
    values = np.add.outer(np.arange(5.0), np.arange(4.0))
    values[2] = np.nan
    topology = ll.topology(surface(values))
    assert pairs(topology) == [(0.0, np.inf), (3.0, np.inf)]
    assert (topology.labels[2] == -1).all() and (topology.labels[[0, 1, 3, 4]] >= 0).all()
    values[2] = np.inf
    assert pairs(ll.topology(surface(values))) == pairs(topology)


def test_errors_are_paired_where_single_samples_are_known():
    generator = np.random.default_rng(1)
    shared = 10 * generator.normal(size=400)  # which every point has in common
    values = np.array([0.0, 1.0, 0.5])
    samples = values[:, None] + shared + 0.1 * generator.normal(size=(3, 400))
    mean, error = samples.mean(1), samples.std(1, ddof=1) / 20
    axes = [np.arange(3.0)]
    paired = ll.topology(ll.Surface(axes[0], None, mean, error, None, samples, {}))
    apart = ll.topology(ll.Surface(axes[0], None, mean, error, None, None, {}))
    expected = (samples[1] - samples[2]).std(ddof=1) / np.sqrt(400)
    assert paired.errors[1] == pytest.approx(expected, rel=1e-12) and np.isnan(paired.errors[0])
    assert apart.errors[1] == pytest.approx(np.hypot(error[1], error[2]), rel=1e-12)
    assert paired.significant.tolist() == [True, True] and apart.significant.tolist() == [True, False]
    assert "1 and 1 within the noise" in repr(apart)


@pytest.mark.parametrize(("samples", "significant"), [(None, True), (400, True), (4, False)])
def test_few_samples_have_more_noise(samples, significant):
    metadata = None if samples is None else {"data": {"size": samples}}
    values = np.array([0.0, 1.0, 0.5])  # a basin of 0.5 beside errors of 0.2, together
    tree = ll.topology(surface(values, error=0.2 / np.sqrt(2), axes=[np.arange(3.0)], metadata=metadata))
    assert tree.significant.tolist() == [True, significant]
    labels = [text.get_text() for text in ll.plot_topology(tree).get_legend().get_texts()]
    assert f"± {2 if significant else 3.3} standard errors" in labels[1 if significant else 0] + labels[-1]


def weighted_wells(batch_losses):
    """A line over two wells, whose samples have losses and weights that go together."""
    generator = torch.Generator().manual_seed(0)
    factors = 1 + torch.rand(60, generator=generator, dtype=torch.float64)
    weights = torch.where(factors > 1.5, 6.0, torch.arange(60) % 3)  # 0, 1 or 2 for the others

    class Place(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.x = torch.nn.Parameter(torch.zeros(1, dtype=torch.float64))

    model = Place()
    objective = ll.objective(model, (factors, weights), loss=batch_losses, device="cpu", dtype=torch.float64)
    line = ll.Line({"x": torch.zeros(1, dtype=torch.float64)}, ({"x": torch.ones(1, dtype=torch.float64)},), networks=1)
    surface = ll.evaluate(objective, line, alpha_range=(-1.5, 1.5), resolution=31, per_sample=True, progress=False)
    return surface, factors.numpy(), weights.numpy()


def wells_of(model, batch):
    factors, weights = batch
    losses = factors * (model.x**2 - 1) ** 2 + 0.2 * factors**2 * model.x
    return ll.Weighted(losses, weights)


def test_paired_errors_of_a_weighted_loss_are_bootstrapped(tmp_path):
    surface, factors, weights = weighted_wells(wells_of)
    tree = ll.topology(surface)
    ends = np.array([surface.alphas[tree.saddles[1, 0]], surface.alphas[tree.minima[1, 0]]])[:, None]
    saddle, minimum = factors * (ends**2 - 1) ** 2 + 0.2 * factors**2 * ends
    difference = saddle - minimum
    assert tree.persistence[1] == pytest.approx(np.average(difference, weights=weights), rel=1e-12)
    draws = np.random.default_rng(0).integers(0, 60, (20000, 60))
    bootstrap = ((weights * difference)[draws].sum(1) / weights[draws].sum(1)).std()
    assert tree.errors[1] == pytest.approx(bootstrap, rel=0.05)
    assert abs(difference.std(ddof=1) / np.sqrt(60) - bootstrap) > 0.2 * bootstrap  # weights matter here
    stored = ll.Surface.load(surface.save(tmp_path / "weighted.npz"))
    np.testing.assert_array_equal(stored.sample_weights, surface.sample_weights)
    np.testing.assert_array_equal(ll.topology(stored).errors, tree.errors)
    earlier = ll.topology(dataclasses.replace(surface, sample_weights=None))  # a file that lacks the weights
    apart = surface.standard_error[[tree.saddles[1, 0], tree.minima[1, 0]]]
    assert earlier.errors[1] == pytest.approx(np.hypot(*apart), rel=1e-12)


def test_samples_without_weight_may_have_no_loss():
    def some_undefined(model, batch):
        return ll.Weighted(torch.where(batch[1] > 0, wells_of(model, batch).values, torch.nan), batch[1])

    defined, undefined = (ll.topology(weighted_wells(loss)[0]) for loss in (wells_of, some_undefined))
    assert np.isfinite(defined.errors[1]) and undefined.errors[1] == pytest.approx(defined.errors[1], rel=1e-12)


def test_basins_of_noise_are_not_significant():
    generator = np.random.default_rng(5)
    x = np.linspace(-1, 1, 31)
    clean = x[:, None] ** 2 + x[None] ** 2
    noisy = surface(clean + 0.1 * generator.normal(size=clean.shape), error=0.1)
    topology = ll.topology(noisy)
    assert len(topology.births) > 5
    assert topology.significant.sum() < len(topology.births) / 3


def test_stored_and_read_again(tmp_path):
    topology = ll.topology(surface(np.random.default_rng(2).normal(size=(6, 9))))
    again = ll.results.Topology.load(topology.save(tmp_path / "topology.npz"))
    for name in ("minima", "births", "saddles", "deaths", "errors", "parents", "labels", "loss"):
        assert np.array_equal(getattr(again, name), getattr(topology, name), equal_nan=True)
    assert again.metadata["topology"] == {"neighbours": "corners"}


def test_permutations_tell_structure_from_noise():
    generator = np.random.default_rng(0)
    x = np.linspace(-1, 1, 25)
    bowl = x[:, None] ** 2 + 2 * x[None] ** 2
    wavy = ll.permutation_test(surface(bowl + 0.3 * np.cos(6 * x)[:, None]), permutations=99)
    assert wavy.p_value == 0.01 and wavy.basins < min(wavy.permuted)
    chance = [
        ll.permutation_test(surface(bowl + 0.3 * generator.normal(size=bowl.shape)), permutations=19, seed=k).p_value
        for k in range(40)
    ]
    assert np.mean(np.array(chance) <= 0.1) <= 0.25  # expected: at most 0.1, with 40 trials


def test_interpolated_surfaces_are_named():
    metadata = {"interpolation": {"tolerance": 0.01}}
    with pytest.warns(UserWarning, match="INTERPOLATED"):
        topology = ll.topology(surface(np.eye(4), metadata=metadata))
    assert "interpolated yes" in repr(topology)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: ll.topology(np.ones((3, 3))), "takes a Surface"),
        (lambda: ll.topology(surface(np.full((3, 3), np.nan))), "no loss of this surface is finite"),
        (lambda: ll.topology(surface(np.ones((3, 3))), neighbours=4), "unknown neighbours 4"),
        (lambda: ll.permutation_test(surface([[1, np.nan], [2, 3]])), "losses are all finite"),
        (lambda: ll.permutation_test(surface(np.ones((2, 2)))), "too few"),
        (lambda: ll.permutation_test(surface(np.ones((4, 4))), permutations=0), "permutations is 0"),
        (lambda: ll.permutation_test(surface(np.ones((4, 4))), permutations=1.5), "permutations is 1.5"),
        (lambda: ll.permutation_test(surface(np.ones((4, 4))), seed=-3), "seed is -3"),
        (lambda: ll.permutation_test(surface(np.ones((4, 4))), neighbours="q"), "unknown neighbours 'q'"),
        (lambda: ll.plot_topology(ll.topology(surface([1.0, 0, 1])), view="basins"), "of a line"),
        (
            lambda: ll.plot_topology(ll.topology(surface(np.random.default_rng(0).normal(size=(40, 40)))), view="tree"),
            "too many",
        ),
        (lambda: ll.plot_topology(ll.topology(surface([1.0, 0, 1])), view="map"), "unknown view 'map'"),
    ],
)
def test_refusals(call, message):
    with pytest.raises(ll.InputError, match=message):
        call()


def test_figures_show_every_basin():
    x = np.linspace(0, 3, 61)
    values = np.cos(2 * np.pi * x)[:, None] + np.linspace(-1, 1, 15)[None] ** 2 + 0.1 * x[:, None]
    topology = ll.topology(surface(values, error=0.01, axes=[x, np.linspace(-1, 1, 15)]))
    basins = {line.get_label(): line for line in ll.plot_topology(topology, view="basins").lines}
    assert len(basins["minimum (3)"].get_xdata()) == 3 and len(basins["saddle (2)"].get_xdata()) == 2
    assert basins["minimum (3)"].get_xdata() == pytest.approx([0.5, 1.5, 2.5], abs=0.06)
    labels = [text.get_text() for text in ll.plot_topology(topology).get_legend().get_texts()]
    assert labels == ["never ends (1)", "basin (2), ± 2 standard errors"]
    tree = ll.plot_topology(topology, view="tree")
    dots = sorted(float(line.get_ydata()[0]) for line in tree.lines if line.get_marker() == "o")
    assert dots == pytest.approx(sorted(topology.births))
