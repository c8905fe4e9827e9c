"""Compare the toolkit with exact answers, on your own machine and device.

    python selftest.py                      # everything, under a minute on two cores
    python selftest.py --quick              # without the checks that repeat an evaluation many times
    python selftest.py --device cuda        # on a GPU

Prints what was compared with what and how far off it is, writes all of it as JSON, and exits with 1 if a check fails.
"""

import sys
from pathlib import Path

from landscape_lib import cli, selftest

__all__ = ["main"]


def main(device: str = "auto", quick: bool = False, out: Path = Path("selftest.json")) -> None:
    """Run the exact-answer suite.

    Args:
        device: auto (the first there of cuda, mps, cpu), cpu, cuda, cuda:N or mps.
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
