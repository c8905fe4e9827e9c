"""Fixtures that several test files share."""

import gzip
import os
import shutil
import urllib.request
import warnings
from pathlib import Path
from urllib.error import URLError

import pretend_device
import pytest
import torch
from browser_tabs import BROWSERS, FLAGS

torch.set_num_threads(1)  # the networks of the tests are so small that a second thread only costs

REAL_DATA = Path(os.environ.get("LANDSCAPE_TEST_DATA") or Path(__file__).parents[2] / "shared" / "data")


def pytest_runtest_setup(item):
    if item.get_closest_marker("gpu") and not torch.cuda.is_available():
        pytest.skip("needs a CUDA device")


@pytest.fixture(scope="session")
def real_data(tmp_path_factory):
    """A data folder with all of MNIST, unpacked from the folder in LANDSCAPE_TEST_DATA, or from ../shared/data."""
    packed = sorted((REAL_DATA / "MNIST" / "raw").glob("*.gz"))
    if len(packed) < 4:
        missing = f"needs the four packed MNIST files in {REAL_DATA / 'MNIST' / 'raw'} (LANDSCAPE_TEST_DATA/MNIST/raw)"
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
def here(tmp_path, monkeypatch):
    """An empty working folder, for scripts."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(warnings, "showwarning", warnings.showwarning)  # run_script replaces it
    return tmp_path


@pytest.fixture
def clean_figures():
    """Warnings are errors, and figures of pyplot are closed afterwards."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield
    from matplotlib import pyplot  # only here: most tests draw without it

    pyplot.close("all")


@pytest.fixture
def patient_planner(monkeypatch):
    """Refinements of grids so cheap that they would be evaluated whole."""
    monkeypatch.setattr("landscape.evaluation.filling.QUICK", 0.0)
    monkeypatch.setattr("landscape.evaluation.filling.PLANNING", float("inf"))


@pytest.fixture(scope="module")
def browser():
    """Chromium; tests of pages are skipped without it, or fail where REQUIRE_BROWSER is set."""
    executable = next(filter(None, map(shutil.which, BROWSERS)), None)
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        executable = None
    if not executable:
        missing = f"needs playwright and one of {', '.join(BROWSERS)} (Debian: apt-get install chromium)"
        pytest.fail(missing) if os.environ.get("REQUIRE_BROWSER") else pytest.skip(missing)
    with sync_playwright() as playwright:
        launched = playwright.chromium.launch(executable_path=executable, args=FLAGS)
        yield launched
        launched.close()


def pytest_collection_finish(session):
    """Register the device of the tests first of all: torch counts the devices when it first takes a derivative."""
    if not pretend_device.missing() and any("accelerator" in item.fixturenames for item in session.items):
        pretend_device.register()


@pytest.fixture(params=[pytest.param("cuda", marks=pytest.mark.gpu), "pretend"])
def accelerator(request, monkeypatch):
    """The name of a device other than the CPU: a GPU, or one that exists in tests only."""
    if request.param == "pretend":
        if reason := pretend_device.missing():
            pytest.skip(reason)
        monkeypatch.setattr(pretend_device.MODULE, "in_use", True)
        monkeypatch.setattr("torch.__future__._swap_module_params_on_conversion", True)  # ties outlast `Module.to`
    return request.param
