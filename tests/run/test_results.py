"""What a run folder holds, that the same call gives the same bytes, and that a run broken off anywhere ends with the same bytes."""

import csv
import dataclasses
import json
import os
import pathlib
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
import types

import numpy as np
import pytest
from helpers import cut, write_image
from PIL import Image

from mdps_ref import run, score
from mdps_ref.data import files
from mdps_ref.data.folders import Item
from mdps_ref.job import config, image_digests, images, pipeline, run_folder, train
from mdps_ref.kernels import processes
from mdps_ref.weights.checkpoint import load_checkpoint

SAME_BYTES = ("config.json", "checkpoint.npz", "train.csv", "scores.csv", "metrics.json", "data.json", "detector.npz")


@pytest.fixture
def results(contents):
    """results(folder): what the same seed must give again: settings, weights, scores, metrics and maps."""
    return lambda folder: {name: b for name, b in contents(folder).items() if name in SAME_BYTES or name.startswith("maps/")}


def read_scores(folder):
    return list(csv.DictReader((folder / "scores.csv").read_text().splitlines()))


def strict_json(path):
    """The content of a JSON file; nan and infinity, which are no JSON, are refused."""

    def refuse(constant):
        raise ValueError(constant)

    return json.loads(path.read_text(), parse_constant=refuse)


@pytest.fixture
def with_others(place, tmp_path):
    """with_others(pattern): a copy of the data in which the test images that fit the pattern are turned upside down."""

    def turned(pattern):
        shutil.copytree(place / "data", tmp_path / "data")
        for path in (tmp_path / "data/part/test").rglob(pattern):
            with Image.open(path) as image:
                upside_down = np.asarray(image)[::-1]
            Image.fromarray(upside_down).save(path)
        return tmp_path / "data"

    return turned


# What a run folder holds


def test_a_run_leaves_every_file_and_nothing_half_written(done, sizes, contents):
    found = contents(done)
    maps = {f"maps/part/{pathlib.PurePath(name).with_suffix('.tiff')}" for name in sizes}
    figures = {name for name in found if name.startswith("figures/")}
    assert figures and found.keys() == {*SAME_BYTES, "report.html"} | maps | figures
    for name in figures:
        with Image.open(done / name) as figure:
            figure.load()


def test_the_settings_the_log_and_the_checkpoint_tell_what_was_done(done, place):
    kept, quick = (json.loads(path.read_text()) for path in (done / "config.json", place / "quick.json"))
    assert kept.items() >= (quick | {"category": "part", "data": str(place / "data"), "network": "tiny", "seed": 0}).items()
    assert kept.keys() == {field.name for field in dataclasses.fields(config.Config)}
    rows = csv.DictReader((done / "train.csv").read_text().splitlines())
    assert [row["step"] for row in rows] == ["1", "2", "3"]
    groups, about = load_checkpoint(done / "checkpoint.npz")
    assert about["step"] == len(groups["training"]["log"]) == 3
    assert about["config"] == kept


def test_every_test_image_has_its_score_its_decision_and_a_map_of_its_size(done, sizes):
    rows = read_scores(done)
    assert sorted(row["path"] for row in rows) == sorted(sizes)
    threshold = strict_json(done / "metrics.json")["mdps"]["decision_threshold"]
    for row in rows:
        path, score = pathlib.PurePath(row["path"]), float(row["score"])
        assert row["defect"] == path.parts[1] and row["flagged"] == str(int(score > threshold))
        with Image.open(done / "maps" / "part" / path.with_suffix(".tiff")) as image:
            pixels = np.asarray(image)
        assert pixels.shape == sizes[row["path"]][::-1] and pixels.dtype == np.float32 and np.isfinite(pixels).all()
        if pixels.shape == (16, 16):  # not resized, so its maximum is the score
            assert pixels.max() == pytest.approx(score, rel=1e-6)
        else:
            assert pixels.max() <= score * (1 + 1e-6)


