"""The reproductions of published results: every script runs at toy size, and the pages show the committed results."""

import json
import re
import shlex
from dataclasses import asdict

import pytest
from scripts import ROOT, run

import landscape_lib as ll
from examples.reproductions import table
from examples.reproductions.edge_of_stability import descend

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
    for figure in (here / "results").glob("*.png"):
        assert f"Wrote {figure}" in printed and figure.stat().st_size > 5_000


def test_every_script_has_a_committed_result_of_its_defaults():
    assert [record["script"] for record in RECORDS] == [script.stem for script in SCRIPTS]
    for record in RECORDS:
        assert record["rows"] and record["cpu_minutes"] <= 20  # ten minutes on two cores


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
        ("large_batch_sharpness", ["--small", "500"], "samples is 5000; it must be a whole number from 5,010"),
    ],
)  # fmt: skip
def test_what_cannot_be_measured_is_refused_in_one_line(script, options, message, small_data, here, capsys):
    assert run(f"examples/reproductions/{script}.py", *options, "--data-dir", small_data) == 2
    [line] = capsys.readouterr().err.splitlines()
    assert line.startswith(f"Error: {message}")
