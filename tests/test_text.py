"""Text as sequences of tokens, and the training of a language model on them."""

import functools
import importlib
import math
from itertools import pairwise

import pytest
import torch
from torch import nn
from torch.nn import functional as F

import landscape_lib as ll
from landscape.datasets.text import Bytes, Text, load_text, python_topics
from landscape.models import GPT
from landscape.objective.code import digest_of
from landscape.training.language import LanguageTraining, fit_language_model, token_loss

LETTERS = "The quick brown fox jumps over the lazy dog. " * 20


@pytest.fixture
def letters(tmp_path):
    path = tmp_path / "letters.txt"
    path.write_text(LETTERS, encoding="utf-8")
    return path


def test_bytes_take_every_text_and_give_it_back():
    text = "naïve ✓ \x00 日本"
    tokens = Bytes().encode(text)
    assert Bytes().decode(tokens) == text and max(tokens) < len(Bytes()) == 256


def test_the_last_tenth_is_held_out_and_nothing_is_lost_but_the_ends(letters):
    text = load_text(letters, Bytes(), 16)
    train, held_out = text.divided()
    assert len(LETTERS) == 900 and (len(train), len(held_out)) == (50, 6)
    assert Bytes().decode(train.tokens.flatten().tolist()) == LETTERS[: 50 * 16]
    assert Bytes().decode(held_out.tokens.flatten().tolist()) == LETTERS[50 * 16 : 56 * 16]
    assert (
        len(text) == 56 and train.predicted == 50 * 15 and (train.name, held_out.split) == ("letters.txt", "held-out")
    )
    assert train.fingerprint != held_out.fingerprint and "sequences 50" in repr(train)


def test_a_tokenizer_of_another_library_is_taken(letters):
    class Words:
        def __len__(self):
            return 9

        def encode(self, text, add_special_tokens):
            assert not add_special_tokens
            return [len(word) for word in text.split()]

    assert load_text(letters, Words(), 9).tokens[0].tolist() == [3, 5, 5, 3, 5, 4, 3, 4, 4]


def test_a_subset_is_drawn_from_its_seed_in_the_order_of_the_text():
    text = load_text(None, Bytes(), 128)
    some = text.subset(7, seed=3)
    rows = [(text.tokens == row).all(1).nonzero()[0].item() for row in some.tokens]
    assert len(some) == 7 and torch.equal(some.tokens, text.subset(7, seed=3).tokens)
    assert not torch.equal(some.tokens, text.subset(7, seed=4).tokens) and rows == sorted(set(rows))


def test_every_python_has_the_topics():
    text = python_topics()
    assert len(text) > 200_000 and "for" in text and text == python_topics()
    train, held_out = load_text(None, Bytes(), 128).divided()
    assert (train.name, train.source) == ("python-topics", "topics of pydoc")
    assert 8 < len(train) / len(held_out) < 10


@pytest.mark.parametrize(
    ("content", "length", "message"),
    [
        (b"short", 16, "has 5 tokens, fewer than one sequence of 16; give a longer text, or shorter sequences"),
        (b"x" * 500, 1, "a sequence of 1 tokens predicts none"),
        (b"\xff\xfe\x00" * 100, 16, r"is no text in UTF-8 \(byte 0\)"),
        (b"", 16, "it is empty"),
        (None, 16, "does not exist; give a file of text"),
    ],
)
def test_text_that_cannot_be_used_is_refused_in_one_line(tmp_path, content, length, message):
    path = tmp_path / "text.txt"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ll.InputError, match=message) as error:
        load_text(path, Bytes(), length)
    assert "\n" not in str(error.value)


def test_a_text_of_few_sequences_has_nothing_to_hold_out(tmp_path):
    (tmp_path / "text.txt").write_text("x" * 40)
    text = load_text(tmp_path / "text.txt", Bytes(), 16)
    with pytest.raises(
        ll.InputError, match=r"has 2 sequences of 16 tokens, of which a share of 0\.1 cannot be held out"
    ):
        text.divided()
    train, held_out = text.divided(0.5)
    assert len(train) == len(held_out) == 1


def small():
    torch.manual_seed(0)
    return GPT((16,), layers=1, heads=2, width=16)


def test_the_loss_is_that_of_every_token_by_itself(letters):
    model, text = small(), load_text(letters, Bytes(), 16).divided()[1]
    total, count = 0.0, 0
    for row in text.tokens:
        for t in range(1, 16):  # one prefix at a time
            logits = model.double()(row[None, :t])[0, -1]
            total, count = total + F.cross_entropy(logits, row[t]).item(), count + 1
    assert token_loss(model, text, device="cpu") == pytest.approx(total / count, rel=1e-9)
    assert count == text.predicted


