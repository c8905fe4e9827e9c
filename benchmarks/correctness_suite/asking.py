"""Put questions to one tool, in processes of its own, and write every answer as soon as it is there.

python -m benchmarks.correctness_suite.asking TOOL FILE QUESTION [QUESTION ...]
"""

import contextlib
import io
import json
import math
import os
import subprocess
import sys
import textwrap
import warnings
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.correctness_suite.protocol import CannotAnswer, Tool
from benchmarks.correctness_suite.questions import QUESTIONS, Question
from benchmarks.correctness_suite.tools import Entry
from benchmarks.peers import missing
from landscape.selftest.comparison import Comparison

__all__ = ["answer", "answers_of"]

ROOT = Path(__file__).resolve().parents[2]
MODULE = "benchmarks.correctness_suite.asking"  # this one, by the name that does not depend on who runs it


def answer(tool: Tool, question: Question) -> dict[str, Any]:
    """The answer of ``tool``, as JSON types; its status is right, wrong, differs, cannot or stopped."""
    comparisons: list[Comparison] = []
    torch.manual_seed(0)
    np.random.seed(0)  # what a tool draws without a seed is the same in every run
    try:
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            comparisons.extend(question.run(tool))
    except CannotAnswer as reason:
        return {"question": question.name, "status": "cannot", "found": str(reason)}
    except Exception as failure:  # whatever stops a tool is its answer
        text = _shortened(f"{type(failure).__name__}: {failure}")
        return _with_remark(tool, question, {"question": question.name, "status": "stopped", "found": text})
    wrong = [comparison for comparison in comparisons if not comparison.passed]
    worst = max(wrong or comparisons, key=lambda c: c.difference / (c.allowed or 1e-300))
    record: dict[str, Any] = {
        "question": question.name,
        "status": "right",
        "found": f"{worst.what}: deviation {_number(worst.difference)}, allowed {worst.allowed:g}",
        "comparisons": [[c.what, _number(c.difference), c.allowed] for c in wrong or [worst]],
    }
    if not wrong:
        return record
    if question.name in tool.differs:
        return record | {"status": "differs", "remark": tool.differs[question.name]}
    return _with_remark(tool, question, record | {"status": "wrong"})


def _with_remark(tool: Tool, question: Question, record: dict[str, Any]) -> dict[str, Any]:
    remark = tool.remarks.get(question.name)
    return record | ({"remark": remark} if remark else {})


def _shortened(text: str) -> str:
    """``text`` in one short line, without paths of this machine."""
    for folder, shown in ((str(ROOT), "."), (sys.prefix, "...")):
        text = text.replace(folder, shown)
    return textwrap.shorten(text, 160, placeholder=" ...")


def _number(value: float) -> str:
    return f"{value:.2g}" if math.isfinite(value) else "NaN, infinity or another shape"


def answers_of(entry: Entry, folder: Path, seconds: float, questions: Sequence[Question] = QUESTIONS) -> dict[str, Any]:
    """The answers of a tool that is run in processes of its own: after a crash or time-out, the next question follows.

    Args:
        entry: The tool.
        folder: Where answers are written on the way.
        seconds: Time after which a process is stopped.
        questions: What is asked.
    """
    answers: list[dict[str, Any]] = []
    environment = os.environ | {"MPLBACKEND": "Agg", "OMP_NUM_THREADS": "1"}
    while len(answers) < len(questions):
        file, rest = folder / f"{len(answers)}.jsonl", questions[len(answers) :]
        names = [question.name for question in rest]
        command = [sys.executable, "-m", MODULE, json.dumps(asdict(entry)), str(file), *names]
        try:
            process = subprocess.run(
                command, cwd=ROOT, env=environment, timeout=seconds, capture_output=True, text=True, check=False
            )
            failure = (process.stderr.strip().splitlines() or [f"exit status {process.returncode}"])[-1]
            lost = {"status": "crashed", "found": _shortened(failure)}
        except subprocess.TimeoutExpired:
            lost = {"status": "time-out", "found": f"no answer in {seconds:g} s"}
        new = [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []
        if new and "skipped" in new[0]:
            return {"version": None, "use": entry.use, "skipped": new[0]["skipped"], "answers": []}
        answers += new
        if len(answers) < len(questions):
            answers.append({"question": questions[len(answers)].name} | lost)
    return {"version": entry.version, "use": entry.use, "answers": answers}


def main(tool_entry: str, file: str, *names: str) -> None:
    """Append one line of JSON for each question to ``file``."""
    entry = Entry(**json.loads(tool_entry))
    questions = {question.name: question for question in QUESTIONS}
    warnings.simplefilter("ignore")
    with Path(file).open("a") as lines:
        try:
            reason = missing(entry)
            tool = None if reason else entry.load()
        except Exception as failure:  # of a version that the adapter does not fit
            reason = _shortened(f"its adapter does not load: {type(failure).__name__}: {failure}")
        if reason or tool is None:
            print(json.dumps({"skipped": reason}), file=lines)
            return
        for question in (questions[name] for name in names):
            print(json.dumps(answer(tool, question)), file=lines, flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
