"""Networks of transformers and adapters of PEFT, random and tiny: beside plain passes of the networks themselves."""

import copy
import hashlib
import math

import pytest
import torch
import torch.nn.functional as F

import landscape_lib as ll

transformers = pytest.importorskip("transformers")

IDS = torch.randint(3, 32, (10, 8), generator=torch.Generator().manual_seed(0))
MASK = torch.ones_like(IDS)
MASK[::2, 5:] = 0
LABELS = IDS.masked_fill(MASK == 0, -100)
IMAGES = torch.randn(10, 1, 8, 8, generator=torch.Generator().manual_seed(1))
CLASSES = torch.arange(10) % 3
SMALL = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2, "num_attention_heads": 4}
GROUPED = {**SMALL, "vocab_size": 32, "num_key_value_heads": 2, "max_position_embeddings": 16}


def gpt2(**settings):
    config = transformers.GPT2Config(
        vocab_size=32, n_positions=16, n_embd=16, n_layer=2, n_head=2, eos_token_id=0, bos_token_id=0, **settings
    )
    return transformers.GPT2LMHeadModel(config)


def llama():
    return transformers.LlamaForCausalLM(transformers.LlamaConfig(**GROUPED))


def qwen():
    return transformers.Qwen2ForCausalLM(transformers.Qwen2Config(**GROUPED, tie_word_embeddings=True))


def bert():
    config = transformers.BertConfig(**SMALL, vocab_size=32, max_position_embeddings=16, num_labels=3)
    return transformers.BertForSequenceClassification(config)


def t5():
    config = transformers.T5Config(vocab_size=32, d_model=16, d_kv=4, d_ff=24, num_layers=2, num_heads=4)
    config.decoder_start_token_id = 0
    return transformers.T5ForConditionalGeneration(config)


def vit():
    config = transformers.ViTConfig(**SMALL, image_size=8, patch_size=4, num_channels=1, num_labels=3)
    return transformers.ViTForImageClassification(config)


def checkpointing():
    model = gpt2()
    model.gradient_checkpointing_enable({"use_reentrant": True})
    return model.train()  # the mode in which it has an effect


def caching():
    model = llama()
    model.config.use_cache = True
    return model


TOKENS = {"input_ids": IDS, "attention_mask": MASK, "labels": LABELS}
NETWORKS = {
    "gpt2": (gpt2, TOKENS, True),
    "llama": (llama, TOKENS, True),
    "qwen with tied embeddings": (qwen, TOKENS, True),
    "bert": (bert, {**TOKENS, "labels": CLASSES}, False),
    "t5": (t5, TOKENS, False),
    "vit": (vit, {"pixel_values": IMAGES, "labels": CLASSES}, False),
    "gradient checkpointing": (checkpointing, TOKENS, True),
    "caches": (caching, TOKENS, True),
}


def made(make):
    torch.manual_seed(0)
    return make().eval() if make is not checkpointing else make()


def outputs_of(model, batch, shifted):
    """Logits and labels, one place apart where the next token is predicted."""
    keep_labels = hasattr(model.config, "decoder_start_token_id") and model.config.is_encoder_decoder
    inputs = {key: value for key, value in batch.items() if key != "labels" or keep_labels}
    logits, labels = model(**inputs).logits, batch["labels"]
    return (logits[:, :-1], labels[:, 1:]) if shifted else (logits, labels)


def loss_of(shifted):
    def loss(model, batch):
        logits, labels = outputs_of(model, batch, shifted)
        if labels.ndim == 1:
            return F.cross_entropy(logits, labels, reduction="none")
        counts = (labels != -100).sum(1)
        return ll.Weighted(F.cross_entropy(logits.transpose(1, 2), labels, reduction="none").sum(1) / counts, counts)

    return loss


def plain_loss(model, batch, shifted):
    """The mean over everything at once."""
    logits, labels = outputs_of(model, batch, shifted)
    return F.cross_entropy(logits.flatten(0, -2).double(), labels.flatten())


def plain_product(model, names, vector, batch, shifted):
    """H v of the parameters ``names``: the gradient of g v, by the attention that can be differentiated twice."""
    own = dict(model.named_parameters())
    parameters = [own[name] for name in names]
    with torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH):
        gradients = torch.autograd.grad(plain_loss(model, batch, shifted), parameters, create_graph=True)
        slope = torch.cat([gradient.flatten() for gradient in gradients]) @ vector
        return torch.cat([image.flatten() for image in torch.autograd.grad(slope, parameters)])


def state_of(model):
    return hashlib.sha256(b"".join(value.numpy().tobytes() for value in model.state_dict().values())).hexdigest()


