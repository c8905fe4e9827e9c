"""
Rough without shortcuts, smooth with them
=========================================

Two networks of twenty layers on the digits, one with shortcuts around its blocks and one without (compare Li et
al. 2018, section 5). The data, the training and the kind of plane are the same, and so is the scale of the
colours.
"""

import torch
from torch import nn

import landscape_lib as ll


class Deep(nn.Module):
    """Twenty layers of 32 units; with shortcuts every layer adds to its input."""

    def __init__(self, shortcuts):
        super().__init__()
        self.first, self.last = nn.Linear(64, 32), nn.Linear(32, 10)
        self.blocks = nn.ModuleList(nn.Linear(32, 32) for _ in range(18))
        self.shortcuts = shortcuts
        for block in self.blocks:
            nn.init.orthogonal_(block.weight, gain=0.3 if shortcuts else 2**0.5)

    def forward(self, images):
        x = self.first(images.flatten(1)).relu()
        for block in self.blocks:
            x = x + block(x).relu() if self.shortcuts else block(x).relu()
        return self.last(x)


train, test = (ll.load_dataset("digits", split=split) for split in ("train", "test"))
surfaces = []
for shortcuts in (False, True):
    torch.manual_seed(1)
    model = Deep(shortcuts)
    history = ll.fit(model, train, test, epochs=15, batch_size=32, lr=0.001, seed=0, optimizer="adam")
    print(f"shortcuts {shortcuts}: test accuracy {history[-1]['test_accuracy']:.1%}")
    objective = ll.objective(model, train.subset(300, seed=0))
    surfaces.append(ll.evaluate(objective, ll.random_plane(model, seed=4), resolution=41))

# %%
figure = ll.plot_comparison(surfaces, titles=["without shortcuts", "with shortcuts"], log_scale=True)
