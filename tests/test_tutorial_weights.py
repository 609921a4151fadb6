"""The command that shrinks a checkpoint to the weights of the tutorials."""

import importlib

import numpy as np
import pytest

from mdps_ref.job.train import save_training, start_training
from mdps_ref.job.weights import halved, load_weights
from mdps_ref.weights.checkpoint import load_checkpoint


@pytest.fixture
def main():
    """The script's main(argv)."""
    return importlib.import_module("tutorial_weights").main


def test_the_moving_average_comes_back_in_half_precision(main, tmp_path, quick_config):
    config = quick_config()
    state = start_training(config, np)
    save_training(tmp_path, state, config)
    assert main([str(tmp_path / "checkpoint.npz"), str(tmp_path / "small.npz")]) == 0
    groups, _ = load_checkpoint(tmp_path / "small.npz")
    assert groups.keys() == {"ema"} and {w.dtype for w in groups["ema"].values()} == {np.dtype(np.float16)}
    weights = load_weights(tmp_path / "small.npz", config, np)
    assert all(w.dtype == np.float32 for w in weights.values())
    for name, w in weights.items():
        np.testing.assert_allclose(w, state.ema[name], rtol=1e-3, atol=1e-6)


def test_what_is_no_checkpoint_is_one_line_and_nothing_is_written(main, tmp_path, capsys):
    assert main([str(tmp_path / "none.npz"), str(tmp_path / "small.npz")]) == 2
    assert capsys.readouterr().err.count("\n") == 1 and not (tmp_path / "small.npz").exists()


def test_weights_beyond_half_precision_are_refused(fails_with):
    with fails_with("checkpoint.npz", "65504"):
        halved("checkpoint.npz", {"fits": np.ones(2, np.float32), "does not": np.array([1e5], np.float32)})
