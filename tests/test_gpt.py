"""The small GPT: the function it computes, its causality, its names and its place among the models."""

import pytest
import torch
from torch import nn

import landscape_lib as ll
from landscape.models import GPT, MODELS, check_model


def tiny(**options):
    torch.manual_seed(0)
    model = GPT((12,), classes=11, layers=2, heads=2, width=8, **options).double()
    for parameter in model.parameters():  # also biases and gains, which begin at 0 and 1
        nn.init.normal_(parameter, std=0.3)
    return model


def test_it_computes_what_gpt2_of_the_transformers_library_does():
    transformers = pytest.importorskip("transformers")
    model = tiny()
    config = transformers.GPT2Config(
        vocab_size=11, n_positions=12, n_embd=8, n_layer=2, n_head=2, activation_function="gelu"
    )
    other = transformers.GPT2LMHeadModel(config).double().eval()
    pairs = {"token_embedding": "wte", "position_embedding": "wpe", "norm": "ln_f"}
    weights = {}
    for name, value in model.state_dict().items():
        module, _, kind = name.rpartition(".")
        if module == "head":
            weights["lm_head.weight"] = value
            continue
        if module.startswith("blocks."):
            _, number, part = module.split(".", 2)
            parts = {"norm1": "ln_1", "norm2": "ln_2", "attention.queries_keys_values": "attn.c_attn"}
            parts |= {
                "attention.projection": "attn.c_proj",
                "mlp.expansion": "mlp.c_fc",
                "mlp.projection": "mlp.c_proj",
            }
            value = value.T if "." in part and kind == "weight" else value  # Conv1D holds transposed weights
            weights[f"transformer.h.{number}.{parts[part]}.{kind}"] = value
        else:
            weights[f"transformer.{pairs[module]}.{kind}"] = value
    other.load_state_dict(weights)
    tokens = torch.randint(0, 11, (3, 9))
    with torch.no_grad():
        torch.testing.assert_close(model(tokens), other(input_ids=tokens).logits, rtol=1e-12, atol=1e-12)


def test_no_token_changes_what_comes_before_it():
    model, tokens = tiny(), torch.randint(0, 11, (4, 12))
    changed = tokens.clone()
    changed[:, 7] = (changed[:, 7] + 1) % 11
    with torch.no_grad():
        before, after = model(tokens), model(changed)
    assert torch.equal(before[:, :7], after[:, :7])
    assert (before[:, 7:] != after[:, 7:]).any(2).all()  # and everything from there on


def test_the_head_is_the_embedding_where_they_are_tied():
    tied, untied = tiny(), tiny(tied=False)
    assert tied.head.weight is tied.token_embedding.weight
    assert {name for name, _ in untied.named_parameters()} - {name for name, _ in tied.named_parameters()} == {
        "head.weight"
    }
    assert ll.random_plane(tied, seed=0, ignore=()).directions[0].keys() == dict(tied.named_parameters()).keys()


def test_the_default_has_about_a_million_parameters_of_known_kinds():
    model = GPT()
    sizes = dict.fromkeys(("embedding", "attention", "mlp", "norm"), 0)
    for name, parameter in model.named_parameters():
        [kind] = [kind for kind in sizes if kind in name]
        sizes[kind] += parameter.numel()
    # by hand: 5 blocks of width 128, 256 tokens, 128 positions
    attention, mlp = 128 * 384 + 384 + 128 * 128 + 128, 2 * 128 * 512 + 512 + 128
    assert sizes == {"embedding": 384 * 128, "attention": 5 * attention, "mlp": 5 * mlp, "norm": 11 * 256}
    assert 0.9e6 < sum(sizes.values()) < 1.1e6


def test_it_is_built_by_name_and_comes_back_from_a_checkpoint(tmp_path):
    arguments = {"input_shape": (12,), "classes": 11, "layers": 1, "heads": 2, "width": 8, "tied": False}
    torch.manual_seed(0)
    model = ll.build_model("gpt", **arguments)
    assert MODELS["gpt"] is GPT and check_model("gpt", layers=2) is None
    path = ll.save_checkpoint(
        tmp_path / "gpt.pth", model, model_name="gpt", model_arguments=arguments, data={"name": "text"}, epoch=0,
        metrics={}, settings={},
    )  # fmt: skip
    again, tokens = ll.load_checkpoint(path).model, torch.randint(0, 11, (2, 12))
    assert torch.equal(again(tokens), model(tokens))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"input_shape": (3, 32, 32)}, r"sequences of tokens \(positions,\)"),
        ({"width": 10, "heads": 4}, "width is 10, no multiple of 4 heads"),
        ({"layers": 0}, "layers is 0"),
        ({"classes": 0}, "classes is 0"),
        ({"heads": 0}, "heads is 0"),
    ],
)
def test_sizes_that_fit_no_network_are_refused(arguments, message):
    with pytest.raises(ll.InputError, match=message):
        GPT(**arguments)


def test_a_sequence_beyond_the_positions_is_refused():
    with pytest.raises(ll.InputError, match="a sequence of 13 tokens is longer than the 12 positions"):
        tiny()(torch.zeros(1, 13, dtype=torch.int64))
