"""Baselines: each against its definition in loops or in textbook linear algebra, and all of them on a toy with a planted defect."""

import functools

import numpy as np
import pytest
from gaussian_world import GaussianWorld
from helpers import normal

from mdps_ref.backend import random_stream, to_device, to_host
from mdps_ref.diffusion.schedule import alpha_bar, visited_timesteps
from mdps_ref.posterior.guidance import squared_norm_guide
from mdps_ref.posterior.sampler import mdps_chain, noise_source, prior_denoiser
from mdps_ref.scoring import baselines
from mdps_ref.scoring.baselines import (
    closed_form_reconstruction,
    gaussian_per_position,
    greedy_coreset,
    nearest_distances,
    nearest_neighbours,
    patch_features,
    pca_reconstruction,
    pixel_z_score,
)
from mdps_ref.scoring.difference import absolute_difference, smooth
from mdps_ref.scoring.filters import along_both_axes, bilinear_matrix

GOOD, TEST = normal(20, 8, 6, 3), normal(5, 8, 6, 3, seed=1)


def two_layers(images):
    """Features of two sizes: the image at every second pixel and its square, and the image at every fourth pixel."""
    coarse = images[:, ::2, ::2]
    return [coarse, coarse**2 + coarse, images[:, ::4, ::4]]


def of_white_noise(x_t, t):
    return 0.6 * x_t


def enlarged(distances, size):
    h, w = distances.shape[1:]
    return along_both_axes(distances[..., None], bilinear_matrix(h, size[0]), bilinear_matrix(w, size[1]))[..., 0]


FITS = {
    "pixel_z_score": functools.partial(pixel_z_score, sigma=0.7),
    "pca_reconstruction": functools.partial(pca_reconstruction, components=4, sigma=0.7),
    "closed_form_reconstruction": lambda good: closed_form_reconstruction(
        of_white_noise, absolute_difference, weight=0.5, start=300, stride=100
    ),
    "nearest_neighbours": functools.partial(nearest_neighbours, features=two_layers, keep=30, candidates=100, sigma=0.7),
    "gaussian_per_position": functools.partial(gaussian_per_position, features=two_layers, channels=5, sigma=0.7),
}
each_fit = pytest.mark.parametrize("fit", FITS.values(), ids=FITS)


# What all of them keep


@each_fit
def test_a_map_depends_on_its_image_alone_however_many_are_read_at_once(fit, monkeypatch):
    together = fit(GOOD)(TEST)
    assert together.shape == TEST.shape[:3]
    monkeypatch.setattr(baselines, "AT_ONCE", 3)
    monkeypatch.setattr(baselines, "MOST_DISTANCES", 70)
    np.testing.assert_allclose(fit(GOOD)(TEST[::-1])[::-1], together, rtol=1e-9, atol=1e-12)


@each_fit
def test_the_maps_are_those_of_every_array_module(fit, xp):
    good, test = (images.astype(np.float32) for images in (GOOD, TEST))
    on_device = fit(to_device(good, xp))(to_device(test, xp))
    assert on_device.dtype == np.float32
    np.testing.assert_allclose(to_host(on_device), fit(GOOD.astype(np.float32))(test), rtol=1e-4, atol=1e-5)


@each_fit
def test_good_images_may_lie_in_a_file(fit, tmp_path):
    np.save(tmp_path / "good.npy", GOOD)
    np.testing.assert_array_equal(fit(np.load(tmp_path / "good.npy", mmap_mode="r"))(TEST), fit(GOOD)(TEST))


@pytest.mark.parametrize("name", ["pixel_z_score", "pca_reconstruction", "nearest_neighbours", "gaussian_per_position"])
def test_a_planted_defect_is_where_the_map_is_highest(name):
    ramps = np.linspace(-0.5, 0.5, 16)[:, None, None] * np.ones((16, 3))
    good = ramps + np.linspace(-0.3, 0.3, 20)[:, None, None, None] + 0.02 * normal(20, 16, 16, 3)
    bad = good[7:8].copy()
    bad[0, 4:7, 8:11] += 1.5
    peak = np.unravel_index(FITS[name](good)(bad)[0].argmax(), (16, 16))
    assert 3 <= peak[0] <= 7 and 7 <= peak[1] <= 11


# Pixel z-score


