"""Alignment of transformers: copies permuted by hand come back exactly, and what breaks a symmetry is left alone."""

import copy
import math

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

import landscape_lib as ll

WIDTH, INSIDE, VOCABULARY, LENGTH = 16, 4, 11, 10


class Block(nn.Module):
    """Attention, with as many heads of keys and values as are asked for, and an MLP."""

    def __init__(self, keys=4, fused=False, rotary=False, gated=False, plain=False, norm=nn.LayerNorm):
        super().__init__()
        self.keys, self.rotary, self.plain = keys, rotary, plain
        self.before, self.between = norm(WIDTH), norm(WIDTH)
        inner = keys * INSIDE
        if fused:
            self.qkv = nn.Linear(WIDTH, WIDTH + 2 * inner)
        else:
            self.q, self.k, self.v = nn.Linear(WIDTH, WIDTH), nn.Linear(WIDTH, inner), nn.Linear(WIDTH, inner)
        self.o = nn.Linear(WIDTH, WIDTH)
        self.up, self.down = nn.Linear(WIDTH, 24), nn.Linear(24, WIDTH)
        self.gate = nn.Linear(WIDTH, 24) if gated else None
        angles = torch.arange(LENGTH)[:, None] / 30.0 ** torch.tensor([0.0, 0.5])
        self.register_buffer("cos", torch.cat([angles.cos()] * 2, -1))
        self.register_buffer("sin", torch.cat([angles.sin()] * 2, -1))

    def turned(self, x):
        half = torch.cat([-x[..., 2:], x[..., :2]], -1)
        return x * self.cos[: x.shape[-2]] + half * self.sin[: x.shape[-2]]

    def attention(self, x):
        if hasattr(self, "qkv"):
            parts = self.qkv(x).split([WIDTH, self.keys * INSIDE, self.keys * INSIDE], dim=-1)
        else:
            parts = self.q(x), self.k(x), self.v(x)
        q, k, v = (part.unflatten(-1, (-1, INSIDE)).transpose(1, 2) for part in parts)
        if self.rotary:
            q, k = self.turned(q), self.turned(k)
        if self.plain:
            samples, _, length, _ = k.shape
            shape = (samples, self.keys, q.shape[1] // self.keys, length, INSIDE)
            k, v = (each[:, :, None].expand(shape).reshape(q.shape) for each in (k, v))
            scores = q @ k.transpose(-2, -1) / math.sqrt(INSIDE)
            hidden = torch.ones(length, length).triu(1).bool()
            y = torch.softmax(scores.masked_fill(hidden, -torch.inf), -1) @ v
        else:
            y = F.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=self.keys < q.shape[1])
        return self.o(y.transpose(1, 2).reshape(x.shape))

    def forward(self, x):
        x = x + self.attention(self.before(x))
        h = self.between(x)
        hidden = F.gelu(self.up(h)) if self.gate is None else F.silu(self.gate(h)) * self.up(h)
        return x + self.down(hidden)


class GPT(nn.Module):
    def __init__(self, tied=False, positions=True, layers=1, **options):
        super().__init__()
        self.tokens = nn.Embedding(VOCABULARY, WIDTH)
        self.positions = nn.Parameter(torch.randn(LENGTH, WIDTH)) if positions else None
        self.blocks = nn.Sequential(*(Block(**options) for _ in range(layers)))
        self.norm = options.get("norm", nn.LayerNorm)(WIDTH)
        self.head = nn.Linear(WIDTH, VOCABULARY, bias=False)
        if tied:
            self.head.weight = self.tokens.weight

    def forward(self, ids):
        x = self.tokens(ids)
        if self.positions is not None:
            x = x + self.positions[: ids.shape[1]]
        return self.head(self.norm(self.blocks(x)))


