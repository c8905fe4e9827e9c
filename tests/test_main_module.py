"""`python -m landscape` tells what a bug report needs."""

import importlib.metadata
import subprocess
import sys
from pathlib import Path

import torch

import landscape_lib as ll


def test_it_tells_versions_devices_and_data(tmp_path):
    root = Path(__file__).parents[1]
    (tmp_path / "data" / "MNIST" / "raw").mkdir(parents=True)  # as a download that failed leaves it
    (tmp_path / "data" / "cifar").mkdir()
    (tmp_path / "data" / "cifar" / "images").touch()
    command = [sys.executable, "-c", f"import sys; sys.path.insert(0, {str(root)!r}); import runpy; "
               "runpy.run_module('landscape', run_name='__main__')"]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=tmp_path)
    assert done.stderr == ""
    assert ll.__version__ in done.stdout and f"torch {torch.__version__.split('+')[0]}" in done.stdout
    assert f"numpy {importlib.metadata.version('numpy')}" in done.stdout
    assert "  cpu: " in done.stdout and done.stdout.rstrip().endswith("holds MNIST (no files), cifar")
