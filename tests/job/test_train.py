"""Training learns, gives the same bytes for the same seed, and ends with the same bytes wherever it was broken off."""

import ast
import csv
import inspect
import itertools
import json
import os
import shutil
import signal

import numpy as np
import pytest

from mdps_ref.job import train
from mdps_ref.job.interrupt import Interrupted, stopping_at_the_next_step
from mdps_ref.job.weights import load_weights
from mdps_ref.nn.optim import global_norm
from mdps_ref.nn.unet import NETWORKS, UNetConfig, init_unet
from mdps_ref.released.names import to_released
from mdps_ref.weights.checkpoint import load_checkpoint, save_checkpoint
from mdps_ref.weights.state_dict import write_state_dict

FILES = ("checkpoint.npz", "train.csv")


def trained(folder, images, config, state=None):
    """Train in a folder, and return what was written there: {name of the file: bytes}."""
    train.train(config, images, folder, np, state)
    return {name: (folder / name).read_bytes() for name in FILES}


def test_the_loss_goes_down_on_images_of_one_colour(tmp_path, quick_config):
    """Fresh weights predict no noise at all, so the loss starts at the noise's variance, 1; one colour is soon learnt."""
    config = quick_config(train_steps=40, batch_size=4, learning_rate=3e-3, checkpoint_every=100)
    state = train.train(config, np.full((4, 16, 16, 3), 0.5, np.float32), tmp_path, np)
    losses = np.array(state.log)[:, 0]
    assert losses[0] == pytest.approx(1, abs=0.1)
    assert losses[-10:].mean() < 0.6


def test_the_first_step_is_adams_along_the_losss_slope(tmp_path, quick_config, some_images):
    """Adam's first step is the rate against the gradient's sign; that the loss falls along it shows that the sign is right."""
    config = quick_config(train_steps=1, learning_rate=1e-5)
    images = some_images(2)
    state = train.start_training(config, np)
    before = {name: w.copy() for name, w in state.weights.items()}
    train.train_step(state, images, config, train.BatchGradient(state, config, np))
    moved = np.concatenate([np.ravel(w - before[name]) for name, w in state.weights.items()])
    moved = abs(moved[moved != 0])
    assert moved.size and np.quantile(moved, 0.9) == pytest.approx(1e-5, rel=0.02)
    again = train.TrainingState(state.weights, state.ema, state.first_moment, state.second_moment, [])
    train.train_step(again, images, config, train.BatchGradient(again, config, np))
    assert again.log[0][0] < state.log[0][0]


def test_the_learning_rate_rises_at_first_and_falls_in_the_last_share_of_the_steps(quick_config, some_images, monkeypatch):
    config, rates = quick_config(train_steps=8, learning_rate=0.1, warm_up_steps=2, decay_share=0.5), []
    monkeypatch.setattr(train, "adam_step", lambda *_, rate, **__: rates.append(rate))
    state = train.start_training(config, np)
    for _ in range(8):
        train.train_step(state, some_images(2), config, train.BatchGradient(state, config, np))
    falling = [0.1 * np.sin(np.pi / 2 * left / 5) ** 2 for left in (4, 3, 2, 1)]
    np.testing.assert_allclose(rates, [0.05, 0.1, 0.1, 0.1, *falling])


def test_the_same_seed_gives_the_same_bytes_and_another_does_not(tmp_path, quick_config, some_images):
    runs = [trained(tmp_path / str(k), some_images(3), quick_config(seed=seed)) for k, seed in enumerate((1, 1, 2))]
    assert runs[0] == runs[1]
    assert all(runs[0][name] != runs[2][name] for name in FILES)


def test_the_log_and_the_checkpoint_tell_every_step(tmp_path, quick_config, some_images):
    """Three steps with a checkpoint every two: the third is written down all the same."""
    state = train.train(quick_config(), some_images(3), tmp_path, np)
    rows = list(csv.DictReader((tmp_path / "train.csv").read_text().splitlines()))
    assert [int(row["step"]) for row in rows] == [1, 2, 3]
    np.testing.assert_allclose([(float(row["loss"]), float(row["gradient_norm"])) for row in rows], state.log, rtol=1e-5)
    groups, about = load_checkpoint(tmp_path / "checkpoint.npz")
    assert about["step"] == state.step == 3
    for group in train.GROUPS:
        assert all((groups[group][name] == w).all() for name, w in getattr(state, group).items())


def test_no_gradient_reaches_adam_longer_than_the_limit(tmp_path, quick_config, some_images, monkeypatch):
    seen = []
    monkeypatch.setattr(train, "adam_step", lambda weights, gradients, *rest, **settings: seen.append(global_norm(gradients)))
    state = train.train(quick_config(clip_norm=0.01), some_images(3), tmp_path, np)
    assert max(seen) <= 0.01 * (1 + 1e-5) < min(length for _, length in state.log)


