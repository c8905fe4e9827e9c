"""Faults that people met in their first hour: each is one clear line, before the work."""

import re
import subprocess
import sys
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset, TensorDataset

import compare_loss_landscapes
import landscape_lib as ll
import visualize_loss_landscape
import visualize_single_sample_landscapes
import visualize_trajectory
from landscape.objective.language_loss import token_losses

ROOT = Path(__file__).parents[1]
INPUTS, TARGETS = torch.randn(30, 4, generator=torch.Generator().manual_seed(0)), torch.arange(30) % 3
OWN = """
import torch
from torch import nn

def build():
    return nn.Sequential(nn.Linear(4, 5), nn.ReLU(), nn.Linear(5, 3))

def loaders():
    open("the data function was run", "w").close()
    inputs = torch.randn(40, 4, generator=torch.Generator().manual_seed(0))
    return (inputs[:30], torch.arange(30) % 3), (inputs[30:], torch.arange(10) % 3)
"""


def network(seed=0):
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(4, 5), nn.ReLU(), nn.Linear(5, 3))


@pytest.fixture
def own(here):
    """Options of a network of the user's own, and its weights in the files a.pt, b.pt, c.pt and diverged.pt."""
    (here / "mine.py").write_text(OWN)
    for seed, name in enumerate("abc"):
        torch.save(network(seed).state_dict(), f"{name}.pt")
    state = network().state_dict()
    state["2.weight"][0, 1] = torch.nan
    torch.save(state, "diverged.pt")
    return ["--model", "mine.py:build", "--data", "mine.py:loaders", "--device", "cpu"]


def error_of(main, *options):
    """The one line that a script prints on its standard error before it ends with exit code 2."""
    with pytest.raises(SystemExit) as stop:
        ll.cli.run_script(main, [*map(str, options)])
    assert stop.value.code == 2


def test_files_of_weights_are_counted_as_files_and_settings_of_training_are_not_listed(own, capsys):
    states = ["--state", "a.pt", "b.pt", "c.pt", *own, "--resolution", "5", "--no-before-after"]
    ll.cli.run_script(visualize_trajectory.main, states)
    printed = capsys.readouterr().out
    (settings,) = (line for line in printed.splitlines() if line.startswith("Settings: "))
    assert "state a.pt b.pt c.pt" in settings and "seed 42" in settings
    assert not re.search(r"epochs|batch_size|optimizer|momentum|hidden|limit", settings)
    assert ": file 0 to 2, loss" in printed and "epoch" not in printed
    assert "Wrote trajectory_results/trajectory_surface.npz" in printed
    path = Path("trajectory_results/trajectory_mine.py-build.npz")  # not of the folder that the files are in
    surface = ll.Surface.load("trajectory_results/trajectory_surface.npz")
    assert ll.plot_contour(surface).get_title().startswith("mine.py:build, ")
    assert ll.results.Trajectory.load(path).metadata["unit"] == "file"

    ll.cli.run_script(visualize_trajectory.main, states)  # the results are there, and figures are drawn again
    again = capsys.readouterr().out
    assert "Kept trajectory_results/trajectory_surface.npz" in again and f"Kept {path}" in again
    assert "Wrote trajectory_results/trajectory_contour.png" in again and "Wrote trajectory_results/tr" in again
    ll.cli.run_script(visualize_trajectory.main, [*states, "--margin", "0.5"])
    assert "Wrote trajectory_results/trajectory_surface.npz" in capsys.readouterr().out


def test_the_file_with_values_that_are_not_finite_is_named(own, capsys):
    error_of(visualize_trajectory.main, "--state", "a.pt", "diverged.pt", "c.pt", *own)
    assert "Error: diverged.pt holds values that are not finite, first in '2.weight'" in capsys.readouterr().err
    points = [{"w": torch.zeros(2)}, {"w": torch.ones(2)}, {"w": torch.tensor([0.0, torch.inf])}]
    with pytest.raises(ll.InputError, match="point 3 of 3 is not finite"):
        ll.pca_plane(points)


@pytest.mark.parametrize(
    "main", [visualize_trajectory.main, compare_loss_landscapes.main, visualize_loss_landscape.main]
)
def test_a_missing_file_of_weights_is_found_before_code_is_run(own, main, capsys):
    states = ["none.pt"] if main is visualize_loss_landscape.main else ["a.pt", "b.pt", "none.pt"]
    error_of(main, "--state", *states, *own)
    assert "Error: none.pt does not exist" in capsys.readouterr().err
    assert not Path("the data function was run").exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--resolution", "ten"], "--resolution takes a whole number or two of them, not ten; -h"),
        (["--tolerance", "abc"], "--tolerance takes None or a number or noise, not abc; -h"),
        (["--zoom", "near"], "--zoom takes a number, not near; -h"),
    ],
)
def test_a_value_of_another_type_is_told_in_words(here, options, message, capsys):
    error_of(visualize_loss_landscape.main, *options)
    assert f"Error: {message}" in capsys.readouterr().err


