"""Small networks with the structures that break landscape tools, as zero-argument makers, and a plain oracle."""

import copy

import torch
from torch import nn


class Residual(nn.Module):
    """A functional ReLU, a skip connection and a head: no Sequential to lean on."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(2, 4, 3, padding=1)
        self.norm = nn.BatchNorm2d(4)
        self.conv = nn.Conv2d(4, 4, 3, padding=1, groups=2, padding_mode="circular")
        self.head = nn.Linear(4, 3)

    def forward(self, x):
        h = torch.relu(self.norm(self.stem(x)))
        h = torch.relu(h + self.conv(h))
        return self.head(h.mean((2, 3)))


class Tied(nn.Module):
    """One weight used by two layers."""

    def __init__(self):
        super().__init__()
        self.a = nn.Linear(8, 8)
        self.b = nn.Linear(8, 8)
        self.b.weight = self.a.weight
        self.out = nn.Linear(8, 3)

    def forward(self, x):
        return self.out(torch.tanh(self.b(torch.tanh(self.a(x.flatten(1)[:, :8])))))


class Twice(nn.Module):
    """One layer applied twice."""

    def __init__(self):
        super().__init__()
        self.inner = nn.Linear(32, 32)
        self.out = nn.Linear(32, 3)

    def forward(self, x):
        return self.out(torch.relu(self.inner(torch.relu(self.inner(x.flatten(1))))))


class Functional(nn.Module):
    """A parameter used in forward without a module of its own, before the first layer."""

    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.ones(32))
        self.out = nn.Linear(32, 3)

    def forward(self, x):
        return self.out(x.flatten(1) * self.scale)


class Attention(nn.Module):
    """nn.MultiheadAttention uses its output projection without calling it."""

    def __init__(self):
        super().__init__()
        self.embed = nn.Linear(4, 8)
        self.attention = nn.MultiheadAttention(8, 2, batch_first=True)
        self.out = nn.Linear(8, 3)

    def forward(self, x):
        h = self.embed(x.flatten(1).unflatten(1, (8, 4)))
        return self.out(self.attention(h, h, h, need_weights=False)[0].mean(1))


class Scaled(nn.Module):
    """A parameter that is one number."""

    def __init__(self):
        super().__init__()
        self.inner = nn.Linear(32, 8)
        self.scale = nn.Parameter(torch.tensor(1.3))
        self.out = nn.Linear(8, 3)

    def forward(self, x):
        return self.out(self.scale * torch.relu(self.inner(x.flatten(1))))


def linear():
    return nn.Sequential(nn.Flatten(), nn.Linear(32, 3))


def mlp():
    return nn.Sequential(nn.Flatten(), nn.Linear(32, 16), nn.ReLU(), nn.Linear(16, 8), nn.ReLU(), nn.Linear(8, 3))


def cnn():
    return nn.Sequential(
        nn.Conv2d(2, 4, 3, padding=1),
        nn.ReLU(inplace=True),
        nn.MaxPool2d(2),
        nn.Conv2d(4, 6, 3, padding=1),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(24, 3),
    )


def batch_norm_cnn():
    model = nn.Sequential(
        nn.Conv2d(2, 4, 3, padding=1, bias=False),
        nn.BatchNorm2d(4),
        nn.ReLU(),
        nn.Conv2d(4, 4, 1),
        nn.BatchNorm2d(4),
        nn.Flatten(),
        nn.Linear(64, 3),
    )
    return with_statistics(model)


def with_statistics(model):
    """Run a few training passes so that running statistics differ from their initial values."""
    model.train()
    for _ in range(3):
        model(torch.randn(16, 2, 4, 4) * 2 + 1)
    return model.eval()


NETWORKS = {
    "linear": linear,
    "mlp": mlp,
    "cnn": cnn,
    "batch_norm_cnn": batch_norm_cnn,
    "residual": lambda: with_statistics(Residual()),
    "tied": Tied,
    "twice": Twice,
    "functional": Functional,
    "attention": Attention,
    "scaled": Scaled,
}


class Decides(nn.Module):
    """A network whose path depends on its values, as one forward pass cannot tell."""

    def __init__(self, net, bound):
        super().__init__()
        self.net, self.bound = net, bound

    def forward(self, inputs):
        logits = self.net(inputs)
        return 2 * logits if logits.norm() > self.bound else logits


def make(name, seed=0):
    torch.manual_seed(seed)
    return NETWORKS[name]().eval()


def images(count=13, seed=1):
    """Inputs [count, 2, 4, 4] and labels of three classes; 13 is no multiple of any batch size in the tests."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(count, 2, 4, 4, generator=generator), torch.randint(0, 3, (count,), generator=generator)


def plain_losses(model, slice_, coordinates, inputs, targets):
    """Cross-entropy [N] in float64 by loading the moved weights into a fresh copy: shares no code with evaluate."""
    moved = copy.deepcopy(model).double().eval()
    with torch.no_grad():
        for name, parameter in moved.named_parameters():
            value = slice_.origin[name].double()
            for c, d in zip(coordinates, slice_.directions, strict=True):
                value = value + c * d[name].double()
            parameter.copy_(value)
        logits = moved(inputs.double())
        return -torch.log_softmax(logits, 1)[torch.arange(len(targets)), targets], logits
