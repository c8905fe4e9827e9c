"""What objects say of themselves: one line where they are printed, facts and a picture in a notebook."""

import base64
import re
import subprocess
import sys
import tempfile
from dataclasses import replace
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
import torch
from matplotlib.image import imread
from surfaces import METADATA, line, plane, with_gap
from torch import nn

import landscape_lib as ll
from landscape.presenting import Pictured, Presented
from landscape.results import Barrier, Eigenpairs, Sharpness, SpectralDensity, TraceEstimate, Trajectory

HOSTILE = '</table><script>alert("$1$")</script>\n' + "long " * 100
OF = {"operator": "hessian", "data": {"name": "mnist", "split": "train", "size": 60_000}}


def network():
    return nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3), nn.Linear(3, 2))


def trajectory(metadata):
    t = np.linspace(0, 1, 3)
    return Trajectory(np.arange(3), np.stack([t, t], 1), t, t, 2 - t, 2 - t, metadata)


def eigenpairs(values=(3.0, -1.0), metadata=OF):
    values = np.array(values)
    return Eigenpairs(values, np.full(2, 1e-4), np.array([True, False]), np.eye(2, 5, dtype=np.float32), 12, metadata)


def sharpness(value=0.25, **changes):
    fields = {"standard_error": 0.01, "converged": None, "radius": 0.05, "definition": "", "source": "", "loss": 1.5}
    fields |= {"losses": (1.7, 1.8), "samples": 2, "steps": None, "seed": 0}
    return Sharpness("average", value, **{**fields, **changes})


def density(nodes):
    return SpectralDensity(np.array(nodes), np.full(np.shape(nodes), 0.5), 4, OF)


def barrier(values):
    x = np.linspace(0, 1, len(values))
    return Barrier.of(replace(line(), alphas=x, loss=np.array(values), standard_error=0 * x, accuracy=None))


def trace(value, error=0.5):
    return TraceEstimate(value, error, 4, True, np.array([value] * 4), OF)


def data():
    inputs, targets = torch.randn(6, 4), torch.tensor([0, 1] * 3)
    return ll.Data(inputs, targets, ("a", "b"), "mnist", "train", "drawn", (0.0,), (1.0,), torch.arange(6))


def checkpoint(name="mlp"):
    metadata = {"model": {"name": name}, "data": {"name": name, "split": "train"}, "epoch": 3}
    return ll.Checkpoint(network(), metadata, Path("folder") / "model.pth", "0123456789abcdef" * 4)


def alignment():
    return ll.results.Alignment(network(), {"hidden": np.array([0, 2, 1])}, 1e-15, 2, True, "weights")


def recorder():
    made = ll.TrajectoryRecorder(Path(tempfile.mkdtemp()) / "run.points", every=2)
    for step in range(5):
        made.record(network(), step=step)
    return made


RESULTS = {
    "surface": lambda: plane(),
    "surface with NaN": with_gap,
    "line": line,
    "trajectory": lambda: trajectory(OF),
    "barrier": lambda: barrier([1.0, 3.0, 2.0]),
    "eigenpairs": eigenpairs,
    "trace": lambda: trace(12.0),
    "density": lambda: density([[1.0, 2.0]] * 2),
    "sharpness": sharpness,
    "connectivity": lambda: ll.results.Connectivity({"unaligned": barrier([1.0, 3.0, 2.0])}, {}, None),
}
OTHERS = {
    "objective": lambda: ll.objective(network(), (torch.randn(6, 4), torch.tensor([0, 1] * 3))),
    "plane": lambda: ll.random_plane(network()),
    "line": lambda: ll.interpolation_line(network(), network()),
    "data": data,
    "checkpoint": checkpoint,
    "alignment": alignment,
    "weighted": lambda: ll.Weighted(torch.ones(3), torch.ones(3)),
    "permutation test": lambda: ll.permutation_test(plane(), permutations=9),
    "recorder": recorder,
    "recorded points": lambda: ll.RecordedPoints(recorder().path),
}
EXTREME = {
    "huge surface": lambda: replace(plane(), loss=np.where(plane().loss > 1, 1.23456789e308, -1e-308)),
    "surface of NaN": lambda: replace(plane(), loss=np.full(plane().shape, np.nan)),
    "barrier of NaN": lambda: barrier([1.0, np.nan, 2.0]),
    "NaN eigenvalues": lambda: eigenpairs((np.nan, np.inf)),
    "huge eigenvalues": lambda: eigenpairs((1.23456789e300, -1.23456789e-300)),
    "NaN trace": lambda: trace(np.nan, np.nan),
    "huge trace": lambda: trace(-1.23456789e300, 1e300),
    "NaN sharpness": lambda: sharpness(np.inf, standard_error=np.nan),
    "huge density": lambda: density([[-1.23456789e30, 1.23456789e300]]),
    "hostile checkpoint": lambda: checkpoint(HOSTILE),
    "hostile surface": lambda: plane(metadata={**METADATA, "data": {"name": HOSTILE, "size": 10**15}}),
    "hostile trajectory": lambda: trajectory({"name": HOSTILE, "unit": HOSTILE}),
    "hostile slice": lambda: ll.Line({"w": torch.ones(2)}, ({"w": torch.ones(2)},), {"kind": HOSTILE}),
    "metadata of other forms": lambda: plane(metadata={"data": "mnist"}),
}