class ViT(nn.Module):
    """Patches, a class token, positions, and torch's own encoder."""

    def __init__(self):
        super().__init__()
        self.patches = nn.Conv2d(2, WIDTH, 2, stride=2)
        self.token, self.positions = nn.Parameter(torch.randn(1, 1, WIDTH)), nn.Parameter(torch.randn(1, 5, WIDTH))
        options = {"batch_first": True, "norm_first": True, "activation": "gelu"}  # no unit is never active
        layer = nn.TransformerEncoderLayer(WIDTH, 4, 24, **options)
        self.blocks = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False).layers
        self.head = nn.Linear(WIDTH, 3)

    def forward(self, x):
        x = self.patches(x).flatten(2).transpose(1, 2)
        x = torch.cat([self.token.expand(len(x), -1, -1), x], 1) + self.positions
        for block in self.blocks:
            x = block(x)
        return self.head(x[:, 0])


def token_batch(length=7, count=6, seed=3):
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(VOCABULARY, (count, length), generator=generator), torch.zeros(count, dtype=torch.int64)


def picture_batch(count=6, size=4, channels=2):
    generator = torch.Generator().manual_seed(3)
    return torch.randn(count, channels, size, size, generator=generator), torch.zeros(count, dtype=torch.int64)


def shaken(model):
    """Weights of layers that tell their units apart."""
    for name, value in model.named_parameters():
        if value.ndim == 1:
            nn.init.normal_(value, float("norm" in name or "before" in name or "between" in name), 0.3)
    return model


def built(kind, seed=0, **options):
    torch.manual_seed(seed)
    return shaken(kind(**options)).double().eval()


def outputs(model, inputs):
    with torch.no_grad():
        result = model(inputs.to(next(model.parameters())) if inputs.is_floating_point() else inputs)
    return result if isinstance(result, torch.Tensor) else next(iter(result.values()))


# --- permutations by hand ---------------------------------------------------------------------------------------


def rows(layer, order):
    layer.weight.data, layer.bias.data = layer.weight.data[order], layer.bias.data[order]


def columns(layer, order):
    layer.weight.data = layer.weight.data[:, order]


def entries(norm, order):
    for value in norm.parameters():
        value.data = value.data[order]


class Orders:
    """Orders of heads and of the dimensions inside them, that of queries and keys apart from that of values."""

    def __init__(self, generator, heads=4, keys=4, rotary=False):
        def drawn(count):
            return torch.randperm(count, generator=generator)

        share = heads // keys
        groups = drawn(keys)
        inside = [torch.arange(INSIDE) if rotary else drawn(INSIDE) for _ in range(keys)]
        values = [drawn(INSIDE) for _ in range(keys)]
        within = [drawn(share) for _ in range(keys)]
        every = list(zip(groups.tolist(), inside, values, within, strict=True))
        self.k = torch.cat([INSIDE * group + order for group, order, _, _ in every])
        self.v = torch.cat([INSIDE * group + order for group, _, order, _ in every])
        picked = [(share * group + int(head), inner, outer) for group, inner, outer, mine in every for head in mine]
        self.q = torch.cat([INSIDE * head + inner for head, inner, _ in picked])
        self.o = torch.cat([INSIDE * head + outer for head, _, outer in picked])


def permute_gpt(model, generator):
    """Permute the residual stream, the heads and what is inside them, and the hidden units of a GPT, by hand."""
    stream = torch.randperm(WIDTH, generator=generator)
    columns(model.tokens, stream)
    if model.head.weight is not model.tokens.weight:
        columns(model.head, stream)
    if model.positions is not None:
        model.positions.data = model.positions.data[:, stream]
    entries(model.norm, stream)
    for block in model.blocks:
        orders = Orders(generator, keys=block.keys, rotary=block.rotary)
        entries(block.before, stream)
        entries(block.between, stream)
        if hasattr(block, "qkv"):
            after = WIDTH, WIDTH + len(orders.k)
            readers = [block.qkv]
            rows(block.qkv, torch.cat([orders.q, after[0] + orders.k, after[1] + orders.v]))
        else:
            readers = [block.q, block.k, block.v]
            for layer, order in zip(readers, (orders.q, orders.k, orders.v), strict=True):
                rows(layer, order)
        columns(block.o, orders.o)
        hidden = torch.randperm(24, generator=generator)
        for layer in filter(None, (block.up, block.gate)):
            rows(layer, hidden)
            readers.append(layer)
        columns(block.down, hidden)
        for layer in readers:
            columns(layer, stream)
        for layer in (block.o, block.down):
            rows(layer, stream)


