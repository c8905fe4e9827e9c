"""One of several processes that look at networks in shards together: `python sharded_ranks.py RANK SIZE FOLDER`.

Every function whose name begins with "case_" is run; its result, or the text of its exception, goes into FOLDER.
"""

import copy
import hashlib
import os
import pickle
import signal
import sys
import warnings
from datetime import timedelta
from pathlib import Path

import torch
from torch import distributed, nn
from torch.nn import functional as F

import landscape_lib as ll
from landscape.points import cosine, flatten, norm
from landscape.runtime.shards import own_shard, whole

RANGES = {"alpha_range": (-1, 0.5), "beta_range": (-0.5, 1)}
GRID = {**RANGES, "resolution": (3, 4), "progress": False}


def network():
    """Sizes that two processes cannot share evenly."""
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, 5), nn.Tanh(), nn.Linear(5, 7), nn.LayerNorm(7), nn.Linear(7, 3)).eval()


def data(samples=29):
    generator = torch.Generator().manual_seed(1)
    return torch.randn(samples, 6, generator=generator), torch.randint(0, 3, (samples,), generator=generator)


class Tied(nn.Module):
    """A language model whose head is its embedding, with a frozen block."""

    def __init__(self, vocabulary=11, width=6):
        super().__init__()
        torch.manual_seed(0)
        self.embed, self.norm = nn.Embedding(vocabulary, width), nn.LayerNorm(width)
        self.blocks = nn.ModuleList([nn.Linear(width, width) for _ in range(2)])
        self.head = nn.Linear(width, vocabulary, bias=False)
        self.head.weight = self.embed.weight
        self.blocks[0].requires_grad_(False)

    def forward(self, input_ids):
        hidden = self.embed(input_ids)
        for block in self.blocks:
            hidden = hidden + torch.tanh(block(hidden)).cumsum(1)
        return self.head(self.norm(hidden))


def tokens():
    ids = torch.randint(0, 11, (9, 5), generator=torch.Generator().manual_seed(2))
    labels = ids.clone()
    labels[:4, 3:] = -100
    return {"input_ids": ids, "labels": labels}


class Normed(nn.Module):
    """A network with BatchNorm."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.first, self.norm, self.last = nn.Linear(6, 5), nn.BatchNorm1d(5), nn.Linear(5, 3)
        self.norm.running_mean.normal_()
        self.norm.running_var.uniform_(0.5, 2)
        self.eval()

    def forward(self, x):
        return self.last(torch.relu(self.norm(self.first(x))))


class Adapted(nn.Module):
    """A frozen layer with an adapter of rank 2."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.base = nn.Linear(6, 3).requires_grad_(False)
        self.lora_a, self.lora_b = nn.Linear(6, 2, bias=False), nn.Linear(2, 3, bias=False)

    def forward(self, x):
        return self.base(x) + self.lora_b(self.lora_a(x))


class Stops(nn.Module):
    """A network that raises in the middle of one of its passes."""

    def __init__(self, error):
        super().__init__()
        self.first, self.second, self.error, self.left = network(), nn.Linear(3, 3), error, None

    def forward(self, x):
        hidden = self.first(x)
        if self.left is not None:
            self.left -= 1
            if self.left < 0:
                raise self.error
        return self.second(hidden)


def sharded(model, **options):
    from torch.distributed.fsdp import fully_shard

    for layer in [module for module in model.modules() if isinstance(module, nn.Linear)]:
        if not any(layer.weight is other.weight for other in model.modules() if isinstance(other, nn.Embedding)):
            fully_shard(layer, **options)
    return fully_shard(model, **options)


def digest(model):
    """Of this rank's shards."""
    sha = hashlib.sha256()
    for name, value in ll.parameters_of(model).items():
        sha.update(name.encode() + own_shard(value.detach()).contiguous().view(torch.uint8).numpy().tobytes())
    return sha.hexdigest()


