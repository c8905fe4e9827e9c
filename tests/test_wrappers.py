"""Networks inside the wrappers of other packages: names, points and checkpoints are those of what is inside."""

import copy
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.distributed as dist
from networks import images, make
from torch import nn
from torch.distributed.algorithms._checkpoint.checkpoint_wrapper import apply_activation_checkpointing
from torch.distributed.fsdp import FullyShardedDataParallel
from torch.distributed.fsdp.wrap import ModuleWrapPolicy
from torch.nn.parallel import DistributedDataParallel
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

import landscape_lib as ll

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def one_process(tmp_path_factory):
    """A process group of this process alone."""
    store = tmp_path_factory.mktemp("store") / "store"
    dist.init_process_group("gloo", init_method=f"file://{store}", rank=0, world_size=1)
    yield
    dist.destroy_process_group()


def checkpointed(model):
    apply_activation_checkpointing(model, check_fn=lambda module: isinstance(module, nn.Linear))
    return model


def prepared(model):
    return pytest.importorskip("accelerate").Accelerator(cpu=True).prepare(model)


def hooked(model):
    return pytest.importorskip("accelerate").dispatch_model(model, device_map={"": "cpu"}, force_hooks=True)


def set_up(model):
    return pytest.importorskip("lightning").Fabric(accelerator="cpu").setup(model)


WRAPPERS = {
    "ddp": DistributedDataParallel,
    "ddp of compiled": lambda model: DistributedDataParallel(torch.compile(model, backend="eager")),
    "compiled ddp": lambda model: torch.compile(DistributedDataParallel(model), backend="eager"),
    "fsdp": lambda model: FullyShardedDataParallel(model, use_orig_params=True, device_id=CPU),
    "nested fsdp": lambda model: FullyShardedDataParallel(
        model, use_orig_params=True, device_id=CPU, auto_wrap_policy=ModuleWrapPolicy([nn.Linear])
    ),
    "checkpointed parts": checkpointed,
    "moving average": lambda model: AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(0.9)),
    "prepared by accelerate": prepared,
    "hooks of accelerate": hooked,
    "fabric": set_up,
}


@pytest.mark.parametrize("name", WRAPPERS)
@pytest.mark.filterwarnings("ignore")  # torch deprecates FSDP1
def test_a_wrapped_network_is_what_is_inside(name, one_process, tmp_path):
    plain, data = make("mlp"), images()
    wrapped = WRAPPERS[name](copy.deepcopy(plain)).eval()
    point = ll.parameters_of(wrapped)
    assert list(point) == [key for key, _ in plain.named_parameters()]
    target, reference = (ll.objective(model, data, device="cpu") for model in (wrapped, plain))
    planes = [ll.random_plane(model, seed=3) for model in (wrapped, plain)]
    assert planes[0].fingerprint == planes[1].fingerprint
    surfaces = [
        ll.evaluate(one, plane, resolution=3, progress=False).loss for one in (target, reference) for plane in planes
    ]
    assert all(abs(surface - surfaces[0]).max() < 1e-6 for surface in surfaces)
    chosen = ll.random_plane(wrapped, parameters=("5.*",))
    assert ll.evaluate(target, chosen, resolution=3, progress=False).loss.std() > 0
    products = [
        ll.hessian_product(one, model, parameters=("5.*",)) for one, model in ((target, wrapped), (reference, plain))
    ]
    vector = torch.ones(products[0].dimension).numpy()
    assert abs(products[0].matvec(vector) - products[1].matvec(vector)).max() < 1e-6
    assert ll.barrier(target, wrapped, plain, resolution=3, progress=False).value == pytest.approx(0, abs=1e-6)
    moved = ll.model_at(wrapped, planes[1](0.5, 0.5))
    assert torch.equal(moved[5].weight, planes[1](0.5, 0.5)["5.weight"])
    ll.TrajectoryRecorder(tmp_path / "run.points").record(wrapped)
    assert all(torch.equal(ll.RecordedPoints(tmp_path / "run.points")[0][key], value) for key, value in point.items())
    settings = {"model_name": "mlp", "data": {"name": "digits"}, "epoch": 0, "metrics": {}, "settings": {}}
    ll.save_checkpoint(tmp_path / "wrapped.pth", wrapped, **settings)
    state = torch.load(tmp_path / "wrapped.pth", weights_only=True)
    assert any(isinstance(part, dict) and list(part) == list(plain.state_dict()) for part in state.values())


