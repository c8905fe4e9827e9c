"""Losses of language models, and those that models compute themselves, against float64 passes over all data."""

import itertools
import math
from collections import UserDict
from dataclasses import dataclass

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.func import functional_call
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.data import DataLoader

import landscape_lib as ll
from landscape.models import GPT

transformers = pytest.importorskip("transformers", reason="the models of other people are tested with transformers")

GENERATOR = torch.Generator().manual_seed(5)
TOKENS = torch.randint(0, 31, (11, 9), generator=GENERATOR)
LENGTHS = torch.tensor([9, 2, 5, 9, 3, 8, 4, 9, 2, 7, 6])
MASK = (torch.arange(9) < LENGTHS[:, None]).long()
LABELS = torch.where((MASK == 1) & (torch.arange(9) > 0), TOKENS, -100)
BATCH = {"input_ids": TOKENS, "attention_mask": MASK, "labels": LABELS}
SMALL = {"vocab_size": 31, "n_positions": 16, "n_embd": 8, "n_layer": 1, "n_head": 2}
GRID = {"resolution": (3, 2), "progress": False}


@pytest.fixture(autouse=True)
def constants_in_float64():
    torch.set_default_dtype(torch.float64)  # of the models that make some
    yield
    torch.set_default_dtype(torch.float32)


def gpt2(**options):
    torch.manual_seed(0)
    config = transformers.GPT2Config(**SMALL, resid_pdrop=0, embd_pdrop=0, attn_pdrop=0, **options)
    return transformers.GPT2LMHeadModel(config).double().eval()


def bert(head, **options):
    torch.manual_seed(0)
    sizes = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 8}
    return head(transformers.BertConfig(vocab_size=31, **sizes, **options)).double().eval()


def objective(model, data, **options):
    return ll.objective(model, data, device="cpu", **{"dtype": torch.float64, **options})


@torch.no_grad()
def by_hand(model, labels=LABELS, shift=1):
    """Mean over all tokens at once, the share predicted right, and the mean over batches of four of their means."""
    logits = model(input_ids=TOKENS, attention_mask=MASK).logits
    logits, labels = (logits[:, :-1], labels[:, 1:]) if shift else (logits, labels)
    losses = F.cross_entropy(logits.mT, labels, reduction="none")
    counts = labels != -100
    right = (logits.argmax(-1) == labels)[counts].double().mean()
    means = [losses[start : start + 4].sum() / counts[start : start + 4].sum() for start in range(0, 11, 4)]
    return losses.sum().item() / counts.sum().item(), right.item(), sum(means).item() / len(means)


@dataclass
class Fields:
    input_ids: torch.Tensor
    attention_mask: torch.Tensor
    labels: torch.Tensor


@pytest.mark.parametrize("batch_size", [1, 4, 11])
@pytest.mark.parametrize("kind", ["dict", "mapping", "dataclass", "loader"])
def test_every_token_weighs_the_same_whatever_the_batches(kind, batch_size):
    model = gpt2()
    loader = DataLoader([{key: value[i] for key, value in BATCH.items()} for i in range(11)], batch_size=batch_size)
    data = {"dict": BATCH, "mapping": UserDict(BATCH), "dataclass": Fields(**BATCH), "loader": loader}[kind]
    target = objective(model, data, loss="language_model", batch_size=batch_size)
    mean, right, mean_of_batches = by_hand(model)
    assert abs(mean - mean_of_batches) > 1e-4
    assert float(target(ll.parameters_of(model)).mean()) == pytest.approx(mean, rel=1e-12)
    assert target.quantity_names == ("token_accuracy",)
    with target.arithmetic(), torch.no_grad():
        pieces = [target.evaluate(batch).quantities["token_accuracy"] for _, batch in target.batches()]
    assert float(torch.cat(pieces).mean()) == pytest.approx(right, rel=1e-12)


