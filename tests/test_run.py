"""The command line from images to a run folder: what it holds, that the same call gives the same bytes, and one line for every mistake."""

import contextlib
import csv
import dataclasses
import json
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from PIL import Image

from mdps_ref import run
from mdps_ref.data.folders import Item
from mdps_ref.job import config, pipeline, run_folder
from mdps_ref.job import images as job_images
from mdps_ref.job.images import read_images
from mdps_ref.job.run_folder import open_run_folder, write_scores
from mdps_ref.weights.checkpoint import load_checkpoint

# The path of each image, its size (width, height) and its kind.
IMAGES = {
    "train/good/000.png": (20, 28, "colour"),
    "train/good/001.jpg": (28, 20, "colour"),
    "train/good/002.png": (9, 40, "grey"),
    "train/good/003.tiff": (16, 16, "16-bit grey"),
    "test/good/000.png": (20, 28, "colour"),
    "test/good/001.tiff": (33, 17, "16-bit grey"),
    "test/dent/000.png": (20, 28, "colour"),
    "test/dent/001.bmp": (21, 12, "grey"),
    "test/rust/000.png": (16, 16, "colour"),
}
MASKS = {"ground_truth/dent/000_mask.png": (20, 28), "ground_truth/rust/000.png": (16, 16)}
SAME_BYTES = ("config.json", "checkpoint.npz", "train.csv", "scores.csv", "metrics.json")


def draw(path, width, height, kind, rng):
    """Write one random image."""
    path.parent.mkdir(parents=True, exist_ok=True)
    shape = (height, width, 3) if kind == "colour" else (height, width)
    pixels = rng.integers(0, 65536, shape, np.uint16) if kind == "16-bit grey" else rng.integers(0, 256, shape, np.uint8)
    Image.fromarray(pixels).save(path)


def draw_data(root, seed=0):
    """A small folder of images of odd sizes and kinds in MVTec's layout: one category, "part"; one of its defects has no mask."""
    rng = np.random.default_rng(seed)
    for name, image in IMAGES.items():
        draw(root / "part" / name, *image, rng)
    for name, (width, height) in MASKS.items():
        (root / "part" / name).parent.mkdir(parents=True, exist_ok=True)
        mask = np.zeros((height, width), np.uint8)
        mask[3:9, 2:8] = 255
        Image.fromarray(mask).save(root / "part" / name)
    return root