def test_an_l2_penalty_moves_a_weight_without_a_gradient_towards_0(quick_config, some_images, monkeypatch):
    """Adam's first step has the length of the rate whatever the penalty's, and no penalty moves nothing."""
    nothing = lambda loss, weights: (1.0, {name: np.zeros_like(w) for name, w in weights.items()})  # noqa: E731
    monkeypatch.setattr(train, "value_and_gradient", nothing)
    for l2 in (0.0, 0.1):
        config = quick_config(l2=l2, learning_rate=1e-4)
        state, before = (train.start_training(config, np) for _ in range(2))
        train.train_step(state, some_images(2), config, train.BatchGradient(state, config, np))
        for name, w in state.weights.items():
            old = before.weights[name]
            step = 1e-4 * np.sign(old) * (abs(old) > 1e-3) if l2 else 0  # of the smallest Adam's epsilon takes a part
            np.testing.assert_allclose((w - old) * (abs(old) > 1e-3), -step, atol=1e-7, err_msg=name)


# What a step draws


@pytest.mark.parametrize("rules, first", [("paper", 0), ("released", 1)])
def test_timesteps_cover_the_whole_schedule_evenly(rules, first, quick_config):
    """All of 0 .. 999, by the released rules but 0 (row 8), none outside, each about as often.

    Chi-squared over the bins is within 5 standard deviations of its mean.
    """
    config = quick_config(batch_size=500, rules=rules)
    t = np.concatenate([train.draw_batch(np.zeros((1, 8, 8, 3), np.float32), config, step)[1] for step in range(100)])
    counts = np.bincount(t, minlength=1000)[first:]
    assert (t.min(), t.max(), len(counts)) == (first, 999, 1000 - first)
    each = 50_000 / len(counts)
    assert abs(((counts - each) ** 2 / each).sum() - 999) < 5 * np.sqrt(2 * 999)


def test_a_step_draws_the_same_whenever_it_comes_and_another_step_others(quick_config, some_images):
    images, config = some_images(9), quick_config(batch_size=4)
    first, again, other = (train.draw_batch(images, config, step) for step in (7, 7, 8))
    for a, b, c in zip(first, again, other, strict=True):
        np.testing.assert_array_equal(a, b)
        assert not np.array_equal(a, c)


def test_a_batch_repeats_no_image_unless_it_must(quick_config):
    images = np.arange(6, dtype=np.float32).reshape(6, 1, 1, 1) * np.ones((1, 8, 8, 3), np.float32)
    drawn, _, noise = train.draw_batch(images, quick_config(batch_size=6), 0)
    assert sorted(drawn[:, 0, 0, 0]) == list(range(6))
    assert (noise.shape, noise.dtype) == (drawn.shape, np.float32)
    drawn, t, noise = train.draw_batch(images, quick_config(batch_size=50), 0)
    assert drawn.shape == noise.shape == (50, 8, 8, 3) and t.shape == (50,)
    assert set(drawn[:, 0, 0, 0]) <= set(range(6))


# Broken off


@pytest.fixture
def unbroken(tmp_path, quick_config, some_images):
    """The config, the images, and the bytes that a run of 5 steps with a checkpoint every 2 leaves."""
    config, images = quick_config(train_steps=5), some_images(3)
    return config, images, trained(tmp_path / "unbroken", images, config)


def resumed(folder, images, config):
    """Go on as the command line does: from the checkpoint if there is one."""
    path = folder / "checkpoint.npz"
    return trained(folder, images, config, train.resume_training(path, config, np) if path.exists() else None)


KILLS = [("train_step", times, True) for times in range(1, 6)]
KILLS += itertools.product(("write_text", "save_checkpoint"), (1, 3), (False, True))


@pytest.mark.parametrize("function, times, after", KILLS)
def test_training_killed_anywhere_ends_with_the_same_bytes(function, times, after, unbroken, tmp_path, monkeypatch):
    """After any step, and before or after any file is written."""
    config, images, expected = unbroken
    run, calls = getattr(train, function), []

    def killed(*args):
        calls.append(args)
        if after or len(calls) < times:
            run(*args)
        if len(calls) == times:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(train, function, killed)
        train.train(config, images, tmp_path, np)
    assert resumed(tmp_path, images, config) == expected