def permute_vit(model, generator):
    """The same for the encoder of torch, whose three projections are one parameter."""
    stream = torch.randperm(WIDTH, generator=generator)
    rows(model.patches, stream)
    columns(model.head, stream)
    for value in (model.token, model.positions):
        value.data = value.data[..., stream]
    for block in model.blocks:
        orders, hidden = Orders(generator), torch.randperm(24, generator=generator)
        attention = block.self_attn
        every = torch.cat([orders.q, WIDTH + orders.k, 2 * WIDTH + orders.v])
        attention.in_proj_weight.data = attention.in_proj_weight.data[every][:, stream]
        attention.in_proj_bias.data = attention.in_proj_bias.data[every]
        columns(attention.out_proj, orders.o)
        rows(block.linear1, hidden)
        columns(block.linear1, stream)
        columns(block.linear2, hidden)
        for layer in (attention.out_proj, block.linear2):
            rows(layer, stream)
        entries(block.norm1, stream)
        entries(block.norm2, stream)


LLAMA = {"layers": 2, "keys": 2, "rotary": True, "gated": True, "norm": nn.RMSNorm, "positions": False}
TWINS = {
    "gpt": (lambda seed=0: built(GPT, seed, fused=True, layers=2), permute_gpt, token_batch),
    "separate": (lambda seed=0: built(GPT, seed, plain=True), permute_gpt, token_batch),
    "tied": (lambda seed=0: built(GPT, seed, fused=True, tied=True), permute_gpt, token_batch),
    "grouped": (lambda seed=0: built(GPT, seed, keys=2, fused=True, plain=True), permute_gpt, token_batch),
    "one key": (lambda seed=0: built(GPT, seed, keys=1), permute_gpt, token_batch),
    "rotary": (lambda seed=0: built(GPT, seed, fused=True, rotary=True), permute_gpt, token_batch),
    "llama": (lambda seed=0: built(GPT, seed, **LLAMA), permute_gpt, token_batch),
    "vit": (lambda seed=0: built(ViT, seed), permute_vit, picture_batch),
}


def names_of(model, data):
    return {name: order.shape for name, order in ll.align(model, copy.deepcopy(model), data=data).permutations.items()}


@pytest.mark.parametrize("method", ["weights", "activations"])
@pytest.mark.parametrize("name", TWINS)
def test_a_permuted_copy_comes_back_exactly(name, method):
    build, permute, batch = TWINS[name]
    model, data = build(), batch()
    twin = copy.deepcopy(model)
    permute(twin, torch.Generator().manual_seed(1))
    expected = outputs(model, data[0])
    torch.testing.assert_close(outputs(twin, data[0]), expected, rtol=1e-9, atol=1e-9)  # the test's own permutation
    before = [value.clone() for value in twin.state_dict().values()]
    aligned = ll.align(model, twin, method=method, data=data)
    torch.testing.assert_close(outputs(aligned.model, data[0]), expected, rtol=1e-9, atol=1e-9)
    for key, value in model.state_dict().items():
        assert torch.equal(aligned.model.state_dict()[key], value), key
    assert all(torch.equal(x, y) for x, y in zip(before, twin.state_dict().values(), strict=True))


@pytest.mark.parametrize("name", ["gpt", "vit"])
def test_there_is_no_barrier_to_an_aligned_copy(name):
    build, permute, batch = TWINS[name]
    model, (inputs, _) = build(), batch()
    twin = copy.deepcopy(model)
    permute(twin, torch.Generator().manual_seed(2))
    data = inputs, outputs(model, inputs).argmax(-1)  # as a network that has learned them
    options = {} if name == "vit" else {"loss": token_loss}
    objective = ll.objective(model, data, device="cpu", dtype=torch.float64, **options)
    way = ll.barrier(objective, model, ll.align(model, twin, data=data).model, resolution=5, progress=False)
    assert way.value == 0 and np.ptp(way.surface.loss) < 1e-9
    assert ll.barrier(objective, model, twin, resolution=5, progress=False).value > 0.01


