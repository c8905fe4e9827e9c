"""The numbers of every part are those that were recorded: what is only moved or renamed changes none of them.

``python tests/test_golden.py`` records them anew, for a change that is meant to change numbers.
"""

import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch

FOLDER = Path(__file__).parent / "golden"
sys.path[:0] = [str(FOLDER), str(FOLDER.parents[1])]

import compute  # noqa: E402

# Relative to the largest number of a result. On the processor that recorded them the numbers agree to 1e-12 and 1e-6;
# others sum in another order, which iterations to a tolerance (eigenvectors, L-BFGS, trained curves) enlarge.
PRECISIONS = {"float64": 1e-8, "float32": 2e-3}


def computed(precision: str) -> dict[str, np.ndarray]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return compute.results(getattr(torch, precision))


@pytest.mark.parametrize("precision", PRECISIONS)
def test_numbers_are_those_that_were_recorded(precision):
    present = computed(precision)
    with np.load(FOLDER / f"{precision}.npz") as recorded:
        assert present.keys() == set(recorded.files)
        for name in recorded.files:
            scale = np.nanmax(np.abs(recorded[name]))
            np.testing.assert_allclose(
                present[name], recorded[name], rtol=0, atol=PRECISIONS[precision] * scale, err_msg=name
            )


if __name__ == "__main__":
    for precision in PRECISIONS:
        np.savez_compressed(FOLDER / f"{precision}.npz", **computed(precision))