def contents(folder):
    """{path in the folder: bytes} of every file."""
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def results(folder):
    """What the same seed must give again: settings, weights, scores, metrics and maps."""
    return {name: content for name, content in contents(folder).items() if name in SAME_BYTES or name.startswith("maps/")}


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with the data folder `data`, and quick settings in `quick.json`."""
    place = tmp_path_factory.mktemp("place")
    draw_data(place / "data")
    quick = {"image_size": 16, "train_steps": 3, "batch_size": 2, "checkpoint_every": 2, "stride": 30, "samples": 2}
    quick |= {"guided_start": 60, "mdps_start": 60}
    (place / "quick.json").write_text(json.dumps(quick | {"image_score": "max"}))
    return place


@pytest.fixture(scope="module")
def call(place):
    """call(*arguments): the quick command line on the data, with these arguments added."""
    data, quick = place / "data", place / "quick.json"
    return lambda *arguments: run.main(["--data", str(data), "--category", "part", "--config", str(quick), *map(str, arguments)])


@pytest.fixture(scope="module")
def done(place, call):
    """The folder of a complete run."""
    assert call("--out", place / "done") == 0
    return place / "done"


@pytest.fixture
def no_report(monkeypatch):
    """Leave out the report, which takes longer than all the rest."""
    monkeypatch.setattr(run, "write_report", lambda folder, result: None)


# What a run folder holds


def test_a_run_leaves_every_file_and_nothing_half_written(done):
    found = contents(done)
    maps = {f"maps/part/{pathlib.PurePath(name).with_suffix('.tiff')}" for name in IMAGES if name.startswith("test/")}
    assert {*SAME_BYTES, "report.html"} | maps <= found.keys()
    figures = {name for name in found if name.startswith("figures/")}
    assert figures and found.keys() == {*SAME_BYTES, "report.html"} | maps | figures
    for name in figures:
        with Image.open(done / name) as figure:
            figure.load()


def test_the_settings_used_are_kept(done, place):
    kept = json.loads((done / "config.json").read_text())
    quick = json.loads((place / "quick.json").read_text())
    assert kept.items() >= (quick | {"category": "part", "data": str(place / "data"), "network": "tiny", "seed": 0}).items()
    assert kept.keys() == {field.name for field in dataclasses.fields(config.Config)}


def test_the_log_and_the_checkpoint_tell_of_every_step(done):
    rows = list(csv.DictReader((done / "train.csv").read_text().splitlines()))
    assert [row["step"] for row in rows] == ["1", "2", "3"]
    groups, about = load_checkpoint(done / "checkpoint.npz")
    assert about["step"] == len(groups["training"]["log"]) == 3
    assert about["config"] == json.loads((done / "config.json").read_text())


def read_scores(folder):
    return list(csv.DictReader((folder / "scores.csv").read_text().splitlines()))


def test_every_test_image_has_its_score_and_the_decision_that_follows(done):
    rows = read_scores(done)
    assert sorted(row["path"] for row in rows) == sorted(name for name in IMAGES if name.startswith("test/"))
    threshold = json.loads((done / "metrics.json").read_text())["mdps"]["decision_threshold"]
    for row in rows:
        assert row["defect"] == pathlib.PurePath(row["path"]).parts[1]
        assert row["flagged"] == str(int(float(row["score"]) > threshold))


def test_every_map_is_float32_and_has_the_size_of_its_image(done):
    for row in read_scores(done):
        path = done / "maps" / "part" / pathlib.PurePath(row["path"]).with_suffix(".tiff")
        with Image.open(path) as image:
            assert image.size == IMAGES[row["path"]][:2]
            pixels = np.asarray(image)
        assert pixels.dtype == np.float32 and np.isfinite(pixels).all()
        if IMAGES[row["path"]][:2] == (16, 16):  # not resized, so its maximum is the score
            assert pixels.max() == pytest.approx(float(row["score"]), rel=1e-6)
        else:
            assert pixels.max() <= float(row["score"]) * (1 + 1e-6)


def strict_json(path):
    """The content of a JSON file; nan and infinity, which are no JSON, are refused."""

    def refuse(constant):
        raise ValueError(constant)

    return json.loads(path.read_text(), parse_constant=refuse)


def test_the_metrics_are_strict_json_and_agree_with_the_scores(done):
    metrics = strict_json(done / "metrics.json")
    assert metrics.keys() == {"mdps", "guided", "reconstruction", "rules", "rules_except", "mask_threshold"}
    assert metrics["rules"] == "paper"
    rows = read_scores(done)
    good = [float(row["score"]) for row in rows if row["defect"] == "good"]
    bad = [float(row["score"]) for row in rows if row["defect"] != "good"]
    pairs = [(b > g) + 0.5 * (b == g) for b in bad for g in good]
    assert metrics["mdps"]["image_auroc"] == pytest.approx(np.mean(pairs))


def test_the_terminal_shows_the_metrics_and_where_the_report_is(call, tmp_path, capsys, no_report):
    assert call("--out", tmp_path / "out") == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == f"run folder: {tmp_path / 'out'}"
    assert [line.split()[0] for line in lines[2:]] == ["mdps", "guided", "reconstruction", "report:"]
    assert lines[-1] == f"report: {tmp_path / 'out' / 'report.html'}"
    auroc = json.loads((tmp_path / "out" / "metrics.json").read_text())["mdps"]["image_auroc"]
    assert f"{auroc:.4f}" in lines[2]


# The same again


def test_the_same_call_gives_the_same_bytes_and_another_seed_does_not(done, call, tmp_path, no_report):
    assert call("--out", tmp_path / "again") == 0
    assert results(tmp_path / "again") == results(done)
    assert call("--out", tmp_path / "other", "--seed", 1) == 0
    other = results(tmp_path / "other")
    assert not [name for name, content in results(done).items() if other[name] == content]


def test_the_weights_of_a_run_give_its_scores_without_training(done, call, tmp_path, no_report, monkeypatch):
    monkeypatch.setattr(pipeline, "train", None)
    assert call("--out", tmp_path / "loaded", "--weights", done / "checkpoint.npz") == 0
    loaded, trained = results(tmp_path / "loaded"), results(done)
    assert trained.keys() - loaded.keys() == {"checkpoint.npz", "train.csv"}
    assert [name for name, content in loaded.items() if trained[name] != content] == ["config.json"]


def test_weights_trained_before_make_a_report_without_a_loss_curve(done, call, tmp_path):
    assert call("--out", tmp_path / "loaded", "--weights", done / "checkpoint.npz") == 0
    assert (tmp_path / "loaded" / "report.html").is_file()
    missing = {path.name for path in (done / "figures").iterdir()} - {path.name for path in (tmp_path / "loaded" / "figures").iterdir()}
    assert missing == {"loss.png"}


def test_the_thresholds_do_not_know_the_test_images(done, place, call, tmp_path, no_report):
    shutil.copytree(place / "data", tmp_path / "data")
    rng = np.random.default_rng(99)
    for name, image in IMAGES.items():
        if name.startswith("test/"):
            draw(tmp_path / "data" / "part" / name, *image, rng)
    assert call("--data", tmp_path / "data", "--out", tmp_path / "out") == 0
    before, after = (strict_json(folder / "metrics.json") for folder in (done, tmp_path / "out"))
    assert before["mask_threshold"] == after["mask_threshold"]
    assert before["mdps"]["decision_threshold"] == after["mdps"]["decision_threshold"]
    assert before["mdps"]["good_difference"] != after["mdps"]["good_difference"]


# The authors' rules and settings


@pytest.fixture(scope="module")
def released(place, call):
    """The folder of a complete run by the released rules, without a report, and the Result that a report would show."""
    shown = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(run, "write_report", lambda folder, result: shown.append(result))
        assert call("--rules", "released", "--out", place / "released") == 0
    return place / "released", shown[0]


def test_the_centre_is_judged_and_shown_and_maps_are_written_whole(released, done):
    """Row 12, on MVTec's layout: 14 of 16 pixels a side; the paper's side judges all."""
    folder, result = released
    assert result.images.shape == (5, 14, 14, 3) and result.detection.mdps.anomaly.shape == (5, 14, 14)
    assert [None if truth is None else truth.shape for truth in result.truths].count((14, 14)) == 4
    rust = next(row for row in read_scores(folder) if row["defect"] == "rust")
    with Image.open(folder / "maps/part/test/rust/000.tiff") as image:
        pixels = np.asarray(image)
    assert pixels.shape == (16, 16) and pixels[1:15, 1:15].max() == pytest.approx(float(rust["score"]), rel=1e-6)


def test_masks_are_resized_by_either_rule(place, quick_settings, tmp_path):
    """Row 12: the 20 x 28 image's mask has 6 x 6 pixels; bilinearly all that it touches counts."""
    settings = quick_settings | {"data": str(place / "data"), "category": "part"}
    paper, authors = (
        read_images(config.make_config(settings | {"rules": rules}), tmp_path / rules).truths[0] for rules in ("paper", "released")
    )
    assert (paper.shape, authors.shape) == ((16, 16), (14, 14))
    assert authors.sum() > paper.sum() and not (paper[1:15, 1:15] & ~authors).any()