@pytest.mark.parametrize("name", NETWORKS)
def test_surfaces_products_and_more_are_those_of_the_network(name):
    make, batch, shifted = NETWORKS[name]
    model, plain = made(make), made(make).eval()
    before, training = state_of(model), model.training
    target = ll.objective(model, batch, loss=loss_of(shifted), device="cpu", batch_size=3)
    plane = ll.random_plane(model, seed=1)
    surface = ll.evaluate(target, plane, resolution=(3, 2), progress=False)
    for i, alpha in enumerate(surface.alphas):
        for j, beta in enumerate(surface.betas):
            with torch.no_grad():
                moved = ll.model_at(plain, plane(alpha, beta))
                assert surface.loss[i, j] == pytest.approx(plain_loss(moved, batch, shifted).item(), rel=2e-6)
    product = ll.hessian_product(target, model, parameters="norm")
    vector = torch.randn(product.dimension, generator=torch.Generator().manual_seed(2))
    expected = plain_product(plain, product.names, vector, batch, shifted)
    found = torch.from_numpy(product.matvec(vector.numpy())).float()
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-5 * float(expected.abs().max()))
    rise = ll.sharpness(target, model, "sam", radius=0.1)
    gradients = torch.autograd.grad(plain_loss(plain, batch, shifted), [*plain.parameters()], allow_unused=True)
    length = math.sqrt(sum(float(g.double().square().sum()) for g in gradients if g is not None))
    with torch.no_grad():
        low = plain_loss(plain, batch, shifted).item()
        for parameter, gradient in zip(plain.parameters(), gradients, strict=True):
            if gradient is not None:
                parameter += 0.1 * gradient / length
        assert rise.value == pytest.approx(plain_loss(plain, batch, shifted).item() - low, rel=1e-3)
    assert ll.barrier(target, model, plain, resolution=3, progress=False).value < 0.1
    path = ll.project([model, plain], plane, target, progress=False)
    assert path.loss[1] - path.loss[0] == pytest.approx(rise.value, rel=1e-3) and path.coordinates.shape == (2, 2)
    assert state_of(model) == before and model.training == training


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("make", [gpt2, vit])
def test_weights_of_half_precision_are_computed_with_in_float32(make, dtype):
    batch, shifted = (TOKENS, True) if make is gpt2 else ({"pixel_values": IMAGES, "labels": CLASSES}, False)
    model = made(make).to(dtype)
    before = [value.clone() for value in model.parameters()]
    target = ll.objective(model, batch, loss=loss_of(shifted), device="cpu")
    plane = ll.random_plane(model, seed=1)
    surface = ll.evaluate(target, plane, resolution=3, progress=False)
    plain = copy.deepcopy(model).float()
    for i, j in ((0, 0), (1, 1), (2, 0)):
        point = {
            name: plane.origin[name].float()
            + surface.alphas[i] * plane.directions[0][name]
            + surface.betas[j] * plane.directions[1][name]
            for name in plane.origin
        }
        with torch.no_grad():
            expected = plain_loss(ll.model_at(plain, point), batch, shifted).item()
        assert surface.loss[i, j] == pytest.approx(expected, rel=2e-6)
    assert all(
        torch.equal(value, old) and value.dtype == dtype for value, old in zip(model.parameters(), before, strict=True)
    )


def test_a_contrastive_loss_of_clip_takes_all_data_as_one_batch():
    text = {**SMALL, "vocab_size": 32, "max_position_embeddings": 16, "eos_token_id": 31, "pad_token_id": 0}
    vision = {**SMALL, "image_size": 8, "patch_size": 4, "num_channels": 1}
    torch.manual_seed(0)
    model = transformers.CLIPModel(
        transformers.CLIPConfig(text_config=text, vision_config=vision, projection_dim=8)
    ).eval()
    batch = {"input_ids": IDS, "pixel_values": IMAGES}
    loss = lambda net, b: net(**b, return_loss=True).loss  # noqa: E731
    with pytest.raises(ll.InputError, match="whole_batch=True"):
        ll.objective(model, batch, loss=loss, device="cpu")
    target, plane = ll.objective(model, batch, loss=loss, device="cpu", whole_batch=True), ll.random_plane(model)
    surface = ll.evaluate(target, plane, resolution=3, progress=False)
    with torch.no_grad():
        expected = loss(ll.model_at(model, plane(1.0, -1.0)), batch).item()
    assert surface.loss[2, 0] == pytest.approx(expected, rel=2e-6)
    assert "visual_projection.weight" in plane.moved


@pytest.mark.parametrize("loss", ["model", "language_model", loss_of(True)])
def test_the_ggn_takes_the_logits_of_what_a_network_returns(loss):
    model = made(gpt2)
    found = ll.ggn_product(ll.objective(model, TOKENS, loss=loss, device="cpu"), model, parameters=("*ln_f*",))
    weight, bias = model.transformer.ln_f.weight, model.transformer.ln_f.bias

    def logits(vector):
        point = {"transformer.ln_f.weight": vector[:16], "transformer.ln_f.bias": vector[16:]}
        inputs = {"input_ids": IDS, "attention_mask": MASK}
        return (
            torch.func.functional_call(model, point, (), inputs)
            .logits[:, :-1]
            .flatten(0, 1)[LABELS[:, 1:].flatten() != -100]
        )

    vector = torch.cat([weight, bias]).detach()
    jacobian = torch.autograd.functional.jacobian(logits, vector)
    shares = logits(vector).detach().softmax(1)
    curvature = torch.diag_embed(shares) - shares[:, :, None] * shares[:, None]
    expected = torch.einsum("nci,ncd,ndj->ij", jacobian, curvature, jacobian) / len(shares)
    torch.testing.assert_close(
        torch.from_numpy(found.matvec(torch.ones(32).numpy())).float(), expected.sum(1), rtol=1e-4, atol=1e-6
    )


