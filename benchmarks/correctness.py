"""Put the same questions with exact answers to this toolkit and to its peers, side by side.

    pip install --no-deps -r benchmarks/requirements.txt    # the peers; those that are missing are left out
    python benchmarks/correctness.py                        # all of them, about ten minutes on two cores
    python benchmarks/correctness.py --tools PyHessian      # one; the answers of the others are kept

Writes correctness.json to --out, and the generated part of --page from it. Every tool runs in processes of its own: one
that crashes or hangs ends its own answer only. What a tool has no way to express stays an empty cell, and what it
defines in another way does not count.
"""

import json
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

import landscape_lib as ll  # noqa: E402
from benchmarks.correctness_suite.asking import answers_of  # noqa: E402
from benchmarks.correctness_suite.page import BEGIN, END, with_section  # noqa: E402
from benchmarks.correctness_suite.tools import TOOLS  # noqa: E402
from benchmarks.run import environment, write  # noqa: E402

__all__ = ["main"]


def main(
    tools: tuple[str, ...] = tuple(entry.name for entry in TOOLS),
    out: Path = Path("benchmarks/results"),
    page: Path = Path("docs/correctness.md"),
    seconds: float = 600.0,
) -> None:
    """Ask every tool every question that it can express.

    Args:
        tools: The tools to ask.
        out: Folder for the results.
        page: Page whose generated part is written anew.
        seconds: Time after which a process of a tool is stopped; the question that it was at is its time-out.
    """
    if unknown := set(tools) - {entry.name for entry in TOOLS}:
        names = ", ".join(entry.name for entry in TOOLS)
        raise ll.InputError(f"unknown tools: {', '.join(sorted(unknown))}; known are {names}")
    if not seconds > 0:
        raise ll.InputError(f"the time after which a process is stopped must be positive, but is {seconds:g} s")
    text = page.read_text(encoding="utf-8") if page.is_file() else ""
    if BEGIN not in text or END not in text:
        raise ll.InputError(f"{page} has no part to write anew: it needs the lines {BEGIN!r} and {END!r}")
    path = ll.cli.make_folder(out) / "correctness.json"
    earlier = json.loads(path.read_text())["tools"] if path.exists() else {}
    results = {"environment": environment(), "tools": {}}
    for entry in TOOLS:
        if entry.name in tools:
            with tempfile.TemporaryDirectory() as folder:
                results["tools"][entry.name] = answers_of(entry, Path(folder), seconds)
            print(f"{entry.name}: {summary(results['tools'][entry.name])}", flush=True)
        elif entry.name in earlier:
            results["tools"][entry.name] = earlier[entry.name]
    write(path, json.dumps(results, indent=1))
    write(page, with_section(text, results).rstrip("\n"))
    print(f"Wrote {path} and {page}")


def summary(tool: dict) -> str:
    if not tool["answers"]:
        return tool["skipped"]
    statuses = [one["status"] for one in tool["answers"] if one["status"] not in ("cannot", "differs")]
    return f"{statuses.count('right')} of {len(statuses)} right"


if __name__ == "__main__":
    ll.cli.run_script(main)