def test_the_z_score_by_loops():
    good, maps = GOOD.copy(), np.zeros(TEST.shape[:3])
    good[:, 2, 3, 1] = 0.25  # where all good images are equal, the deviation is one grey level
    for i, r, c in np.ndindex(maps.shape):
        scores = []
        for k in range(3):
            column = [image[r, c, k] for image in good]
            mean = sum(column) / len(column)
            variance = sum((value - mean) ** 2 for value in column) / len(column)
            scores.append(abs(TEST[i, r, c, k] - mean) / (variance + (2 / 255) ** 2) ** 0.5)
        maps[i, r, c] = sum(scores) / 3
    np.testing.assert_allclose(pixel_z_score(good, sigma=0.0)(TEST), maps, rtol=1e-10)
    np.testing.assert_allclose(pixel_z_score(good, sigma=1.2)(TEST), smooth(maps, 1.2), rtol=1e-10)


# PCA


@pytest.mark.parametrize("components", [19, 500])
def test_all_components_reconstruct_the_good_images(components):
    np.testing.assert_allclose(pca_reconstruction(GOOD, components, sigma=0.0)(GOOD), 0, atol=1e-25)
    assert pca_reconstruction(GOOD, 18, sigma=0.0)(GOOD).max() > 1e-3


def test_all_components_leave_the_residual_to_the_span_of_the_good_images():
    span = (GOOD[1:] - GOOD[0]).reshape(19, -1).T
    off = (TEST - GOOD[0]).reshape(5, -1).T
    residual = (off - span @ np.linalg.lstsq(span, off, rcond=None)[0]).T.reshape(TEST.shape)
    np.testing.assert_allclose(pca_reconstruction(GOOD, 19, sigma=0.0)(TEST), (residual**2).mean(axis=-1), rtol=1e-9)


def test_a_few_components_are_the_directions_of_largest_variance():
    """The eigenvectors of the covariance; and the mean residual over good images is the variance that is left out."""
    rows = GOOD.reshape(20, -1)
    variances, directions = np.linalg.eigh(np.cov(rows.T, bias=True))
    kept = directions[:, -4:]
    centred = TEST.reshape(5, -1) - rows.mean(axis=0)
    residual = (centred - centred @ kept @ kept.T).reshape(TEST.shape)
    fit = pca_reconstruction(GOOD, 4, sigma=0.0)
    np.testing.assert_allclose(fit(TEST), (residual**2).mean(axis=-1), rtol=1e-8)
    assert 3 * fit(GOOD).sum() / 20 == pytest.approx(variances[:-4].sum(), rel=1e-10)


def test_no_component_leaves_the_difference_from_the_mean():
    np.testing.assert_allclose(pca_reconstruction(GOOD, 0, sigma=0.0)(TEST), ((TEST - GOOD.mean(axis=0)) ** 2).mean(axis=-1), rtol=1e-10)
    np.testing.assert_allclose(pca_reconstruction(GOOD[:1], 5, sigma=0.0)(TEST), ((TEST - GOOD[0]) ** 2).mean(axis=-1), rtol=1e-10)


# Closed-form guidance (its rule: tests/posterior/test_closed_form.py)


def shared_noise_chain(denoise, y):
    """A chain in which all images have the noise of the first one."""
    draw = noise_source(3, "closed form", [("", 0)], y)
    return mdps_chain(denoise, y, None, 400, visited_timesteps(400, 100), lambda: np.repeat(draw(), len(y), axis=0))


@pytest.mark.parametrize("weight", [0.0, 0.8])
def test_the_closed_form_compares_with_its_chains_end(weight):
    """In a world of white noise the chain is that of guidance by the squared norm; without weight it is the plain chain anywhere."""
    y = normal(4, 3, 3, 2)
    predict = GaussianWorld((3, 3, 2)).predict_noise
    denoise = prior_denoiser(predict)
    if weight:
        predict = lambda x_t, t: (1 - alpha_bar(int(t[0]))) ** 0.5 * x_t  # noqa: E731
        denoise = squared_norm_guide(predict, y, weight / 2)
    maps = closed_form_reconstruction(predict, absolute_difference, weight=weight, start=400, stride=100, seed=3)(y)
    np.testing.assert_allclose(maps, absolute_difference(shared_noise_chain(denoise, y), y), rtol=1e-9)


# Features of patches


def test_patch_features_are_pooled_enlarged_and_joined():
    found = patch_features(two_layers, TEST)
    assert found.shape == (5, 4, 3, 9)
    fine, _, coarse = two_layers(TEST)
    padded = np.pad(fine, ((0, 0), (1, 1), (1, 1), (0, 0)))
    for r, c in np.ndindex(4, 3):
        np.testing.assert_allclose(found[:, r, c, :3], padded[:, r : r + 3, c : c + 3].sum(axis=(1, 2)) / 9, rtol=1e-10)
    pooled = coarse.sum(axis=(1, 2), keepdims=True) / 9  # 2 x 2 pixels, so that every window holds them all
    np.testing.assert_allclose(found[..., 6:], np.broadcast_to(pooled, found[..., 6:].shape), rtol=1e-10)