def test_one_name_is_no_plural(here, capsys):
    error_of(compare_loss_landscapes.main, "a.pth", "b.pth", "--names", "x")
    assert "Error: 2 checkpoints but 1 name: --names takes one name for each" in capsys.readouterr().err
    for options in ([], ["--names", "x", "y"]):
        error_of(compare_loss_landscapes.main, *options)
        assert "Error: no checkpoints to compare: name their files" in capsys.readouterr().err


def test_a_data_loader_takes_a_data_set_as_it_is():
    data = ll.load_dataset("digits", split="test", limit=10)
    inputs, targets = map(torch.cat, zip(*DataLoader(data, batch_size=4), strict=True))  # type: ignore[arg-type]
    assert torch.equal(inputs, data.inputs) and torch.equal(targets, data.targets)
    with pytest.raises(IndexError):
        data[10]


def test_a_comparison_takes_the_mapping_that_a_film_takes():
    axis = np.linspace(-1, 1, 5)
    planes = {
        name: ll.Surface(axis, axis, scale * np.add.outer(axis**2, axis**2), np.zeros((5, 5)), None, None, {})
        for name, scale in (("first run", 1), ("second run", 2))
    }
    shown = [ax.get_title() for ax in ll.plot_comparison(planes).axes]
    assert shown[:2] == ["first run", "second run"]
    assert ll.plot_comparison(planes, titles=["a", "b"]).axes[0].get_title() == "a"
    plt.close("all")


def test_a_tile_says_what_its_numbers_are():
    record = {"index": 1246, "true_class": "6", "predicted_class": "5", "probability": 0.5, "centre_loss": 0.1}
    title = visualize_single_sample_landscapes.title(record)
    assert title == "sample 1246, class 6\npredicted 5 50%\nloss 0.1"


def module(*arguments):
    command = [sys.executable, "-m", "landscape", *arguments]
    return subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=120)


def test_the_module_has_help_and_refuses_arguments():
    assert module("--help").stdout.startswith("`python -m landscape`: what is installed")
    refused = module("devices", "now")
    assert refused.returncode == 2 and refused.stdout == ""
    assert refused.stderr == "Error: python -m landscape takes no arguments, not devices now\n"


