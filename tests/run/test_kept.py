"""What a user has is kept: other files in a folder, results of a run that cannot go on, weights that results were made with."""

import shutil
import signal

import pytest

from mdps_ref import run, score
from mdps_ref.backend import find_backend
from mdps_ref.errors import InputError
from mdps_ref.job import images, run_folder
from mdps_ref.job.interrupt import Interrupted, stopping_at_the_next_step


def resumed(folder, *arguments):
    return run.main(["--resume", "--out", str(folder), "--quiet", *map(str, arguments)])


@pytest.fixture
def ended(place, call, tmp_path, no_report):
    """The folder of a complete run, beside its images."""
    shutil.copytree(place / "data", tmp_path / "data")
    assert call("--data", tmp_path / "data", "--out", tmp_path / "out", "--quiet") == 0
    return tmp_path / "out"


@pytest.mark.parametrize("name", ["work/thesis.txt", "lock", "data.json"])
def test_a_run_that_fails_leaves_what_the_user_had(name, call, tmp_path, capsys):
    mine = tmp_path / "project" / name
    mine.parent.mkdir(parents=True)
    mine.write_text("years of it")
    assert call("--category", "none such", "--out", tmp_path / "project") == 2
    assert mine.read_text() == "years of it" and [path.name for path in mine.parent.iterdir()] == [mine.name]
    assert capsys.readouterr().err.count("\n") == 1


@pytest.mark.parametrize("flags", [[], ["--resume"]], ids=["anew", "going on"])
def test_scores_of_new_images_do_not_go_into_the_folder_of_a_run(flags, done, place, ended, contents, capsys):
    before = contents(ended)
    assert score.main([str(done), str(place / "data/part/test"), "--out", str(ended), *flags]) == 2
    told = capsys.readouterr().err.splitlines()[-1]
    assert str(ended) in told and "another folder" in told and "--resume" not in told and contents(ended) == before


def damage(out):
    (out / "checkpoint.npz").write_bytes(b"torn")


def take_images_away(out):
    shutil.rmtree(out.parent / "data")


def change_an_image(out):
    shutil.copy(out.parent / "data/part/test/rust/000.png", out.parent / "data/part/test/dent/000.png")


@pytest.mark.parametrize("spoil", [damage, take_images_away, change_an_image])
def test_a_run_that_cannot_be_trained_further_keeps_its_results(spoil, ended, contents, capsys):
    spoil(ended)
    before = contents(ended)
    assert resumed(ended, "--train-steps", 9) == 2
    assert contents(ended) == before


def test_a_run_that_is_trained_further_has_no_results_of_fewer_steps(ended, monkeypatch):
    def stop(*_):
        raise Interrupted(15)

    monkeypatch.setattr("mdps_ref.job.pipeline.train", stop)
    assert resumed(ended, "--train-steps", 9) == 143
    assert not {*run_folder.RESULTS} & {path.name for path in ended.iterdir()}
    assert (ended / "checkpoint.npz").is_file() and '"train_steps": 9' in (ended / "config.json").read_text()


def test_a_run_does_not_go_on_with_other_weights(done, call, tmp_path, no_report, contents, capsys):
    weights = tmp_path / "weights.npz"
    shutil.copy(done / "checkpoint.npz", weights)
    assert call("--weights", weights, "--out", tmp_path / "out", "--quiet") == 0
    assert call("--seed", 1, "--out", tmp_path / "other", "--quiet") == 0
    shutil.copy(tmp_path / "other/checkpoint.npz", weights)
    before = contents(tmp_path / "out")
    capsys.readouterr()
    assert resumed(tmp_path / "out") == 2
    told = capsys.readouterr().err
    assert f"{weights}: was replaced" in told and told.count("\n") == 1 and contents(tmp_path / "out") == before


def test_a_category_that_was_trained_further_by_itself_is_left_alone(place, tmp_path, no_report, contents, capsys, monkeypatch):
    monkeypatch.setattr(run, "write_report", lambda folder, result: (folder / "report.html").write_text("told"))
    flags = ["--data", str(place / "data"), "--config", str(place / "quick.json"), "--category", "all", "--quiet"]
    assert run.main([*flags, "--out", str(tmp_path / "all")]) == 0
    assert resumed(tmp_path / "all/part", "--train-steps", 5) == 0
    before = contents(tmp_path / "all/part")
    assert resumed(tmp_path / "all", "--category", "all") == 0
    assert contents(tmp_path / "all/part") == before


def test_what_a_folder_holds_is_told_with_a_remedy_that_leads_on(place, ended, call, tmp_path, capsys):
    (tmp_path / "all").mkdir()
    (tmp_path / "all" / run_folder.PLAN).write_text("{}")
    told = {}
    for name, arguments in {
        "all, as one": ["--resume", "--out", tmp_path / "all"],
        "all, anew": ["--out", tmp_path / "all"],
        "one, as all": ["--resume", "--category", "all", "--out", ended],
        "one, anew": ["--out", ended],
    }.items():
        assert run.main([*map(str, arguments)]) == 2
        told[name] = capsys.readouterr().err
    assert "--category all" in told["all, as one"] and "--category all --resume" in told["all, anew"]
    assert "leave --category all out" in told["one, as all"] and "add --resume" in told["one, anew"]


def test_a_category_may_be_given_as_a_shell_completes_it(call, tmp_path, no_report):
    assert call("--category", "part/", "--out", tmp_path / "out", "--quiet") == 0


