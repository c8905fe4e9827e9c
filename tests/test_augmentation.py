"""Crops and mirror images against the same written as loops over single images."""

import pytest
import torch

from landscape.datasets import Data
from landscape.errors import InputError
from landscape.training.augmentation import Augmentation


def data(shape=(7, 2, 16, 25)) -> Data:
    inputs = torch.arange(1, 1 + torch.Size(shape).numel(), dtype=torch.float32).reshape(shape)
    fields = {"classes": tuple("ab"), "name": "toy", "split": "train", "source": "made here", "indices": None}
    return Data(inputs, torch.zeros(shape[0], dtype=torch.int64), mean=(0.5, 0.2), std=(0.25, 0.4), **fields)


def crops(image, flip):
    """Every image [2, 16, 25] that a crop may give: shifts by up to 2 rows and 3 columns into black."""
    found = {}
    for mirrored in (False, True) if flip else (False,):
        for down in range(-2, 3):
            for right in range(-3, 4):
                crop = torch.tensor([-2.0, -0.5])[:, None, None].expand(2, 16, 25).clone()  # black, normalised
                for row in range(16):
                    for column in range(25):
                        if 0 <= row + down < 16 and 0 <= column + right < 25:
                            crop[:, row, column] = image[:, row + down, column + right]
                found[mirrored, down, right] = crop.flip(2) if mirrored else crop
    return found


@pytest.mark.parametrize("kind", ["crop", "crop-flip"])
def test_every_image_is_one_of_its_crops_and_all_occur(kind):
    source, seen = data((1, 2, 16, 25)), set()
    allowed = crops(source.inputs[0], kind == "crop-flip")
    augment = Augmentation(kind, source, torch.Generator().manual_seed(0))
    for image in augment(source.inputs.expand(600, -1, -1, -1)):
        (match,) = [key for key, crop in allowed.items() if torch.equal(crop, image)]
        seen.add(match)
    assert seen == set(allowed)


def test_the_images_of_a_batch_keep_their_order_and_the_seed_decides():
    source = data()

    def augmented(seed):
        return Augmentation("crop", source, torch.Generator().manual_seed(seed))(source.inputs)

    assert torch.equal(augmented(0), augmented(0)) and not torch.equal(augmented(0), augmented(1))
    assert augmented(0).is_contiguous(memory_format=torch.channels_last)
    for before, after in zip(source.inputs, augmented(0), strict=True):
        centre = after[:, 4:12, 6:19]  # never reaches the border
        assert before.min() <= centre.min() and centre.max() <= before.max()


def test_data_that_are_no_images_are_refused():
    with pytest.raises(InputError, match="augment crop needs images, which toy does not contain"):
        Augmentation("crop", data((7, 2)), torch.Generator())
