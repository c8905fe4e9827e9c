"""
A language model
================

A small GPT learns to predict the bytes of a text that Python itself has; then its loss is drawn, per kind of layer
and along random directions. A model of the transformers library takes its place without other changes.
"""

# %%
# Sequences of 32 bytes from the topics of ``pydoc``.

import pydoc_data.topics

import torch

import landscape_lib as ll

text = "".join(pydoc_data.topics.topics[name] for name in ("assignment", "class", "for", "function", "if", "while"))
tokens = torch.tensor(list(text.encode()))[: 32 * 600].reshape(600, 32)
train, held_out = {"input_ids": tokens[:500]}, {"input_ids": tokens[500:]}
print(f"{tokens.numel():,} bytes")

# %%
# Train. Any causal model that maps ``input_ids`` to logits will do.

torch.manual_seed(0)
model = ll.build_model("gpt", input_shape=(32,), classes=256, layers=2, heads=2, width=32)
optimizer = torch.optim.AdamW(model.parameters(), 3e-3)
for _ in range(400):
    batch = tokens[:500][torch.randint(500, (32,))]
    loss = torch.nn.functional.cross_entropy(model(batch)[:, :-1].flatten(0, 1), batch[:, 1:].flatten())
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
model.eval()
print(f"{loss.item():.2f} nats a byte")

# %%
# The loss over a plane
# ---------------------
# ``loss="language_model"`` is the cross-entropy of the next token, averaged over tokens.

plane = ll.random_plane(model, seed=0)
objectives = {
    name: ll.objective(model, {"input_ids": data["input_ids"][:100]}, loss="language_model")
    for name, data in (("training text", train), ("held-out text", held_out))
}
surfaces = [ll.evaluate(objective, plane, resolution=11) for objective in objectives.values()]
figure = ll.plot_comparison(surfaces, titles=[*objectives])

# %%
# The perplexity and the accuracy of tokens come with the loss.

surfaces[1].quantities.keys()

# %%
# Which kind of layer is sharp
# ----------------------------
# Noise in one layer at a time.

objective = objectives["training text"]
layers = ll.layer_sharpness(objective, model, samples=3)
ll.plot_sharpness(layers)

# %%
# Only the attention
# ------------------
# ``parameters`` restricts a plane, a product or a measure to a part of the network.

attention = ll.random_plane(model, seed=0, parameters="attention")
ll.plot_contour(ll.evaluate(objective, attention, resolution=11))

# %%
# How far one can go
# ------------------
# The loss along random directions, and the share of all directions that stays within a rise.

basin = ll.basin_radii(objective, model, directions=10, rise=0.1)
ll.plot_basin_radii(basin)
