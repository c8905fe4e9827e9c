"""The reproductions of published results: every script runs at toy size, and the pages show the committed results."""

import importlib
import inspect
import json
import re
import shlex
from dataclasses import asdict

import numpy as np
import pytest
import torch
from scripts import ROOT, run
from torch import nn

import landscape_lib as ll
from examples.reproductions import table
from examples.reproductions.degenerate_minima import quadrature
from examples.reproductions.edge_of_stability import descend
from examples.reproductions.hidden_saddles import Quadratic, plane_curvatures
from examples.reproductions.intrinsic_dimension import Subspace, crossing

SCRIPTS = sorted(path for path in table.FOLDER.glob("*.py") if path.stem != "table")
RECORDS = table.records()


def commands(script):
    """The commands in the docstring of a script: the first with its defaults, the last a quick look."""
    return re.findall(rf"^    python examples/reproductions/{script.name}(.*?)(?:  +#.*)?$", script.read_text(), re.M)


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.stem)
def test_the_quick_look_of_a_script_runs(script, small_data, here, capsys, offline):
    default, *_, quick = commands(script)
    assert not default.strip()
    options = shlex.split(quick)
    source = script.read_text()
    if "data_dir" in source:
        options += ["--data-dir", small_data]
    assert run(f"examples/reproductions/{script.name}", *options, "--out", here / "results") == 0
    content = json.loads((here / "results" / f"{script.stem}.json").read_text())
    rows = [table.Row(**row) for row in content["rows"]]
    assert rows and content["claim"] and content["paper"] and content["settings"]
    printed = capsys.readouterr().out
    for row in rows:
        assert f"{row.quantity}: published {row.published}, here {row.here}" in printed
    for written in (here / "results").iterdir():
        assert f"Wrote {written}\n" in printed
        assert written.suffix == ".json" or written.stat().st_size > 5_000


def test_every_script_has_a_committed_result_of_its_defaults():
    assert [record["script"] for record in RECORDS] == [script.stem for script in SCRIPTS]
    for record in RECORDS:
        assert record["rows"] and record["cpu_minutes"] <= 20  # ten minutes on two cores
        main = importlib.import_module(f"examples.reproductions.{record['script']}").main
        defaults = {name: option.default for name, option in inspect.signature(main).parameters.items()}
        for name, value in record["settings"].items():
            default = list(defaults[name]) if isinstance(defaults[name], tuple) else defaults[name]
            assert value == default or name == "device", (record["script"], name)


@pytest.mark.parametrize(
    ("page", "make"),
    [(ROOT / "docs" / "reproductions.md", table.rows_table), (table.FOLDER / "README.md", table.scripts_table)],
    ids=["docs", "folder"],
)
def test_the_tables_are_those_of_the_committed_results(page, make):
    shown = re.search(f"{table.BEGIN}(.*){table.END}", page.read_text(), re.DOTALL)[1]
    assert shown.strip() == make(RECORDS), "python examples/reproductions/table.py writes it again"


def test_a_row_that_does_not_agree_stays_in_the_table():
    rows = [table.Row("q", "1", str(here), "s", here == 1, "equal") for here in (1, 2)]
    record = {"script": "x", "claim": "c", "paper": "p", "rows": [*map(asdict, rows)], "cpu_minutes": 0.25}
    text = table.rows_table([record])
    assert "| q | 1 | 2 | **no** (equal) | s |" in text and "| q | 1 | 1 | yes (equal) | s |" in text
    assert table.scripts_table([record]).endswith("| `x.py` | c | 0.2 | 1 of 2 |")


def test_gradient_descent_ends_at_the_edge_of_stability(small_data):
    lr, data = 0.5, ll.load_dataset("digits", split="train", data_dir=small_data).subset(40, seed=0)
    run = descend(data, lr, 600, 300, hidden=20, seed=0)
    assert run.sharpness[0] < 0.6 * 2 / lr  # not there by chance
    assert run.sharpness[-1] == pytest.approx(2 / lr, rel=0.1)
    assert run.losses[-1] < 0.05 * run.losses[0]


