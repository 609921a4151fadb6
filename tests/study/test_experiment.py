"""Experiments: the maps are those of a run, and what two settings share is computed once."""

import dataclasses

import numpy as np
import pytest

from mdps_ref.job import chains as job_chains
from mdps_ref.job.detect import detect, make_model
from mdps_ref.job.whitening import images_to_fit, whitening_of_run
from mdps_ref.nn.unet import init_unet
from mdps_ref.scoring.whitening import whitened
from mdps_ref.study import experiment
from mdps_ref.study.experiment import Experiment, tails_of_good

OWN = ("unet", "", "", None)


@pytest.fixture(scope="module")
def images(some_images):
    return some_images(5)


@pytest.fixture(scope="module")
def model(quick_config):
    rng, config = np.random.default_rng(0), quick_config()
    return make_model({name: w + rng.normal(0, 0.05, w.shape).astype(w.dtype) for name, w in init_unet(config.unet()).items()}, config)


@pytest.fixture
def trials(model, images):
    return Experiment(model, {OWN: model.features}, images)


RELEASED = {"rules": "released", "batch_size": 2, "mask_threshold": 0.1}
TAILS = {"tails": ".1,.2,.3,.4,.5,.6,.7,.8,.9,.2;.1,.2,.3,.4,.5,.6,.7,.8,.9,.2"}


@pytest.mark.parametrize("settings", [{}, {"samples": 3}, {"masked": False}, {"guided_weight": 0.7}, RELEASED, TAILS], ids=str)
def test_its_maps_are_those_of_a_run(settings, model, images, trials, quick_config):
    config = quick_config(**settings)
    guided = job_chains.run_chains(model, images, config, "guided").anomaly(slice(None))
    threshold = config.mask_threshold or 0.9 * float(np.median(guided.max(axis=(1, 2))))
    found = detect(model, images, config, threshold)
    maps, mask = trials.mdps(config, threshold)
    np.testing.assert_allclose(maps, found.mdps.anomaly, rtol=1e-4, atol=1e-5)
    if config.masked:
        np.testing.assert_array_equal(mask[..., 0], found.mdps.suspected)
    mean, spread = trials.anomaly(config, "reconstruction")
    np.testing.assert_allclose(mean, found.reconstruction.anomaly, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(spread, found.reconstruction.spread, rtol=1e-3, atol=1e-5)


def test_settings_of_the_comparison_share_a_chain_and_those_of_the_chain_do_not(trials, quick_config, monkeypatch):
    drawn, draw = [], job_chains.draw_samples
    monkeypatch.setattr(job_chains, "draw_samples", lambda *what: drawn.append(1) or draw(*what))
    config = quick_config()
    trials.anomaly(config, "guided")
    once = len(drawn)
    for setting, value in {"pixel_weight": 2.0, "blur": 0.1, "image_score": "max", "mask_share": 0.5}.items():
        trials.anomaly(dataclasses.replace(config, **{setting: value}), "guided")
    assert once > 0 and len(drawn) == once
    for setting, value in {"guided_start": 90, "guided_strength": 0.5, "stride": 20, "seed": 1}.items():
        before = len(drawn)
        trials.anomaly(dataclasses.replace(config, **{setting: value}), "guided")
        assert len(drawn) > before, setting


def test_the_tails_of_good_images_make_a_tenth_of_their_pixels_exceed_ln_10(model, some_images, quick_config):
    """The surprisal of the pixels alone, since one map is left where the weight of the layers is small. All experiments count alike."""
    images, config = some_images(5), quick_config(blur=0.0)
    parts = [Experiment(model, {OWN: model.features}, some) for some in (images[:3], images[3:])]
    for good in (parts[:1], parts):
        config = dataclasses.replace(config, tails=tails_of_good(good, config), pixel_weight=1000.0)
        maps = np.concatenate([some.anomaly(config, "guided")[0] for some in good]) / 1000
        assert (maps > np.log(10)).mean() == pytest.approx(0.1, abs=0.01)
        layers = dataclasses.replace(config, pixel_weight=0.0)
        assert (np.concatenate([some.anomaly(layers, "guided")[0] for some in good]) > np.log(10)).mean() == pytest.approx(0.1, abs=0.01)


def test_the_tails_of_another_chain_are_its_own(trials, quick_config):
    config = quick_config()
    assert tails_of_good([trials], config, chain_name="reconstruction") != tails_of_good([trials], config)


def test_another_file_of_weights_of_the_same_network_is_another_extractor(quick_config):
    own = quick_config(features="mobilenet_v1", feature_weights="own.npz")
    assert experiment.feature_keys(own) != experiment.feature_keys(dataclasses.replace(own, feature_weights=""))


def test_a_whitening_is_that_of_a_run_and_its_maps_are_too(model, some_images, quick_config, tmp_path):
    """Of more images than share a pass of the network."""
    config, good = quick_config(feature_distance="mahalanobis"), some_images(20)
    whitening = whitening_of_run(model, good, config, tmp_path / "w.npz")
    whitenings = experiment.Whitenings(model, {OWN: model.features}, images_to_fit(good))
    np.testing.assert_array_equal(whitenings.of(OWN, config), whitening)
    known = experiment.Whitenings(model, {}, None)
    known.know(config, whitening)
    np.testing.assert_array_equal(known.of(OWN, config), whitening)
    trials = Experiment(model, {OWN: model.features}, good[:3], whitenings=known)
    whitened_model = dataclasses.replace(model, features=whitened(model.features, whitening, np))
    found = job_chains.run_chains(whitened_model, good[:3], config, "guided").anomaly(slice(None))
    np.testing.assert_allclose(trials.anomaly(config, "guided")[0], found, rtol=1e-4, atol=1e-5)