def test_the_test_set_sets_the_released_threshold_and_the_metrics_say_by_which_rules(released, place, call, tmp_path, no_report):
    folder, result = released
    metrics = strict_json(folder / "metrics.json")
    assert metrics["rules"] == "released" and metrics["mask_threshold"] == result.detection.mask_threshold > 0
    shutil.copytree(place / "data", tmp_path / "data")
    draw(tmp_path / "data/part/test/rust/000.png", 16, 16, "colour", np.random.default_rng(99))
    assert call("--rules", "released", "--data", tmp_path / "data", "--out", tmp_path / "out") == 0
    other = strict_json(tmp_path / "out/metrics.json")
    assert other["mask_threshold"] != metrics["mask_threshold"]
    assert other["mdps"]["decision_threshold"] != metrics["mdps"]["decision_threshold"]


def test_without_a_mask_a_run_ends_too(place, call, tmp_path):
    (tmp_path / "quick.json").write_text(json.dumps(json.loads((place / "quick.json").read_text()) | {"masked": False}))
    assert call("--config", tmp_path / "quick.json", "--out", tmp_path / "out") == 0
    metrics = strict_json(tmp_path / "out/metrics.json")
    assert metrics["mask_threshold"] is None
    assert metrics["guided"] == {name: value for name, value in metrics["mdps"].items() if name in metrics["guided"]}