def test_tokens_are_their_own_targets_where_they_are_not_padding():
    model = gpt2()
    without = {key: value for key, value in BATCH.items() if key != "labels"}
    mean, *_ = by_hand(model, torch.where(MASK == 1, TOKENS, -100))
    assert float(objective(model, without, loss="language_model")(model).mean()) == pytest.approx(mean, rel=1e-12)
    own = GPT((9,), 31, layers=1, heads=2, width=8).double().eval()
    with torch.no_grad():
        expected = F.cross_entropy(own(TOKENS)[:, :-1].mT, TOKENS[:, 1:]).item()
    for data in ({"input_ids": TOKENS}, TOKENS):
        assert float(objective(own, data, loss="language_model")(own).mean()) == pytest.approx(expected, rel=1e-12)


def test_every_consumer_takes_the_mean_over_tokens():
    model = GPT((9,), 31, layers=1, heads=2, width=8).double().eval()
    data = {"input_ids": TOKENS, "labels": LABELS}
    target = objective(model, data, loss="language_model", batch_size=3)

    def whole(point):
        with sdpa_kernel(SDPBackend.MATH):  # which can be differentiated twice
            logits = functional_call(model, point, (TOKENS,))
        return F.cross_entropy(logits[:, :-1].mT, LABELS[:, 1:])

    plane = ll.random_plane(model, seed=3)
    surface = ll.evaluate(target, plane, **GRID)
    for (i, a), (j, b) in itertools.product(enumerate((-1, 0, 1)), enumerate((-1, 1))):
        assert surface.loss[i, j] == pytest.approx(whole(plane(a, b)).item(), rel=1e-12)
    np.testing.assert_allclose(surface.quantities["perplexity"], np.exp(surface.loss), rtol=1e-12)
    product = ll.hessian_product(target, model)
    names, values = list(product.names), [value.requires_grad_() for value in ll.parameters_of(model).values()]
    direction = [torch.randn(value.shape, generator=GENERATOR) for value in values]
    loss = whole(dict(zip(names, values, strict=True)))
    gradients = torch.autograd.grad(loss, values, create_graph=True)
    along = sum((gradient * piece).sum() for gradient, piece in zip(gradients, direction, strict=True))
    found = product(dict(zip(names, direction, strict=True)))
    for name, expected in zip(names, torch.autograd.grad(along, values), strict=True):
        torch.testing.assert_close(found[name], expected, rtol=1e-8, atol=1e-10)
    norm = torch.cat([gradient.flatten() for gradient in gradients]).norm()
    stepped = {n: v + 0.05 * g / norm for n, v, g in zip(names, values, gradients, strict=True)}
    assert ll.sharpness(target, model, "sam").value == pytest.approx((whole(stepped) - loss).item(), rel=1e-8)


def test_perplexity_is_that_of_the_mean_loss():
    target = objective(gpt2(), BATCH, loss="language_model")
    (name, derive), mean = *target.derived.items(), np.array([1.5, 2.0])
    assert name == "perplexity" and derive(mean) == pytest.approx([math.exp(1.5), math.exp(2.0)])


def t5():
    torch.manual_seed(0)
    sizes = {"d_model": 8, "d_kv": 4, "d_ff": 8, "num_layers": 1, "num_heads": 2}
    config = transformers.T5Config(vocab_size=31, **sizes, dropout_rate=0, decoder_start_token_id=0, pad_token_id=0)
    return transformers.T5ForConditionalGeneration(config).double().eval()


def labelled(labels):
    return {"input_ids": TOKENS, "attention_mask": MASK, "labels": labels}


CLASSES = labelled(torch.arange(11) % 3)
NUMBERS = labelled(torch.linspace(-1, 1, 11, dtype=torch.float64))
YES_OR_NO = labelled((torch.arange(33).view(11, 3) % 2).double())
OWN_LOSSES = {
    "causal": (gpt2, BATCH, "cross-entropy of the next token"),
    "masked": (lambda: bert(transformers.BertForMaskedLM), BATCH, "cross-entropy of every token"),
    "encoder and decoder": (t5, BATCH, "cross-entropy of every token"),
    "classes": (lambda: bert(transformers.BertForSequenceClassification, num_labels=3), CLASSES, "cross-entropy"),
    "numbers": (lambda: bert(transformers.BertForSequenceClassification, num_labels=1), NUMBERS, "squared error"),
    "several labels": (
        lambda: bert(
            transformers.BertForSequenceClassification, num_labels=3, problem_type="multi_label_classification"
        ),
        YES_OR_NO,
        "binary cross-entropy",
    ),
}


