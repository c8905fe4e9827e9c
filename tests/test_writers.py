"""Several writers of one file or folder, and disks that are full: nothing finished is lost."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from test_damaged_files import read_state, training_state, write_state

import landscape_lib as ll
from landscape.storage import tensors
from landscape.storage.files import make_folder, written_whole
from landscape.studies.kit.results_file import StoredResults

ROOT = Path(__file__).parents[1]
HOLD = "import sys; from pathlib import Path; from landscape.storage.locks import claimed\n"
HOLD += "held = claimed(Path(sys.argv[1]), 'a run'); print('held', flush=True); sys.stdin.read()"
ADD = "import sys; from pathlib import Path; from landscape.studies.kit.results_file import StoredResults\n"
ADD += "stored = StoredResults(Path(sys.argv[1]))\n"
ADD += "for k in range(15): stored.get(int(sys.argv[2]), f'r{k}', {}, lambda: {'k': k})"

ONCE = """
import sys, time
from pathlib import Path
from landscape.studies.kit.results_file import StoredResults

folder, name = Path(sys.argv[1]), sys.argv[2]

def compute():
    (folder / f"computed {name}").touch()
    while len(list(folder.glob("begun *"))) < 2:
        time.sleep(0.01)
    time.sleep(0.5)  # in which the other process looks for the result
    return {"by": name}

stored = StoredResults(folder / "results.json")
(folder / f"begun {name}").touch()
print(stored.get(0, "training", {}, compute)["by"])
"""


def new_run(folder):
    return ll.cli.Run(folder, epochs=1, save_epochs=(), resume=False, checkpoint={})


def test_a_full_disk_leaves_the_state_of_training_as_it_was(tmp_path, monkeypatch):
    path = tmp_path / "state.pth"
    write_state(path)
    before = path.read_bytes()

    def full(*_):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(tensors._Watched, "write", full)
        with pytest.raises(ll.InputError, match=r"cannot write .*state\.pth: No space left"):
            training_state(path).save([])
    assert path.read_bytes() == before and os.listdir(tmp_path) == ["state.pth"]
    assert read_state(path)[0] == [{"lr": 0.1, "test_loss": 0.25}]


def test_writers_of_one_file_have_temporary_files_of_their_own(tmp_path):
    with written_whole(tmp_path / "x") as one, written_whole(tmp_path / "x") as other:
        assert one != other
        one.write_text("one")
        other.write_text("other")
    assert (tmp_path / "x").read_text() == "one" and os.listdir(tmp_path) == ["x"]


def test_what_a_killed_writer_left_is_removed_once_nobody_can_be_writing_it(tmp_path):
    left, fresh, own = (tmp_path / name for name in (f".{'0a' * 8}.part.npz", f".{'1b' * 8}.part", ".notes.part1"))
    for path in (left, fresh, own):
        path.touch()
    os.utime(left, (1, 1))
    os.utime(own, (1, 1))
    make_folder(tmp_path)
    assert sorted(os.listdir(tmp_path)) == sorted([fresh.name, own.name])


def test_a_run_has_its_folder_to_itself_until_its_process_ends(tmp_path):
    folder = tmp_path / "run"
    folder.mkdir()
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(folder)], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout.readline() == "held\n"
    with pytest.raises(ll.InputError, match="another process is writing a run"):
        new_run(folder)
    process.kill()
    process.communicate()
    new_run(folder)
    new_run(folder)  # in the process that holds it already
    assert not os.listdir(folder)


def test_two_runs_of_a_study_keep_the_results_of_each_other(tmp_path):
    path = tmp_path / "training.json"
    processes = [
        subprocess.Popen([sys.executable, "-c", ADD, str(path), seed], cwd=ROOT, stdout=subprocess.DEVNULL)
        for seed in "12"
    ]
    assert [process.wait() for process in processes] == [0, 0]
    assert {seed: len(found) for seed, found in StoredResults(path).content.items()} == {"1": 15, "2": 15}
    assert os.listdir(tmp_path) == ["training.json"]


def test_of_two_processes_one_computes_and_the_other_takes_what_it_stored(tmp_path):
    processes = [
        subprocess.Popen([sys.executable, "-c", ONCE, str(tmp_path), name], cwd=ROOT, stdout=subprocess.PIPE, text=True)
        for name in "ab"
    ]
    results = {process.communicate(timeout=120)[0].splitlines()[-1] for process in processes}
    (computed,) = tmp_path.glob("computed *")
    assert results == {computed.name[-1]} and [process.returncode for process in processes] == [0, 0]
    assert sorted(os.listdir(tmp_path)) == ["begun a", "begun b", computed.name, "results.json"]