@pytest.mark.parametrize(
    ("script", "options", "message"),
    [
        ("edge_of_stability", ["--steps", "0"], "steps is 0; it must be a whole number from 1"),
        ("edge_of_stability", ["--lrs", "0.5", "0"], "lrs is 0.0; it must be a finite number above 0"),
        ("adam_edge", ["--betas", "0.9", "1"], "betas has 1; b1 must be below 1"),
        ("class_outliers", ["--dataset", "digits", "--classes", "11"], "classes is 11; it must be"),
        ("class_outliers", ["--epochs"], "epochs is empty; give at least one value"),
        ("weight_decay_flip", ["--small", "1000"], "large is 1000; it must be a whole number from 1,001"),
        ("weight_decay_flip", ["--seed", "-1"], "seed is -1"),
        ("large_batches", ["--small", "500"], "samples is 5000; it must be a whole number from 5,010"),
        ("aligned_barrier", ["--seeds", "0", "-1"], "seeds is -1"),
        ("mode_connectivity", ["--resolution", "0"], "resolution is 0; it must be a whole number from 1"),
        ("hidden_saddles", ["--planes", "1"], "planes is 1; it must be a whole number from 2"),
        ("intrinsic_dimension", ["--dimensions", "200", "100"], "dimensions are 200, 100; they must increase"),
    ],
)  # fmt: skip
def test_what_cannot_be_measured_is_refused_in_one_line(script, options, message, small_data, here, capsys):
    assert run(f"examples/reproductions/{script}.py", *options, "--data-dir", small_data) == 2
    [line] = capsys.readouterr().err.splitlines()
    assert line.startswith(f"Error: {message}")


def test_a_subspace_moves_the_network_along_its_columns():
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2)).double()
    subspace = Subspace(network, 5, seed=1)
    start, z = torch.cat([p.flatten() for p in network.parameters()]).detach(), torch.randn(5).double()
    columns = torch.zeros(len(start), 5, dtype=torch.float64)
    rows = subspace.rows.view(5, -1)
    for k in range(5):
        columns[rows[k], k] = subspace.entries[k]
    assert rows.shape[1] == round(26**0.5) and all(len(set(row.tolist())) == rows.shape[1] for row in rows)
    torch.testing.assert_close(columns.norm(dim=0), torch.ones(5).double())
    subspace.z = nn.Parameter(z)
    moved = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2)).double()
    nn.utils.vector_to_parameters(start + columns @ z, moved.parameters())
    inputs = torch.randn(7, 3).double()
    torch.testing.assert_close(subspace(inputs), moved(inputs))
    subspace(inputs).square().sum().backward()
    moved(inputs).square().sum().backward()
    gradient = torch.cat([p.grad.flatten() for p in moved.parameters()])
    torch.testing.assert_close(subspace.z.grad, columns.T @ gradient)
    assert [*dict(subspace.named_parameters())] == ["z"]  # nothing else is trained


def test_the_intrinsic_dimension_is_interpolated():
    assert crossing((10, 20, 40), [0.5, 0.7, 0.9], 0.8) == pytest.approx(30)
    assert crossing((10, 20, 40), [0.5, 0.7, 0.9], 0.95) is None
    assert crossing((10, 20, 40), [0.5, 0.7, 0.9], 0.4) == 10


def test_the_curvatures_in_a_plane_are_those_of_the_restricted_hessian():
    model = Quadratic(10, 0.6)
    objective = ll.objective(model, torch.zeros(1, 1), loss=lambda model, batch: model(batch), device="cpu")
    first, second = torch.zeros(10), torch.zeros(10)
    first[[0, 9]], second[9] = torch.tensor([3.0, 4.0]), -2.0  # neither orthogonal nor of length 1
    plane = ll.Plane(ll.parameters_of(model), ({"theta": first}, {"theta": second}), networks=1)
    product = ll.hessian_product(objective, model)
    np.testing.assert_allclose(plane_curvatures(product, plane), [-1, 1], atol=1e-6)
    plane = ll.random_plane(model, seed=3, normalize=None, ignore=())
    basis = torch.linalg.qr(torch.stack([d["theta"].double() for d in plane.directions], 1))[0]
    expected = torch.linalg.eigvalsh(basis.T @ torch.diag(torch.tensor([1.0] * 6 + [-1.0] * 4).double()) @ basis)
    np.testing.assert_allclose(plane_curvatures(product, plane), expected, atol=1e-6)


def test_the_quadrature_has_the_value_of_a_gaussian_integral():
    for factor in (1.0, 50.0, 1e4):
        assert quadrature(1, 0, factor) == pytest.approx(factor / (factor + 1) / 2, rel=1e-6)
    assert quadrature(1, 3, 1e12) == pytest.approx(1 / 6, rel=1e-2)
    assert quadrature(3, 1, 1e4) == pytest.approx(quadrature(1, 3, 1e4))