def test_a_file_in_the_place_of_the_folder_of_runs_is_one_line(call, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs").write_text("")
    assert call() == 2
    assert "runs: is a file; give a folder to --out" in capsys.readouterr().err


def test_ctrl_c_stops_the_reading_of_images_and_promises_nothing(call, tmp_path, monkeypatch, capsys):
    read = []

    def load(path, *more):
        read.append(path)
        signal.raise_signal(signal.SIGINT)
        return load_image(path, *more)

    load_image = images.load_image
    monkeypatch.setattr(images, "load_image", load)
    assert call("--out", tmp_path / "out", "--quiet") == 130
    assert len(read) == 1 and not (tmp_path / "out").exists()
    assert capsys.readouterr().err == "mdps_ref: stopped by SIGINT\n"


def test_a_second_ctrl_c_raises_and_does_not_kill():
    """A process that is killed leaves its lock; python -m begins with the system's own effect of Ctrl-C."""
    earlier = signal.signal(signal.SIGINT, signal.SIG_DFL)
    try:
        with pytest.raises(KeyboardInterrupt), stopping_at_the_next_step():
            signal.raise_signal(signal.SIGINT)
            signal.raise_signal(signal.SIGINT)
    finally:
        signal.signal(signal.SIGINT, earlier)


@pytest.fixture
def scored(done, place, tmp_path):
    """scored(*names, flags=()): the exit status of scoring copies of a photograph under these names, always in one folder, into one."""

    def score_all(*names, flags=()):
        shutil.rmtree(tmp_path / "inbox", ignore_errors=True)
        (tmp_path / "inbox").mkdir()
        for name in names:
            shutil.copy(place / "data/part/test/good/000.png", tmp_path / "inbox" / name)
        return score.main([str(done), str(tmp_path / "inbox"), "--out", str(tmp_path / "found"), "--quiet", *flags])

    return score_all


@pytest.mark.parametrize("later", [("d.png", "e.png"), ("a.png", "c.png"), ("a.png", "b.png", "x.png", "y.png")], ids=" ".join)
def test_the_rows_of_other_photographs_are_kept(later, scored, tmp_path, contents, capsys):
    """Also those of the last batch, which is not whole and would be scored again."""
    assert scored("a.png", "b.png", "c.png") == 0
    before = contents(tmp_path / "found")
    assert scored(*later, flags=["--resume"]) == 2
    told = capsys.readouterr().err
    assert told.count("\n") == 1 and "has a row" in told and contents(tmp_path / "found") == before


def test_a_run_whose_checkpoint_is_gone_keeps_its_results(ended, contents, capsys):
    (ended / "checkpoint.npz").unlink()
    before = contents(ended)
    for more in ([], ["--train-steps", 9]):
        assert resumed(ended, *more) == 2
    assert contents(ended) == before and "checkpoint.npz: is gone" in capsys.readouterr().err


def test_a_run_goes_on_where_its_images_were_moved(ended, tmp_path):
    (tmp_path / "data").rename(tmp_path / "moved")
    assert resumed(ended, "--train-steps", 9) == 2
    assert resumed(ended, "--train-steps", 9, "--data", tmp_path / "moved") == 0
    assert str(tmp_path / "moved") in (ended / "config.json").read_text()


def test_all_categories_go_on_with_broken_images_set_aside(place, tmp_path, no_report, capsys):
    shutil.copytree(place / "data/part", tmp_path / "data/whole")
    shutil.copytree(place / "data/part", tmp_path / "data/broken")
    (tmp_path / "data/broken/train/good/000.png").write_bytes(b"no image")
    flags = ["--data", str(tmp_path / "data"), "--config", str(place / "quick.json"), "--category", "all", "--quiet"]
    assert run.main([*flags, "--out", str(tmp_path / "all")]) == 2
    assert "add --skip-bad" in capsys.readouterr().err
    assert resumed(tmp_path / "all", "--category", "all", "--skip-bad") == 0


def test_all_categories_are_trained_further_where_their_images_were_moved(place, tmp_path, no_report):
    shutil.copytree(place / "data", tmp_path / "data")
    flags = ["--data", str(tmp_path / "data"), "--config", str(place / "quick.json"), "--category", "all", "--quiet"]
    assert run.main([*flags, "--out", str(tmp_path / "all")]) == 0
    (tmp_path / "data").rename(tmp_path / "moved")
    assert resumed(tmp_path / "all", "--category", "all", "--train-steps", 5, "--data", tmp_path / "moved") == 0
    assert '"train_steps": 5' in (tmp_path / "all/part/config.json").read_text()


def test_without_a_gpu_all_categories_leave_no_folder(place, tmp_path, capsys):
    flags = ["--data", str(place / "data"), "--category", "all", "--backend", "cupy", "--out", str(tmp_path / "all")]
    try:
        find_backend("cupy")
    except InputError:
        assert run.main(flags) == 2 and not (tmp_path / "all").exists()


def test_photographs_beside_a_table_of_the_users_own_are_scored(done, place, tmp_path):
    (tmp_path / "photographs/own").mkdir(parents=True)
    shutil.copy(place / "data/part/test/good/000.png", tmp_path / "photographs/own")
    (tmp_path / "photographs/own/scores.csv").write_text("part,inspector\n")
    assert score.main([str(done), str(tmp_path / "photographs"), "--out", str(tmp_path / "found"), "--quiet"]) == 0
    assert "own/000.png" in (tmp_path / "found/scores.csv").read_text()


@pytest.mark.parametrize("arguments", [["DONE", ""], ["", "PHOTOGRAPHS"]], ids=["images", "detector"])
def test_an_empty_path_is_not_the_current_folder(arguments, done, place, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(place)
    places = {"DONE": str(done), "PHOTOGRAPHS": str(place / "data/part/test")}
    assert score.main([*(places.get(word, word) for word in arguments), "--out", str(tmp_path / "found"), "--quiet"]) == 2
    assert "a path is empty" in capsys.readouterr().err and not (tmp_path / "found").exists()