def token_loss(model, batch):
    inputs, targets = batch
    return F.cross_entropy(model(inputs).transpose(1, 2), targets, reduction="none").mean(1)


@pytest.mark.parametrize(
    ("name", "method"), [*((name, "weights") for name in TWINS), ("gpt", "activations"), ("vit", "activations")]
)
def test_two_networks_are_aligned_and_compute_what_they_computed(name, method):
    build, _, batch = TWINS[name]
    (a, b), (inputs, targets) = (build(seed) for seed in (0, 1)), batch()
    aligned = ll.align(a, b, method=method, data=(inputs, targets))
    torch.testing.assert_close(outputs(aligned.model, inputs), outputs(b, inputs), rtol=1e-9, atol=1e-9)
    assert aligned.deviation < 1e-9 and aligned.converged
    moved = [(order != np.arange(order.shape[-1])).any() for order in aligned.permutations.values()]
    assert sum(moved) > len(moved) / 2


def agreement(a, b):
    return sum(float((x * y).detach().sum()) for x, y in zip(a.parameters(), b.parameters(), strict=True))


def test_aligned_weights_agree_better():
    a, b = (TWINS["grouped"][0](seed) for seed in (0, 1))
    assert agreement(a, ll.align(a, b, data=token_batch()).model) > agreement(a, b) + 1


def test_what_breaks_a_symmetry_is_left_alone():
    inside = {"inside blocks.0.q": (4, 4), "inside blocks.0.v": (4, 4)}
    plain = names_of(built(GPT), token_batch())
    assert {"tokens": (16,), "blocks of blocks.0.q": (4,), **inside, "blocks.0.up": (24,)}.items() <= plain.items()
    rotary = names_of(built(GPT, rotary=True), token_batch())
    assert rotary["blocks of blocks.0.q"] == (4,) and rotary["inside blocks.0.v"] == (4, 4)
    assert not any(name.startswith("inside") and name.endswith(".q") for name in rotary)  # rotary positions
    grouped = names_of(built(GPT, keys=2, rotary=True), token_batch())
    assert grouped["blocks of blocks.0.q"] == (2,) and grouped["inside blocks.0.q"] == (2, 2)  # heads of one key
    assert grouped["inside blocks.0.v"] == (2, 4)


def test_rows_that_a_pass_has_not_read_stay():
    """Positions behind the end of the samples are those of the same residual stream."""
    model = built(GPT, fused=True)
    aligned = ll.align(built(GPT, 1, fused=True), model, data=token_batch(length=3)).model
    longer = token_batch(length=LENGTH)[0]
    torch.testing.assert_close(outputs(aligned, longer), outputs(model, longer), rtol=1e-9, atol=1e-9)


def test_a_gpt_is_aligned_without_data():
    a, b = (built(GPT, seed, fused=True) for seed in (0, 1))
    aligned, inputs = ll.align(a, b).model, token_batch()[0]
    torch.testing.assert_close(outputs(aligned, inputs), outputs(b, inputs), rtol=1e-9, atol=1e-9)


class Encoder(nn.Module):
    """Multi-head attention with its weights asked for, padding, and a decoder that reads an encoder."""

    def __init__(self):
        super().__init__()
        self.tokens, self.attention = nn.Embedding(VOCABULARY, WIDTH), nn.MultiheadAttention(WIDTH, 4)
        self.encoder = nn.TransformerEncoder(nn.TransformerEncoderLayer(WIDTH, 4, 24, batch_first=True), 1)
        self.decoder = nn.TransformerDecoder(nn.TransformerDecoderLayer(WIDTH, 4, 24, batch_first=True), 1)
        self.head = nn.Linear(WIDTH, 3)

    def forward(self, ids):
        x = self.tokens(ids)
        first = x.transpose(0, 1)
        x = x + self.attention(first, first, first)[0].transpose(0, 1)
        memory = self.encoder(x, src_key_padding_mask=ids == 0)
        mask = nn.Transformer.generate_square_subsequent_mask(ids.shape[1], dtype=x.dtype)
        return self.head(self.decoder(x, memory, tgt_mask=mask).mean(1))