@pytest.mark.parametrize("make", [*RESULTS.values(), *OTHERS.values(), *EXTREME.values()])
def test_repr_is_one_informative_line_without_arrays(make):
    text = repr(make())
    assert re.fullmatch(r"\w+\(.+\)", text) and len(text) < 200
    assert "array(" not in text and "tensor(" not in text and text.isprintable()


def test_the_lines_say_sizes_and_main_numbers():
    surface = plane()
    i, j = surface.centre
    assert repr(surface).startswith("Surface(points 7 x 6, loss ")
    assert f"at the centre {surface.loss[i, j]:.4g}" in repr(surface) and "mnist train" in repr(surface)
    assert "not finite 2 of 42" not in repr(surface) and "not finite" in repr(with_gap())
    assert repr(trace(12.0)) == (
        "TraceEstimate(value 12 ± 0.5, samples 4, products 4, converged yes, matrix hessian, "
        "of mnist train, 60,000 samples)"
    )
    assert "values -1 to 3 (2 of 5)" in repr(eigenpairs()) and "converged 1 of 2" in repr(eigenpairs())
    assert repr(barrier([1.0, 3.0, 2.0])).startswith("Barrier(value 1.5, at 0.5, above the larger end 1, ")
    assert repr(sharpness()).startswith("Sharpness(average 0.25 ± 0.01, radius 0.05, loss 1.5")
    assert repr(OTHERS["objective"]()) == (
        "Objective(model Sequential, parameters 29, samples 6, loss cross_entropy, dtype float32, device "
        f"{ll.objective(network(), data()).device})"
    )
    assert "Recorder(points 3, last step 4, every 2, file " in repr(recorder())
    assert "Points(points 3, steps 0 to 4, parameters 29, file " in repr(OTHERS["recorded points"]())
    assert repr(OTHERS["weighted"]()) == "Weighted(values [3] float32, weights [3] float32)"
    assert re.fullmatch(
        r"NullTest\(basins \d+, after permutations \d+ to \d+ \(9 permutations\), p-value \S+\)",
        repr(OTHERS["permutation test"]()),
    )
    assert repr(data()) == "Data(name mnist, split train, samples 6, shape 4, classes 2, source drawn)"
    assert "units moved 2 of 3, groups 1, " in repr(alignment())
    assert repr(checkpoint()).startswith(
        "Checkpoint(model mlp, parameters 29, epoch 3, trained on mlp train, file model"
    )


def picture(html):
    return imread(BytesIO(base64.b64decode(re.search(r'<img alt="\w+" src="data:image/png;base64,(.*?)">', html)[1])))


@pytest.mark.parametrize("make", RESULTS.values(), ids=RESULTS)
def test_results_show_facts_and_a_picture_that_no_figure_of_pyplot_holds(make):
    import matplotlib.pyplot as plt

    before = plt.get_fignums()
    result = make()
    html = result._repr_html_()
    assert plt.get_fignums() == before
    assert np.ptp(picture(html)) > 0.5 and len(html) < 200_000
    for name, text in result.facts.items():
        assert not text or (f"<th>{name}</th>" in html and f"<td>{text}</td>" in html)


@pytest.mark.parametrize("make", [*OTHERS.values(), *EXTREME.values()], ids=[*OTHERS, *EXTREME])
@pytest.mark.filterwarnings("ignore::RuntimeWarning", "ignore::UserWarning")
def test_whatever_is_inside_no_text_becomes_markup(make):
    html = make()._repr_html_()
    assert html.count("<table>") == html.count("</table>") == 1 and "<script" not in html


def test_results_load_neither_torch_nor_matplotlib():
    code = "import sys, landscape.results; print({'torch', 'matplotlib'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


def test_what_says_no_facts_or_draws_no_picture_cannot_be_made():
    class Silent(Presented):
        pass

    class Undrawn(Pictured):
        facts = {}  # noqa: RUF012

    for kind, missing in ((Silent, "facts"), (Undrawn, "draw")):
        with pytest.raises(TypeError, match=f"abstract.*{missing}"):
            kind()
