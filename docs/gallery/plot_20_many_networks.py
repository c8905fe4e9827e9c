"""
Many networks at once
=====================

Six networks of one shape are trained together, by batched products, with the same results as alone. Their
surroundings differ less than those of two architectures would.
"""

import torch

import landscape_lib as ll

train, test = (ll.load_dataset("moons:train=300,noise=0.2", split=split) for split in ("train", "test"))
models, trainings = [], []
for seed in range(6):
    torch.manual_seed(seed)
    models.append(ll.build_model("shallow-small", input_shape=(2,), classes=2))
    trainings.append(ll.Training(epochs=30, batch_size=32, lr=0.1, seed=seed))
histories = ll.fit_stacked(models, [train] * 6, [test] * 6, trainings)
print(", ".join(f"{history[-1]['test_accuracy']:.1%}" for history in histories))

# %%
surfaces = [ll.evaluate(ll.objective(model, train), ll.random_plane(model, seed=0), resolution=21) for model in models]
figure = ll.plot_tiles(surfaces, titles=[f"seed {seed}" for seed in range(6)], columns=3)

# %%
# Two of them, and their difference.

figure = ll.plot_difference(surfaces[0], surfaces[1], titles=["seed 0", "seed 1"])
