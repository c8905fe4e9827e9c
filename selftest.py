"""Compare results of the toolkit with exact answers, on your own machine and device.

    python selftest.py                      # everything, in half a minute on two cores
    python selftest.py --quick              # without the checks that repeat an evaluation many times
    python selftest.py --device cuda        # on a GPU

The script prints every comparison and its error, writes all of them as JSON, and exits with code 1 if a check fails.
"""

import sys
from pathlib import Path

from landscape_lib import cli, selftest

__all__ = ["main"]


def main(device: str = "auto", quick: bool = False, out: Path = Path("selftest.json")) -> None:
    """Run the exact-answer suite.

    Args:
        device: Device: cpu, cuda, cuda:N or mps. auto takes the first one available of cuda, mps, cpu.
        quick: Leave out the checks that repeat an evaluation many times.
        out: JSON file with every comparison.
    """
    result = selftest(device=device, quick=quick)
    print(result.table)
    print(result)
    print(f"Wrote {result.save(out)}")
    if not result.passed:
        sys.exit(1)


if __name__ == "__main__":
    cli.run_script(main)
