"""What the caller has set in torch changes no number and is as before afterwards, also with several threads."""

import contextlib
import copy
import threading

import numpy as np
import pytest
import torch
from networks import images, make
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils.data import DataLoader, TensorDataset

import landscape_lib as ll
from landscape.objective.workers import Team
from landscape.points import inner
from landscape.runtime import OwnLock, Shared, kept_random_state, own_torch_state
from landscape.training.predictions import predict


@contextlib.contextmanager
def process_wide(read, write, value):
    before = read()
    write(value)
    try:
        yield
        assert read() == value  # not changed for good
    finally:
        write(before)


def deterministic(mode):
    torch.use_deterministic_algorithms(mode)


AMBIENT = {
    "autocast": lambda: torch.autocast("cpu", dtype=torch.bfloat16),
    "inference mode": torch.inference_mode,
    "no gradients": torch.no_grad,
    "default device": lambda: torch.device("meta"),
    "fake tensors": FakeTensorMode,
    "default dtype": lambda: process_wide(torch.get_default_dtype, torch.set_default_dtype, torch.float64),
    "low precision": lambda: process_wide(
        torch.get_float32_matmul_precision, torch.set_float32_matmul_precision, "medium"
    ),
    "deterministic": lambda: process_wide(torch.are_deterministic_algorithms_enabled, deterministic, True),
    "anomaly": lambda: process_wide(torch.is_anomaly_enabled, torch.set_anomaly_enabled, True),
}
OTHER = make("mlp", 1)
POINTS = [ll.parameters_of(make("mlp", seed)) for seed in range(4)]


def numbers_of(model, data):
    """Numbers of every kind that a network has, from the first entry point to the last."""
    target, plane = ll.objective(model, data, device="cpu"), ll.random_plane(model)
    pca = ll.pca_plane(POINTS)
    product = ll.hessian_product(target, model)
    line = ll.interpolation_line(model, OTHER)
    yield target(model)
    for method in ("auto", "direct"):
        yield ll.evaluate(target, plane, resolution=(3, 2), method=method, progress=False).loss
    yield ll.evaluate(target, line, alpha_range=(0, 1), resolution=3, progress=False).loss
    yield product.matvec(np.ones(product.dimension))
    yield ll.top_eigenpairs(target, model, k=1, progress=False).values
    yield [ll.trace(target, model, seed=1, max_products=30, progress=False).value]
    for measure in ("sam", "gaussian", "keskar"):
        yield [ll.sharpness(target, model, measure).value]
    yield [found.value for found in ll.layer_sharpness(target, model, samples=2)]
    yield ll.project(POINTS, pca, target, progress=False).loss
    yield [ll.norm(POINTS[0]), ll.cosine(*POINTS[:2]), inner(*POINTS[:2])]
    yield next(iter(ll.fit_curve(target, model, OTHER, epochs=1, progress=False)(0.5).values()))
    yield next(iter(ll.align(model, OTHER).model.parameters()))
    yield next(iter(ll.model_at(model, POINTS[1]).parameters()))


@own_torch_state()
def array(values):
    return values.detach().numpy().copy() if isinstance(values, torch.Tensor) else np.array(values)


@pytest.fixture(scope="module")
def expected():
    return [array(values) for values in numbers_of(make("mlp"), images())]


