"""`python -m landscape`: what is installed here, which devices there are, and where the data lie; for bug reports."""

import os
import platform
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch

from landscape import __version__
from landscape.cli.console import sturdy_streams
from landscape.runtime.devices import has_bf16, select_device

__all__ = ["main"]

REQUIRED = ("torch", "torchvision", "numpy", "scipy", "matplotlib", "plotly", "tyro", "tqdm", "psutil", "scikit-learn")
OPTIONAL = ("transformers", "peft", "safetensors", "lightning", "vtk", "h5py", "xarray", "tensorboard", "wandb")
DATA = Path("data")


def main() -> None:
    """Print one line for each fact."""
    print(f"loss-landscape toolkit {__version__} in {Path(__file__).parent}")
    print(f"Python {platform.python_version()} on {platform.platform()}, {os.cpu_count()} processors")
    print(f"default device: {select_device('auto')}; threads of torch: {torch.get_num_threads()}")
    for device in ["cpu", *(f"cuda:{index}" for index in range(torch.cuda.device_count()))]:
        name = platform.processor() or platform.machine() if device == "cpu" else torch.cuda.get_device_name(device)
        precision = "bf16 in hardware" if has_bf16(torch.device(device)) else "no bf16 in hardware"
        print(f"  {device}: {name}, {precision}")
    if torch.backends.mps.is_available():
        print("  mps: Apple GPU, float32 only")
    print(f"installed: {', '.join(map(_installed, REQUIRED))}")
    print(f"optional: {', '.join(map(_installed, OPTIONAL))}")
    print(f"data: {_data()}")


def _installed(package: str) -> str:
    try:
        return f"{package} {version(package)}"
    except PackageNotFoundError:
        return f"{package} absent"


def _data() -> str:
    """The folder that scripts look into by default, and what lies there."""
    if not DATA.is_dir():
        return f"no folder {DATA.absolute()}; it is made when data are downloaded"
    entries = sorted(entry for entry in DATA.iterdir() if not entry.name.startswith("."))
    names = [entry.name if _holds_files(entry) else f"{entry.name} (no files)" for entry in entries]
    return f"{DATA.absolute()} holds {', '.join(names) or 'nothing'}"


def _holds_files(entry: Path) -> bool:
    """Whether ``entry`` is a file or has one below it; a download that failed leaves folders without files."""
    return entry.is_file() or any(path.is_file() for path in entry.rglob("*"))


if __name__ == "__main__":
    with sturdy_streams():
        if sys.argv[1:] in (["-h"], ["--help"]):
            print(__doc__)
        elif sys.argv[1:]:
            print(f"Error: python -m landscape takes no arguments, not {' '.join(sys.argv[1:])}", file=sys.stderr)
            sys.exit(2)
        else:
            main()