def measured(model, samples, slice_, options=None, **grid):
    """What is kept of a surface around ``model``, whose shards must be as before."""
    before, memory = digest(model), [own_shard(value).data_ptr() for value in model.parameters()]
    flags = [value.requires_grad for value in model.parameters()]
    surface = ll.evaluate(ll.objective(model, samples, **{"batch_size": 8, **(options or {})}), slice_, **grid)
    assert digest(model) == before and [own_shard(value).data_ptr() for value in model.parameters()] == memory
    assert [value.requires_grad for value in model.parameters()] == flags
    return kept(surface)


def kept(surface):
    arrays = {"loss": surface.loss, "standard_error": surface.standard_error, "accuracy": surface.accuracy}
    keys = ("sharded", "method", "processes", "cosine", "direction_norms", "relative_norms", "rounding", "identity")
    return {
        **arrays, "per_sample": surface.per_sample, "quantities": dict(surface.quantities),
        "evaluated": surface.evaluated, "metadata": {key: surface.metadata[key] for key in keys},
    }  # fmt: skip


def case_plane(_):
    model = sharded(network())
    result = measured(model, data(), ll.random_plane(model, seed=3), per_sample=True, **GRID)
    with torch.no_grad():
        return {**result, "outputs": model(data()[0]).numpy()}


def case_points(_):
    model = sharded(network())
    plane = ll.random_plane(model, seed=3, orthogonal=True, ignore=())
    point = plane(0.25, -0.5)
    return {
        "point": {name: whole(value).numpy() for name, value in point.items()},
        "shards": {name: own_shard(value).numel() for name, value in point.items()},
        "norm": norm(point),
        "cosine": cosine(*plane.directions),
        "row": flatten(point).numpy(),
        "moved": plane.moved,
    }


def case_tied(_):
    model, options = sharded(Tied()), {"loss": "language_model", "batch_size": 2}
    return [
        measured(model, tokens(), ll.random_plane(model, seed=3, **chosen), options, **GRID)
        for chosen in ({}, {"parameters": "trainable"}, {"parameters": ("blocks.*",)})
    ]


def case_adapters(_):
    model = sharded(Adapted())
    return measured(model, data(), ll.random_plane(model, seed=3, parameters="trainable"), **GRID)


def case_batch_norm(_):
    model = sharded(Normed())
    return measured(model, data(), ll.random_line(model, seed=1), resolution=5, progress=False)


def case_replicas(_):
    from torch.distributed.device_mesh import init_device_mesh

    model = sharded(network(), mesh=init_device_mesh("cpu", (2, 1), mesh_dim_names=("copies", "shards")))
    return measured(model, data(), ll.random_plane(model, seed=3), **GRID)


def case_half_precision(_):
    from torch.distributed.fsdp import MixedPrecisionPolicy

    model = sharded(network(), mp_policy=MixedPrecisionPolicy(param_dtype=torch.bfloat16))
    return measured(model, data(), ll.random_plane(model, seed=3), {"loss": float_loss}, **GRID)


def case_half_precision_weights(_):
    model = sharded(network().bfloat16())
    return measured(model, data(), ll.random_plane(model, seed=3), {"loss": float_loss, "dtype": None}, **GRID)


def float_loss(model, batch):
    return F.cross_entropy(model(batch[0].to(next(model.parameters()).dtype)).float(), batch[1], reduction="none")


def another():
    other = network()
    with torch.no_grad():
        for value in other.parameters():
            value.mul_(1.3)
    return other


def case_lines(_):
    model, other = sharded(network()), another()
    lines = [
        ll.interpolation_line(model, sharded(copy.deepcopy(other))),
        ll.interpolation_line(model, ll.parameters_of(other)),
        ll.interpolation_line(ll.parameters_of(network()), ll.parameters_of(other)),
    ]
    return [measured(model, data(), line, alpha_range=(-0.5, 1.5), resolution=5, progress=False) for line in lines]


