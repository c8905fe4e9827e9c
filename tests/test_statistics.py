"""Sums over batches against numpy: means, standard errors, weights, constants, and losses of any size."""

import numpy as np
import pytest
import torch

from landscape.evaluation.statistics import Statistics, Sums
from landscape.results.standard_errors import critical_value, effective_count, error_of_mean


def drawn(points, samples, offset=0.0, scale=1.0):
    generator = np.random.default_rng(4)
    return offset + scale * generator.gamma(2.0, size=(points, samples))


def statistics_of(losses, *, sizes, dtype=torch.float64, weights=None, shares=1, **options):
    """Of ``losses`` [K, N], added in batches of ``sizes`` that are dealt to so many shares."""
    parts = [Sums() for _ in range(shares)]
    start = 0
    for number, size in enumerate(sizes):
        piece = torch.tensor(losses[:, start : start + size], dtype=dtype)
        own = None if weights is None else torch.from_numpy(weights[start : start + size])
        parts[number % shares].add(piece, None, own)
        start += size
    assert start == losses.shape[1]
    statistics = Statistics(len(losses), losses.shape[1], per_sample=False, dtype=dtype)
    statistics.finish(torch.arange(len(losses)), Sums.merged([part for part in parts if part.count]), **options)
    return statistics


def check(statistics, losses, rtol):
    samples = losses.shape[1]
    np.testing.assert_allclose(statistics.mean, losses.mean(1), rtol=rtol)
    np.testing.assert_allclose(statistics.standard_error, losses.std(1, ddof=1) / np.sqrt(samples), rtol=rtol)


@pytest.mark.parametrize("shares", [1, 3])
@pytest.mark.parametrize("sizes", [(2,), (1, 1), (7, 5, 1, 30), (43,)])
def test_means_and_standard_errors_are_those_of_numpy(sizes, shares):
    losses = drawn(4, sum(sizes))
    check(statistics_of(losses, sizes=sizes, shares=shares), losses, 1e-12)


def test_a_small_spread_about_a_large_loss_keeps_its_digits():
    losses = drawn(3, 60, offset=1e6)
    check(statistics_of(losses, sizes=(20, 20, 20), shares=2), losses, 1e-9)


@pytest.mark.parametrize("sign", [1, -1])
def test_losses_whose_squares_exceed_float32_have_a_finite_standard_error(sign):
    losses = sign * drawn(3, 40, scale=1e25)
    check(statistics_of(losses, sizes=(25, 15), dtype=torch.float32), losses, 1e-5)


def test_a_single_sample_has_no_standard_error():
    statistics = statistics_of(drawn(2, 1), sizes=(1,))
    assert np.isnan(statistics.standard_error).all() and np.isfinite(statistics.mean).all()


def test_samples_of_weight_zero_do_not_count_even_if_their_losses_are_not_finite():
    losses, weights = drawn(3, 30), np.random.default_rng(1).random(30)
    weights[[0, 12, 29]] = 0
    weights /= weights.mean()
    expected = (losses * weights).mean(1)
    spread = np.sqrt(((weights * (losses - expected[:, None])) ** 2).sum(1) / 29 / 30)
    losses[:, 12], losses[1, 0], losses[2, 29] = np.nan, np.inf, -np.inf
    found = statistics_of(losses, sizes=(13, 9, 8), weights=weights, shares=2)
    np.testing.assert_allclose(found.mean, expected, rtol=1e-12)
    np.testing.assert_allclose(found.standard_error, spread, rtol=1e-10)


def test_losses_that_are_not_finite_stay_so_at_their_point_alone():
    losses = drawn(3, 20)
    losses[0, 3], losses[1, 17] = np.nan, np.inf
    found = statistics_of(losses, sizes=(10, 10))
    assert np.isnan(found.mean[0]) and found.mean[1] == np.inf
    check(statistics_of(losses[2:], sizes=(10, 10)), losses[2:], 1e-12)
    assert found.mean[2] == pytest.approx(losses[2].mean(), rel=1e-12)


def test_a_constant_is_added_to_the_loss_of_every_sample_and_to_no_error():
    losses, constant = drawn(2, 8), torch.tensor([0.5, 3.0], dtype=torch.float64)
    statistics = Statistics(5, 8, per_sample=True, dtype=torch.float64, names=("regularizer",))
    block, sums = torch.tensor([3, 1]), Sums()
    statistics.keep(block, 0, torch.from_numpy(losses))
    sums.add(torch.from_numpy(losses).clone(), torch.tensor([4.0, 6.0]))
    statistics.finish(block, sums, constant)
    shifted = losses + constant.numpy()[:, None]
    np.testing.assert_allclose(statistics.mean[[3, 1]], shifted.mean(1), rtol=1e-12)
    np.testing.assert_allclose(statistics.losses[[3, 1]], shifted, rtol=1e-12)
    np.testing.assert_allclose(statistics.standard_error[[3, 1]], losses.std(1, ddof=1) / np.sqrt(8), rtol=1e-12)
    np.testing.assert_allclose(statistics.quantities["regularizer"][[3, 1]], constant, rtol=1e-12)
    np.testing.assert_allclose(statistics.accuracy[[3, 1]], [0.5, 0.75])
    assert statistics.finished.tolist() == [False, True, False, True, False] and statistics.mean[0] == 0
    np.testing.assert_allclose(statistics.values(np.array([1])), np.hstack([shifted.mean(1)[1:, None], shifted[1:]]))


def test_single_losses_are_kept_only_where_they_are_asked_for():
    statistics = Statistics(2, 3, per_sample=False, dtype=torch.float32)
    assert statistics.losses is None and statistics.values(np.array([0])).shape == (1, 1)


@pytest.mark.parametrize("count", [2, 3, 4, 8, 60])
def test_few_samples_reject_the_true_mean_as_rarely_as_many(count):
    values = np.random.default_rng(count).normal(0.7, 3.0, size=(20_000, count))
    errors = np.array([error_of_mean(row) for row in values])
    away = abs(values.mean(1) - 0.7)
    # Two standard deviations of a normal distribution hold 95.45 %; four binomial ones of 20,000 trials are 0.6 %.
    assert np.mean(away <= critical_value(count) * errors) == pytest.approx(0.9545, abs=0.006)
    assert count > 8 or np.mean(away <= 2 * errors) < 0.92  # which two standard errors of few samples do not hold


def test_the_critical_value_of_many_samples_is_two_and_of_a_single_one_infinite():
    assert critical_value(10**8) == pytest.approx(2, abs=1e-6) and critical_value(1) == np.inf
    assert effective_count(np.full(7, 3.0)) == pytest.approx(7) and effective_count(np.array([1.0, 0.0])) == 1


def test_weights_leave_fewer_samples_to_a_verdict():
    generator = np.random.default_rng(2)
    inside = {"effective": 0, "all": 0}
    for _ in range(4000):
        weights = generator.choice([0.1, 4.0], size=12, p=[0.75, 0.25])
        weights /= weights.mean()
        values = weights * generator.normal(size=12)
        away = abs(values.mean())
        error = error_of_mean(values, weights)
        for name, count in (("effective", effective_count(weights)), ("all", 12)):
            inside[name] += away <= critical_value(count) * error
    assert inside["effective"] / 4000 == pytest.approx(0.9545, abs=0.025) and inside["all"] / 4000 < 0.8
