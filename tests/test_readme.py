"""What the README and the pages of docs/ say: their examples run, their commands parse, their files exist."""

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
PAGES = {page.name: page.read_text() for page in (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")))}
EXAMPLES = {name: re.findall(r"```python\n(.*?)```", text, re.DOTALL) for name, text in PAGES.items()}
COMMANDS = sorted(set(re.findall(r"python ([a-z_]+\.py[^`&]*?)(?:`|&|\n(?!--))", "\n".join(PAGES.values()))))


@pytest.mark.slow
@pytest.mark.parametrize("page", [name for name, examples in EXAMPLES.items() if examples])
def test_the_python_examples_run(page, tmp_path, monkeypatch):
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
    torch.save(ll.LinearMNIST().state_dict(), "my.pt")
    names = {"model": ll.LinearMNIST(), "train_one_epoch": shaken, "data": ll.load_dataset("mnist-5k", limit=100)}
    if "import lightning" in "".join(EXAMPLES[page]):
        names |= for_lightning()
    if "TensorBoard" in "".join(EXAMPLES[page]):
        pytest.importorskip("tensorboard")
    for code in EXAMPLES[page]:
        exec(code, names)
    for result in names.values():
        if isinstance(result, ll.Surface):
            assert np.isfinite(result.loss).all()
        if isinstance(result, ll.results.Trajectory):
            assert np.isfinite(result.shadow_loss).all() and len(result.steps) == 5
    for path in re.findall(r'"(\w+\.png)"', "".join(EXAMPLES[page])):
        assert Path(path).stat().st_size > 10_000


def for_lightning():
    """A stand-in for a module of Lightning and its data."""
    lightning = pytest.importorskip("lightning")

    class Module(lightning.LightningModule):
        def __init__(self):
            super().__init__()
            self.net = torch.nn.Linear(4, 2)

        def training_step(self, batch, _):
            return torch.nn.functional.cross_entropy(self.net(batch[0]), batch[1])

        def configure_optimizers(self):
            return torch.optim.SGD(self.parameters(), 0.1)

    data = torch.utils.data.TensorDataset(torch.randn(40, 4), torch.arange(40) % 2)
    return {"module": Module(), "loader": torch.utils.data.DataLoader(data, batch_size=8)}


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
    for name, text in PAGES.items():
        folder = ROOT if name == "README.md" else ROOT / "docs"
        for target in re.findall(r"\]\(([^)#]+)\)", text):
            assert (folder / target).exists(), (name, target)


def test_every_measured_row_is_from_the_committed_benchmark():
    measured = "".join(path.read_text() for path in (ROOT / "benchmarks" / "results").rglob("*.md"))
    sections = (PAGES["refinement.md"].partition("## Measured")[2], PAGES["speed.md"])
    rows = [line for text in sections for line in text.splitlines() if line.startswith(("|", "A Hessian product"))]
    known = {without_targets(line) for line in measured.splitlines()}
    assert len(rows) > 20
    for row in rows:
        assert without_targets(row) in known, row


def without_targets(row):
    """The numbers of a row; what was asked, and whether it was met, belongs to the files of the benchmarks."""
    row = re.sub(r" \((asked[^)]*|[\d.]+: (\*\*)?(not )?met(\*\*)?)\)", "", row)
    row = re.sub(r" \((asked)\)", "", row)
    return re.sub(r"( \| (\*\*not met\*\*|met)?| \| ---)? ?\|$", "", row).rstrip("| ")
