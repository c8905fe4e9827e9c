"""Bars where they can be read, few lines elsewhere, nothing when not asked."""

import io
import subprocess
import sys
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from networks import images, make

import landscape_lib as ll
from landscape.runtime import progress
from landscape.runtime.progress import Lines, progress_bar


class Terminal(io.StringIO):
    def isatty(self):
        return True


@dataclass
class Clock:
    """A clock that stands still unless it is moved."""

    now: float = 100.0

    def perf_counter(self):
        return self.now


@pytest.fixture
def clock(monkeypatch):
    found = Clock()
    monkeypatch.setattr(progress, "time", found)
    return found


def test_a_terminal_gets_a_bar_that_moves(monkeypatch):
    monkeypatch.setattr(sys, "stderr", Terminal())
    with progress_bar(True, "points", 4, unit="points") as bar:
        for _ in range(4):
            bar.update()
    text = sys.stderr.getvalue()
    assert "\r" in text and "100%|" in text and "4 of 4 points" in text


def test_a_log_gets_few_lines_further_and_further_apart(monkeypatch, clock):
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    with progress_bar(True, "affine", 36_000, unit="points") as bar:
        for _ in range(36_000):
            clock.now += 0.125
            bar.update()
    lines = sys.stderr.getvalue().splitlines()
    assert "\r" not in sys.stderr.getvalue() and 20 < len(lines) < 60
    assert lines[0] == "affine: 80 of 36,000 points after 10 s, about 4490 s left"
    assert lines[-1] == "affine: 36,000 of 36,000 points in 4,500.0 s"


def test_a_log_counts_what_a_resumed_run_has_left(monkeypatch, clock):
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    with progress_bar(True, "Training", 100, initial=50) as bar:
        clock.now += 20
        bar.update(10)
    assert sys.stderr.getvalue().splitlines()[0] == "Training: 60 of 100 after 20 s, about 80 s left"


@pytest.mark.parametrize("options", [{"show": False}, {"show": True, "lines": False}])
def test_nothing_is_written_where_nothing_was_asked(monkeypatch, options):
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    with progress_bar(name="x", total=2, **options) as bar:
        bar.update()
    assert sys.stderr.getvalue() == ""


@pytest.mark.parametrize("stream", ["none", "closed", "no isatty", "full"])
def test_an_error_stream_that_cannot_be_written_ends_no_work(monkeypatch, stream):
    class Full(io.StringIO):
        def write(self, _):
            raise OSError(28, "No space left on device")

    class Plain:
        def write(self, _):
            pass

        def flush(self):
            pass

    closed = io.StringIO()
    closed.close()
    streams = {"none": None, "closed": closed, "no isatty": Plain(), "full": Full()}
    monkeypatch.setattr(sys, "stderr", streams[stream])
    with progress_bar(True, "x", 2) as bar:
        bar.update()


def test_an_unknown_total_is_counted(monkeypatch):
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    with progress_bar(True, "eigenpairs", None, unit="products") as bar:
        bar.update(3)
    assert isinstance(bar, Lines) and sys.stderr.getvalue().startswith("eigenpairs: 3 products in ")


def test_a_curve_does_not_depend_on_whether_its_bar_is_shown(monkeypatch):
    """The learning rate falls with the samples seen, whoever watches."""
    network = [make("mlp", seed) for seed in range(2)]
    data = images(12)
    objective = ll.objective(network[0], data)
    points = []
    for shown, stream in ((False, io.StringIO()), (True, Terminal()), (True, io.StringIO())):
        monkeypatch.setattr(sys, "stderr", stream)
        curve = ll.fit_curve(objective, *network, epochs=3, batch_size=5, lr=0.1, progress=shown)
        points.append(torch.cat([value.flatten() for value in curve(0.5).values()]).numpy())
    np.testing.assert_array_equal(points[0], points[1])
    np.testing.assert_array_equal(points[0], points[2])


NOTEBOOK = """
import torch, landscape_lib as ll
network = torch.nn.Linear(4, 2)
objective = ll.objective(network, (torch.randn(8, 4), torch.randint(0, 2, (8,))))
surface = ll.evaluate(objective, ll.random_plane(network), resolution=3, progress={shown})
pairs = ll.top_eigenpairs(objective, network, k=1, progress={shown})
"""


@pytest.mark.parametrize("shown", [True, False])
def test_a_notebook_gets_bars_when_asked(shown):
    nbclient, nbformat = pytest.importorskip("nbclient"), pytest.importorskip("nbformat")
    pytest.importorskip("ipykernel")
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(NOTEBOOK.format(shown=shown))])
    nbclient.NotebookClient(notebook, timeout=120, kernel_name="python3").execute()
    text = str(notebook.cells[0].outputs)
    assert ("of 9 points" in text) == shown and ("products |" in text) == shown


def test_a_script_without_a_terminal_writes_lines_to_its_standard_error_alone():
    code = NOTEBOOK.format(shown=True)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "" and "\r" not in done.stderr
    assert done.stderr.startswith("affine: 9 of 9 points in ")
