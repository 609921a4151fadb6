"""The check of the training: the plain rules are what they claim to be, and each number can fail a network."""

import dataclasses
import pathlib

import numpy as np
import pytest

from mdps_ref.diffusion.schedule import alpha_bar
from mdps_ref.job import training_check
from mdps_ref.job.detect import Model
from mdps_ref.job.training_check import TrainingCheck, check_training, gaussian_noise, mean_and_variance, warning

ENOUGH = TrainingCheck(images=6, noise_loss=0.1, gaussian_noise_loss=0.2, reconstruction_error=0.03, other_image_error=0.04)


def test_mean_and_variance_of_images_that_are_read_a_few_at_a_time(monkeypatch):
    monkeypatch.setattr(training_check, "AT_ONCE", 3)
    images = np.random.default_rng(0).normal(size=(8, 4, 4, 3)).astype(np.float32)
    mean, variance = mean_and_variance(images)
    np.testing.assert_allclose(mean, images.mean(axis=0), atol=1e-6)
    np.testing.assert_allclose(variance, images.var(axis=0), atol=1e-6)


@pytest.mark.parametrize("t", [5, 300, 900])
def test_the_gaussian_rule_is_the_regression_of_the_noise_on_x_t(t):
    """For normal pixels the best prediction is linear, and least squares over many draws find its slope and intercept."""
    rng, level, mean, variance = np.random.default_rng(t), float(alpha_bar(t)), np.array([[[0.3, -0.5]]]), np.array([[[0.2, 0.01]]])
    noise = rng.normal(size=(400_000, 1, 1, 2))
    x_t = level**0.5 * (mean + variance**0.5 * rng.normal(size=noise.shape)) + (1 - level) ** 0.5 * noise
    for channel in range(2):
        slope, intercept = np.polyfit(x_t[..., channel].ravel(), noise[..., channel].ravel(), 1)
        ends = np.array([-1.0, 1.0])
        rule = gaussian_noise(np.repeat(ends.reshape(2, 1, 1, 1), 2, axis=3), mean, variance, level)[:, 0, 0, channel]
        np.testing.assert_allclose(rule, slope * ends + intercept, atol=0.02)


@pytest.fixture
def images():
    """Good images of two kinds, 16 x 16: a network has more to know than their mean."""
    rng = np.random.default_rng(0)
    kinds = np.where(rng.random((30, 1, 1, 1)) < 0.5, -0.5, 0.5)
    return (kinds + 0.002 * rng.normal(size=(30, 16, 16, 3))).astype(np.float32)


def knows_both_kinds(x_t, t):
    """The noise if x_0 is the nearer one of the two kinds."""
    level = alpha_bar(t).reshape(-1, 1, 1, 1)
    x_0 = np.where(x_t.mean(axis=(1, 2, 3), keepdims=True) > 0, 0.5, -0.5)
    return ((x_t - level**0.5 * x_0) / (1 - level) ** 0.5).astype(np.float32)


@pytest.mark.parametrize(("predict", "enough"), [(knows_both_kinds, True), (lambda x_t, t: 0 * x_t, False)])
def test_a_network_that_knows_the_images_passes_and_one_that_knows_nothing_fails(predict, enough, images, quick_config):
    check = check_training(Model(predict, None, np), quick_config(image_size=16, mdps_start=300), images[:20], images[20:])
    assert check.enough == enough and check.images == 6
    assert (check.noise_loss < 0.75 * check.gaussian_noise_loss) == enough
    assert (check.reconstruction_error < check.other_image_error) == enough
    pairs = [abs(image - other).mean() for image in images[20:26] for other in images[:6]]
    assert check.other_image_error == pytest.approx(np.mean(pairs), rel=1e-5)


@pytest.mark.parametrize("worse", [{"noise_loss": 0.16}, {"reconstruction_error": 0.04}, {"noise_loss": 0.5, "reconstruction_error": 0.5}])
def test_either_number_warns_with_a_remedy(worse, quick_config):
    folder, config = pathlib.Path("runs/part"), quick_config(train_steps=60)
    assert warning(ENOUGH, config, folder) == ""
    check = dataclasses.replace(ENOUGH, **worse)
    assert check.as_dict() == {"enough": False, **vars(check)}
    text = warning(check, config, folder)
    assert [str(value) for value in worse.values() if str(value) not in text] == []
    assert "--resume --out runs/part --train-steps 800" in text
    assert "--train-steps 2000" in warning(check, dataclasses.replace(config, train_steps=1000), folder)
    loaded = warning(check, dataclasses.replace(config, weights="there.npz"), folder)
    assert "weights" in loaded and "--resume" not in loaded
    assert "--train," in warning(check, dataclasses.replace(config, weights="bundled"), folder)
    assert '--out "my runs" ' in warning(check, config, pathlib.Path("my runs"))