class Interleaved(nn.Module):
    """Rotary positions of neighbouring dimensions, as complex numbers, and products by their letters."""

    def __init__(self):
        super().__init__()
        self.tokens, self.qkv, self.o = nn.Embedding(VOCABULARY, WIDTH), nn.Linear(WIDTH, 48), nn.Linear(WIDTH, 3)

    def turned(self, x):
        angles = torch.arange(x.shape[1])[:, None, None] / 30.0 ** torch.tensor([0.0, 0.5], dtype=x.dtype)
        pairs = torch.view_as_complex(x.unflatten(-1, (2, 2))) * torch.polar(torch.ones_like(angles), angles)
        return torch.view_as_real(pairs).flatten(-2)

    def forward(self, ids):
        q, k, v = (part.unflatten(-1, (4, 4)) for part in self.qkv(self.tokens(ids)).chunk(3, -1))
        scores = torch.einsum("bqhd,bkhd->bhqk", self.turned(q), self.turned(k)).softmax(-1)
        return self.o(torch.einsum("bhqk,bkhd->bqhd", scores, v).flatten(2)).mean(1)


class Normed(nn.Module):
    """Queries and keys normalised by weights that all heads share, a bias table and a temperature of each head."""

    def __init__(self):
        super().__init__()
        self.tokens, self.qkv, self.o = nn.Embedding(VOCABULARY, WIDTH), nn.Linear(WIDTH, 48), nn.Linear(WIDTH, 3)
        self.norm, self.bias = nn.RMSNorm(4), nn.Embedding(2 * LENGTH, 4)
        self.scale = nn.Parameter(torch.rand(4, 1, 1))

    def forward(self, ids):
        q, k, v = (part.unflatten(-1, (4, 4)).transpose(1, 2) for part in self.qkv(self.tokens(ids)).chunk(3, -1))
        steps = torch.arange(ids.shape[1])
        bias = self.bias(steps - steps[:, None] + LENGTH).permute(2, 0, 1)
        scores = self.norm(q) @ self.norm(k).mT * self.scale + bias
        return self.o((scores.softmax(-1) @ v).transpose(1, 2).flatten(2)).mean(1)


def vision():
    from torchvision.models.vision_transformer import VisionTransformer

    sizes = {"image_size": 8, "patch_size": 4, "num_layers": 1, "num_heads": 4, "hidden_dim": 16, "mlp_dim": 24}
    model = VisionTransformer(**sizes, num_classes=3)
    nn.init.normal_(model.heads.head.weight)
    return model


FURTHER = {  # attention, with the shapes of what may be permuted inside of it
    "encoder": (Encoder, token_batch, [(4,), (4, 4), (4, 4)] * 4),
    "interleaved": (Interleaved, token_batch, [(4,), (4, 4)]),
    "normed": (Normed, token_batch, [(4,), (4, 4), (4,)]),
    "torchvision": (vision, lambda: picture_batch(size=8, channels=3), [(4,), (4, 4), (4, 4)]),
}


@pytest.mark.parametrize("name", FURTHER)
def test_attention_of_every_make_is_followed(name):
    kind, batch, shapes = FURTHER[name]
    (a, b), (inputs, targets) = (built(kind, seed) for seed in (0, 1)), batch()
    aligned = ll.align(a, b, data=(inputs, targets))
    torch.testing.assert_close(outputs(aligned.model, inputs), outputs(b, inputs), rtol=1e-9, atol=1e-9)
    found = sorted(order.shape for order in aligned.permutations.values() if order.shape[-1] == 4)
    assert found == sorted(shapes)
    back = ll.align(b, aligned.model, data=(inputs, targets)).model
    assert all(torch.equal(x, y) for x, y in zip(back.parameters(), b.parameters(), strict=True))