def test_the_metrics_are_strict_json_and_agree_with_the_scores(done):
    metrics = strict_json(done / "metrics.json")
    told = {"rules", "rules_except", "mask_threshold", "over", "set_aside", "trained_enough", "uncertainty"}
    assert metrics.keys() == {"mdps", "guided", "reconstruction"} | told
    assert (metrics["rules"], metrics["rules_except"]) == ("paper", "")
    good, bad = ([float(row["score"]) for row in read_scores(done) if (row["defect"] == "good") == kind] for kind in (True, False))
    pairs = [(b > g) + 0.5 * (b == g) for b in bad for g in good]
    assert metrics["mdps"]["image_auroc"] == pytest.approx(np.mean(pairs))


def test_a_score_at_the_threshold_is_not_flagged(tmp_path):
    """And both are compared in float64, where the 0.1 of float32 exceeds 0.1."""
    items = [Item(pathlib.Path(f"{name}.png"), f"test/good/{name}", "good", None) for name in "abc"]
    for threshold, flagged in ((0.5, "001"), (0.1, "111")):
        run_folder.write_scores(tmp_path / "scores.csv", items, np.array([0.1, 0.5, 0.6], np.float32), threshold)
        assert "".join(row["flagged"] for row in read_scores(tmp_path)) == flagged


# What is set aside, and the run's own data


def test_a_broken_image_stops_a_run_unless_it_is_set_aside_and_counted(place, call, tmp_path, no_report, capsys):
    shutil.copytree(place / "data", tmp_path / "data")
    for name in ("train/good/000.png", "test/dent/000.png"):
        cut(tmp_path / "data/part" / name)
    arguments = ["--data", tmp_path / "data", "--out", tmp_path / "out"]
    assert call(*arguments) == 2 and "--skip-bad" in capsys.readouterr().err
    assert call(*arguments, "--strict") == 2 and "--skip-bad" not in capsys.readouterr().err
    assert call(*arguments, "--skip-bad") == 0
    metrics, told = strict_json(tmp_path / "out/metrics.json"), capsys.readouterr().err
    assert [found["count"] for kind, found in metrics["set_aside"].items() if "set aside" in kind] == [2]
    assert len(read_scores(tmp_path / "out")) == sum(metrics["over"][name] for name in ("good_images", "defective_images")) == 4
    assert "2 good images to train on, 1 held out, 4 to test (2 with a defect), of 6 sizes from 21 x 12 to 33 x 17 pixels" in told
    assert "depth: 2 of 16-bit grey, 3 of 8-bit colour, 2 of 8-bit grey\n" in told
    assert told.count("dent/000.png") == 2 and "2 images set aside" in told


def test_an_image_that_is_set_aside_for_its_mask_is_not_counted_among_the_images(place, call, tmp_path, no_report, capsys):
    shutil.copytree(place / "data", tmp_path / "data")
    cut(tmp_path / "data/part/ground_truth/rust/000.png")
    assert call("--data", tmp_path / "data", "--out", tmp_path / "out", "--skip-bad") == 0
    told = capsys.readouterr().err
    assert "depth: 2 of 16-bit grey, 4 of 8-bit colour, 2 of 8-bit grey\n" in told and "1 image set aside" in told
    assert "test/rust/000.png" not in {row["path"] for row in read_scores(tmp_path / "out")}


def test_strict_stops_before_an_image_is_decoded(place, call, tmp_path, monkeypatch, capsys):
    shutil.copytree(place / "data", tmp_path / "data")
    (tmp_path / "data/part/train/good/notes.txt").write_text("kept apart")
    monkeypatch.setattr(images, "load_image", lambda *_: pytest.fail("was decoded"))
    assert call("--data", tmp_path / "data", "--out", tmp_path / "out", "--strict", "--quiet") == 2
    assert "notes.txt" in capsys.readouterr().err and not (tmp_path / "out").exists()


