"""A run with --tune: no test image has a say, the choice is kept, and a resumed run does not choose again."""

import dataclasses
import itertools
import json
import shutil

import numpy as np
import pytest
from PIL import Image

from mdps_ref import run
from mdps_ref.job import pipeline, whitening
from mdps_ref.job.detector import Detector
from mdps_ref.job.whitening import fit_whitening, images_to_fit
from mdps_ref.report import tables
from mdps_ref.study import tuning
from mdps_ref.study.experiment import Whitenings, make_extractors

MOVED = {"pixel_weight": 2.0, "mask_share": 0.4, "feature_distance": "mahalanobis", "guided_weight": 0.5}


@pytest.fixture(scope="module")
def tuned(place, call):
    """The folder of a run that was tuned."""
    assert call("--tune", "--out", place / "tuned") == 0
    return place / "tuned"


def test_other_test_images_lead_to_the_same_choice(place, tuned, tmp_path, no_report):
    shutil.copytree(place / "data", tmp_path / "data")
    for path in (tmp_path / "data/part/test").rglob("*.png"):
        with Image.open(path) as image:
            size = image.size
        Image.new("RGB", size, "teal").save(path)
    flags = ["--data", tmp_path / "data", "--category", "part", "--config", place / "quick.json", "--tune", "--out", tmp_path / "run"]
    assert run.main([str(flag) for flag in flags]) == 0
    assert (tmp_path / "run/scores.csv").read_bytes() != (tuned / "scores.csv").read_bytes()
    assert (tmp_path / "run/tuning.json").read_bytes() == (tuned / "tuning.json").read_bytes()


def test_a_choice_is_used_told_and_kept(call, tmp_path, monkeypatch):
    """A tuner that moves some settings; resumed, the run does not ask it again. A run with the same settings has the same scores."""
    asked = []
    monkeypatch.setattr(
        run, "tune", lambda model, weights, config, *images: asked.append([len(some) for some in images]) or (MOVED, [], ())
    )
    assert call("--tune", "--out", tmp_path / "a") == 0
    assert call("--resume", "--out", tmp_path / "a") == 0
    assert len(asked) == 1 and asked[0][0] == 1 < asked[0][1]
    assert json.loads((tmp_path / "a/config.json").read_text()).items() >= MOVED.items()
    assert vars(Detector.load(tmp_path / "a").config).items() >= MOVED.items()
    plain = ["--out", tmp_path / "b", "--config", tmp_path / "a/config.json"]
    monkeypatch.setattr(run, "tune", lambda *_: ({}, [], ()))
    assert call(*plain) == 0
    assert (tmp_path / "a/scores.csv").read_bytes() == (tmp_path / "b/scores.csv").read_bytes()


@pytest.mark.parametrize("handed_on", [True, False])
def test_the_whitening_that_the_choice_was_made_with_is_that_of_the_run(handed_on, call, place, tmp_path, monkeypatch, no_report):
    """Handed on, it is not fitted again, even if the run was broken off after the choice; and it is what the run would have fitted."""
    choice, fitted, whitenings = {"feature_distance": "mahalanobis"}, [], []

    def tune(model, weights, config, held_out, train):
        chosen = dataclasses.replace(config, **choice)
        own = Whitenings(model, make_extractors([chosen], model, weights), images_to_fit(train)).of_config(chosen)
        whitenings.append(own)
        return choice, [], own if handed_on else ()

    def fit(*arguments):
        fitted.append(1)
        return fit_whitening(*arguments)

    monkeypatch.setattr(run, "tune", tune)
    monkeypatch.setattr(whitening, "fit_whitening", fit)
    with monkeypatch.context() as broken:
        broken.setattr(pipeline, "check_training", interrupted)
        assert call("--tune", "--out", tmp_path / "a") == 130
    assert call("--resume", "--out", tmp_path / "a") == 0
    assert len(whitenings) == 1 and len(fitted) == (0 if handed_on else 1)
    for found, own in zip(Detector.load(tmp_path / "a").whitening, whitenings[0], strict=True):
        np.testing.assert_array_equal(found, own)


def interrupted(*_):
    raise KeyboardInterrupt


def test_a_run_that_is_trained_further_chooses_again(call, tmp_path, monkeypatch, no_report):
    asked = []
    monkeypatch.setattr(run, "tune", lambda *_: asked.append(1) or (MOVED, [], ()))
    assert call("--tune", "--out", tmp_path / "a") == 0
    assert call("--resume", "--train-steps", 4, "--out", tmp_path / "a") == 0
    assert len(asked) == 2


def test_the_report_says_what_was_tried(tuned):
    page, trials = (tuned / "report.html").read_text(), json.loads((tuned / "tuning.json").read_text())["trials"]
    assert "without labels" in page
    for family, tried in itertools.groupby(trials, key=lambda trial: trial["family"]):
        before, *others = tried
        best = sorted((trial["quality"] for trial in others), reverse=True)[: tables.MOST_TRIALS]
        assert f"<th>{family}</th><td>as before</td>" in page
        assert [quality for quality in (before["quality"], *best) if f"{quality:.4f}" not in page] == []


def test_features_are_chosen_without_being_asked_for_and_a_resumed_run_shows_the_same_report(place, tmp_path, monkeypatch):
    trial = {"family": "features", "settings": {}, "images": 1, "quality": 0.5, "gain": 0.0, "low": 0.0, "high": 0.0, "needed": 0.0}
    monkeypatch.setattr(run, "tune", lambda *_: ({"features": "unet"}, [tuning.Trial(**trial)], ()))
    settings = json.loads((place / "quick.json").read_text())
    (tmp_path / "auto.json").write_text(json.dumps(settings | {"features": "auto"}))
    flags = ["--data", place / "data", "--category", "part", "--config", tmp_path / "auto.json", "--out", tmp_path / "run"]
    assert run.main([str(flag) for flag in flags]) == 0
    assert json.loads((tmp_path / "run/config.json").read_text())["features"] == "unet"
    before = (tmp_path / "run/report.html").read_bytes()
    assert b"without labels" in before
    monkeypatch.setattr(run, "tune", None)
    assert run.main(["--resume", "--out", str(tmp_path / "run")]) == 0
    assert b"without labels" in (tmp_path / "run/report.html").read_bytes()