def case_state_dict(_):
    from torch.distributed.checkpoint.state_dict import StateDictOptions, get_model_state_dict

    model = sharded(network())
    ll.evaluate(ll.objective(model, data()), ll.random_plane(model, seed=3), resolution=3, progress=False)
    state = get_model_state_dict(model, options=StateDictOptions(full_state_dict=True, cpu_offload=True))
    return {name: value.numpy() for name, value in state.items()}


def penalty(model):
    return 0.1 * sum(value.square().sum() for value in model.parameters())


def slopes(model, batch):
    inputs = batch[0].detach().requires_grad_(True)
    outputs = model(inputs).sum(1)
    (slope,) = torch.autograd.grad(outputs.sum(), inputs, create_graph=True)
    return slope.square().sum(1) + outputs


def case_terms(_):
    model = sharded(network())
    options = {"regularizer": penalty, "metrics": {"size": lambda net, batch: net(batch[0]).square().mean(1)}}
    return measured(model, data(), ll.random_plane(model, seed=3), options, **GRID)


def case_derivatives(_):
    model = sharded(network())
    return measured(model, data(), ll.random_plane(model, seed=3), {"loss": slopes}, **GRID)


def case_whole_batch(_):
    model = sharded(network())
    return measured(model, data(), ll.random_plane(model, seed=3), {"whole_batch": True}, **GRID)


def case_tolerance(_):
    model = sharded(network())
    grid = {"resolution": 17, "tolerance": 0.02, "progress": False}
    return measured(model, data(), ll.random_plane(model, seed=3), **grid)


def case_basin(_):
    model = sharded(network())
    return ll.basin_radii(ll.objective(model, data(), batch_size=8), model, directions=2, progress=False).radii


def case_stored(folder):
    model, path = sharded(network()), folder / "surface.npz"
    objective, plane = ll.objective(model, data(), batch_size=8, spill=folder), ll.random_plane(model, seed=3)
    surfaces = [ll.load_or_evaluate(path, objective, plane, **GRID) for _ in range(2)]
    return [kept(surface) for surface in surfaces]


def case_gathered(_):
    """The root of fully_shard keeps its parameters gathered after a pass of the caller's own."""
    from torch.distributed.fsdp import fully_shard

    model = fully_shard(network())
    with torch.no_grad():
        model(data()[0])
        plane = ll.random_plane(model, seed=3)
        model(data()[0])
    return measured(model, data(), plane, **GRID)


def case_wrapped(_):
    """Layers whose activations are computed again in a backward pass."""
    from torch.distributed.algorithms._checkpoint.checkpoint_wrapper import checkpoint_wrapper
    from torch.distributed.fsdp import fully_shard

    model = network()
    model[2] = checkpoint_wrapper(model[2])
    model = fully_shard(nn.Sequential(fully_shard(model[0]), model[1], fully_shard(model[2]), model[3], model[4]))
    return measured(model, data(), ll.random_plane(model, seed=3), **GRID)


def two_layers():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 3)).eval()


def case_parallel(_):
    """Layers of which every rank computes a part, for the same batches."""
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.tensor.parallel import ColwiseParallel, RowwiseParallel, parallelize_module

    mesh = init_device_mesh("cpu", (2,))
    model = parallelize_module(two_layers(), mesh, {"0": ColwiseParallel(), "2": RowwiseParallel()})
    return measured(model, data(), ll.random_plane(model, seed=3), **GRID)


def case_documented(_):
    """The script of docs/language_models.md, in processes that know of each other already."""
    from torch.distributed.fsdp import fully_shard

    page = (Path(__file__).parents[1] / "docs" / "language_models.md").read_text(encoding="utf-8")
    _, code = page.split("torch.distributed.init_process_group()\n")
    names = {"torch": torch, "fully_shard": fully_shard, "ll": ll, "gpt": gpt(), "tokens": letters()}
    exec(code.partition("\nif ")[0], names)
    return kept(names["surface"])