def test_a_run_with_trained_weights_is_not_trained_further(done, call, tmp_path, no_report, contents, capsys):
    assert call("--weights", done / "checkpoint.npz", "--out", tmp_path / "out", "--quiet") == 0
    before = contents(tmp_path / "out")
    capsys.readouterr()
    assert run.main(["--resume", "--train-steps", "9", "--out", str(tmp_path / "out"), "--quiet"]) == 2
    assert "leave --train-steps out" in capsys.readouterr().err and contents(tmp_path / "out") == before


def test_an_image_that_cannot_be_opened_is_a_broken_one_and_a_fifo_is_not_waited_for(place, call, tmp_path, no_report, monkeypatch, capsys):
    shutil.copytree(place / "data", tmp_path / "data")
    fifo, gone = (tmp_path / "data/part" / name for name in ("train/good/fifo.png", "test/dent/gone.png"))
    arguments = ["--data", tmp_path / "data", "--out", tmp_path / "out", "--quiet"]
    os.mkfifo(fifo)
    with monkeypatch.context() as patch:
        patch.setattr(files, "open", lambda path, *mode: pytest.fail("was opened") if path == fifo else open(path, *mode), raising=False)
        assert call(*arguments, "--skip-bad") == 2
    told = capsys.readouterr().err
    assert told.count("\n") == 1 and str(fifo) in told and "FIFO" in told
    fifo.unlink()
    gone.symlink_to("nowhere")
    assert call(*arguments) == 2
    told = capsys.readouterr().err
    assert told.count("\n") == 1 and str(gone) in told and "--skip-bad" in told
    assert call(*arguments, "--skip-bad") == 0
    assert [found["first"] for found in strict_json(tmp_path / "out/metrics.json")["set_aside"].values()][-1] == ["test/dent/gone.png"]
    gone.unlink()
    write_image(gone)
    assert run.main(["--resume", "--out", str(tmp_path / "out"), "--quiet"]) == 2
    assert "gone.png: was replaced" in capsys.readouterr().err


@pytest.mark.parametrize("part", ["train", "test"])
def test_where_all_images_of_a_part_are_broken_none_can_be_set_aside(part, place, call, tmp_path, capsys):
    shutil.copytree(place / "data", tmp_path / "data")
    for path in filter(pathlib.Path.is_file, (tmp_path / "data/part" / part).rglob("*")):
        cut(path)
    assert call("--data", tmp_path / "data", "--out", tmp_path / "out", "--skip-bad", "--quiet") == 2
    told = capsys.readouterr().err
    assert told.count("\n") == 1 and str(tmp_path / "data/part") in told and "replace the broken ones" in told
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("content", ['{"test/good/000.png":', "[]"])
def test_a_run_does_not_go_on_where_its_data_json_is_spoilt(content, done, tmp_path, capsys):
    shutil.copytree(done, tmp_path / "out")
    (tmp_path / "out/data.json").write_text(content)
    assert run.main(["--out", str(tmp_path / "out"), "--resume", "--quiet"]) == 2
    told = capsys.readouterr().err
    assert told.count("\n") == 1 and str(tmp_path / "out/data.json") in told
    assert (tmp_path / "out/data.json").read_text() == content


def test_strict_stops_at_what_would_only_be_told(call, tmp_path, capsys):
    assert call("--out", tmp_path / "out", "--strict") == 2
    assert "strict" in capsys.readouterr().err.splitlines()[-1] and not (tmp_path / "out").exists()


# Good photographs alone


@pytest.fixture
def good_alone(place, tmp_path):
    """A data folder of good images alone, with an empty folder test."""
    shutil.copytree(place / "data/part/train", tmp_path / "good/part/train")
    (tmp_path / "good/part/test/good").mkdir(parents=True)
    return tmp_path / "good"