def requested(*arguments):
    """The Config that this command line asks for."""
    return run.requested_config(run.parser().parse_args([str(argument) for argument in arguments]))


def test_flags_win_over_the_config_file_and_that_over_the_preset(tmp_path):
    (tmp_path / "mine.json").write_text('{"pixel_weight": 3.0, "samples": 2}')
    made = requested("--preset", "released/mvtec/cable", "--config", tmp_path / "mine.json", "--samples", 4, "--data", "there")
    assert (made.category, made.rules, made.pixel_weight, made.samples, made.mask_lambda) == ("cable", "released", 3.0, 4, 0.19)
    assert requested("--preset", "released/btad/02", "--data", "there", "--category", "two").category == "two"
    assert requested("--preset", "released/btad/02", "--category", "washer").data == ""


def test_a_preset_without_data_is_told_what_it_needs(fails_with):
    with fails_with("released/btad/02", "--data"):
        requested("--preset", "released/btad/02")


def test_a_preset_by_the_papers_rules_is_guided_as_in_the_authors_batch():
    """Row 2; every flag of a setting reaches it."""
    made, authors = (requested("--preset", "released/mvtec/bottle", "--data", "d", *flags) for flags in (["--rules", "paper"], []))
    assert made.mdps_strength * 8**0.5 == pytest.approx(authors.mdps_strength)
    made = requested("--features", "resnet18", "--feature-weights", "r.pth", "--feature-layers", "layer1")
    assert (made.features, made.feature_layers) == ("resnet18", "layer1") and pathlib.Path(made.feature_weights).is_absolute()


def test_to_resume_with_a_preset_the_run_must_have_its_settings(tmp_path, fails_with):
    config_file = tmp_path / "config.json"
    for flags in ([], ["--rules", "paper"]):
        kept = requested("--preset", "released/mvtec/bottle", "--data", "there", *flags)
        config_file.write_text(json.dumps(dataclasses.asdict(kept)))
        assert requested("--preset", "released/mvtec/bottle", "--out", tmp_path, "--resume") == kept
        with fails_with(tmp_path, "category", "'bottle'", "'cable'"):
            requested("--preset", "released/mvtec/cable", "--out", tmp_path, "--resume")


@pytest.mark.parametrize("drawn", [False, True], ids=["data", "synthetic"])
def test_the_settings_are_written_once(drawn, place, small_synthetic, monkeypatch):
    monkeypatch.setattr(pipeline, "calibrate", None)
    written, write_json = [], run_folder.write_json
    monkeypatch.setattr(run_folder, "write_json", lambda path, content: written.append(path.name) or write_json(path, content))
    with pytest.raises(TypeError):
        run.main([] if drawn else ["--data", str(place / "data"), "--category", "part"])
    assert written == ["config.json"]


# Broken off


@pytest.mark.parametrize("stage", ["train", "calibrate", "detect", "write_json", "write_scores", "write_maps"])
def test_a_run_broken_off_at_any_stage_ends_with_the_same_bytes(stage, done, call, tmp_path, no_report, monkeypatch, capsys):
    def interrupted(*args):
        if stage != "write_json" or args[0].name == "metrics.json":
            raise KeyboardInterrupt
        write_json(*args)

    write_json = pipeline.write_json
    with monkeypatch.context() as patch:
        patch.setattr(pipeline, stage, interrupted)
        assert call("--out", tmp_path / "out") == 130
    shown = capsys.readouterr()
    assert shown.err.splitlines()[-1].startswith("mdps_ref: interrupted; ") and "--resume" in shown.err
    assert f"run folder: {tmp_path / 'out'}" in shown.out
    assert run.main(["--out", str(tmp_path / "out"), "--resume"]) == 0
    assert results(tmp_path / "out") == results(done)


@pytest.mark.kernels_as_they_are  # the other process has the table
def test_a_run_killed_in_the_middle_of_training_ends_with_the_same_bytes(place, call, tmp_path, no_report):
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


def test_a_run_that_has_ended_can_be_resumed_and_stays_as_it_was(done, tmp_path, no_report, monkeypatch):
    shutil.copytree(done, tmp_path / "out")
    monkeypatch.setattr("mdps_ref.job.train.train_step", None)
    assert run.main(["--out", str(tmp_path / "out"), "--resume", "--seed", "0", "--image-size", "16"]) == 0
    assert contents(tmp_path / "out") == contents(done)