def test_the_module_ends_quietly_if_its_reader_does():
    with subprocess.Popen(
        [sys.executable, "-u", "-m", "landscape"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT
    ) as process:
        assert process.stdout.readline().startswith("loss-landscape toolkit")
        process.stdout.close()  # as `head -1` does
        assert process.stderr.read() == "" and process.wait(120) == 0


@pytest.mark.parametrize("resolution", [5.5, True, "5", (5, 5.5), (5, None)])
def test_a_resolution_is_a_whole_number(resolution):
    model = network()
    objective = ll.objective(model, (INPUTS, TARGETS), device="cpu")
    with pytest.raises(ll.InputError, match="resolution must be a whole number of at least 2 points an axis, not "):
        ll.evaluate(objective, ll.random_plane(model), resolution=resolution, progress=False)


def test_a_state_dict_is_no_file():
    state = network().state_dict()
    for arguments in ({}, {"model": network()}):
        with pytest.raises(
            ll.InputError, match=r"load_checkpoint\(path\) takes the path of a file \(model\.load_state_d"
        ):
            ll.load_checkpoint(state, **arguments)


def test_every_pair_of_ends_has_its_stars_and_its_chord(clean_figures):
    def line(first, last):
        alphas = np.linspace(0, 1, 5)
        loss = first + (last - first) * alphas + alphas * (1 - alphas)
        surface = ll.Surface(alphas, None, loss, np.zeros(5), None, None, {})
        return ll.results.Barrier(0.25, 0.5, 0.25, None, surface)

    def stars(ax):
        return next(artist for artist in ax.lines if artist.get_marker() == "*")

    same = stars(ll.plot_barriers({"plain": line(1, 2), "aligned": line(1, 2)}))
    assert same.get_xydata().tolist() == [[0, 1], [1, 2]] and same.get_label() == "the two networks"
    ax = ll.plot_barriers({"plain": line(1, 2), "other": line(3, 5)})
    assert stars(ax).get_xydata().tolist() == [[0, 1], [1, 2], [0, 3], [1, 5]]
    assert stars(ax).get_label() == "the networks"
    chords = [tuple(artist.get_ydata()[[0, -1]]) for artist in ax.lines if len(artist.get_xdata()) == 101]
    assert chords == [(1, 2), (3, 5)]
    assert [artist.get_marker() for artist in ll.plot_barriers({"a": line(1, 2)}, star=False).lines].count("*") == 0


def test_figures_say_which_network_they_are_of(clean_figures):
    metadata = {"checkpoint_file": "runs/mine/epoch_009.pth", "data": {"name": "digits", "split": "train", "size": 90}}
    count = np.zeros(2)
    pairs = ll.results.Eigenpairs(count + 1, count, count == 0, np.eye(2, dtype=np.float32), 4, metadata)
    expected = "mine/epoch_009, digits train, 90 samples"
    assert ll.plot_spectrum(pairs).get_title() == expected
    sharpness = ll.results.Sharpness("sam", 1.0, None, None, 0.1, "d", "s", 1.0, (2.0,), None, None, 0, None, metadata)
    assert ll.plot_sharpness([sharpness]).get_title() == f"{expected}\nsam, r = 0.1"
    path = ll.results.Trajectory(
        np.arange(3), np.zeros((3, 2)), count[:1].repeat(3), count[:1].repeat(3), np.ones(3), np.ones(3),
        {"name": "seed 1", **metadata},
    )  # fmt: skip
    assert ll.plot_path_losses(path).axes[0].get_title() == f"seed 1, {expected}"


def test_a_second_result_is_not_taken_for_axes():
    surface = ll.Surface(np.arange(3.0), None, np.ones(3), np.zeros(3), None, None, {})
    with pytest.raises(ll.InputError, match=r"takes axes of matplotlib as ax, and one result, not Surface"):
        ll.plot_slices(surface, surface)


class Failing(Dataset):
    """Samples of which the eighth raises an error."""

    def __len__(self):
        return 10

    def __getitem__(self, index):
        if index == 7:
            raise KeyError("no column")
        return INPUTS[index], 1


@pytest.mark.parametrize("workers", [0, 1])
def test_samples_that_fail_are_not_taken_for_ragged_ones(workers):
    data = Failing() if not workers else DataLoader(Failing(), batch_size=5, num_workers=workers)
    place = r"__getitem__, line \d+ of test_newcomers\.py" if not workers else "a worker of the DataLoader"
    with pytest.raises(ll.InputError, match=f"the data fail with KeyError: 'no column' in {place}; mend that"):
        ll.objective(network(), data)


def test_a_shuffling_loader_is_told_to_give_its_data_set():
    loader = DataLoader(TensorDataset(INPUTS, TARGETS), batch_size=8, shuffle=True)
    with pytest.raises(ll.InputError, match=r"pass loader\.dataset itself"):
        ll.objective(network(), loader)
    assert ll.objective(network(), loader.dataset, device="cpu").size == 30


class Larger(nn.Module):
    """A network that takes the larger, or the smaller, of two hidden units."""

    def __init__(self, choose):
        super().__init__()
        self.choose, self.a, self.b, self.c = choose, nn.Linear(4, 6), nn.Linear(4, 6), nn.Linear(6, 3)

    def forward(self, x):
        return self.c(self.choose(self.a(x), self.b(x)))


@pytest.mark.parametrize("choose", [torch.max, torch.min, lambda a, b: torch.max(a, other=b), lambda a, b: a.max(b)])
def test_the_larger_of_two_tensors_is_followed_by_an_alignment(choose):
    torch.manual_seed(0)
    one = Larger(choose)
    order, other = torch.randperm(6), Larger(choose)
    other.load_state_dict(one.state_dict())
    with torch.no_grad():
        for layer in (other.a, other.b):
            layer.weight.copy_(layer.weight[order].clone())
            layer.bias.copy_(layer.bias[order].clone())
        other.c.weight.copy_(other.c.weight[:, order].clone())
    aligned = ll.align(one, other, data=INPUTS)
    for name, value in one.state_dict().items():
        assert torch.equal(aligned.model.state_dict()[name], value)


def test_labels_below_zero_other_than_the_ignored_one_are_refused():
    logits = torch.randn(1, 3, 4)
    with pytest.raises(ll.InputError, match=r"a label is -5; labels are tokens from 0 on, and -100 where"):
        token_losses(logits, torch.tensor([[0, -100, -5]]))
    terms = token_losses(logits, torch.tensor([[0, -100, 3]]))
    assert terms["loss"].weights.tolist() == [2]
