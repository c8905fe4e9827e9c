"""Products with the samples of a batch, on both ways that they are computed, beside float64."""

import pytest
import torch
import torch.nn.functional as F

from landscape.evaluation.methods.products import linear


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("shape", [(1000, 70), (256, 300), (263, 300), (3, 7, 19, 200), (10, 70), (300, 2)])
@pytest.mark.parametrize("threads", [1, 2])
def test_a_product_is_that_of_float64(shape, bias, threads):
    torch.manual_seed(0)
    inputs, weight, shift = torch.randn(shape), torch.randn(30, shape[-1]), torch.randn(30) if bias else None
    expected = F.linear(inputs.double(), weight.double(), None if shift is None else shift.double())
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(threads)
        found = linear(inputs, weight, shift)
    finally:
        torch.set_num_threads(before)
    assert found.is_contiguous()
    torch.testing.assert_close(found.double(), expected, rtol=1e-5, atol=1e-4)
    assert torch.equal(linear(inputs.double(), weight.double(), None if shift is None else shift.double()), expected)


def test_a_product_of_rows_that_do_not_lie_side_by_side():
    inputs, weight = torch.randn(300, 512), torch.randn(32, 256)
    torch.testing.assert_close(linear(inputs[:, ::2], weight), inputs[:, ::2] @ weight.T, rtol=1e-5, atol=1e-4)