def test_without_test_images_some_good_ones_are_tested_and_that_is_told(good_alone, call, tmp_path, capsys):
    assert call("--data", good_alone, "--out", tmp_path / "out", "--strict") == 0
    (row,) = read_scores(tmp_path / "out")
    assert (good_alone / "part" / row["path"]).is_file() and row["defect"] == "good"
    told = "2 good images to train on, 1 held out, 1 to test (0 with a defect)", "no test images, so the test is on 1 of the good images"
    shown = capsys.readouterr()
    for line in told:
        assert line in shown.err and line in (tmp_path / "out/report.html").read_text()
    assert re.search(r"flagged: [01] of 1 good images; .* 1 held-out good image at .* 5 %", shown.out)
    assert score.main([str(tmp_path / "out"), str(good_alone / "part/train/good"), "--out", str(tmp_path / "found")]) == 0


def test_the_good_images_that_are_tested_train_nothing_and_set_no_threshold(good_alone, call, tmp_path, no_report):
    assert call("--data", good_alone, "--out", tmp_path / "before") == 0
    (row,) = read_scores(tmp_path / "before")
    with Image.open(good_alone / "part" / row["path"]) as image:
        upside_down = np.asarray(image)[::-1]
    Image.fromarray(upside_down).save(good_alone / "part" / row["path"])
    assert call("--data", good_alone, "--out", tmp_path / "after") == 0
    for name in ("train.csv", "detector.npz"):
        assert (tmp_path / "before" / name).read_bytes() == (tmp_path / "after" / name).read_bytes()
    (other,) = read_scores(tmp_path / "after")
    assert other["path"] == row["path"] and other["score"] != row["score"]


def test_about_a_tenth_of_good_images_is_tested_chosen_by_the_seed(tmp_path, quick_settings):
    for k in range(20):
        write_image(tmp_path / f"data/part/train/good/{k}.png", pixels=10 * k)
    settings, chosen = quick_settings | {"data": str(tmp_path / "data"), "category": "part"}, []
    for seed in (0, 0, 1):
        read = images.read_images(config.make_config(settings, seed=seed), tmp_path / f"{seed}")
        assert (len(read.test), len(read.held_out), len(read.train)) == (2, 4, 14)
        grey = [image[0, 0, 0] for part in (read.test, read.held_out, read.train) for image in part[:]]
        assert len(set(grey)) == 20
        chosen.append(read.test_names)
    assert chosen[0] == chosen[1] != chosen[2]


@pytest.mark.parametrize("place_of, stage", [(pipeline, "train"), (pipeline, "evaluate"), (pipeline, "write_maps"), (run, "write_report")])
def test_a_folder_removed_in_the_midst_is_told_and_not_made_again(place_of, stage, call, tmp_path, monkeypatch, capsys):
    out, do = tmp_path / "out", getattr(place_of, stage)

    def after_removal(*args):
        shutil.rmtree(out)
        return do(*args)

    monkeypatch.setattr(place_of, stage, after_removal)
    assert call("--out", out) == 2
    assert str(out) in capsys.readouterr().err.splitlines()[-1] and not out.exists()


def test_where_the_lock_alone_is_removed_nothing_else_is(call, tmp_path, monkeypatch, capsys):
    out = tmp_path / "out"
    monkeypatch.setattr(run, "write_report", lambda folder, result: (out / run_folder.LOCK).unlink())
    assert call("--out", out) == 2
    assert "go on with --resume" in capsys.readouterr().err.splitlines()[-1]
    assert {"config.json", "checkpoint.npz", "scores.csv", "detector.npz"} <= {path.name for path in out.iterdir()}


