"""See and measure the loss landscape of PyTorch networks; `landscape_lib` is what people import."""

from landscape.cli.interrupts import await_script

__all__ = ["__version__"]

__version__ = "0.2.0.dev0"

await_script()