# Nearest neighbours


def test_distances_to_the_nearest_by_loops(monkeypatch):
    monkeypatch.setattr(baselines, "MOST_DISTANCES", 40)
    points, bank = normal(33, 4), normal(15, 4, seed=1)
    points[5] = bank[3]
    wanted = [min(sum((a - b) ** 2 for a, b in zip(p, q, strict=True)) ** 0.5 for q in bank) for p in points]
    np.testing.assert_allclose(nearest_distances(points, bank), wanted, atol=1e-7)


def test_a_map_of_the_whole_bank_by_loops():
    bank = patch_features(two_layers, GOOD).reshape(-1, 9)
    patches = patch_features(two_layers, TEST)
    distances = np.array([np.linalg.norm(bank - patch, axis=1).min() for patch in patches.reshape(-1, 9)]).reshape(patches.shape[:3])
    fit = functools.partial(nearest_neighbours, GOOD, two_layers, keep=10**6, candidates=10**6)
    np.testing.assert_allclose(fit(sigma=0.0)(TEST), enlarged(distances, (8, 6)), rtol=1e-9)
    np.testing.assert_allclose(fit(sigma=0.9)(TEST), smooth(enlarged(distances, (8, 6)), 0.9), rtol=1e-9)
    np.testing.assert_allclose(fit(sigma=0.0)(GOOD), 0, atol=1e-6)


def test_a_coreset_of_all_points_is_all_points_even_where_some_are_equal():
    points = normal(12, 3)[[0, 1, 2, 2, 2, 3, 4, 5, 5, 6]]
    assert sorted(greedy_coreset(points, 10)) == sorted(greedy_coreset(points, 99)) == list(range(10))


def test_each_choice_is_the_farthest_point_from_those_before():
    points = normal(60, 4) + 3
    chosen = greedy_coreset(points, 25).tolist()
    assert chosen[0] == np.linalg.norm(points - points.mean(axis=0), axis=1).argmax()
    for count in range(1, 25):
        to_chosen = [min(np.linalg.norm(p - points[j]) for j in chosen[:count]) for p in points]
        assert chosen[count] == np.argmax(to_chosen)


def test_a_smaller_bank_leaves_larger_distances_and_holds_good_patches_alone(monkeypatch):
    monkeypatch.setattr(baselines, "SELECTION_CHANNELS", 4)  # so that the choice looks at a projection
    of = functools.partial(nearest_neighbours, GOOD, two_layers, sigma=0.0)
    whole, some, few = (of(keep=keep)(TEST) for keep in (10**6, 60, 5))
    assert (few.mean() > some.mean() > whole.mean()) and (few >= whole - 1e-9).all()
    untouched = of(keep=60)(GOOD)[:, ::7, ::5]  # the corners of the maps are patches of the features
    assert 0 < (untouched < 1e-6).sum() < untouched.size
    assert not np.allclose(of(candidates=60)(TEST), of(candidates=60, seed=1)(TEST))  # other candidates, for the whole of them is kept


# Gaussian per position


@pytest.mark.parametrize("channels", [4, 99])
def test_mahalanobis_distances_by_explicit_inverses(channels):
    patches, test = patch_features(two_layers, GOOD), patch_features(two_layers, TEST)
    maps = gaussian_per_position(GOOD, two_layers, channels=channels, ridge=0.03, sigma=0.0)(TEST)
    drawn = np.sort(random_stream(0, "channels").choice(9, min(channels, 9), replace=False))
    distances = np.zeros(test.shape[:3])
    for r, c in np.ndindex(4, 3):
        good = patches[:, r, c][:, drawn]
        inverse = np.linalg.inv(np.cov(good.T) + 0.03 * np.eye(len(drawn)))
        for i in range(5):
            off = test[i, r, c, drawn] - good.mean(axis=0)
            distances[i, r, c] = (off @ inverse @ off) ** 0.5
    np.testing.assert_allclose(maps, enlarged(distances, (8, 6)), rtol=1e-9)


def test_a_gaussian_of_one_image_is_the_ridge_alone():
    off = patch_features(two_layers, TEST) - patch_features(two_layers, GOOD[:1])
    wanted = enlarged(np.linalg.norm(off, axis=-1) / 0.2, (8, 6))
    np.testing.assert_allclose(gaussian_per_position(GOOD[:1], two_layers, ridge=0.04, sigma=0.0)(TEST), wanted, rtol=1e-9)
