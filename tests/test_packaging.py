"""What the installed package needs: its oldest versions are those that are tested, and extras are not imported."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
EXTRAS = {"transformers", "peft", "safetensors", "lightning", "pytorch_lightning"}
EXTRAS |= {"vtk", "h5py", "xarray", "tensorboard", "wandb"}


def versions(path, sign):
    """Package -> version, of the lines ``package<sign>version`` of a file of requirements."""
    return dict(re.findall(rf"^([\w-]+){sign}([\d.]+)$", path.read_text(), re.MULTILINE))


def test_the_oldest_versions_that_are_supported_are_those_that_are_tested():
    required, tested = versions(ROOT / "requirements.txt", ">="), versions(ROOT / "tests" / "lowest.txt", "==")
    assert len(required) == len((ROOT / "requirements.txt").read_text().splitlines())
    for package, version in required.items():
        assert tested[package] == version or tested[package] == f"{version}.0", package


@pytest.mark.parametrize("module", ["landscape_lib", "landscape.explorer", "landscape.plotting"])
def test_extras_are_not_imported_unless_they_are_used(module):
    code = f"import sys, {module}; print({EXTRAS} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
