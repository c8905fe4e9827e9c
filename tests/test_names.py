"""Names that files and people give to files: inside their folder, or refused."""

import json
import os

import pytest

import landscape_lib as ll
from landscape.storage.digests import digest_of
from landscape.storage.records import clear_record, read_record, record_fault, write_record
from landscape.studies.matrix.runs import find_runs

OUTSIDE = [
    "../x", "a/../../x", "/x", "//server/share/x", "C:x", "C:\\x", "\\x", "..\\x", "a\\..\\..\\x", "a\0b", "a\nb",
    "", ".", "./", "..", "a\u202eb", "\udcff", 3, None,
]  # fmt: skip


@pytest.mark.parametrize("name", OUTSIDE)
def test_a_name_that_leads_out_of_its_folder_is_refused(tmp_path, name):
    with pytest.raises(ll.InputError) as caught:
        ll.cli.path_inside(tmp_path, name)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["x", "a/b.npz", "a b", "..a", "a..b/c", "é", "seed=0", "r\udcc3\udcbcn"])
def test_a_plain_name_is_below_its_folder(tmp_path, name):
    assert ll.cli.path_inside(tmp_path, name) == tmp_path / name


def test_a_link_that_leads_out_is_refused_and_one_inside_is_not(tmp_path):
    (tmp_path / "folder" / "deep").mkdir(parents=True)
    (tmp_path / "folder" / "out").symlink_to(tmp_path)
    (tmp_path / "folder" / "in").symlink_to(tmp_path / "folder" / "deep")
    assert ll.cli.path_inside(tmp_path / "folder", "in/x").name == "x"
    with pytest.raises(ll.InputError, match="a link that leads out of"):
        ll.cli.path_inside(tmp_path / "folder", "out/x")


@pytest.mark.parametrize("sealed", [True, False])
@pytest.mark.parametrize("name", ["../precious", "{folder}/precious", "link/precious", "a/../../precious"])
def test_a_record_deletes_and_trusts_no_file_outside_its_folder(tmp_path, name, sealed):
    precious, folder = tmp_path / "precious", tmp_path / "folder"
    (folder / "deep").mkdir(parents=True)
    precious.write_text("mine")
    (folder / "link").symlink_to(tmp_path)
    record = {"recipe": {}, "files": {name.format(folder=tmp_path): "0" * 64}}
    if sealed:  # by someone who knows how
        record["digest"] = digest_of(record)
    path = folder / "summary.json"
    path.write_text(json.dumps(record))
    assert read_record(path) is None and record_fault(path)
    clear_record(path)
    assert precious.read_text() == "mine" and not path.exists()


def test_a_run_whose_checkpoints_lie_elsewhere_is_left_out(tmp_path):
    place = tmp_path / "dataset=moons" / "arch=a" / "act=b" / "opt=c" / "seed=0"
    place.mkdir(parents=True)
    numbers = {f"{split}_{name}": 0.5 for split in ("train", "test") for name in ("loss", "accuracy")}
    content = {
        "place": place.relative_to(tmp_path).as_posix(), "dataset": "moons", "architecture": "a", "depth": 1,
        "width": 1, "activation": "b", "optimizer": "c", "seed": 0, "parameters": 3, "final": numbers,
    }  # fmt: skip
    write_record(place / "summary.json", {"training": {}}, {**content, "checkpoints": {"0": "a.pth"}})
    assert len(find_runs(tmp_path)[0]) == 1
    write_record(place / "summary.json", {"training": {}}, {**content, "checkpoints": {"0": "../../a.pth"}})
    with pytest.raises(ll.InputError, match="holds no trained run"):
        find_runs(tmp_path)


def test_the_name_of_a_run_stays_below_the_folder_of_runs(tmp_path, monkeypatch, capsys):
    import runpy

    monkeypatch.chdir(tmp_path)
    script = os.path.join(os.path.dirname(ll.__file__), "train_classifier.py")
    monkeypatch.setattr(
        "sys.argv", ["train_classifier.py", "--dataset", "moons", "--model", "mlp", "--name", "../evil"]
    )
    with pytest.raises(SystemExit) as caught:
        runpy.run_path(script, run_name="__main__")
    assert caught.value.code == 2 and "'../evil' leads out of runs" in capsys.readouterr().err
    assert not (tmp_path / "evil").exists() and not list(tmp_path.glob("runs/*"))
