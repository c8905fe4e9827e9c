"""Fixtures that several test files share."""

import gzip
import os
import shutil
import sys
import urllib.request
import warnings
from pathlib import Path
from urllib.error import URLError

import pytest
import torch

torch.set_num_threads(1)  # the networks of the tests are so small that a second thread only costs

SHARED = Path(__file__).parents[2] / "shared" / "data"


@pytest.fixture(scope="session")
def real_data(tmp_path_factory):
    """A data folder with all of MNIST, unpacked from ../shared/data beside the repository."""
    packed = sorted((SHARED / "MNIST" / "raw").glob("*.gz"))
    if len(packed) < 4:
        missing = f"needs the four packed MNIST files in {SHARED / 'MNIST' / 'raw'}"
        pytest.fail(missing) if os.environ.get("CI") else pytest.skip(missing)
    folder = tmp_path_factory.mktemp("real_data")
    (folder / "MNIST" / "raw").mkdir(parents=True)
    for file in packed:
        with gzip.open(file) as source, (folder / "MNIST" / "raw" / file.stem).open("wb") as target:
            shutil.copyfileobj(source, target)
    return folder


@pytest.fixture(scope="session")
def small_data(tmp_path_factory):
    """A data folder without MNIST, where the decoded mnist-5k stays cached between tests."""
    return tmp_path_factory.mktemp("small_data")


@pytest.fixture
def offline(monkeypatch):
    """No network, whatever the machine has."""

    def refuse(*_, **__):
        raise URLError("offline for this test")

    monkeypatch.setattr(urllib.request, "urlopen", refuse)


@pytest.fixture
def clean_figures():
    """Warnings are errors, and no pyplot figure is left."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield
    if "matplotlib.pyplot" in sys.modules:
        sys.modules["matplotlib.pyplot"].close("all")


@pytest.fixture
def patient_planner(monkeypatch):
    """Refinements of grids so cheap that they would be evaluated whole."""
    monkeypatch.setattr("landscape.evaluation.filling.QUICK", 0.0)
    monkeypatch.setattr("landscape.evaluation.filling.PLANNING", float("inf"))