def test_a_plane_of_peft_adapters_is_that_of_the_merged_network():
    peft = pytest.importorskip("peft")
    model = peft.get_peft_model(
        made(llama), peft.LoraConfig(r=4, lora_alpha=8, target_modules=["q_proj", "down_proj"])
    ).eval()
    with pytest.warns(UserWarning, match=r"4 weight\(s\) are zero, .*as in LoRA adapters before they are trained"):
        ll.random_plane(model, parameters="trainable")
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.1)
    base = {name: value.clone() for name, value in model.named_parameters() if "lora" not in name}
    target = ll.objective(model, TOKENS, loss=loss_of(True), device="cpu", batch_size=4)
    plane = ll.random_plane(model, seed=4, parameters="trainable")
    assert plane.moved == [name for name, _ in model.named_parameters() if "lora" in name] and len(plane.moved) == 8
    surface = ll.evaluate(target, plane, resolution=(3, 2), progress=False)
    for i, alpha in enumerate(surface.alphas):
        for j, beta in enumerate(surface.betas):
            point, dense = plane(alpha, beta), made(llama)
            for name, weight in dense.named_parameters():
                key = f"base_model.model.{name.removesuffix('.weight')}"
                if f"{key}.lora_A.default.weight" in point:
                    b, a = point[f"{key}.lora_B.default.weight"], point[f"{key}.lora_A.default.weight"]
                    weight.data += 8 / 4 * b @ a
            with torch.no_grad():
                assert surface.loss[i, j] == pytest.approx(plain_loss(dense, TOKENS, True).item(), rel=1e-6)
    assert all(torch.equal(value, base[name]) for name, value in model.named_parameters() if name in base)
    product = ll.hessian_product(target, model, parameters="trainable")
    assert product.dimension == sum(value.numel() for value in model.parameters() if value.requires_grad)


def test_kinds_of_layers_are_told_by_the_names_of_these_networks():
    for make, kinds in ((gpt2, 4), (llama, 5), (bert, 5), (t5, 5), (vit, 5)):
        model = made(make)
        shares = {
            kind: set(ll.random_line(model, parameters=kind, ignore=()).moved)
            for kind in ("attention", "mlp", "embedding", "norm", "head")
            if kind != "norm" or make is not gpt2
        }
        assert all(shares.values()) and len(shares) >= kinds
        names = {name for name, value in model.named_parameters() if value.any()}
        everything = set().union(*shares.values(), {name for name in names if "norm" in name.lower() or ".ln_" in name})
        assert {name for name in names if "pooler" not in name} <= everything


@pytest.mark.parametrize("coefficient", [0.02, 1.0])
@pytest.mark.parametrize("loss", ["model", lambda model, batch: model(**batch).loss])
def test_the_balancing_loss_of_experts_is_refused_for_what_it_is(coefficient, loss):
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(0)
    network = transformers.MixtralForCausalLM(
        transformers.MixtralConfig(
            vocab_size=32,
            hidden_size=16,
            intermediate_size=16,
            num_hidden_layers=2,
            num_attention_heads=2,
            num_key_value_heads=1,
            num_local_experts=4,
            num_experts_per_tok=2,
            router_aux_loss_coef=coefficient,
            output_router_logits=True,
        )
    ).eval()
    tokens = torch.randint(0, 32, (24, 8), generator=torch.Generator().manual_seed(1))
    data = {"input_ids": tokens, "labels": tokens}
    with pytest.raises(ll.InputError, match=r"depends on the others of its batch.*balancing terms"):
        ll.objective(network, data, loss=loss, device="cpu")
    whole = ll.objective(network, data, loss=loss, device="cpu", whole_batch=True)
    with torch.no_grad():
        assert whole(ll.parameters_of(network)).mean().item() == pytest.approx(network(**data).loss.item(), rel=1e-6)
    apart = ll.objective(network, data, loss="language_model", device="cpu", batch_size=5)  # without the balancing
    with torch.no_grad():
        logits = network(input_ids=tokens).logits[:, :-1].flatten(0, 1)
    expected = torch.nn.functional.cross_entropy(logits, tokens[:, 1:].flatten()).item()
    assert apart(ll.parameters_of(network)).mean().item() == pytest.approx(expected, rel=1e-5)