CHANGES = {
    "replaced": lambda part: (part / "test/rust/000.png").write_bytes((part / "test/dent/000.png").read_bytes()),
    "added": lambda part: shutil.copy(part / "test/rust/000.png", part / "test/rust/001.png"),
    "missing": lambda part: (part / "ground_truth/rust/000.png").unlink(),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_run_does_not_go_on_with_other_images(change, call, place, tmp_path, no_report, capsys):
    shutil.copytree(place / "data", tmp_path / "data")
    assert call("--data", tmp_path / "data", "--out", tmp_path / "out") == 0
    CHANGES[change](tmp_path / "data/part")
    assert run.main(["--out", str(tmp_path / "out"), "--resume"]) == 2
    line = capsys.readouterr().err.splitlines()[-1]
    assert change in line and "rust/00" in line


# The same again


def test_the_same_call_gives_the_same_bytes_and_another_seed_does_not(done, call, tmp_path, no_report, results, capsys):
    assert call("--out", tmp_path / "again") == 0
    assert results(tmp_path / "again") == results(done)
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == f"run folder: {tmp_path / 'again'}" and lines[-1] == f"report: {tmp_path / 'again' / 'report.html'}"
    assert [line.split()[0] for line in lines[2:-2]] == ["mdps", "guided", "reconstruction"]
    flagged = {kind: [row["flagged"] for row in read_scores(done) if (row["defect"] == "good") == kind] for kind in (True, False)}
    defective, good = (f"{flagged[kind].count('1')} of {len(flagged[kind])}" for kind in (False, True))
    assert lines[-2].startswith(f"flagged: {defective} defective and {good} good images; threshold from 1 held-out good image at")
    assert f"{strict_json(done / 'metrics.json')['mdps']['image_auroc']:.4f}" in lines[2]
    assert call("--out", tmp_path / "other", "--seed", 1) == 0
    other = results(tmp_path / "other")
    assert other.pop("data.json") == results(done)["data.json"]
    assert not [name for name, content in results(done).items() if other.get(name) == content]


def test_one_thread_and_two_agree(call, tmp_path, no_report):
    for threads in ("1", "2"):
        assert call("--out", tmp_path / threads, "--threads", threads) == 0
    one, two = (read_scores(tmp_path / threads) for threads in ("1", "2"))
    for a, b in zip(one, two, strict=True):
        assert float(a["score"]) == pytest.approx(float(b["score"]), rel=1e-4) and a["path"] == b["path"]


def test_the_weights_of_a_run_give_its_scores_and_a_report_without_training(done, call, tmp_path, results, monkeypatch):
    monkeypatch.setattr(pipeline, "train", None)
    assert call("--out", tmp_path / "loaded", "--weights", done / "checkpoint.npz") == 0
    loaded, trained = results(tmp_path / "loaded"), results(done)
    assert trained.keys() - loaded.keys() == {"checkpoint.npz", "train.csv"}
    assert [name for name, content in loaded.items() if trained[name] != content] == ["config.json", "data.json"]
    untrained, after_training = ((folder / "report.html").read_text() for folder in (tmp_path / "loaded", done))
    assert "good images for training (not done" in untrained and "good images to train on" in after_training
    missing = {path.name for path in (done / "figures").iterdir()} - {path.name for path in (tmp_path / "loaded" / "figures").iterdir()}
    assert missing == {"loss.png"}


def test_the_thresholds_do_not_know_the_sizes(done, call, tmp_path, with_others, no_report):
    assert call("--data", with_others("*.*"), "--out", tmp_path / "out") == 0
    before, after = (strict_json(folder / "metrics.json") for folder in (done, tmp_path / "out"))
    assert before["mask_threshold"] == after["mask_threshold"]
    assert before["mdps"]["decision_threshold"] == after["mdps"]["decision_threshold"]
    assert before["mdps"]["good_difference"] != after["mdps"]["good_difference"]


# The authors' rules and settings


@pytest.fixture(scope="module")
def released(place, call):
    """The folder of a complete run by the released rules, without a report, and the Result that a report would show."""
    shown, records = [], pipeline.ChainRecords
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(run, "write_report", lambda folder, result: shown.append(result))
        patch.setattr(pipeline, "ChainRecords", lambda *args, **more: shown.append(args[3]) or records(*args, **more))
        assert call("--rules", "released", "--out", place / "released") == 0
    *sides, result = shown
    assert sides == [14] * 5  # of held-out images, too, the centre alone is scored: row 12
    return place / "released", result


def test_the_centre_is_judged_and_shown_and_maps_are_written_whole(released):
    """Row 12, on MVTec's layout: 14 of 16 pixels a side; the paper's side judges all."""
    folder, result = released
    assert result.images.shape == (5, 14, 14, 3) and result.chains["mdps"].shown.anomaly.shape == (5, 14, 14)
    assert [None if truth is None else truth.shape for truth in result.truths].count((14, 14)) == 4
    rust = next(row for row in read_scores(folder) if row["defect"] == "rust")
    with Image.open(folder / "maps/part/test/rust/000.tiff") as image:
        pixels = np.asarray(image)
    assert pixels.shape == (16, 16) and pixels[1:15, 1:15].max() == pytest.approx(float(rust["score"]), rel=1e-6)


def test_the_detector_judges_the_centre_too_so_its_threshold_fits_its_scores(released, place, tmp_path):
    assert score.main([str(released[0]), str(place / "data/part"), "--out", str(tmp_path / "out"), "--quiet"]) == 0
    by_run, by_detector = ({row["path"]: row for row in read_scores(folder)} for folder in (released[0], tmp_path / "out"))
    assert by_run and {path: (row["score"], row["flagged"]) for path, row in by_run.items()} == {
        path: (row["score"], row["flagged"]) for path, row in by_detector.items()
    }


def test_the_wrong_decisions_are_those_of_the_scores(released):
    folder, result = released
    rows, chosen = read_scores(folder), result.mistakes
    wrong = {row["path"].rpartition(".")[0] for row in rows if (row["flagged"] == "1") != (row["defect"] != "good")}
    assert {result.names[i] for i in chosen.indices} == wrong and wrong


def test_wrong_decisions_are_shown_with_their_own_pictures_cut_to_the_judged_centre():
    rng, kinds = np.random.default_rng(0), ["dent", "good", "good", "rust"]
    y, maps, truths = rng.normal(size=(4, 8, 8, 3)), rng.random((4, 8, 8)), [rng.random((6, 6)) > 0.5, None, None, None]
    items = [Item(None, "", kind, None) for kind in kinds]
    found = types.SimpleNamespace(items=items, defects=kinds, test=y, truths=truths, side=6)
    chosen = pipeline._mistakes(found, types.SimpleNamespace(anomaly=lambda part: maps[part]), np.array([False, False, True, True]))
    assert chosen.indices == [2, 0] and chosen.truths[0] is None and chosen.truths[1] is truths[0]
    np.testing.assert_array_equal(chosen.images, y[[2, 0], 1:7, 1:7])
    np.testing.assert_array_equal(chosen.anomaly, maps[[2, 0], 1:7, 1:7])


def test_masks_are_resized_by_either_rule(place, quick_settings, tmp_path):
    """Row 12: the 20 x 28 image's mask has 6 x 6 pixels; bilinearly all that it touches counts."""
    settings = quick_settings | {"data": str(place / "data"), "category": "part"}
    paper, authors, excepted = (
        images.read_images(config.make_config(settings, rules=rules, rules_except=rows), tmp_path / "out").truths[0]
        for rules, rows in (("paper", ""), ("released", ""), ("paper", "judging"))
    )
    assert (paper.shape, authors.shape) == ((16, 16), (14, 14))
    assert authors.sum() > paper.sum() and not (paper[1:15, 1:15] & ~authors).any() and (authors == excepted).all()


def test_the_test_set_sets_the_released_threshold_and_the_metrics_say_by_which_rules(released, call, tmp_path, with_others, no_report):
    folder, result = released
    metrics = strict_json(folder / "metrics.json")
    assert metrics["rules"] == "released" and metrics["mask_threshold"] == result.mask_threshold > 0
    assert call("--rules", "released", "--data", with_others("rust/*"), "--out", tmp_path / "out") == 0
    other = strict_json(tmp_path / "out/metrics.json")
    assert other["mask_threshold"] != metrics["mask_threshold"]
    assert other["mdps"]["decision_threshold"] != metrics["mdps"]["decision_threshold"]


@pytest.mark.parametrize("settings, threshold", [({"masked": False}, None), ({"rules": "released", "mask_threshold": 0.02}, 0.02)], ids=str)
def test_a_run_without_a_mask_or_with_a_fixed_threshold_ends_too(settings, threshold, place, call, tmp_path):
    (tmp_path / "quick.json").write_text(json.dumps(json.loads((place / "quick.json").read_text()) | settings))
    assert call("--config", tmp_path / "quick.json", "--out", tmp_path / "out") == 0
    metrics = strict_json(tmp_path / "out/metrics.json")
    assert metrics["mask_threshold"] == threshold
    same = metrics["guided"] == {name: value for name, value in metrics["mdps"].items() if name in metrics["guided"]}
    assert same == (threshold is None)


@pytest.mark.parametrize("drawn", [False, True], ids=["data", "synthetic"])
def test_the_settings_are_written_once(drawn, place, small_synthetic, monkeypatch):
    monkeypatch.setattr(pipeline, "calibrate", None)
    written, write_json = [], run_folder.write_json
    for module in (run_folder, image_digests):
        monkeypatch.setattr(module, "write_json", lambda path, content: written.append(path.name) or write_json(path, content))
    with pytest.raises(TypeError):
        run.main(["--features", "unet", *(["--train"] if drawn else ["--data", str(place / "data"), "--category", "part"])])
    assert written == (["config.json"] if drawn else []) + ["data.json"] + ([] if drawn else ["config.json"])


# Broken off


@pytest.mark.parametrize("stage", ["train", "calibrate", "detect", "write_json", "write_scores", "write_maps"])
def test_a_run_broken_off_at_any_stage_ends_with_the_same_bytes(stage, done, call, tmp_path, no_report, results, monkeypatch, capsys):
    def interrupted(*args, **more):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(pipeline, stage, interrupted)
        assert call("--out", tmp_path / "out", "--threads", "2") == 130
    shown = capsys.readouterr()
    command = shlex.split(shown.err.splitlines()[-1].partition("go on with: ")[2])
    assert command[1:] == ["-m", "mdps_ref.run", "--resume", "--out", str(tmp_path / "out"), "--threads", "2"]
    assert f"run folder: {tmp_path / 'out'}" in shown.out
    assert run.main(command[3:]) == 0
    assert results(tmp_path / "out") == results(done)


@pytest.mark.kernels_as_they_are  # the other process has the table
def test_a_run_killed_in_the_middle_of_training_ends_with_the_same_bytes(place, call, tmp_path, no_report, results):
    """A real process and a real SIGKILL, as soon as the first of ten checkpoints is there."""
    quick = json.loads((place / "quick.json").read_text()) | {"train_steps": 30, "checkpoint_every": 3}
    (tmp_path / "longer.json").write_text(json.dumps(quick))
    arguments = ["--data", str(place / "data"), "--category", "part", "--config", str(tmp_path / "longer.json")]
    killed, checkpoint = tmp_path / "killed", tmp_path / "killed" / "checkpoint.npz"
    command = [sys.executable, "-m", "mdps_ref.run", *arguments, "--out", str(killed)]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        deadline = time.monotonic() + 60
        while not checkpoint.exists() and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.01)
        process.kill()
    assert process.returncode == -signal.SIGKILL
    assert 0 < load_checkpoint(checkpoint)[1]["step"] < 30
    assert run.main([*arguments, "--out", str(killed), "--resume"]) == 0
    assert run.main([*arguments, "--out", str(tmp_path / "unbroken")]) == 0
    assert results(killed) == results(tmp_path / "unbroken")
    assert not list(killed.rglob("*.part"))