def test_training_that_has_ended_takes_no_step_more(unbroken, tmp_path, monkeypatch):
    config, images, expected = unbroken
    monkeypatch.setattr(train, "train_step", None)
    state = train.resume_training(tmp_path / "unbroken" / "checkpoint.npz", config, np)
    assert train.train(config, images, tmp_path, np, state).step == 5


# Weights that do not fit


@pytest.fixture
def checkpoint(tmp_path, quick_config, some_images):
    """The checkpoint of a short run."""
    trained(tmp_path, some_images(2), quick_config(train_steps=1))
    return tmp_path / "checkpoint.npz"


@pytest.mark.parametrize("load", [load_weights, train.resume_training])
def test_weights_of_another_network_or_cut_short_are_refused(load, checkpoint, quick_config, fails_with):
    for config in (quick_config(network="small"), quick_config(image_size=32)):
        size = f"{config.image_size} x {config.image_size}"
        with fails_with(checkpoint, "another network", config.network, size, "--network tiny --image-size 16"):
            load(checkpoint, config, np)
    checkpoint.write_bytes(checkpoint.read_bytes()[:-100])
    with fails_with(checkpoint, "not a whole checkpoint"):
        load(checkpoint, quick_config(), np)


def test_a_checkpoint_without_what_is_needed_is_refused(checkpoint, quick_config, fails_with):
    groups, about = load_checkpoint(checkpoint)
    save_checkpoint(checkpoint, {"ema": groups["ema"]}, about)
    assert load_weights(checkpoint, quick_config(), np).keys() == groups["ema"].keys()
    with fails_with(checkpoint, "first_moment, second_moment, training, weights", "start a new run"):
        train.resume_training(checkpoint, quick_config(), np)
    save_checkpoint(checkpoint, {"weights": groups["weights"]}, about)
    with fails_with(checkpoint, "holds no weights"):
        load_weights(checkpoint, quick_config(), np)


def test_loaded_weights_are_the_moving_average_and_training_goes_on_under_its_own_settings_alone(checkpoint, quick_config, fails_with):
    weights = load_weights(checkpoint, quick_config(), np)
    state = train.resume_training(checkpoint, quick_config(train_steps=1), np)
    assert all((state.ema[name] == w).all() for name, w in weights.items())
    assert any((state.weights[name] != w).any() for name, w in weights.items())
    with fails_with(checkpoint, "other settings"):
        train.resume_training(checkpoint, quick_config(train_steps=1, learning_rate=0.1), np)
    with fails_with(checkpoint, "other settings"):
        train.resume_training(checkpoint, quick_config(train_steps=0), np)


def test_training_further_at_a_constant_rate_ends_with_the_bytes_of_training_at_once(some_images, quick_config, tmp_path):
    images = some_images(2)
    first, longer = (quick_config(train_steps=steps, decay_share=0.0) for steps in (2, 4))
    train.train(first, images, tmp_path / "first")
    state = train.resume_training(tmp_path / "first/checkpoint.npz", longer, np)
    train.train(longer, images, tmp_path / "further", np, state)
    train.train(longer, images, tmp_path / "at_once")
    for name in ("checkpoint.npz", "train.csv"):
        assert (tmp_path / "further" / name).read_bytes() == (tmp_path / "at_once" / name).read_bytes()


def test_a_signal_stops_training_at_the_next_step_with_its_checkpoint(some_images, quick_config, tmp_path, monkeypatch):
    step, config = train.train_step, quick_config(train_steps=9, checkpoint_every=100)

    def and_signal(state, *rest):
        step(state, *rest)
        if state.step == 4:
            os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr(train, "train_step", and_signal)
    with stopping_at_the_next_step(), pytest.raises(Interrupted) as caught:
        train.train(config, some_images(3), tmp_path)
    assert caught.value.exit_status == 143
    assert load_checkpoint(tmp_path / "checkpoint.npz")[1]["step"] == 4


@pytest.mark.parametrize("log", [{}, {"log": np.zeros(3)}, {"log": np.zeros((1, 3))}], ids=["none", "flat", "wide"])
def test_a_log_of_another_shape_is_refused(log, checkpoint, quick_config, fails_with):
    groups, about = load_checkpoint(checkpoint)
    save_checkpoint(checkpoint, groups | {"training": log or {"other": np.zeros(1)}}, about)
    with fails_with(checkpoint, "log"):
        train.resume_training(checkpoint, quick_config(train_steps=1), np)


# The authors' weights


@pytest.fixture
def of_their_family(monkeypatch):
    """A network with norms of 32 groups, small enough for a test, as "tiny"."""
    network = UNetConfig(image_size=16, base_channels=32, multipliers=(1, 2), attention_sizes=(8,), groups=32)
    monkeypatch.setitem(NETWORKS, "tiny", network)
    return network