# --- networks of transformers -----------------------------------------------------------------------------------

SMALL = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 4, "intermediate_size": 24}
CONFIGURED = {
    "GPT2LMHeadModel": ({"vocab_size": 11, "n_positions": 10, "n_embd": 16, "n_layer": 1, "n_head": 4}, (4, 4), 1e-9),
    "LlamaForCausalLM": ({**SMALL, "vocab_size": 11, "num_key_value_heads": 2}, (2, 4), 1e-5),  # norms in float32
    "BertForSequenceClassification": ({**SMALL, "vocab_size": 11, "max_position_embeddings": 10}, (4, 4), 1e-9),
    "ViTForImageClassification": ({**SMALL, "image_size": 4, "patch_size": 2, "num_channels": 2}, (4, 4), 1e-9),
}


@pytest.mark.parametrize("name", CONFIGURED)
def test_networks_of_transformers_are_aligned(name):
    transformers = pytest.importorskip("transformers")
    options, inside, tolerance = CONFIGURED[name]
    kind = getattr(transformers, name)
    special = {"bos_token_id": 0, "eos_token_id": 0} if "vocab_size" in options else {}

    def made(seed):
        torch.manual_seed(seed)
        return shaken(kind(kind.config_class(**options, **special))).eval()

    a, b = made(0), made(1)
    inputs, targets = picture_batch() if "image_size" in options else token_batch()
    aligned = ll.align(a, b, data=(inputs, targets))
    torch.testing.assert_close(outputs(aligned.model, inputs), outputs(b, inputs), rtol=1e-4, atol=1e-5)
    assert aligned.deviation < tolerance
    assert [order.shape for name, order in aligned.permutations.items() if name.startswith("blocks")] == [inside[:1]]
    assert inside in [order.shape for order in aligned.permutations.values()]
    back = ll.align(b, aligned.model, data=(inputs, targets)).model
    assert all(torch.equal(x, y) for x, y in zip(back.parameters(), b.parameters(), strict=True))
    if "vocab_size" in options:  # a batch by names
        named = ll.align(a, b, data={"input_ids": inputs, "labels": inputs})
        assert all(torch.equal(x, y) for x, y in zip(named.model.parameters(), aligned.model.parameters(), strict=True))


# --- what is refused --------------------------------------------------------------------------------------------


class Routed(nn.Module):
    def __init__(self):
        super().__init__()
        self.router, self.head = nn.Linear(4, 5), nn.Linear(5, 3)

    def forward(self, x):
        return self.head(self.router(x).topk(5).values)


class Outer(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.last = nn.Linear(4, 5), nn.Linear(25, 3)

    def forward(self, x):
        h = self.first(x)
        return self.last((h[:, :, None] * h[:, None]).flatten(1))


class Deciding(nn.Module):
    """Its path depends on the order of the units."""

    def __init__(self):
        super().__init__()
        self.first, self.last = nn.Linear(4, 5), nn.Linear(5, 3)

    def forward(self, x):
        h = self.first(x)
        with torch.no_grad():
            index = int(torch.from_numpy(h.detach().numpy()).sum(0).argmax())
        return self.last(h) * (1 + index)


VECTORS = (torch.randn(6, 4, generator=torch.Generator().manual_seed(0)), torch.zeros(6, dtype=torch.int64))
REFUSED = {
    "routing": (Routed, "the operation 'topk' is not one"),
    "outer product": (Outer, "units of 'first.weight' are combined with one another"),
    "what is not seen": (Deciding, "the operation 'numpy' is not one"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_followed_is_refused_by_name(case):
    kind, message = REFUSED[case]
    with pytest.raises(ll.InputError, match=message) as raised:
        ll.align(built(kind), built(kind, 1), data=VECTORS)
    assert "\n" not in str(raised.value)
