"""Which settings a command line asks for, the folder it runs in, and one line for every mistake."""

import contextlib
import dataclasses
import json
import os
import pathlib
import shutil
import sys

import pytest
from helpers import cut

from mdps_ref import run
from mdps_ref.job import run_folder
from mdps_ref.job.requested import SETTING_FLAGS
from mdps_ref.job.run_folder import LOCK, WORK, claimed


def requested(*arguments):
    """The Config that this command line asks for."""
    args = run.parser().parse_args([str(argument) for argument in arguments])
    return run.requested_config(args, run.given_settings(args))


# Settings


def test_flags_win_over_the_config_file_and_that_over_the_preset_which_needs_data(tmp_path, fails_with):
    (tmp_path / "mine.json").write_text('{"pixel_weight": 3.0, "samples": 2}')
    made = requested("--preset", "released/mvtec/cable", "--config", tmp_path / "mine.json", "--samples", 4, "--data", "there")
    assert (made.category, made.rules, made.pixel_weight, made.samples, made.mask_lambda) == ("cable", "released", 3.0, 4, 0.19)
    assert requested("--preset", "released/btad/02", "--data", "there", "--category", "two").category == "two"
    assert requested("--preset", "released/btad/02", "--category", "washer").data == ""
    with fails_with("released/btad/02", "--data"):
        requested("--preset", "released/btad/02")
    with fails_with("preset 'nut' is unknown"):
        requested("--preset", "nut")
    made = requested("--features", "resnet18", "--feature-weights", "r.pth", "--feature-layers", "layer1")
    assert (made.features, made.feature_layers) == ("resnet18", "layer1") and pathlib.Path(made.feature_weights).is_absolute()


@pytest.mark.parametrize("flags, file", [([], {}), (["--rules", "paper"], {}), ([], {"rules_except": "norm"})], ids=str)
def test_to_resume_with_a_preset_the_run_must_have_its_settings(flags, file, tmp_path, fails_with):
    """Under every side of row 2, which says what a preset's strengths are."""
    (tmp_path / "mine.json").write_text(json.dumps(file))
    kept = requested("--preset", "released/mvtec/bottle", "--data", "there", "--config", tmp_path / "mine.json", *flags)
    (tmp_path / "config.json").write_text(json.dumps(dataclasses.asdict(kept)))
    assert requested("--preset", "released/mvtec/bottle", "--out", tmp_path, "--resume") == kept
    with fails_with(tmp_path, "category", "'bottle'", "'cable'"):
        requested("--preset", "released/mvtec/cable", "--out", tmp_path, "--resume")


def test_each_of_all_categories_has_its_own_preset_and_goes_on_with_it(tmp_path, fails_with):
    for name in ("bottle", "carpet"):
        (tmp_path / "data" / name / "train").mkdir(parents=True)
    flags = ["--preset", "released/mvtec", "--category", "all", "--samples", "2"]

    def plan(*more):
        args = run.parser().parse_args([*flags, *map(str, more)])
        return run.requested_plan(args, run.given_settings(args))

    made = plan("--data", tmp_path / "data")
    for name in ("bottle", "carpet"):
        assert made[name] == requested("--preset", f"released/mvtec/{name}", "--data", tmp_path / "data", "--samples", "2")
    (tmp_path / "categories.json").write_text(json.dumps({name: dataclasses.asdict(config) for name, config in made.items()}))
    assert plan("--resume", "--out", tmp_path) == made
    with fails_with(tmp_path, "samples"):
        plan("--resume", "--out", tmp_path, "--samples", 3)
    with fails_with("needs --data"):
        plan()


def test_help_mentions_every_flag(capsys):
    with pytest.raises(SystemExit) as caught:
        run.main(["--help"])
    assert caught.value.code == 0
    text = capsys.readouterr().out
    flags = {flag for action in run.parser()._actions for flag in action.option_strings}
    assert flags >= {f"--{name.replace('_', '-')}" for name in SETTING_FLAGS}
    assert flags >= {"--preset", "--out", "--resume", "--config", "--backend"}
    assert [flag for flag in flags if flag not in text] == []
    assert all(action.help for action in run.parser()._actions)


# The run folder


