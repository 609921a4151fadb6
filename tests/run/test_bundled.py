"""Weights that come with the package: a run without arguments uses them, says so, and trains where something else is asked for."""

import dataclasses
import json
import pathlib

import bundle_weights
import numpy as np
import pytest

from mdps_ref import run
from mdps_ref.data.synthetic import DEFECTS
from mdps_ref.job.bundled import SETTINGS, weights_file, with_bundled
from mdps_ref.job.config import make_config
from mdps_ref.job.train import TRAINING
from mdps_ref.job.weights import load_average, load_weights
from mdps_ref.nn.unet import init_unet
from mdps_ref.weights.checkpoint import save_checkpoint


def requested(*flags):
    args = run.parser().parse_args(list(flags))
    return run.requested_config(args, run.given_settings(args))


@pytest.mark.parametrize("category", DEFECTS)
def test_each_synthetic_category_has_weights_under_4_megabytes(category):
    config = make_config(with_bundled({}, category) | {"category": category})
    assert config.weights == "bundled" and weights_file(config).stat().st_size < 4e6
    weights = load_weights(weights_file(config), config)
    assert {array.dtype for array in weights.values()} == {np.dtype("float32")}
    assert all(array.std() > 0 for name, array in weights.items() if array.ndim == 4)  # each kernel was trained


def test_what_asks_for_no_other_network_keeps_the_bundled_weights():
    assert vars(requested()).items() >= {"weights": "bundled", **SETTINGS}.items()
    kept = requested("--category", "weave", "--seed", "3", "--samples", "2")
    assert (kept.weights, kept.category, kept.seed, kept.samples) == ("bundled", "weave", 3, 2)


def test_a_run_with_bundled_weights_tries_no_features_unless_it_is_asked_to():
    assert requested().features == "unet" and requested("--features", "auto").features == "auto"
    assert requested("--train").features == "auto"


@pytest.mark.parametrize(
    "flags", [["--train"], ["--image-size", "64"], ["--train-steps", "5"], ["--network", "small"], ["--rules", "released"]], ids=" ".join
)
def test_what_asks_for_another_network_trains(flags):
    assert requested(*flags).weights == ""


@pytest.mark.parametrize("flags", [["--weights", "bundled"], ["--resume", "--out", "x"]], ids=" ".join)
def test_training_from_scratch_does_not_go_with_weights_or_a_run_to_go_on_with(flags, fails_with):
    with fails_with("--train"):
        requested("--train", *flags)


def test_every_setting_of_the_training_but_the_free_ones_asks_for_another_network():
    plain = dataclasses.asdict(make_config())
    for name in {*TRAINING, "train_steps"} - {"category", "seed", "data", "skip_bad"}:
        assert "guided_start" not in with_bundled({name: plain[name]}, "washer"), name


def test_bundled_weights_of_another_category_are_refused(tmp_path, fails_with):
    with fails_with("'nut'", "washer"):
        weights_file(make_config(weights="bundled", category="nut"))


@pytest.mark.slow
def test_a_run_with_bundled_weights_finds_the_defects_and_says_whose_weights_they_are(small_synthetic, capsys):
    assert run.main(["--out", "run"]) == 0
    told, metrics = capsys.readouterr(), json.loads(pathlib.Path("run/metrics.json").read_text())
    assert "--train" in told.err and "comes with the package" in pathlib.Path("run/report.html").read_text()
    assert metrics["mdps"]["image_auroc"] == 1 and metrics["mdps"]["pixel_auroc"] > 0.9
    assert json.loads(pathlib.Path("run/config.json").read_text())["weights"] == "bundled"


def test_weights_are_bundled_as_float16(tmp_path, capsys):
    """Of a checkpoint whose weights are float32; and a folder without one is one line."""
    config = make_config(image_size=64)
    weights = {name: array + np.float32(0.1) for name, array in init_unet(config.unet()).items()}
    about = {"config": dataclasses.asdict(config), "step": 7}
    save_checkpoint(tmp_path / "checkpoint.npz", {"ema": weights, "weights": weights}, about)
    assert bundle_weights.main([str(tmp_path), "--to", str(tmp_path)]) == 0
    bundled, about = load_average(tmp_path / "washer-64.npz")
    assert all(array.dtype == np.float16 for array in bundled.values()) and about["step"] == 7
    loaded = load_weights(tmp_path / "washer-64.npz", config)
    assert all(abs(loaded[name] - array).max() <= 2**-11 * abs(array).max() for name, array in weights.items())
    assert bundle_weights.main([str(tmp_path / "none"), "--to", str(tmp_path)]) == 2
    assert "checkpoint.npz" in capsys.readouterr().err
