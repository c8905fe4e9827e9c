"""Scores of logits stored features first are those of torch's softmax and argmax."""

import pytest
import torch
import torch.nn.functional as F

from landscape.evaluation.methods.features_first import Scorer


@pytest.mark.parametrize("classes", [2, 10, 1000])
@pytest.mark.parametrize("scale", [1e-3, 1.0, 50.0, 1e4])
def test_losses_and_hits_are_those_of_torch(classes, scale):
    generator = torch.Generator().manual_seed(classes)
    logits = scale * torch.randn(3, 40, classes, generator=generator)
    targets = torch.randint(classes, (40,), generator=generator)
    losses, hits = Scorer(targets)(logits.mT.contiguous())
    expected = F.cross_entropy(logits.double().flatten(0, 1), targets.repeat(3), reduction="none").view(3, 40)
    torch.testing.assert_close(losses.double(), expected, rtol=1e-6, atol=1e-6)
    assert hits.tolist() == (logits.argmax(2) == targets).sum(1).tolist()


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("place", [0, 1])
def test_values_that_are_not_finite_are_what_torch_makes_of_them(value, place):
    logits = torch.tensor([[0.5, 2.0, -1.0], [0.25, 0.0, 3.0]])
    logits[0, place] = value
    targets = torch.tensor([1, 2])
    losses, _ = Scorer(targets)(logits.T.contiguous()[None])
    expected = F.cross_entropy(logits, targets, reduction="none")
    torch.testing.assert_close(losses[0], expected, equal_nan=True)