def gpt():
    torch.manual_seed(0)
    return ll.build_model("gpt", input_shape=(32,), classes=256, layers=1, heads=2, width=32).eval()


def letters():
    return torch.randint(0, 256, (7, 32), generator=torch.Generator().manual_seed(0))


def stopped(ranks, error):
    """What is raised where a pass of ``ranks`` raises ``error``, and the losses afterwards."""
    model = sharded(Stops(error))
    objective, plane, before = ll.objective(model, data(), batch_size=4), ll.random_plane(model, seed=3), digest(model)
    if distributed.get_rank() in ranks:
        model.left = 7
    try:
        ll.evaluate(objective, plane, **{**GRID, "resolution": 2})
        told = None
    except BaseException as raised:
        told = f"{type(raised).__name__}: {raised}"
    assert digest(model) == before
    model.left = None
    return told, ll.evaluate(objective, plane, **{**GRID, "resolution": 2}).loss


def case_failures(_):
    faults = [
        ((1,), ValueError("no")), ((0,), MemoryError("full")), ((1,), KeyboardInterrupt()), ((0, 1), ValueError("no"))
    ]  # fmt: skip
    return [stopped(*fault) for fault in faults]


def refusals(folder):
    """name -> what must be refused in one line on every rank."""
    rank, samples = distributed.get_rank(), data()
    model, normed = sharded(network()), Normed()
    normed.norm.running_mean.add_(rank)
    objective = ll.objective(model, samples)
    return {
        "curvature": lambda: ll.hessian_product(objective, model),
        "sharpness": lambda: ll.layer_sharpness(objective, model, samples=2),
        "alignment": lambda: ll.align(model, sharded(network())),
        "checkpoint": lambda: ll.save_checkpoint(
            folder / "no.pth", model, model_name="mlp", data={}, epoch=1, metrics={}, settings={}
        ),
        "recorder": lambda: ll.TrajectoryRecorder(folder / f"no{rank}.points").record(model),
        "buffers": lambda: ll.objective(sharded(normed), samples),
        "statistics": lambda: ll.objective(sharded(Normed()), samples, batch_norm="recalibrate"),
        "dtype": lambda: ll.objective(sharded(network().bfloat16()), samples),
        "seeds": lambda: ll.random_plane(model, seed=rank),
        "resolutions": lambda: ll.evaluate(objective, ll.random_plane(model), resolution=3 + rank, progress=False),
        "data": lambda: ll.objective(model, (samples[0] + rank, samples[1])),
    }


def case_refusals(folder):
    messages = {}
    for name, work in refusals(folder).items():
        try:
            messages[name] = f"gives {work()}"
        except ll.InputError as error:
            messages[name] = str(error)
    return messages


def main(rank, size, folder):
    torch.set_num_threads(1)
    distributed.init_process_group(
        "gloo", init_method=f"file://{folder / 'store'}", rank=rank, world_size=size, timeout=timedelta(seconds=60)
    )
    results = {}
    for name, case in list(globals().items()):
        if not name.startswith("case_"):
            continue
        try:
            results[name] = case(folder)
        except Exception as error:
            results[name] = f"{type(error).__name__}: {error}"
    if rank == 0:
        results["killed"] = left_alone()
    (folder / f"{rank}.pickle").write_bytes(pickle.dumps(results))
    if rank == 1:
        left_alone()


def left_alone():
    """What rank 0 is told where rank 1 is killed in the middle of an evaluation."""
    model = sharded(network())
    objective, plane, before = ll.objective(model, data(), batch_size=4), ll.random_plane(model, seed=3), digest(model)
    if distributed.get_rank() == 1:
        model[4].register_forward_hook(lambda *_: os.kill(os.getpid(), signal.SIGKILL))
    try:
        return f"gives {ll.evaluate(objective, plane, **GRID)}"
    except ll.InputError as error:
        return str(error), digest(model) == before


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    main(int(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3]))
