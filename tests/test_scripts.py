"""What all command lines share: one line for every error, streams that may be closed or broken, any console."""

import ast
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import landscape_lib as ll
from landscape.cli.messages import advised
from landscape.errors import InputError

ROOT = Path(__file__).parents[1]
WORK = """
import sys
from pathlib import Path
from landscape.cli.scripts import run_script

def main(count: int = 3, size: float = 1.0, style: str = "x") -> None:
    for number in range(20_000):
        print("number", number, flush=True)
        print("caution", number, file=sys.stderr, flush=True)
    Path("finished").write_text(str(count))

run_script(main)
"""


def start(folder, command, **environment):
    """Run a shell command with the toy script as $SCRIPT; its exit code, output and errors."""
    (folder / "work.py").write_text(WORK)
    known = {**os.environ, "PYTHONPATH": str(ROOT), "SCRIPT": f"{sys.executable} work.py", **environment}
    return subprocess.run(["bash", "-c", command], cwd=folder, env=known, capture_output=True, text=True, timeout=100)


@pytest.mark.parametrize(
    "command",
    [
        "$SCRIPT 2>&- | head -1; exit ${PIPESTATUS[0]}",
        "$SCRIPT >&- 2>&- <&-",
        "$SCRIPT 2>&1 | head -1; exit ${PIPESTATUS[0]}",
        "$SCRIPT >/dev/full 2>/dev/full",
    ],
)
def test_closed_and_broken_streams_end_no_work(tmp_path, command):
    done = start(tmp_path, command)
    assert (done.returncode, (tmp_path / "finished").read_text()) == (0, "3")
    assert "Traceback" not in done.stderr and "Exception" not in done.stderr


def said(capsys, main, arguments):
    """Exit code and the one line on standard error."""
    with pytest.raises(SystemExit) as stop:
        ll.cli.run_script(main, arguments)
    [line] = capsys.readouterr().err.splitlines()
    return stop.value.code, line


def toy(count: int = 3, size: tuple[float, float] = (1.0, 2.0), names: str = "x") -> None:
    """A script.

    Args:
        count: A number.
        size: Two numbers.
        names: A text.
    """
    print(names)
    if count == 4:
        raise MemoryError
    if count == 5:
        raise InputError("two\nlines")
    if count == 6:
        torch.empty(2**60)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--count", "three"], r"^Error: --count takes a whole number, not three; -h"),
        (["--cont", "3"], r"Unrecognized options: --cont.*; perhaps --count is meant; -h explains the options"),
        (["--count"], r"[Aa]rgument '?--count.*-h explains the options"),  # in the words of several versions of tyro
        (["--size", "1"], r"[Aa]rgument '?--size.*-h explains the options"),
        (["--count", "4"], "out of memory; use fewer samples"),
        (["--count", "5"], "Error: two lines"),
        (["--count", "6"], "out of memory; use fewer samples"),
    ],
)
@pytest.mark.parametrize("encoding", ["utf-8", "ascii"])  # tyro draws its frames differently
def test_every_error_is_one_line(capsys, monkeypatch, arguments, message, encoding):
    monkeypatch.setattr(type(sys.stdout), "encoding", encoding, raising=False)
    code, line = said(capsys, toy, arguments)
    assert code == 2 and re.search(message, line) and line.startswith("Error: ")


def test_a_console_that_cannot_print_a_name_gets_its_escape(tmp_path):
    (tmp_path / "work.py").write_text(
        "import sys\nfrom landscape.cli.scripts import run_script\n\n\ndef main(name: str = 'α') -> None:\n"
        "    print(name)\n    print(name, file=sys.stderr)\n\n\nrun_script(main)\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONIOENCODING": "ascii"}
    command = [sys.executable, "work.py", "--name", "läuft\udcff"]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout == done.stderr == "l\\xe4uft\\udcff\n"


@pytest.mark.parametrize("backend", ["nonsense", "TkAgg", "module://no.such"])
def test_an_inherited_backend_of_matplotlib_breaks_nothing(tmp_path, backend):
    program = (
        "from landscape.plotting import plot_rows, save_figure\nfrom landscape.cli.scripts import run_script\n\n\n"
        "def main() -> None:\n    save_figure(plot_rows([('a', 1.0, None)]), 'rows.png')\n\n\nrun_script(main)\n"
    )
    (tmp_path / "draw.py").write_text(program)
    environment = {key: value for key, value in os.environ.items() if key != "DISPLAY"}
    environment |= {"PYTHONPATH": str(ROOT), "MPLBACKEND": backend}
    command = [sys.executable, "draw.py"]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "rows.png").exists()


def test_a_matplotlibrc_that_asks_for_latex_breaks_nothing(tmp_path):
    program = (
        "from landscape_lib import cli, save_figure\n\n\ndef main() -> None:\n"
        "    save_figure(cli.plot_rows([('a_b 5 %', 1.0, None)]), 'rows.png')\n\n\ncli.run_script(main)\n"
    )
    (tmp_path / "draw.py").write_text(program)
    (tmp_path / "matplotlibrc").write_text("text.usetex: true\n")  # found in the working folder
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PATH": str(Path(sys.executable).parent)}  # without latex
    done = subprocess.run([sys.executable, "draw.py"], cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "rows.png").exists()


def heeding_ctrl_c():
    """In a process to be: heed Ctrl-C, which a shell lets its background jobs ignore."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


@pytest.mark.parametrize("script", ["train_mnist.py", "visualize_loss_landscape.py", "compare_loss_landscapes.py"])
def test_ctrl_c_while_torch_is_imported_is_one_line(tmp_path, script):
    (tmp_path / "torch.py").write_text(
        "import os, signal, time\n\nos.kill(os.getpid(), signal.SIGINT)\ntime.sleep(60)\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}  # its torch comes before the installed one
    command = [sys.executable, str(ROOT / script)]
    done = subprocess.run(
        command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=50, preexec_fn=heeding_ctrl_c
    )
    assert done.returncode == 130
    assert done.stderr == "Stopped by Ctrl-C; files already written are whole.\n"


def test_programs_of_others_keep_their_ctrl_c():
    code = "import signal, landscape_lib; print(signal.getsignal(signal.SIGINT) is signal.default_int_handler)"
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True, preexec_fn=heeding_ctrl_c)
    assert done.stdout.strip() == "True"


def test_advice_is_added_to_an_error_of_the_library():
    with pytest.raises(InputError, match=r"^wrong; use --that$"), advised("use --that"):
        raise InputError("wrong")


def test_a_log_holds_names_that_are_no_text(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["script", "--out", "\udcff"])
    log = ll.cli.write_log(tmp_path / "log.txt", {"folder": "\udcff"})
    assert log.read_text(encoding="utf-8").count("\\udcff") == 2


def test_no_message_of_the_library_names_an_option_of_a_script():
    named = [
        f"{path.relative_to(ROOT)}, line {text.lineno}: {text.value}"
        for path in (ROOT / "landscape").rglob("*.py")
        if path.parent.name != "cli"
        for raised in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(raised, ast.Raise)
        for text in ast.walk(raised)
        if isinstance(text, ast.Constant) and re.search(r"(^|\s)--[a-z]", str(text.value))
    ]
    assert not named
