"""
Points, directions and lines
============================

A point is a plain dictionary of tensors, so anything that torch can do with tensors makes a direction or a line.
Here the loss along several random lines, and along the line between the first and the last weights of a training.
"""

import copy

import torch

import landscape_lib as ll

torch.manual_seed(0)
train, test = (ll.load_dataset("digits", split=split) for split in ("train", "test"))
model = ll.build_model("mlp", input_shape=(1, 8, 8), classes=10, depth=1, width=32)
before = copy.deepcopy(model)
ll.fit(model, train, test, epochs=10, batch_size=32, lr=0.1, seed=0)
objective = ll.objective(model, train)

# %%
# How far did training go, and is a direction of training like a random one?

start, end = ll.parameters_of(before), ll.parameters_of(model)
step = {name: end[name] - start[name] for name in end}
[drawn] = ll.random_directions(model, 1, seed=0)
normalised = ll.filter_normalize(step, end)
print(f"|step| / |weights| = {ll.norm(step) / ll.norm(end):.2f}")
print(f"cosine with a random direction {ll.cosine(step, drawn):.3f}")
print(f"norm of the filter-normalised step {ll.norm(normalised):.2f}")

# %%
# From the first weights (0) to the last (1) and beyond.

ll.plot_slices(ll.evaluate(objective, ll.interpolation_line(before, model), alpha_range=(-0.5, 2), resolution=51))

# %%
# Random lines, as far as the loss rises by 1 along the first of them.

lines = [ll.random_line(model, seed=seed) for seed in range(5)]
span = ll.find_span(objective, lines[0], rise=1.0)["span"]
ll.plot_lines([ll.evaluate(objective, line, alpha_range=(-span, span), resolution=31) for line in lines])

# %%
# A network at any point, for anything else that you want to know about it.

middle = ll.model_at(model, {name: start[name] + 0.5 * step[name] for name in end})
print(f"accuracy half way: {float((middle(test.inputs).argmax(1) == test.targets).double().mean()):.1%}")
