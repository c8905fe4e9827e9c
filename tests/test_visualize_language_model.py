"""The script of language models: a small GPT trained here, folders of the transformers library, adapters, bad input."""

import importlib.util
import json
import math
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn import functional as F

import landscape_lib as ll
import visualize_language_model as script
from landscape.datasets.text import Bytes, load_text
from landscape.models import GPT
from landscape.models.pretrained import adapter_step, add_adapters, load_pretrained

SMALL = ["--tokens", "96", "--sequence-length", "16", "--resolution", "5", "--directions", "3", "--draws", "2"]
SMALL += ["--judged", "2", "--device", "cpu"]
TINY = ["--layers", "1", "--heads", "2", "--width", "16", "--steps", "12", "--batch-size", "2", "--points", "4"]


@pytest.fixture
def text(tmp_path):
    path = tmp_path / "numbers.txt"
    path.write_text(" ".join(map(str, range(700))), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """A GPT-2 with a tokenizer of bytes, and adapters for it, as the libraries write them."""
    transformers, peft = pytest.importorskip("transformers"), pytest.importorskip("peft")
    from tokenizers import Tokenizer, models, pre_tokenizers

    folder = tmp_path_factory.mktemp("models")
    config = transformers.GPT2Config(vocab_size=256, n_positions=32, n_embd=16, n_layer=1, n_head=2)
    torch.manual_seed(0)
    model = transformers.GPT2LMHeadModel(config)
    model.save_pretrained(folder / "gpt2")
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE(vocab={letter: k for k, letter in enumerate(alphabet)}, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    transformers.PreTrainedTokenizerFast(tokenizer_object=tokenizer).save_pretrained(folder / "gpt2")
    lora = peft.LoraConfig(r=2, target_modules=["c_attn"], fan_in_fan_out=True)
    adapted = peft.get_peft_model(transformers.GPT2LMHeadModel.from_pretrained(folder / "gpt2"), lora)
    for name, parameter in adapted.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.02)
    adapted.save_pretrained(folder / "adapters")
    return folder


def run(*arguments):
    ll.cli.run_script(script.main, [str(argument) for argument in arguments])


def refused(capsys, *arguments):
    """The one line of an error."""
    with pytest.raises(SystemExit) as stop:
        run(*arguments)
    [line] = [line for line in capsys.readouterr().err.splitlines() if line.startswith("Error: ")]
    assert stop.value.code == 2
    return line


def test_a_gpt_is_trained_drawn_and_reported_and_nothing_is_done_twice(tmp_path, text, monkeypatch, capsys):
    out = tmp_path / "out"
    run("--text", text, *SMALL, *TINY, "--lora", "2", "--adapter-steps", "4", "--out", out)
    names = {path.name for path in out.iterdir()}
    expected = {
        "random_plane.png",
        "training_plane.png",
        "path_losses.png",
        "basin.png",
        "sharpness.png",
        "adapters.png",
    }
    assert {name.replace("_numbers.txt", "") for name in names if name.endswith(".png")} == expected
    report = (out / "report_numbers.txt.md").read_text()
    for link in re.findall(r"\]\(([^)]+)\)", report):
        assert (out / link).stat().st_size > 5_000
    assert "at least 36.84%" in report and "seen" in report and "nan" not in report

    # the loss at the model, by a plain pass of the recorded weights over the sequences of the report
    points = ll.RecordedPoints(out / "language_model_numbers.txt.points")
    assert points.steps.tolist() == [0, 3, 6, 9, 12]
    model = ll.model_at(GPT((16,), layers=1, heads=2, width=16), points[-1]).double()
    train, held_out = load_text(text, Bytes(), 16).divided()
    for part, whole in (("train", train), ("held-out", held_out)):
        surface = ll.Surface.load(out / f"surface_random_{part}_numbers.txt.npz")
        tokens = whole.subset(min(6, len(whole)), seed=42).tokens
        logits = model(tokens)[:, :-1]
        loss = F.cross_entropy(logits.flatten(0, 1), tokens[:, 1:].flatten()).item()
        right = (logits.argmax(2) == tokens[:, 1:]).double().mean().item()
        assert surface.quantities["token_accuracy"][surface.centre] == pytest.approx(right, abs=1e-6)  # in float32
        assert surface.loss[surface.centre] == pytest.approx(loss, rel=1e-5)
        assert f"| {part} | {loss:.4f}"[:-1] in report and f"{math.exp(loss):.1f}" in report
        path = ll.results.Trajectory.load(out / f"path_{part}_numbers.txt.npz")
        np.testing.assert_allclose(path.share_off_plane[[0, 2, 4]], 0, atol=1e-3)  # the plane goes through these
        assert path.shadow_loss[-1] == pytest.approx(loss, rel=1e-4)
    [box] = [ll.Surface.load(path).faithfulness for path in sorted(out.glob("surface_random_train*.npz"))]
    assert json.loads((out / "judgement_numbers.txt.json").read_text())["result"] == json.loads(json.dumps(box.record))
    assert box.metadata["data"]["size"] == 2 and f"at the centre, train: {box.caption}" in report
    assert box.box in capsys.readouterr().out
    basin = ll.results.BasinRadii.load(out / "basin_numbers.txt.npz")
    assert len(basin) == 3 and f"{basin.radius:.4g} units" in report

    written = {path: path.stat().st_mtime_ns for path in out.iterdir() if path.suffix in (".npz", ".points", ".json")}
    monkeypatch.setattr(
        importlib.import_module("landscape.trajectories.runs"), "fit_language_model", lambda *_, **__: pytest.fail()
    )
    run("--text", text, *SMALL, *TINY, "--lora", "2", "--adapter-steps", "4", "--out", out)
    assert written == {path: path.stat().st_mtime_ns for path in written}
    assert "computed again" not in capsys.readouterr().out


def test_a_folder_of_the_transformers_library_is_drawn_with_chosen_parameters(tmp_path, text, folders):
    run("--model", folders / "gpt2", "--text", text, *SMALL, "--parameters", "attention", "--out", tmp_path)
    [path] = tmp_path.glob("surface_random_text_*.npz")
    surface = ll.Surface.load(path)
    import transformers

    model = transformers.GPT2LMHeadModel.from_pretrained(folders / "gpt2").double()
    tokens = load_pretrained(folders / "gpt2").tokenizer(text.read_text())["input_ids"]
    tokens = torch.tensor(tokens[: len(tokens) // 16 * 16]).reshape(-1, 16)
    order = torch.randperm(len(tokens), generator=torch.Generator().manual_seed(42))[:6].sort().values
    loss = model(input_ids=tokens[order], labels=tokens[order]).loss.item()
    assert surface.loss[2, 2] == pytest.approx(loss, rel=1e-5)
    assert surface.metadata["slice"]["parameters"] == ["attention"]
    report = next(tmp_path.glob("report_*.md")).read_text()
    assert "gpt2" in report and "attention" in report and "## Training" not in report


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_a_folder_in_half_precision_is_drawn_in_place_and_as_a_copy(tmp_path, text, folders, dtype, capsys):
    transformers = pytest.importorskip("transformers")
    folder, spill = tmp_path / "half", tmp_path / "spill"
    spill.mkdir()
    model = transformers.GPT2LMHeadModel.from_pretrained(folders / "gpt2").to(getattr(torch, dtype))
    model.save_pretrained(folder)
    transformers.AutoTokenizer.from_pretrained(folders / "gpt2").save_pretrained(folder)
    surfaces = []
    for number, options in enumerate((["--spill", spill], [])):
        out = tmp_path / f"out{number}"
        run("--model", folder, "--text", text, *SMALL, "--dtype", "None", *options, "--out", out)
        [path] = out.glob("surface_random_text*.npz")
        surfaces.append(ll.Surface.load(path))
        [report] = [path.read_text() for path in out.glob("report*.md")]
        assert "rounding takes" in report and ("Sharpness by kind of layer" in report) == (number == 1)
    assert [surface.metadata["method"] for surface in surfaces] == ["in_place", "direct"]
    assert all(surface.metadata["objective"]["dtype"] == dtype for surface in surfaces)
    assert surfaces[0].alphas == pytest.approx(surfaces[1].alphas, rel=0.05)
    losses = [surface.loss[surface.centre] for surface in surfaces]
    assert losses[0] == pytest.approx(losses[1], rel=1e-2)  # batches of other sizes round differently
    assert not list(spill.iterdir())


def test_trained_adapters_have_a_plane_beside_that_of_the_weights(tmp_path, text, folders):
    run(
        "--model", folders / "gpt2", "--lora", folders / "adapters", "--text", text, *SMALL, "--judged", "0", "--out",
        tmp_path,
    )  # fmt: skip
    report = next(tmp_path.glob("report_*.md")).read_text()
    rows = re.findall(r"^\| (weights|adapters|adapters, as far) \| ([\d.]+) \| ([\d.]+) \|", report, re.MULTILINE)
    assert [name for name, *_ in rows] == ["weights", "adapters", "adapters, as far"]
    moved = {name: float(step) for name, _, step in rows}
    assert moved["adapters, as far"] == pytest.approx(moved["weights"], rel=0.01)


def test_adapters_leave_the_function_as_it_is_and_their_step_is_that_of_the_dense_weights():
    pytest.importorskip("peft")
    torch.manual_seed(0)
    model, tokens = GPT((8,), classes=11, layers=2, heads=2, width=8), torch.randint(0, 11, (2, 8))
    before, state = model(tokens), torch.get_rng_state()
    adapted = add_adapters(model, 3, seed=1)
    assert torch.equal(torch.get_rng_state(), state)
    torch.testing.assert_close(adapted(tokens), before)
    trainable = {name for name, parameter in adapted.named_parameters() if parameter.requires_grad}
    assert len(trainable) == 2 * 2 * 4 and all("lora_" in name for name in trainable)

    moved = add_adapters(GPT((8,), classes=11, layers=2, heads=2, width=8), 3, seed=1)
    moved.load_state_dict(adapted.state_dict())
    change = size = 0.0
    for (name, parameter), other in zip(adapted.named_parameters(), moved.parameters(), strict=True):
        if "lora_B" in name:
            other.data.normal_()
            pair = dict(moved.named_parameters())[name.replace("lora_B", "lora_A")]
            change += float((other.double() @ pair.double()).square().sum())
        if "base_layer.weight" in name:
            size += float(parameter.double().square().sum())
    assert adapter_step(adapted, moved) == pytest.approx(math.sqrt(change / size), rel=1e-6)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--tokens", "8"], "tokens is 8, less than one sequence of 16"),
        (["--sequence-length", "5000"], "fewer than one sequence of 5,000; give a longer text, or shorter sequences"),
        (["--resolution", "4"], "resolution is 4; an odd number puts the model itself on the grid"),
        (["--parameters", "nothing*"], "'nothing*' matches no parameter"),
        (["--lora", "0"], "lora is '0'; give a rank of at least 1, or a folder of adapters"),
        (["--lora", "2", "--parameters", "mlp"], "parameters and lora both choose the moved parameters"),
        (["--spill", "/tmp"], "--spill has no effect without --model"),
        (["--spill", "/no/such/folder"], "spill is '/no/such/folder', no folder; make it first"),
        (["--adapter-steps", "9"], "--adapter-steps has no effect without a rank of adapters to train"),
        (["--width", "9"], "width is 9, no multiple of 2 heads"),
        (["--rise", "0"], "rise is 0.0; it must be a finite number above 0"),
        (["--text", "/no/such/file"], "text /no/such/file does not exist"),
        (["--model", "no/such/model"], "--layers, --heads, --width have no effect with --model"),
    ],
)
def test_bad_options_are_refused_before_the_work(tmp_path, text, monkeypatch, capsys, arguments, message):
    monkeypatch.setattr(
        importlib.import_module("landscape.trajectories.runs"), "fit_language_model", lambda *_, **__: pytest.fail()
    )
    given = ["--text", text, *SMALL, *TINY, "--out", tmp_path / "out", *arguments]
    assert message in refused(capsys, *given)


def copied(folders, tmp_path, name="gpt2"):
    folder = tmp_path / "copy"
    folder.mkdir()
    for path in (folders / name).iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    return folder


@pytest.mark.parametrize("pickle", ["pytorch_model.bin", "more_weights.pt", "sub/weights.PKL"])
def test_a_folder_with_pickled_files_is_refused(tmp_path, text, folders, capsys, pickle):
    folder = copied(folders, tmp_path)
    (folder / pickle).parent.mkdir(exist_ok=True)
    (folder / pickle).write_bytes(b"\x80\x04.")
    line = refused(capsys, "--model", folder, "--text", text, *SMALL, "--out", tmp_path / "out")
    assert f"holds pickled files ({pickle}), which can run code when they are loaded" in line


def test_the_files_of_a_trainer_beside_safetensors_are_no_reason_to_refuse(tmp_path, folders):
    folder = copied(folders, tmp_path)
    for name in ("training_args.bin", "optimizer.pt", "rng_state_0.pth", "checkpoint-5/scheduler.pt"):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(b"\x80\x04.")
    assert load_pretrained(folder).model.training is False
    for path in folder.glob("*.safetensors"):
        path.unlink()
    with pytest.raises(
        ll.InputError, match=r"holds pickled files \(checkpoint-5/scheduler.pt, optimizer.pt, rng_state"
    ):
        load_pretrained(folder)


def test_a_model_that_cannot_be_read_is_refused_in_one_line(tmp_path, text, folders, capsys):
    def line(*arguments):
        return refused(capsys, "--text", text, *SMALL, "--out", tmp_path / "out", *arguments)

    folder = copied(folders, tmp_path)
    assert "tokens is longer than the 32 positions of" in line("--model", folder, "--sequence-length", "64")
    assert "'*lora_*' matches no parameter" in line("--model", folder, "--parameters", "*lora_*")
    config = json.loads((folder / "config.json").read_text())
    (folder / "tokenizer.json").unlink()
    assert f"{folder}: its tokenizer cannot be loaded" in line("--model", folder)
    (folder / "config.json").write_text(json.dumps({**config, "model_type": "unheard-of"}))
    assert f"{folder}: its model cannot be loaded" in line("--model", folder)
    (folder / "model.safetensors").unlink()
    assert f"{folder}: its model cannot be loaded" in line("--model", folder)
    assert "holds no adapter_config.json" in line("--model", folders / "gpt2", "--lora", tmp_path)
    assert "is a file; give a folder" in line("--model", text)


def test_a_tokenizer_that_does_not_fit_is_refused(tmp_path, text, folders, capsys):
    import transformers

    folder = copied(folders, tmp_path)
    small = transformers.GPT2Config(vocab_size=10, n_positions=32, n_embd=16, n_layer=1, n_head=2)
    transformers.GPT2LMHeadModel(small).save_pretrained(folder)
    line = refused(capsys, "--model", folder, "--text", text, *SMALL, "--out", tmp_path / "out")
    assert re.search(r"the tokenizer of copy gives token \d+, but the model knows 10 \(from 0 on\)", line)


def test_a_name_without_a_connection_is_refused_at_once(tmp_path, text, monkeypatch, capsys):
    pytest.importorskip("huggingface_hub")
    import socket

    def offline(*_, **__):
        raise OSError("offline for this test")

    monkeypatch.setattr(socket, "create_connection", offline)
    line = refused(capsys, "--model", "nobody/nothing", "--text", text, *SMALL, "--out", tmp_path)
    assert "there is no folder nobody/nothing here, and no connection to" in line


def example(name):
    path = Path(script.__file__).parent / "examples" / f"{name}.py"
    spec = importlib.util.spec_from_file_location(name, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.main


def test_two_seeds_of_a_gpt_are_compared_before_and_after_alignment(tmp_path):
    example("align_gpts")(layers=1, steps=4, tokens=256, resolution=3, device="cpu", out=tmp_path)
    found = json.loads((tmp_path / "barriers.json").read_text())
    assert list(found["barriers"]) == ["unaligned", "aligned by weights", "aligned by activations"]
    ends = [[way["first_loss"], way["second_loss"]] for way in found["barriers"].values()]
    assert ends[1] == pytest.approx(ends[0], rel=1e-5) and ends[2] == pytest.approx(ends[0], rel=1e-5)
    assert all(alignment["deviation"] < 1e-9 for alignment in found["alignments"].values())
    assert (tmp_path / "barriers.png").stat().st_size > 10_000


def test_fine_tuning_lowers_the_loss_of_the_new_text_along_the_line(tmp_path):
    example("fine_tuning")(layers=1, steps=6, new_steps=4, tokens=256, resolution=3, device="cpu", out=tmp_path)
    found = json.loads((tmp_path / "fine_tuning.json").read_text())
    line = found["barriers"]["new text"]
    assert found["losses"]["new text, after"] < found["losses"]["new text, before"]
    assert line["first_loss"] == pytest.approx(found["losses"]["new text, before"], rel=1e-5)
    assert line["second_loss"] == pytest.approx(found["losses"]["new text, after"], rel=1e-5)
    assert {path.name for path in tmp_path.glob("*.png")} == {"planes.png", "line.png"}


def test_lines_of_adapters_and_of_weights_are_compared_at_equal_distance(tmp_path):
    pytest.importorskip("peft")
    example("lora_plane")(layers=1, steps=6, adapter_steps=4, tokens=128, directions=2, device="cpu", out=tmp_path)
    found = json.loads((tmp_path / "lora.json").read_text())
    assert found["rise at |dW| / |W| = 0.1"].keys() == {"weights", "adapters"}
    assert (tmp_path / "lora.png").stat().st_size > 10_000 and len([*tmp_path.glob("line_*.npz")]) == 4
