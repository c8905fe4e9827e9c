"""Try an installed package, from a folder without the repository: the face, a surface, a figure and a page."""

from pathlib import Path

import torch

import landscape_lib as ll
from landscape.studies.matrix.index import index_page
from landscape.studies.matrix.links import Links

torch.manual_seed(0)
model = torch.nn.Sequential(torch.nn.Linear(4, 5), torch.nn.Tanh(), torch.nn.Linear(5, 3))
data = torch.randn(20, 4), torch.arange(20) % 3
surface = ll.evaluate(ll.objective(model, data), ll.random_plane(model, seed=0), resolution=5)
for path in (surface.save("surface.npz"), ll.save_figure(ll.plot_contour(surface), "figure.png")):
    print(path, Path(path).stat().st_size, "bytes")
print(ll.explore(surface, "page.html").stat().st_size, "bytes of a page")  # its parts are data of the package
print(len(index_page([], {}, Links(Path(), Path()))), "characters of an index")  # likewise
print("installed:", ll.__version__, "at", Path(ll.__file__).parent)
