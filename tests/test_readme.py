"""What the README says: its example runs, its commands parse, its files exist."""

import functools
import re
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

import landscape_lib as ll

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
COMMANDS = sorted(set(re.findall(r"python ([a-z_]+\.py[^`\n&]*)", README)))


def test_the_python_examples_run(tmp_path, monkeypatch, small_data):
    monkeypatch.chdir(tmp_path)
    torch.manual_seed(0)
    ll.save_checkpoint(
        "mnist_linear_model.pth",
        ll.LinearMNIST(),
        model_name="linear-mnist",
        data={"name": "mnist-5k"},
        epoch=0,
        metrics={},
        settings={},
    )
    found = {"model": ll.LinearMNIST(), "train_one_epoch": shaken}
    for code in re.findall(r"```python\n(.*?)```", README, re.DOTALL):
        exec(code, found)
    assert Path("landscape.png").stat().st_size > 10_000
    assert found["surface"].loss.shape == (25, 25)
    assert np.isfinite(found["path"].shadow_loss).all() and len(found["path"].steps) == 5


def shaken(model):
    """A stand-in for an epoch of training."""
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.01 * torch.randn_like(parameter)


@functools.cache
def help_of(script):
    return subprocess.run([sys.executable, str(ROOT / script), "-h"], capture_output=True, text=True, check=True).stdout


@pytest.mark.parametrize("command", COMMANDS)
def test_every_option_that_the_readme_uses_is_in_the_help(command):
    script, *arguments = shlex.split(command)
    help_text = help_of(script)
    for argument in arguments:
        if argument.startswith("--"):
            assert argument in help_text


def test_every_script_at_the_top_is_in_the_readme_and_every_linked_file_exists():
    for script in ROOT.glob("*.py"):
        assert script.name in README
    for target in re.findall(r"\]\(([^)#]+)\)", README):
        assert (ROOT / target).exists(), target


def test_every_measured_row_is_from_the_committed_benchmark():
    measured = "".join(path.read_text() for path in (ROOT / "benchmarks" / "results").rglob("*.md"))
    refinement = README.partition("Measured (`benchmarks/refinement.py`")[2].partition("\n## ")[0]
    sections = (refinement, README.partition("## Speed")[2])
    rows = [line for text in sections for line in text.splitlines() if line.startswith(("|", "This toolkit"))]
    assert len(rows) > 20 and refinement
    for row in rows:
        assert row in measured