def test_training_learns_the_text_and_gives_the_same_bits_after_a_break(letters, tmp_path):
    train, held_out = load_text(letters, Bytes(), 16).divided()
    training = LanguageTraining(steps=60, batch_size=4, points=4)
    seen = []
    whole = small()
    history = fit_language_model(
        whole, train, held_out, training, device="cpu", on_point=lambda step, *_: seen.append(step)
    )
    assert seen == [entry["step"] for entry in history] == [0, 15, 30, 45, 60] == training.recorded_steps
    assert history[0]["held_out_loss"] == pytest.approx(math.log(256), abs=0.2)
    assert history[-1]["held_out_loss"] == token_loss(whole, held_out, device="cpu") < 4
    assert not whole.training

    def stop(step, *_):
        if step == 30:
            raise KeyboardInterrupt

    state = tmp_path / "state.pth"
    with pytest.raises(KeyboardInterrupt):
        fit_language_model(small(), train, held_out, training, device="cpu", on_point=stop, state=state)
    broken = small()
    nn.init.zeros_(broken.norm.weight)  # whatever it holds now
    again = fit_language_model(broken, train, held_out, training, device="cpu", state=state)
    assert all(map(torch.equal, whole.state_dict().values(), broken.state_dict().values()))
    assert again[1:] == history[1:]
    with pytest.raises(ll.InputError, match=r"its lr is 0\.003, not 0\.1"):
        fit_language_model(
            small(), train, held_out, LanguageTraining(steps=60, batch_size=4, points=4, lr=0.1), state=state
        )


def test_only_parameters_that_require_a_gradient_move(letters):
    train, held_out = load_text(letters, Bytes(), 16).divided()
    model = small()
    for name, parameter in model.named_parameters():
        parameter.requires_grad_("mlp" in name)
    before = {name: value.clone() for name, value in model.named_parameters()}
    fit_language_model(model, train, held_out, LanguageTraining(steps=3, points=2), device="cpu")
    moved = {name for name, value in model.named_parameters() if not torch.equal(value, before[name])}
    assert moved == {name for name in before if "mlp" in name}


def test_the_learning_rate_warms_up_and_falls_to_a_twentieth():
    training = LanguageTraining(steps=100, lr=1.0)
    rates = [training.learning_rate(step) for step in range(1, 101)]
    assert rates[0] == pytest.approx(0.2) and max(rates) == rates[4] and rates[-1] == pytest.approx(0.05, abs=1e-3)
    assert all(a > b for a, b in pairwise(rates[4:]))
    assert rates[50] == pytest.approx(0.05 + 0.95 * (1 + math.cos(math.pi / 2)) / 2)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"steps": 0}, "steps is 0"),
        ({"batch_size": 0}, "batch_size is 0"),
        ({"lr": 0.0}, "lr is 0.0"),
        ({"weight_decay": -1.0}, "weight_decay is -1.0"),
        ({"points": 1}, "points is 1; it must be at least 2, for a plane"),
        ({"steps": 5, "points": 6}, "points is 6; it must be at least 2, for a plane, and at most the 5 steps"),
        ({"seed": -1}, "seed is -1"),
    ],
)
def test_settings_out_of_range_are_refused(settings, message):
    with pytest.raises(ll.InputError, match=message):
        LanguageTraining(**settings).check()


def test_text_describes_itself_to_an_objective(letters):
    text = load_text(letters, Bytes(), 16).divided()[0].subset(5, seed=0)
    assert isinstance(text, Text) and text.inputs["input_ids"].shape == (5, 16)
    assert text.description == {
        "name": "letters.txt", "split": "train", "size": 5, "fingerprint": text.fingerprint,
    }  # fmt: skip


def test_a_recorded_run_is_found_again_or_gone_on_with(letters, tmp_path, monkeypatch):
    train, held_out = load_text(letters, Bytes(), 16).divided()
    training, path = LanguageTraining(steps=12, batch_size=2, points=3), tmp_path / "run.points"
    record = functools.partial(
        ll.cli.load_or_record_language_model, build=lambda: GPT((16,), layers=1, heads=2, width=16),
        identity={"name": "gpt"}, train=train, held_out=held_out, training=training, device="cpu",
    )  # fmt: skip
    whole = record(path)
    assert whole.steps.tolist() == [0, 4, 8, 12] and whole.unit == "step"
    torch.manual_seed(training.seed)
    model = GPT((16,), layers=1, heads=2, width=16)
    fit_language_model(model, train, held_out, training, device="cpu")
    assert all(torch.equal(whole[-1][name], value) for name, value in model.named_parameters())
    assert whole.losses[-1] == token_loss(model, held_out, device="cpu")

    module = importlib.import_module("landscape.trajectories.runs")
    monkeypatch.setattr(module, "fit_language_model", lambda *_, **__: pytest.fail("it was trained again"))
    assert record(path).fingerprint == whole.fingerprint
    monkeypatch.undo()
    some = record(tmp_path / "some.points", parameters=("mlp",))
    assert {name for name in whole.shapes if "mlp" in name} == set(some.shapes)
    assert torch.equal(some[-1]["blocks.0.mlp.expansion.weight"], whole[-1]["blocks.0.mlp.expansion.weight"])


def test_the_loss_of_text_is_that_of_its_tokens_and_names_its_data(letters):
    model, text = small(), load_text(letters, Bytes(), 16).divided()[1]

    def loss(network, batch):
        tokens = batch["input_ids"]
        losses = F.cross_entropy(network(**batch)[:, :-1].transpose(1, 2), tokens[:, 1:], reduction="none")
        return losses.mean(1)

    target = ll.objective(model, text, loss=loss, device="cpu")
    assert float(target(ll.parameters_of(model)).mean()) == pytest.approx(token_loss(model, text), rel=1e-6)
    line = ll.evaluate(target, ll.random_line(model), resolution=3, progress=False)
    assert line.metadata["data"] == {**text.description, "source": text.source}


def test_a_loss_that_uses_this_toolkit_is_recognised_again():
    def loss(model, batch):
        return ll.Weighted(model(**batch).mean((1, 2)), torch.ones(len(batch["input_ids"])))

    assert digest_of(loss) is not None