@pytest.mark.filterwarnings("ignore")
def test_what_has_no_parameters_of_its_own_is_refused(one_process):
    flat = FullyShardedDataParallel(make("mlp"), device_id=CPU)
    with pytest.raises(ll.InputError, match="wrap it with use_orig_params=True"):
        ll.objective(flat, images())
    with pytest.raises(ll.InputError, match="wrap it with use_orig_params=True"):
        ll.random_plane(flat)
    accelerate = pytest.importorskip("accelerate")
    with pytest.raises(
        ll.InputError, match=r"'1\.weight' is on the meta device and has no values; load the model's we"
    ):
        ll.objective(accelerate.cpu_offload(make("mlp")), images())


@pytest.mark.parametrize("how", [{}, {"copy": False, "dtype": None}])
def test_networks_dispatched_by_accelerate_are_their_own(how):
    accelerate = pytest.importorskip("accelerate")
    model, data = make("mlp"), images()
    expected = ll.evaluate(
        ll.objective(model, data, device="cpu"), ll.random_plane(model, seed=3), resolution=3, progress=False
    )
    places = {name: "cpu" for name, _ in model.named_children()}
    dispatched = accelerate.dispatch_model(make("mlp"), places, main_device="cpu", force_hooks=True)
    before = {name: value.clone() for name, value in dispatched.state_dict().items()}
    objective = ll.objective(dispatched, data, device="cpu", **how)
    surface = ll.evaluate(objective, ll.random_plane(dispatched, seed=3), resolution=3, progress=False)
    np.testing.assert_allclose(surface.loss, expected.loss, rtol=1e-6)
    assert all(torch.equal(value, before[name]) for name, value in dispatched.state_dict().items())
    assert any(hasattr(module, "_hf_hook") for module in dispatched.modules())


def test_networks_offloaded_to_disk_are_refused_by_name(tmp_path):
    accelerate = pytest.importorskip("accelerate")
    model = accelerate.disk_offload(make("mlp"), tmp_path, execution_device=CPU)
    for work in (ll.random_plane, ll.parameters_of, lambda net: ll.objective(net, images(), copy=False, dtype=None)):
        with pytest.raises(ll.InputError, match="is on the meta device and has no values; load the model's weights"):
            work(model)


SHARDED = """
import sys
import torch
import torch.distributed as dist
from torch.distributed.fsdp import FullyShardedDataParallel
import landscape_lib as ll

rank, store = int(sys.argv[1]), sys.argv[2]
dist.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=2)
model = FullyShardedDataParallel(torch.nn.Linear(4, 3), use_orig_params=True, device_id=torch.device("cpu"))
for work in (ll.parameters_of, ll.random_plane, lambda m: ll.objective(m, (torch.zeros(2, 4), torch.zeros(2).long()))):
    try:
        work(model)
    except ll.InputError as error:
        assert "sharded over several processes; gather the whole model first" in str(error), error
    else:
        raise AssertionError("nothing was refused")
dist.destroy_process_group()
"""


def test_a_network_in_shards_is_refused_on_every_rank(tmp_path):
    command = [sys.executable, "-W", "ignore", "-c", SHARDED]
    ranks = [
        subprocess.Popen([*command, str(rank), str(tmp_path / "store")], cwd=Path(__file__).parents[1])
        for rank in range(2)
    ]
    assert [process.wait(timeout=180) for process in ranks] == [0, 0]


def test_modules_of_lightning_are_networks():
    lightning = pytest.importorskip("lightning")

    class Module(lightning.LightningModule):
        def __init__(self, net):
            super().__init__()
            self.net = net

        def forward(self, x):
            return self.net(x)

        def training_step(self, batch, _):
            return nn.functional.cross_entropy(self(batch[0]), batch[1])

        def configure_optimizers(self):
            return torch.optim.SGD(self.parameters(), 0.01)

    inputs, targets = images()
    module = Module(make("mlp"))
    loader = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(inputs, targets), batch_size=5)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        trainer = lightning.Trainer(
            max_steps=3, accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False,
            enable_model_summary=False,
        )  # fmt: skip
        trainer.fit(module, loader)
    before = {name: value.clone() for name, value in module.state_dict().items()}
    surfaces = [
        ll.evaluate(ll.objective(model, (inputs, targets), device="cpu", **how), plane, resolution=3, progress=False)
        for model, plane, how in (
            (module, ll.random_plane(module), {}),
            (module, ll.random_plane(module), {"loss": lambda net, batch: net.training_step(batch, 0)}),
            (module.net, ll.random_plane(module.net), {}),
        )
    ]
    assert all(abs(surface.loss - surfaces[2].loss).max() < 1e-6 for surface in surfaces)
    assert all(torch.equal(value, before[name]) for name, value in module.state_dict().items())
    assert module.trainer is trainer