# Mistakes


@contextlib.contextmanager
def refuses(capsys, *parts):
    """Expect one line on standard error that holds every part, and nothing on standard output."""
    capsys.readouterr()
    yield
    out, err = capsys.readouterr()
    assert out == "" and err.startswith("mdps_ref: ") and err.count("\n") == 1 and err.endswith("\n"), err
    assert [part for part in parts if str(part) not in err] == [], err


@pytest.mark.parametrize(
    "flag, value", [("--seed", 5), ("--samples", 3), ("--category", "other"), ("--weights", "w.npz"), ("--data", "elsewhere")]
)
def test_to_resume_with_another_setting_is_refused(flag, value, done, capsys):
    before = contents(done)
    with refuses(capsys, done, flag[2:], value):
        assert run.main(["--out", str(done), "--resume", flag, str(value)]) == 2
    assert contents(done) == before


def test_a_folder_that_holds_files_is_refused_and_left_alone(done, call, capsys):
    before = contents(done)
    with refuses(capsys, done, "--resume"):
        assert call("--out", done) == 2
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


def cut(path):
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])


def one_good_image(part):
    for name in ("001.jpg", "002.png", "003.tiff"):
        (part / "train/good" / name).unlink()


# What is done to the category's folder, and what the line must hold.
SPOILT = {
    "a truncated image to train on": (lambda part: cut(part / "train/good/000.png"), "train/good/000.png", "truncated"),
    "a truncated image to test": (lambda part: cut(part / "test/dent/000.png"), "test/dent/000.png", "truncated"),
    "a truncated mask": (lambda part: cut(part / "ground_truth/dent/000_mask.png"), "dent/000_mask.png", "truncated"),
    "one pixel": (lambda part: Image.new("L", (1, 1)).save(part / "test/good/000.png"), "test/good/000.png", "1 x 1"),
    "nan": (lambda part: Image.fromarray(np.full((9, 9), np.nan, np.float32)).save(part / "train/good/003.tiff"), "003.tiff", "nan"),
    "a mask of another size": (
        lambda part: Image.new("L", (28, 20)).save(part / "ground_truth/dent/000_mask.png"),
        "dent/000_mask.png",
        "28 x 20",
        "20 x 28",
    ),
    "one training image": (one_good_image, "part", "at least 2"),
    "no test images": (lambda part: shutil.rmtree(part / "test"), "part", "test/<defect>"),
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
WRONG = {
    "no data folder": (["--data", "none"], "none", "no such data folder"),
    "a data folder's name that is too long": (["--data", TOO_LONG], TOO_LONG),
    "an unknown category": (["--category", "wheel"], "'wheel'", "part"),
    "an image size that cannot be halved": (["--image-size", "18"], "18", "multiple of 4"),
    "an image size out of range": (["--image-size", "4"], "image_size", "8 .. 1024"),
    "a network that does not fit": (["--network", "small", "--image-size", "20"], "20", "multiple of 8"),
    "no samples": (["--samples", "0"], "samples", "1 .. 1000"),
    "a negative seed": (["--seed", "-1"], "seed"),
    "a preset that there is not": (["--preset", "released/mvtec/botle"], "released/mvtec/botle", "released/mvtec/bottle, ", "btad/03"),
    "guidance that the rules do not know": (["--rules", "released", "--config", "squared.json"], "'squared_norm'", "'released'"),
    "features without their weights": (["--features", "resnet18"], "resnet18"),
    "missing weights": (["--weights", "none.npz"], "none.npz", "no such checkpoint"),
    "weights that are none": (["--weights", "text"], "text", "not a whole checkpoint"),
    "weights of another size": (["--weights", "done/checkpoint.npz", "--image-size", "32"], "done/checkpoint.npz", "32 x 32"),
    "weights of another network": (["--weights", "done/checkpoint.npz", "--network", "small"], "done/checkpoint.npz", "small"),
    "a missing config": (["--config", "none.json"], "none.json", "JSON"),
    "a config that is no JSON": (["--config", "text"], "text", "JSON"),
    "an unknown setting": (["--config", "unknown.json"], "unknown.json", "sampels", "samples"),
    "a setting of another type": (["--config", "wrong.json"], "wrong.json", "'many'", "int"),
    "no gpu": (["--backend", "cupy"], "'cupy'", "numpy"),
    "synthetic goods that there are not": (["--data", ""], "'part'", "washer"),
}


@pytest.mark.parametrize("arguments, parts", [(arguments, parts) for arguments, *parts in WRONG.values()], ids=WRONG)
def test_a_wrong_argument_is_one_line_and_leaves_no_run_folder(arguments, parts, done, place, call, capsys, monkeypatch):
    monkeypatch.chdir(place)
    monkeypatch.setitem(sys.modules, "cupy", None)  # as if it were not installed
    (place / "text").write_text("samples = 8\n")
    (place / "unknown.json").write_text('{"sampels": 8}')
    (place / "wrong.json").write_text('{"samples": "many"}')
    (place / "squared.json").write_text('{"guidance": "squared_norm"}')
    with refuses(capsys, *parts):
        assert call("--out", "out", *arguments) == 2
    assert not (place / "out").exists()


@pytest.mark.parametrize("out", ["file", "file/below", TOO_LONG])
def test_an_output_folder_that_cannot_be_is_one_line(out, call, tmp_path, capsys, monkeypatch):
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


def test_help_mentions_every_flag(capsys):
    with pytest.raises(SystemExit) as caught:
        run.main(["--help"])
    assert caught.value.code == 0
    text = capsys.readouterr().out
    flags = {flag for action in run.parser()._actions for flag in action.option_strings}
    assert flags >= {f"--{name.replace('_', '-')}" for name in run.SETTING_FLAGS}
    assert flags >= {"--preset", "--out", "--resume", "--config", "--backend"}
    assert [flag for flag in flags if flag not in text] == []
    assert all(action.help for action in run.parser()._actions)


# The folder of a run


def test_without_out_each_run_gets_a_new_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for expected in ("nut-32", "nut-32-2", "nut-32-3"):
        folder = open_run_folder(None, False, "nut-32")
        assert folder == pathlib.Path("runs") / expected and not folder.exists()
        folder.mkdir(parents=True)


def test_an_empty_folder_may_be_run_in(tmp_path):
    assert open_run_folder(str(tmp_path), False, "") == tmp_path


def test_a_score_at_the_threshold_is_not_flagged(tmp_path):
    items = [Item(pathlib.Path(f"{name}.png"), f"test/good/{name}", "good", None) for name in "abc"]
    write_scores(tmp_path / "scores.csv", items, np.array([0.4, 0.5, 0.6]), 0.5)
    assert [row["flagged"] for row in read_scores(tmp_path)] == ["0", "0", "1"]


# Without any argument


@pytest.fixture
def small_synthetic(tmp_path, monkeypatch):
    """A synthetic set and settings small enough for a test; returns the folder that the run will be in."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(job_images, "SYNTHETIC", {"size": 32, "train": 3, "test_good": 1, "per_defect": 1})
    quick = {"train_steps": 2, "batch_size": 2, "guided_start": 60, "mdps_start": 60, "stride": 30, "samples": 1}
    monkeypatch.setitem(config.NETWORK_DEFAULTS, "tiny", quick)
    return tmp_path / "runs" / "washer-32"


def test_without_arguments_a_synthetic_set_is_drawn_and_judged(small_synthetic, capsys):
    assert run.main([]) == 0
    assert "report: runs/washer-32/report.html" in capsys.readouterr().out.replace(os.sep, "/")
    found = contents(small_synthetic)
    assert {*SAME_BYTES, "report.html"} <= found.keys()
    drawn = {name.removeprefix("synthetic/washer/") for name in found if name.startswith("synthetic/washer/test/")}
    assert drawn == {row["path"] for row in read_scores(small_synthetic)} and len(drawn) == 6
    assert json.loads(found["config.json"])["data"] == ""


def test_a_drawing_broken_off_can_be_resumed(small_synthetic, no_report, monkeypatch):
    draw_all = job_images.write_category

    def interrupted(*args, **counts):
        draw_all(*args, **counts | {"test_good": 0})
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(job_images, "write_category", interrupted)
        assert run.main([]) == 130
    assert run.main(["--out", str(small_synthetic), "--resume"]) == 0
    assert run.main(["--out", "unbroken"]) == 0
    assert results(small_synthetic) == results(pathlib.Path("unbroken"))