@pytest.mark.parametrize("ambient", AMBIENT)
def test_no_number_depends_on_what_the_caller_has_set(ambient, expected):
    model, data = make("mlp"), images()
    with AMBIENT[ambient]():
        modes = torch._C._len_torch_function_stack(), torch._C._len_torch_dispatch_stack()
        flags = torch.is_grad_enabled(), torch.is_inference_mode_enabled(), torch.is_autocast_enabled("cpu")
        found = [array(values) for values in numbers_of(model, data)]
        assert modes == (torch._C._len_torch_function_stack(), torch._C._len_torch_dispatch_stack())
        assert flags == (torch.is_grad_enabled(), torch.is_inference_mode_enabled(), torch.is_autocast_enabled("cpu"))
    for a, b in zip(found, expected, strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("ambient", AMBIENT)
def test_training_and_predictions_do_not_depend_on_it_either(ambient):
    data, results = ll.load_dataset("moons", limit=40), []
    for surroundings in (contextlib.nullcontext, AMBIENT[ambient]):
        torch.manual_seed(0)
        model = nn.Sequential(nn.Linear(2, 8), nn.Tanh(), nn.Linear(8, 2))
        with surroundings():
            ll.fit(model, data, data, epochs=1, batch_size=8, lr=0.1, seed=1, device="cpu")
            results.append((predict(model, data), *model.parameters()))
    for a, b in zip(*results, strict=True):
        assert torch.equal(a.detach(), b.detach())


def test_networks_points_and_data_made_under_inference_mode(expected):
    with torch.inference_mode():
        model, data, point = make("mlp"), images(), ll.parameters_of(make("mlp"))
        inference_point = {name: value * 1 for name, value in point.items()}
    assert next(model.parameters()).is_inference() and data[0].is_inference()
    for values, own in zip(numbers_of(model, data), expected, strict=True):
        np.testing.assert_array_equal(array(values), own)
    target = ll.objective(model, data, device="cpu")
    np.testing.assert_array_equal(target(inference_point), expected[0])
    assert ll.hessian_product(target, inference_point).dimension == sum(p.numel() for p in model.parameters())


def test_the_state_is_put_back_when_something_raises():
    with torch.autocast("cpu"), torch.device("meta"), torch.inference_mode():
        with pytest.raises(ZeroDivisionError), own_torch_state(torch.float64, tf32=True):
            assert torch.zeros(1).device.type == "cpu" and torch.zeros(1).dtype == torch.float64
            assert not torch.is_autocast_enabled("cpu") and not torch.is_inference_mode_enabled()
            assert not torch.is_grad_enabled() and torch.get_float32_matmul_precision() == "high"
            raise ZeroDivisionError
        assert torch.is_autocast_enabled("cpu") and torch.is_inference_mode_enabled()
        assert torch.zeros(1).device.type == "meta"
    assert torch.get_default_dtype() == torch.float32 and torch.get_float32_matmul_precision() == "highest"


@pytest.mark.skipif(not hasattr(torch.backends, "fp32_precision"), reason="needs the newer interface of precisions")
def test_the_newer_interface_of_precisions_is_respected():
    read = torch._C._get_fp32_precision_getter
    pairs = [(backend, kind) for backend in ("cuda", "mkldnn") for kind in ("matmul", "conv", "rnn")]
    before = {pair: read(*pair) for pair in pairs}
    try:
        for pair in pairs:
            torch._C._set_fp32_precision_setter(*pair, "tf32")
        with own_torch_state(device=torch.device("cuda")):
            assert "tf32" not in {read(*pair) for pair in pairs}
        assert {read(*pair) for pair in pairs} == {"tf32"}
    finally:
        for pair, value in before.items():
            torch._C._set_fp32_precision_setter(*pair, value)


def in_threads(*functions):
    """Run all at once; the first exception is raised."""
    errors = []

    def run(function):
        try:
            function()
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=run, args=(function,)) for function in functions]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert not any(thread.is_alive() for thread in threads)
    if errors:
        raise errors[0]


def test_shared_state_is_undone_by_the_last_holder_and_never_waits_for_itself():
    log, state = [], {"value": "before"}

    def apply(value):
        log.append(value)
        state["value"] = value
        return lambda: state.update(value="before")

    shared, together = Shared(apply), threading.Barrier(2)

    def nested():
        with shared.held("a"):
            together.wait(10)  # both hold "a", and both need "b" inside
            with shared.held("b"):
                assert state["value"] == "b"
            assert state["value"] == "a"

    in_threads(nested, nested)
    assert state["value"] == "before" and set(log) == {"a", "b"}
    with pytest.raises(ZeroDivisionError), shared.held("a"):
        raise ZeroDivisionError
    assert state["value"] == "before"


def test_threads_that_leave_in_any_order_put_everything_back():
    entered, may_leave = threading.Event(), threading.Event()

    def first():
        with own_torch_state(tf32=True, device=torch.device("cuda")):
            entered.set()
            assert may_leave.wait(10)

    def second():
        assert entered.wait(10)
        with own_torch_state(tf32=True, device=torch.device("cuda")):
            may_leave.set()
            assert torch.get_float32_matmul_precision() == "high"

    before = torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32
    for _ in range(20):
        entered.clear(), may_leave.clear()
        in_threads(first, second)
    assert before == (torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32)


