"""Devices: choice, seeds, and the same numbers on an accelerator as on the CPU."""

import random

import numpy as np
import pytest
import torch
from networks import NETWORKS, images, make

import landscape_lib as ll
from landscape.runtime import kept_random_state, own_torch_state


def test_auto_takes_the_best_device_there_is():
    expected = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    assert ll.select_device("auto").type == expected
    assert ll.select_device("cpu") == torch.device("cpu")


@pytest.mark.parametrize(("name", "message"), [("tpu0", "unknown device"), ("cuda:99", "not available")])
def test_absent_devices_are_told(name, message):
    with pytest.raises(ll.InputError, match=message):
        ll.select_device(name)


def test_seeding_fixes_every_generator():
    draws = []
    for _ in range(2):
        ll.cli.seed_everything(3)
        draws.append((torch.rand(1).item(), np.random.rand(), random.random()))
    assert draws[0] == draws[1]


def test_the_random_state_is_kept_also_when_something_raises():
    state = torch.get_rng_state(), np.random.get_state()[1].copy(), random.getstate()
    with pytest.raises(ZeroDivisionError), kept_random_state():
        torch.rand(5), np.random.rand(5), random.random()
        raise ZeroDivisionError
    assert torch.equal(state[0], torch.get_rng_state()) and (state[1] == np.random.get_state()[1]).all()
    assert state[2] == random.getstate()


def test_the_precision_of_float32_products_is_set_and_put_back():
    before = torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32
    torch.set_float32_matmul_precision("medium")
    try:
        with own_torch_state(device=torch.device("cuda")):
            assert torch.get_float32_matmul_precision() == "highest" and not torch.backends.cudnn.allow_tf32
        assert torch.get_float32_matmul_precision() == "medium" and torch.backends.cudnn.allow_tf32 == before[1]
    finally:
        torch.set_float32_matmul_precision(before[0])


@pytest.mark.parametrize("method", ["auto", "direct"])
@pytest.mark.parametrize("name", NETWORKS)
def test_an_accelerator_gives_the_surface_of_the_cpu(name, method, accelerator):
    model, data = make(name), images(300)
    plane = ll.random_plane(model, seed=2)
    surfaces = [
        ll.evaluate(
            ll.objective(model, data, device=device), plane, method=method, resolution=(6, 4), per_sample=True,
            progress=False,
        )
        for device in ("cpu", accelerator)
    ]  # fmt: skip
    assert surfaces[1].metadata["device"] == accelerator
    assert surfaces[1].metadata["method"] == surfaces[0].metadata["method"]
    for field in ("loss", "standard_error", "per_sample"):
        cpu, other = (getattr(surface, field) for surface in surfaces)
        np.testing.assert_allclose(other, cpu, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(surfaces[1].accuracy, surfaces[0].accuracy, atol=1 / 300 + 1e-9)


@pytest.mark.parametrize("policy", ["running", "batch", "recalibrate"])
def test_batch_norm_policies_on_an_accelerator(policy, accelerator):
    model, data = make("residual"), images(64)
    plane = ll.random_plane(model)
    options = {"batch_norm": policy, "batch_size": 16}
    cpu, other = (
        ll.evaluate(ll.objective(model, data, device=device, **options), plane, resolution=3, progress=False)
        for device in ("cpu", accelerator)
    )
    np.testing.assert_allclose(other.loss, cpu.loss, rtol=1e-4)


def test_a_model_on_an_accelerator_keeps_its_device_and_gives_the_directions_of_the_cpu(accelerator):
    model = make("cnn")
    on_cpu = ll.random_plane(model, seed=4, orthogonal=True)
    model = model.to(accelerator)
    there = ll.random_plane(model, seed=4, orthogonal=True)
    for a, b in zip(on_cpu.directions, there.directions, strict=True):
        for name in a:
            assert b[name].device.type == accelerator
            torch.testing.assert_close(a[name], b[name].cpu())
    surface = ll.evaluate(ll.objective(model, images(), device=accelerator), there, resolution=3, progress=False)
    assert np.isfinite(surface.loss).all()
    assert {parameter.device.type for parameter in model.parameters()} == {accelerator}