def test_without_out_each_run_gets_a_new_folder_and_an_empty_one_may_be_run_in(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for expected in ("nut-32", "nut-32-2", "nut-32-3"):
        with claimed(None, False, "nut-32") as folder:
            assert folder == pathlib.Path("runs") / expected
            (folder / "config.json").write_text("{}")
    pathlib.Path("mine").mkdir()
    with claimed("mine", False, "") as folder:
        assert folder == pathlib.Path("mine")


def test_a_folder_belongs_to_one_run_at_a_time_and_a_crash_frees_it(tmp_path, monkeypatch, fails_with):
    monkeypatch.chdir(tmp_path)
    with claimed("mine", False, "") as folder:
        (folder / WORK).mkdir()  # of a run that is still reading its images
        with fails_with("mine", "another run"), claimed("mine", False, ""):
            pass
        assert (folder / WORK).is_dir()
        with claimed(None, False, "nut") as first, claimed(None, False, "nut") as second:
            assert first != second
        (folder / "config.json").write_text("{}")
    assert {path.name for path in folder.iterdir()} == {"config.json", WORK}
    (folder / LOCK).touch()  # as a crash leaves it
    with claimed("mine", True, ""):
        pass


def test_a_folder_with_a_run_is_kept_where_rmdir_removes_what_is_inside(tmp_path, monkeypatch):
    """As a browser's file system does; an empty folder is removed there, too."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(pathlib.Path, "rmdir", shutil.rmtree)
    with claimed(None, False, "nut") as folder:
        (folder / "config.json").write_text("{}")
    assert (folder / "config.json").is_file()
    with claimed(None, False, "nut") as folder:
        pass
    assert not folder.exists()


def test_a_folder_that_another_run_filled_before_the_lock_was_held_is_refused(tmp_path, monkeypatch, fails_with):
    hold = run_folder.held_lock

    def late(path, taken):
        (path.parent / "config.json").write_text("{}")  # the other run has come and gone
        return hold(path, taken)

    monkeypatch.setattr(run_folder, "held_lock", late)
    with fails_with("already holds files"), claimed(tmp_path / "mine", False, ""):
        pass


def test_a_run_that_fails_before_it_has_its_settings_leaves_nothing_and_one_that_died_there_can_begin_again(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match="stop"), claimed("a/b", False, "") as folder:
        (folder / WORK).mkdir()
        (folder / "data.json").write_text("{}")
        raise ValueError("stop")
    assert not pathlib.Path("a").exists()
    for name in (f"{WORK}/test", "data.json", "config.json.part", LOCK):
        path = pathlib.Path("died") / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    with claimed("died", False, ""):
        pass


# Mistakes


@contextlib.contextmanager
def refuses(capsys, *parts):
    """Expect one line on standard error that holds every part, and nothing on standard output."""
    capsys.readouterr()
    yield
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("mdps_ref: ") and err.count("\n") == 1 and err.endswith("\n"), err
    assert [part for part in parts if str(part) not in err] == [], err


def test_a_run_is_left_alone_unless_it_is_resumed_with_its_own_settings(done, call, contents, capsys):
    before = contents(done)
    with refuses(capsys, done, "--resume"):
        assert call("--out", done) == 2
    for flag, value in (("--seed", 5), ("--samples", 3), ("--category", "other"), ("--weights", "w.npz")):
        with refuses(capsys, done, flag[2:], value):
            assert run.main(["--out", str(done), "--resume", flag, str(value)]) == 2
    with refuses(capsys, "elsewhere", "no such data folder"):
        assert run.main(["--out", str(done), "--resume", "--data", "elsewhere"]) == 2
    assert contents(done) == before


def test_to_resume_needs_a_run(tmp_path, call, capsys):
    with refuses(capsys, "--resume needs --out"):
        assert call("--resume") == 2
    for folder in (tmp_path / "none", tmp_path):
        with refuses(capsys, folder, "no config.json"):
            assert call("--resume", "--out", folder) == 2
    (tmp_path / "config.json").write_text('{"sampels": 1}')
    with refuses(capsys, tmp_path / "config.json", "sampels"):
        assert run.main(["--resume", "--out", str(tmp_path)]) == 2
    assert not (tmp_path / "none").exists()


def one_good_image(part):
    for name in ("001.jpg", "002.png", "003.tiff"):
        (part / "train/good" / name).unlink()


def two_good_images_alone(part):
    shutil.rmtree(part / "test")
    for name in ("002.png", "003.tiff"):
        (part / "train/good" / name).unlink()


# What is done to the category's folder, and what the line must hold.
SPOILT = {
    "a truncated image to train on": (lambda part: cut(part / "train/good/000.png"), "train/good/000.png", "truncated"),
    "a truncated image to test": (lambda part: cut(part / "test/dent/000.png"), "test/dent/000.png", "truncated"),
    "a truncated mask": (lambda part: cut(part / "ground_truth/dent/000_mask.png"), "dent/000_mask.png", "truncated"),
    "one training image": (one_good_image, "part", "at least 2"),
    "two training images and no others": (two_good_images_alone, "part", "at least 3", "to test"),
    "no category": (shutil.rmtree, "'part'"),
}


@pytest.mark.parametrize("spoil, parts", [(spoil, parts) for spoil, *parts in SPOILT.values()], ids=SPOILT)
def test_spoilt_data_is_one_line_and_leaves_no_run_folder(spoil, parts, place, call, tmp_path, capsys):
    shutil.copytree(place / "data", tmp_path / "data")
    spoil(tmp_path / "data" / "part")
    with refuses(capsys, tmp_path / "data", *parts):
        assert call("--data", tmp_path / "data", "--out", tmp_path / "out") == 2
    assert not (tmp_path / "out").exists()


TOO_LONG = "n" * 300
FILES = {
    "text": "samples = 8\n",
    "unknown.json": '{"sampels": 8}',
    "squared.json": '{"guidance": "squared_norm"}',
    "row.json": '{"rules_except": "norms"}',
}
WRONG = {
    "no data folder": (["--data", "none"], "none", "no such data folder"),
    "a data folder's name that is too long": (["--data", TOO_LONG], TOO_LONG[:50]),
    "an unknown category": (["--category", "wheel"], "'wheel'", "part"),
    "an image size that cannot be halved": (["--image-size", "18"], "18", "multiple of 4"),
    "a preset that there is not": (["--preset", "released/mvtec/botle"], "released/mvtec/botle", "released/mvtec/bottle, ", "btad/03"),
    "guidance that the rules do not know": (["--rules", "released", "--config", "squared.json"], "'squared_norm'", "'released'"),
    "a row that there is not": (["--config", "row.json"], "'norms'", "norm, strength"),
    "features without their weights": (["--features", "resnet18"], "resnet18"),
    "missing weights": (["--weights", "none.npz"], "none.npz", "no such checkpoint"),
    "weights that are none": (["--weights", "text"], "text", "not a whole checkpoint"),
    "weights of another size": (["--weights", "done/checkpoint.npz", "--image-size", "32"], "done/checkpoint.npz", "32 x 32"),
    "steps of training and trained weights": (["--weights", "done/checkpoint.npz", "--train-steps", "5"], "--train-steps", "leave out one"),
    "weights of another network": (["--weights", "done/checkpoint.npz", "--network", "small"], "done/checkpoint.npz", "small"),
    "a missing config": (["--config", "none.json"], "mdps_ref: none.json: could not be read (no such file or directory)", "JSON"),
    "an unknown setting": (["--config", "unknown.json"], "unknown.json", "sampels", "samples"),
    "no gpu": (["--backend", "cupy"], "'cupy'", "numpy"),
    "an empty data folder's name": (["--data", ""], "--data", "empty"),
    "an empty file name": (["--weights", ""], "--weights", "empty"),
    "layers of features that have none": (["--feature-layers", "layer1"], "feature_layers", "'layer1'", "set features"),
}


@pytest.mark.parametrize("arguments, parts", [(arguments, parts) for arguments, *parts in WRONG.values()], ids=WRONG)
def test_a_wrong_argument_is_one_line_and_leaves_no_run_folder(arguments, parts, done, place, call, capsys, monkeypatch):
    monkeypatch.chdir(place)
    monkeypatch.setitem(sys.modules, "cupy", None)  # as if it were not installed
    for name, content in FILES.items():
        (place / name).write_text(content)
    with refuses(capsys, *parts):
        assert call("--out", "out", *arguments) == 2
    assert not (place / "out").exists()


def test_settings_are_read_once_so_they_may_come_from_a_pipe(call, tmp_path, capsys):
    reader, writer = os.pipe()
    os.write(writer, b'{"image_size": 18}')
    os.close(writer)
    with refuses(capsys, "18", "multiple of 4"):
        assert call("--config", f"/dev/fd/{reader}", "--out", tmp_path / "out") == 2
    os.close(reader)


@pytest.mark.parametrize("out", ["file", "file/below", TOO_LONG])
def test_an_output_folder_that_cannot_be_is_one_line(out, call, tmp_path, contents, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").write_text("kept")
    with refuses(capsys, out):
        assert call("--out", out) == 2
    assert contents(tmp_path) == {"file": b"kept"}


@pytest.mark.parametrize(
    "arguments", [["--sampels", "3"], ["--sample", "3"], ["--out"], ["--samples", "few"], ["--network", "huge"], ["data"]]
)
def test_what_is_no_flag_or_cut_short_is_refused(arguments, call, tmp_path, capsys):
    with pytest.raises(SystemExit) as caught:
        call("--out", tmp_path / "out", *arguments)
    assert caught.value.code == 2
    last = capsys.readouterr().err.splitlines()[-1]
    assert "error: " in last and arguments[0] in last
    assert not (tmp_path / "out").exists()
