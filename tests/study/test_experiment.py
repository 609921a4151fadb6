"""Experiments: the maps are those of a run, and what two settings share is computed once."""

import dataclasses

import numpy as np
import pytest

from mdps_ref.job import chains as job_chains
from mdps_ref.job.detect import detect, make_model
from mdps_ref.nn.unet import init_unet
from mdps_ref.study import experiment
from mdps_ref.study.experiment import Experiment, good_scales

OWN = ("unet", "", None)


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
SCALED = {"pixel_scale": 0.3, "position_scales": "1,2,3,0.5"}


@pytest.mark.parametrize("settings", [{}, {"samples": 3}, {"masked": False}, RELEASED, SCALED], ids=str)
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
    drawn, draw = [], experiment.draw_samples
    monkeypatch.setattr(experiment, "draw_samples", lambda *what: drawn.append(1) or draw(*what))
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


def test_layers_are_divided_by_their_scales(model, images, quick_config):
    config = quick_config(pixel_weight=0.0)
    one = Experiment(model, {OWN: model.features}, images).anomaly(config, "guided")[0]
    scaled = dataclasses.replace(config, feature_scales="0.5")
    np.testing.assert_allclose(Experiment(model, {OWN: model.features}, images).anomaly(scaled, "guided")[0], 2 * one, rtol=1e-5)
    np.testing.assert_allclose(job_chains.run_chains(model, images, scaled, "guided").anomaly(slice(None)), 2 * one, rtol=1e-3, atol=1e-6)


def test_the_maps_of_a_run_are_divided_by_the_scales_of_their_places(model, images, quick_config):
    config = quick_config(pixel_scale=0.3)
    scaled = dataclasses.replace(config, position_scales="1,2,3,0.5")
    plain, divided = (job_chains.run_chains(model, images, some, "guided").anomaly(slice(None)) for some in (config, scaled))
    corners = divided[:, [0, 0, -1, -1], [0, -1, 0, -1]] * [1, 2, 3, 0.5]
    np.testing.assert_allclose(corners, plain[:, [0, 0, -1, -1], [0, -1, 0, -1]], rtol=1e-5)


def test_good_scales_bring_layers_pixels_and_places_of_good_images_to_1(trials, quick_config):
    config = quick_config(pixel_scale=1.0, position_scales="1", blur=0.0)
    for count in (3, 5):
        scaled = dataclasses.replace(config, **good_scales(trials, config, count))
        (layer,), pixels = trials.distances(config, "guided"), trials.pixels(config, "guided")
        assert layer[:count].mean() / float(scaled.feature_scales) == pytest.approx(1, rel=5e-3)
        assert pixels[:count].mean() / scaled.pixel_scale == pytest.approx(1, rel=5e-3)
        everywhere = trials.anomaly(dataclasses.replace(scaled, position_scales=""), "guided")[0][:count].mean(axis=0)
        cells = everywhere.reshape(8, 2, 8, 2).mean(axis=(1, 3))
        np.testing.assert_allclose(scaled.position_grid(), cells + 0.3 * everywhere.mean(), rtol=5e-3)


def test_scales_that_are_not_asked_for_are_not_measured(trials, quick_config):
    assert good_scales(trials, quick_config()).keys() == {"feature_scales"}