@pytest.mark.kernels_as_they_are
@pytest.mark.skipif(not processes.CAN_FORK, reason="this system forks no processes")
def test_a_killed_member_of_a_team_is_one_line_with_the_command_that_goes_on(call, tmp_path, no_report, results, monkeypatch, capsys):
    """It dies in the step after the first checkpoint."""
    monkeypatch.setattr("mdps_ref.kernels.table.CORES", 2)
    assert call("--out", tmp_path / "unbroken", "--threads", "2") == 0
    capsys.readouterr()
    caller, calls, noise_loss = os.getpid(), [], train.noise_loss

    def deadly(*args):
        calls.append(args)
        if os.getpid() != caller and len(calls) > 2:
            os.kill(os.getpid(), signal.SIGKILL)
        return noise_loss(*args)

    with monkeypatch.context() as patch:
        patch.setattr(train, "noise_loss", deadly)
        assert call("--out", tmp_path / "killed", "--threads", "2", "--quiet") == 2
    told = capsys.readouterr().err
    assert told.count("\n") == 1 and "was killed" in told and "new run" not in told
    assert run.main(shlex.split(told.partition("go on with: ")[2])[3:]) == 0
    assert results(tmp_path / "killed") == results(tmp_path / "unbroken")


def test_a_run_that_has_ended_can_be_resumed_and_stays_as_it_was(done, tmp_path, no_report, contents, monkeypatch):
    shutil.copytree(done, tmp_path / "out")
    monkeypatch.setattr("mdps_ref.job.train.train_step", None)
    assert run.main(["--out", str(tmp_path / "out"), "--resume", "--seed", "0", "--image-size", "16"]) == 0
    assert contents(tmp_path / "out") == contents(done)