def safetensors(arrays):
    """The bytes of such a file with one array of each name."""
    header, data = {}, b""
    for name, array in arrays.items():
        header[name] = {"dtype": "F32", "shape": list(array.shape), "data_offsets": [len(data), len(data) + array.nbytes]}
        data += np.ascontiguousarray(array).tobytes()
    text = json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + data


@pytest.mark.parametrize("suffix", [".pth", ".safetensors", ".npz"])
def test_the_authors_weights_are_read_as_such_whatever_the_file_is_called(suffix, of_their_family, quick_config, tmp_path):
    weights, path = init_unet(of_their_family, seed=3), tmp_path / f"theirs{suffix}"
    state = {f"module.{name}": array for name, array in to_released(weights, of_their_family).items()}
    if suffix == ".safetensors":
        path.write_bytes(safetensors(state))
    else:
        write_state_dict(path, state)
    loaded = load_weights(path, quick_config(), np)
    assert loaded.keys() == weights.keys()
    assert all((loaded[name] == w).all() and loaded[name].dtype == np.float32 for name, w in weights.items())


def test_the_authors_weights_that_do_not_fit_or_are_damaged_are_one_line(of_their_family, quick_config, tmp_path, fails_with, monkeypatch):
    state, path = to_released(init_unet(of_their_family), of_their_family), tmp_path / "theirs.pth"
    write_state_dict(path, {name: array for name, array in state.items() if name != "out.2.bias"})
    with fails_with(path, "out.2.bias is missing", "--network released --image-size 256"):
        load_weights(path, quick_config(), np)
    write_state_dict(path, state)
    with monkeypatch.context() as patch, fails_with(path, "8 groups", "--network released --image-size 256"):
        patch.setitem(NETWORKS, "tiny", UNetConfig())
        load_weights(path, quick_config(), np)
    path.write_bytes(path.read_bytes()[:-1000])
    with fails_with(path):
        load_weights(path, quick_config(), np)


# Divergence


@pytest.mark.filterwarnings("ignore:invalid value:RuntimeWarning")
def test_neither_a_loss_nor_a_gradient_that_is_no_number_reaches_the_weights(tmp_path, quick_config, some_images, fails_with, monkeypatch):
    """Even in the last step, behind which no other loss would tell."""
    config = quick_config(train_steps=1)
    state = train.start_training(config, np)
    state.weights["last.conv.bias"][0] = np.nan
    with fails_with(f"learning_rate {config.learning_rate}", "loss became nan", "step 1", "lower it"):
        train.train(config, some_images(2), tmp_path, np, state)
    monkeypatch.setattr(train, "value_and_gradient", lambda loss, weights: (1.0, {name: w + np.inf for name, w in weights.items()}))
    with fails_with(f"learning_rate {config.learning_rate}", "length inf", "lower it"):
        train.train(config, some_images(2), tmp_path, np)
    assert not list(tmp_path.iterdir())


@pytest.mark.filterwarnings("ignore:invalid value:RuntimeWarning")
def test_divergence_leaves_the_last_good_checkpoint_and_names_it(checkpoint, quick_config, some_images, fails_with):
    before, config = checkpoint.read_bytes(), quick_config(train_steps=3)
    state = train.resume_training(checkpoint, config, np)
    state.weights["last.conv.bias"][0] = np.nan
    with fails_with("step 2", "lower it", checkpoint, "of step 1"):
        train.train(config, some_images(2), checkpoint.parent, np, state)
    assert checkpoint.read_bytes() == before


def test_a_folder_that_is_removed_while_training_goes_on_is_not_made_again(tmp_path, quick_config, some_images, monkeypatch, fails_with):
    step = train.train_step

    def after_removal(state, *more):
        shutil.rmtree(tmp_path / "out", ignore_errors=True)
        step(state, *more)

    monkeypatch.setattr(train, "train_step", after_removal)
    with fails_with(tmp_path / "out", "was removed"):
        train.train(quick_config(), some_images(2), tmp_path / "out", np)
    assert not (tmp_path / "out").exists()


def test_every_setting_that_training_reads_ties_a_checkpoint_to_it():
    """The settings are read off the source, so that a new one is not forgotten."""
    attributes = (node for node in ast.walk(ast.parse(inspect.getsource(train))) if isinstance(node, ast.Attribute))
    read = {node.attr for node in attributes if ast.unparse(node.value) in ("config", "self._config")}
    assert read - {"unet", "resolved_rules", "train_steps", "checkpoint_every"} <= set(train.TRAINING)
    assert {"network", "image_size", "rules", "rules_except"} <= set(train.TRAINING)  # what `unet` and `resolved_rules` depend on
