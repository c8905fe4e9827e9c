"""The 1,797 handwritten digits of 8 x 8 pixels that scikit-learn ships."""

from pathlib import Path

import numpy as np

from landscape.datasets.base import Data, checked_limit, from_pixels, stratified_split

__all__ = ["load_digits"]


def load_digits(split: str, data_dir: Path, limit: int | None) -> Data:
    """Digits [N, 1, 8, 8] of a fixed stratified split, 80% for training, normalised by the training images."""
    from sklearn import datasets  # a second to import, needed only here

    digits = datasets.load_digits()
    parts = stratified_split(digits.target, test_share=0.2, seed=0)
    training = digits.images[parts["train"]] / 16  # pixel values run from 0 to 16
    positions = parts[split][: checked_limit(limit, len(parts[split]), f"digits {split}")]
    return from_pixels(
        digits.images[positions, :, :, np.newaxis],
        digits.target[positions],
        scale=16,
        mean=(float(training.mean()),),
        std=(float(training.std()),),
        classes=tuple("0123456789"),
        name="digits",
        split=split,
        source="scikit-learn digits (8 x 8 pixels), fixed stratified split 80 / 20",
    )