@pytest.mark.parametrize("name", OWN_LOSSES)
def test_the_own_loss_of_a_model_is_taken_apart_into_samples(name):
    make, batch, formula = OWN_LOSSES[name]
    model = make()
    with torch.no_grad():
        expected = model(**batch).loss.item()
    single = model.__class__.__name__.startswith("T5")  # which normalises in float32
    target = objective(model, batch, loss="model", batch_size=4, dtype=torch.float32 if single else torch.float64)
    assert target.description["loss"] == f"model ({formula})"
    losses = target(ll.parameters_of(model))
    assert float(losses.mean()) == pytest.approx(expected, rel=1e-6)  # the models upcast to float32 in their losses
    assert target.independent and len(losses.unique()) > 5


class Regularised(nn.Module):
    """Its loss is a mean over tokens to which a part that no formula knows is added."""

    def __init__(self, coupled=False):
        super().__init__()
        self.inner, self.coupled = gpt2(), coupled

    def forward(self, input_ids, attention_mask, labels):
        logits = self.inner(input_ids=input_ids, attention_mask=attention_mask).logits
        loss = F.cross_entropy(logits[:, :-1].flatten(0, 1), labels[:, 1:].flatten())
        peak = logits.square().mean(-1)[:, :-1][labels[:, 1:] != -100]
        return (loss + 0.1 * (peak.std() if self.coupled else peak.mean()), logits)


def test_an_own_loss_that_no_formula_gives_weighs_by_its_labels_and_says_so():
    model = Regularised()
    with torch.no_grad():
        expected = model(**BATCH)[0].item()
    for size in (3, 11):
        target = objective(model, BATCH, loss="model", batch_size=size)
        assert target.description["loss"] == "model (weighted by the number of labels)"
        assert float(target(ll.parameters_of(model)).mean()) == pytest.approx(expected, rel=1e-12)
        assert not target.independent
    surface = ll.evaluate(target, ll.random_plane(model, seed=1), **GRID)
    assert np.isnan(surface.standard_error).all()


def without(*names):
    return {key: value for key, value in BATCH.items() if key not in names}


BAD = {
    "no tokens": (gpt2, {"labels": TOKENS}, "language_model", r"needs batches with 'input_ids' .* not 'labels'"),
    "images": (gpt2, {"input_ids": TOKENS.double()}, "language_model", r"a tensor \[11, 9\] of float64"),
    "another tokenizer": (gpt2, {"input_ids": TOKENS + 9}, "language_model", "does the tokenizer belong to it"),
    "other labels": (gpt2, BATCH | {"labels": LABELS + 31 * (LABELS > 5)}, "language_model", "does the tokenizer"),
    "short labels": (
        gpt2,
        BATCH | {"labels": LABELS[:, 1:]},
        "language_model",
        r"shape \(11, 8\), the tokens \(11, 9\)",
    ),
    "no labels": (gpt2, without("labels"), "model", "gives no loss for this batch.*does the batch hold 'labels'"),
    "nothing to decode": (t5, without("labels"), "language_model", "encoder and decoder needs batches with 'labels'"),
    "coupled": (lambda: Regularised(coupled=True), BATCH, "model", "whole_batch=True"),
    "images for words": (lambda: nn.Linear(9, 3).double(), TOKENS.double(), "language_model", "'input_ids'"),
}


@pytest.mark.parametrize("name", BAD)
def test_batches_that_do_not_fit_are_one_clear_line(name):
    make, batch, loss, why = BAD[name]
    with pytest.raises(ll.InputError, match=why) as caught:
        objective(make(), batch, loss=loss)
    assert "\n" not in str(caught.value)


def test_batches_of_sequences_are_counted_in_tokens():
    rows = torch.randint(0, 31, (600, 8))
    target = objective(GPT((8,), 31, layers=1, heads=2, width=8).double(), {"input_ids": rows}, loss="language_model")
    assert target.batch_size == 2048 // 8 and target.batches.most == 600
