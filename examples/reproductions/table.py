"""The records of the reproductions, and the tables made from them.

    python examples/reproductions/table.py                # writes the tables of both pages again, from results/*.json

Every script begins with `begin` and ends with `record`. The tables are in docs/reproductions.md and in the
README.md of this folder, between two comments; everything else of these pages is written by hand.
"""

import json
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
import landscape_lib as ll

__all__ = ["Row", "begin", "main", "record", "records", "rows_table", "scripts_table"]

FOLDER = Path(__file__).resolve().parent
RESULTS = FOLDER / "results"
ROOT = FOLDER.parents[1]
BEGIN, END = "<!-- table -->", "<!-- end of table -->"


@dataclass(frozen=True)
class Row:
    """A published value beside the one that was measured here."""

    quantity: str
    published: str
    here: str
    source: str  # section, figure or table of the paper
    agrees: bool
    criterion: str  # what counts as agreement, such as "within 10 %"


def begin(settings: dict[str, Any]) -> None:
    """Make the folder ``out``, and check the other options of a script before its work.

    Raises:
        InputError: a count is below 1, a seed or a number is negative, or a list is empty.
    """
    for name, value in settings.items():
        values = value if isinstance(value, tuple) else (value,)
        if not values:
            raise ll.InputError(f"{name} is empty; give at least one value")
        for one in values:
            if name.startswith("seed"):
                ll.cli.check_seed(one, name)
            elif isinstance(one, int):
                ll.cli.check_count(name, one)
            elif isinstance(one, float):
                ll.cli.check_number(name, one, least=0)
    ll.cli.make_folder(settings["out"])


def record(
    script: str | Path, rows: list[Row], out: Path, *, paper: str, claim: str, settings: dict[str, Any], **numbers: Any
) -> None:
    """Print ``rows`` and write them to a JSON file in ``out``, with the settings and all measured numbers.

    Args:
        script: Path of the script, ``__file__``.
        rows: What is compared.
        out: Folder of the file, made if it is missing.
        paper: Authors, year and title.
        claim: What the paper says, in a sentence.
        settings: The options of the script; paths are left out.
        **numbers: What was measured, in JSON types, so that the figure can be drawn again.
    """
    name = Path(script).stem
    for row in rows:
        verdict = _verdict(row).replace("*", "")
        print(f"{row.quantity}: published {row.published}, here {row.here}; agrees: {verdict}", flush=True)
    content = {
        "script": name,
        "paper": paper,
        "claim": claim,
        "rows": [asdict(row) for row in rows],
        "settings": {name: value for name, value in settings.items() if not isinstance(value, Path)},
        "cpu_minutes": round(time.process_time() / 60, 2),
        "versions": {"toolkit": ll.__version__, "torch": torch.__version__},
        **numbers,
    }
    ll.cli.wrote(ll.cli.write_json(ll.cli.make_folder(out) / f"{name}.json", content))


def records(folder: Path = RESULTS) -> list[dict[str, Any]]:
    """The records in ``folder``, by name."""
    return [json.loads(path.read_text("utf-8")) for path in sorted(folder.glob("*.json"))]


def rows_table(records: list[dict[str, Any]]) -> str:
    """A section of Markdown for each record: claim, paper, rows, and the figure if there is one."""
    parts = []
    for one in records:
        rows = [Row(**row) for row in one["rows"]]
        lines = ["| quantity | published | here | agrees (criterion) | source |", "| --- | --- | --- | --- | --- |"]
        lines += [f"| {r.quantity} | {r.published} | {r.here} | {_verdict(r)} | {r.source} |" for r in rows]
        parts += [f"**{one['claim']}.** {one['paper']}. `{one['script']}.py`", "\n".join(lines)]
        if (figure := RESULTS / f"{one['script']}.png").is_file():
            parts.append(f"![{one['claim']}](../{figure.relative_to(ROOT).as_posix()})")
    return "\n\n".join(parts)


def scripts_table(records: list[dict[str, Any]]) -> str:
    """A row of Markdown for each script: what it shows, how long it takes, and how many of its rows agree."""
    lines = ["| script | what the paper says | minutes of CPU time | rows that agree |", "| --- | --- | --- | --- |"]
    for one in records:
        agreeing = sum(row["agrees"] for row in one["rows"])
        minutes = f"{one['cpu_minutes']:.1f}"
        lines.append(f"| `{one['script']}.py` | {one['claim']} | {minutes} | {agreeing} of {len(one['rows'])} |")
    return "\n".join(lines)


def main() -> None:
    """Write the tables of both pages again."""
    measured = records()
    pages = {ROOT / "docs" / "reproductions.md": rows_table, FOLDER / "README.md": scripts_table}
    for page, table in pages.items():
        before, _, rest = page.read_text("utf-8").partition(BEGIN)
        after = rest.partition(END)[2]
        ll.cli.write_text(page, f"{before}{BEGIN}\n\n{table(measured)}\n\n{END}{after}")
        ll.cli.wrote(page)


def _verdict(row: Row) -> str:
    return f"{'yes' if row.agrees else '**no**'} ({row.criterion})"


if __name__ == "__main__":
    ll.cli.run_script(main)