def test_one_objective_in_four_threads_gives_what_it_gives_in_one():
    model, data = make("mlp"), images()
    target, plane = ll.objective(model, data, device="cpu"), ll.random_plane(model)
    product = ll.hessian_product(target, model)
    points = [plane(a, 0.0) for a in (-1.0, 0.0, 0.5, 1.0)]
    losses = [target(point) for point in points]
    surface = ll.evaluate(target, plane, resolution=3, progress=False).loss
    column = product.matvec(np.ones(product.dimension))

    def work(index):
        for _ in range(5):
            assert torch.equal(target(points[index]), losses[index])
            np.testing.assert_array_equal(ll.evaluate(target, plane, resolution=3, progress=False).loss, surface)
            np.testing.assert_array_equal(product.matvec(np.ones(product.dimension)), column)

    threads = torch.get_num_threads()
    in_threads(*[lambda index=index: work(index) for index in range(4)])
    assert torch.get_num_threads() == threads


def test_an_evaluation_elsewhere_does_not_rewind_the_generators():
    model, data = make("mlp"), images()
    stop, drawn, failed = threading.Event(), [], []

    def evaluate():
        try:
            while not stop.is_set():
                ll.evaluate(
                    ll.objective(model, data, device="cpu"), ll.random_plane(model), resolution=3, progress=False
                )
        except BaseException as error:
            failed.append(error)

    thread = threading.Thread(target=evaluate)
    thread.start()
    for _ in range(3000):
        drawn.append((torch.rand(1).item(), np.random.rand()))
    stop.set()
    thread.join(60)
    assert not failed and not thread.is_alive()
    assert len({value for value, _ in drawn}) > 2990  # of 2^24 values, a few come twice by chance
    assert len({value for _, value in drawn}) == 3000


def test_what_the_computation_draws_itself_is_put_back_beside_other_threads():
    waiting, done = threading.Event(), threading.Event()
    thread = threading.Thread(target=lambda: (waiting.set(), done.wait(10)))
    thread.start()
    try:
        assert waiting.wait(10)
        state = torch.get_rng_state()
        with kept_random_state(draws=True):
            torch.rand(3)
        assert torch.equal(state, torch.get_rng_state())
        with kept_random_state():
            torch.rand(3)  # of another thread, for all that is known
        assert not torch.equal(state, torch.get_rng_state())
    finally:
        done.set()
        thread.join()


def test_threads_that_are_born_beside_a_team_have_all_of_torchs_threads():
    target, before, seen = ll.objective(make("mlp"), images(), device="cpu"), torch.get_num_threads(), []
    torch.set_num_threads(4)
    try:
        with Team(target) as team:
            found = team.map(lambda rank, _: torch.get_num_threads(), list(range(team.size)))
            in_threads(lambda: seen.append(torch.get_num_threads()))
        assert team.size == 4 and found == [1, 1, 1, 1] and seen == [4] and torch.get_num_threads() == 4
    finally:
        torch.set_num_threads(before)


def test_streamed_data_leave_the_generators_alone(monkeypatch):
    model, data = make("mlp"), images()
    monkeypatch.setattr("landscape.objective.samples.available_memory", lambda device: 0)
    # The runner of the tests has threads; beside threads of others the generators stay as they are.
    monkeypatch.setattr("landscape.runtime.random_state._alone", lambda: True)
    state = torch.get_rng_state()
    target = ll.objective(model, DataLoader(TensorDataset(*data), batch_size=4), device="cpu")
    ll.evaluate(target, ll.random_plane(model), resolution=3, progress=False)
    assert target.samples.tensors is None and torch.equal(state, torch.get_rng_state())


def test_an_objective_can_be_copied():
    target = ll.objective(make("mlp"), images(), device="cpu")
    again = copy.deepcopy(target)
    assert torch.equal(again(make("mlp")), target(make("mlp")))
    lock = OwnLock()
    with lock, lock:
        assert copy.deepcopy(lock) is not lock and copy.copy(lock) is not lock


def test_a_model_made_under_inference_mode_is_not_trained():
    data = ll.load_dataset("moons", limit=8)
    with torch.inference_mode():
        model = nn.Linear(2, 2)
    with pytest.raises(ll.InputError, match=r"made under torch\.inference_mode"):
        ll.fit(model, data, data, epochs=1, batch_size=4, lr=0.1, seed=1, device="cpu")