def test_a_run_that_is_trained_further_keeps_no_result_of_fewer_steps(call, tmp_path, no_report, results, monkeypatch):
    assert call("--out", tmp_path / "out", "--features", "unet") == 0
    more = ["--out", str(tmp_path / "out"), "--resume", "--train-steps", "5"]

    def interrupted(*args):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(pipeline, "train", interrupted)
        assert run.main(more) == 130
    left = {path.name for path in (tmp_path / "out").iterdir()}
    assert left == {"config.json", "data.json", "checkpoint.npz", "train.csv", run_folder.WORK}
    assert run.main(more) == 0
    assert call("--out", tmp_path / "afresh", "--features", "unet", "--train-steps", 5) == 0
    assert results(tmp_path / "out") == results(tmp_path / "afresh")


def test_without_arguments_a_synthetic_set_is_drawn_and_judged(small_synthetic, contents, capsys):
    assert run.main(["--train"]) == 0
    assert "report: runs/washer-32/report.html" in capsys.readouterr().out.replace(os.sep, "/")
    found = contents(small_synthetic)
    assert {*SAME_BYTES, "report.html"} <= found.keys()
    drawn = {name.removeprefix("synthetic/washer/") for name in found if name.startswith("synthetic/washer/test/")}
    assert drawn == {row["path"] for row in read_scores(small_synthetic)} and len(drawn) == 6
    assert json.loads(found["config.json"])["data"] == ""


def test_a_drawing_broken_off_can_be_resumed(small_synthetic, no_report, results, monkeypatch):
    draw_all = images.write_category

    def interrupted(*args, **counts):
        draw_all(*args, **counts | {"test_good": 0})
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(images, "write_category", interrupted)
        assert run.main(["--train"]) == 130
    assert run.main(["--out", str(small_synthetic), "--resume"]) == 0
    assert run.main(["--train", "--out", "unbroken"]) == 0
    assert results(small_synthetic) == results(pathlib.Path("unbroken"))
