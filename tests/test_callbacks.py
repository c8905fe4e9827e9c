"""The recorder in the training loops of Hugging Face and of Lightning: it records, and changes nothing."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import landscape_lib as ll

STEPS = 30


def identical(one, other):
    return all(torch.equal(a, b) for a, b in zip(one.state_dict().values(), other.state_dict().values(), strict=True))


def test_neither_package_is_imported_before_its_users_do(tmp_path):
    code = (
        "import sys, torch, landscape_lib as ll\n"
        f"recorder = ll.TrajectoryRecorder({str(tmp_path / 'a.points')!r})\n"
        "recorder.record(torch.nn.Linear(2, 2))\n"
        "assert not hasattr(recorder, 'on_step_end')\n"
        "assert not {'transformers', 'lightning', 'peft', 'datasets'} & sys.modules.keys()\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=180, cwd=Path(__file__).parents[1])


@pytest.fixture
def hugging_face(tmp_path):
    """train(callbacks, steps, resume) -> the network after it, trained from the same start with dropout."""
    transformers = pytest.importorskip("transformers")

    def train(callbacks, steps=STEPS, resume=None, **settings):
        torch.manual_seed(0)
        network = transformers.GPT2LMHeadModel(
            transformers.GPT2Config(vocab_size=32, n_positions=8, n_embd=8, n_layer=1, n_head=2, eos_token_id=0)
        )
        tokens = torch.randint(0, 32, (64, 8), generator=torch.Generator().manual_seed(1))
        arguments = transformers.TrainingArguments(
            str(tmp_path / "checkpoints"), max_steps=steps, per_device_train_batch_size=4, save_steps=10, seed=3,
            report_to=[], use_cpu=True, disable_tqdm=True, lr_scheduler_type="constant",
            **{"logging_strategy": "no", **settings},
        )  # fmt: skip
        data = [{"input_ids": row, "labels": row} for row in tokens]
        trainer = transformers.Trainer(
            network, arguments, train_dataset=data, eval_dataset=data[:8], callbacks=callbacks
        )  # fmt: skip
        trainer.train(resume_from_checkpoint=resume)
        return network

    return train


def test_the_trainer_of_hugging_face_is_recorded_and_trains_the_same(hugging_face, tmp_path):
    transformers, path = pytest.importorskip("transformers"), tmp_path / "run.points"
    seen = []

    class Reader(transformers.TrainerCallback):
        def on_step_end(self, args, state, control, **_):
            seen.append((state.global_step, ll.RecordedPoints(path).steps.tolist()))

    network = hugging_face([ll.TrajectoryRecorder(path), Reader()])
    assert identical(network, hugging_face([]))
    assert seen == [(step, [*range(step + 1)]) for step in range(1, STEPS + 1)]  # readable while training runs
    points = ll.RecordedPoints(path)
    torch.manual_seed(0)
    assert all(torch.equal(points[-1][name], value) for name, value in network.named_parameters())
    assert not network._forward_hooks
    assert not torch.equal(points[0]["transformer.wte.weight"], points[1]["transformer.wte.weight"])


def test_the_losses_of_the_trainer_of_hugging_face_are_those_it_logs(hugging_face, tmp_path):
    transformers, logged = pytest.importorskip("transformers"), {}

    class Logged(transformers.TrainerCallback):
        def on_log(self, args, state, control, logs, **_):
            if "loss" in logs:
                logged[state.global_step] = logs["loss"]

    settings = {"logging_strategy": "steps", "logging_steps": 1, "eval_strategy": "steps", "eval_steps": 2}
    hugging_face([ll.TrajectoryRecorder(tmp_path / "run.points"), Logged()], 6, **settings)
    losses = ll.RecordedPoints(tmp_path / "run.points").losses
    assert losses[0] != losses[0]
    # The Trainer logs four digits.
    assert losses[1:] == pytest.approx([logged[step] for step in range(1, 7)], abs=1e-3) and len(set(losses[1:])) == 6
    hugging_face([ll.TrajectoryRecorder(tmp_path / "sums.points")], 3, gradient_accumulation_steps=2)
    losses = ll.RecordedPoints(tmp_path / "sums.points").losses
    assert len(losses) == 4 and (losses != losses).all()


def test_a_run_of_hugging_face_goes_on_after_its_checkpoint(hugging_face, tmp_path):
    path, whole = tmp_path / "run.points", tmp_path / "whole.points"
    network = hugging_face([ll.TrajectoryRecorder(whole, parameters="attention", every=5)])
    hugging_face([ll.TrajectoryRecorder(path, parameters="attention", every=5)], 25)
    recorder = ll.TrajectoryRecorder(path, parameters="attention", every=5, resume=True)
    assert identical(network, hugging_face([recorder], STEPS, str(tmp_path / "checkpoints" / "checkpoint-20")))
    found, expected = ll.RecordedPoints(path), ll.RecordedPoints(whole)
    assert found.steps.tolist() == expected.steps.tolist() == [0, 5, 10, 15, 20, 25, 30]
    assert list(found[0]) == [name for name, _ in network.named_parameters() if ".attn." in name]
    for one, other in zip(found, expected, strict=True):
        assert all(torch.equal(one[name], other[name]) for name in other)
    assert ll.pca_plane(found).recipe["parameters"] == ["attention"]


@pytest.fixture(params=["lightning", "pytorch_lightning"])
def lightning_fit(tmp_path, request):
    """fit(callbacks, steps, **settings) -> (trainer, module), trained from the same start with dropout."""
    lightning = pytest.importorskip(request.param)
    generator = torch.Generator().manual_seed(0)
    data = TensorDataset(torch.randn(80, 4, generator=generator), torch.arange(80) % 2)

    class Module(lightning.LightningModule):
        def __init__(self):
            super().__init__()
            self.net = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Dropout(0.2), nn.Linear(8, 2))

        def training_step(self, batch, _):
            return F.cross_entropy(self.net(batch[0]), batch[1])

        def configure_optimizers(self):
            return torch.optim.Adam(self.parameters(), 0.01)

    def fit(callbacks, steps=STEPS, checkpoint=None, **settings):
        lightning.seed_everything(1, verbose=False)
        module, loader = Module(), DataLoader(data, batch_size=8, shuffle=True)
        trainer = lightning.Trainer(
            max_steps=steps, callbacks=callbacks, accelerator="cpu", logger=False, enable_progress_bar=False,
            enable_model_summary=False, default_root_dir=tmp_path, **settings,
        )  # fmt: skip
        trainer.fit(module, loader, ckpt_path=checkpoint)
        return trainer, module

    return fit


def test_the_trainer_of_lightning_is_recorded_and_trains_the_same(lightning_fit, tmp_path):
    path = tmp_path / "run.points"
    _, module = lightning_fit([ll.TrajectoryRecorder(path, parameters=("net.3.*",))])
    assert identical(module, lightning_fit([])[1])
    points = ll.RecordedPoints(path)
    assert points.steps.tolist() == [*range(STEPS + 1)] and list(points[0]) == ["net.3.weight", "net.3.bias"]
    assert torch.equal(points[-1]["net.3.weight"], module.net[3].weight)
    assert points.losses[1] == pytest.approx(0.9, abs=0.4) and points.losses[0] != points.losses[0]


def test_a_run_of_lightning_goes_on_after_its_checkpoint(lightning_fit, tmp_path):
    path = tmp_path / "run.points"
    trainer, _ = lightning_fit([ll.TrajectoryRecorder(path)], 20)
    trainer.save_checkpoint(tmp_path / "half.ckpt", weights_only=False)
    _, module = lightning_fit([ll.TrajectoryRecorder(path, resume=True)], 25, tmp_path / "half.ckpt")
    points = ll.RecordedPoints(path)
    assert points.steps.tolist() == [*range(26)]
    assert all(torch.equal(points[-1][name], value) for name, value in module.named_parameters())


def test_several_batches_of_one_step_of_lightning_are_one_point(lightning_fit, tmp_path):
    path = tmp_path / "run.points"
    lightning_fit([ll.TrajectoryRecorder(path)], 6, accumulate_grad_batches=2)
    assert ll.RecordedPoints(path).steps.tolist() == [*range(7)]


def test_either_package_of_lightning_is_enough(tmp_path):
    pytest.importorskip("pytorch_lightning")
    code = (
        "import sys, pytorch_lightning as pl, landscape_lib as ll\n"
        f"recorder = ll.TrajectoryRecorder({str(tmp_path / 'a.points')!r})\n"
        "assert callable(recorder.on_train_batch_end) and 'lightning.pytorch' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=180, cwd=Path(__file__).parents[1])


def test_what_is_no_hook_is_no_attribute(tmp_path):
    pytest.importorskip("transformers").Trainer  # noqa: B018  # imported, so that hooks are there
    recorder = ll.TrajectoryRecorder(tmp_path / "run.points")
    assert callable(recorder.on_step_end)
    with pytest.raises(AttributeError, match="'TrajectoryRecorder' object has no attribute 'on_stepp_end'"):
        recorder.on_stepp_end  # noqa: B018
