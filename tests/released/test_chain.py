"""Rows 1 to 7: what the released code computes in another way, each beside the paper's side."""

import numpy as np
import pytest
from gaussian_world import GaussianWorld

from mdps_ref.diffusion import reverse
from mdps_ref.diffusion.forward import q_sample
from mdps_ref.diffusion.schedule import alpha_bar, visited_timesteps
from mdps_ref.posterior.guidance import misfit_gradient, norm_guide, unit_residual
from mdps_ref.posterior.mask import suspected
from mdps_ref.posterior.sampler import mdps_chain, posterior_samples, prior_denoiser
from mdps_ref.released import chain as released
from mdps_ref.scoring.difference import difference_map, feature_map, fuse, pixel_map, smooth

SHAPE = (2, 2, 2)
WORLD = GaussianWorld(SHAPE)
Y = np.random.default_rng(5).standard_normal((1, *SHAPE))
MASK = np.array([1.0, 0.0, 0.0, 1.0]).reshape(1, 2, 2, 1)
PRIOR = prior_denoiser(WORLD.predict_noise)
TIMES = visited_timesteps(300, 60)


def draws(count=1):
    """A `draw` with a seed; every one of `count` images gets the same noise."""
    rng = np.random.default_rng(2)
    return lambda: np.concatenate([rng.standard_normal((1, *SHAPE))] * count)


def by_norm(y, guide, weight):
    """x_0 of a guided chain without a mask."""
    return mdps_chain(guide(WORLD.predict_noise, y, weight), y, None, 300, TIMES, draws(len(y)))


@pytest.mark.equation("E10", "E13")
def test_a_norm_over_the_batch_guides_images_alike_as_if_the_weight_were_smaller():
    """Row 2: eight images alike, each with the noise of the one, by 1 / sqrt(8). The paper's side never sees the others."""
    eight, one = np.concatenate([Y] * 8), by_norm(Y, norm_guide, 2.0)
    np.testing.assert_allclose(by_norm(eight, norm_guide, 2.0)[:1], one, rtol=1e-10)
    by_batch = by_norm(eight, released.batch_norm_guide, 2.0)[:1]
    assert abs(by_batch - one).max() > 0.01
    np.testing.assert_allclose(by_batch, by_norm(Y, norm_guide, 2.0 / 8**0.5), rtol=1e-10)
    np.testing.assert_allclose(by_norm(Y, released.batch_norm_guide, 2.0), one, rtol=1e-12)


@pytest.mark.equation("E10")
def test_the_batchs_gradient_by_central_differences():
    """Row 2: of the norm of all residuals as one."""
    level, t, h, (x, y, step) = alpha_bar(300), np.array([300] * 3), 1e-6, np.random.default_rng(0).standard_normal((3, 3, *SHAPE))
    _, gradient = misfit_gradient(WORLD.predict_noise, x, t, y, level, released.batch_unit_residual)
    ends = (reverse.tweedie(x + d, WORLD.predict_noise(x + d, t), level) - y for d in (h * step, -h * step))
    high, low = map(np.linalg.norm, ends)
    assert (gradient * step).sum() == pytest.approx((high - low) / (2 * h), rel=1e-6)


@pytest.mark.equation("E13")
def test_one_sample_of_every_image_is_a_batch():
    """Row 2: so the number of samples does not change a sample, while the other images do."""
    y, names = np.random.default_rng(1).standard_normal((3, *SHAPE)), ["a", "b", "c"]

    def samples(numbers, count=3, mask=None, sample=released.one_sample_a_batch):
        def chain(y, mask, draw):
            return mdps_chain(released.batch_norm_guide(WORLD.predict_noise, y, 2.0), y, mask, 300, TIMES, draw)

        return sample(chain, y[:count], mask, names[:count], numbers, 3, "test")

    three, one = samples(range(3)), samples([1])
    assert three.shape == (3, 3, *SHAPE)
    np.testing.assert_allclose(three[:, 1:2], one, rtol=1e-12)
    for other in (three[:, 2:], samples([1], count=1), samples(range(3), sample=posterior_samples)[:, 1:2]):
        assert abs(other - one[: len(other)]).max() > 0.01
    masked = samples(range(2), mask=np.concatenate([MASK] * 3))
    np.testing.assert_allclose((1 - MASK) * masked, np.stack([(1 - MASK) * y] * 2, axis=1), atol=1e-12)


@pytest.mark.equation("E17")
def test_maxima_over_the_batch_give_every_image_one_scale():
    """Row 4: image 1 differs ten times as much. Alone the other's pixels count fully, in the batch a tenth."""
    pixels, features = abs(np.random.default_rng(0).uniform(-1, 1, (2, 2, 4, 4)))
    pixels, features = pixels / pixels.max(axis=(1, 2), keepdims=True), features / features.max(axis=(1, 2), keepdims=True)
    pixels[1] *= 10
    alone, batch = (f(pixels, features, 3.0) - features for f in (fuse, released.fuse_by_batch))
    np.testing.assert_allclose(alone.max(axis=(1, 2)), [3, 3], rtol=1e-12)
    np.testing.assert_allclose(batch, 3 * pixels / 10, rtol=1e-12)
    np.testing.assert_allclose(released.fuse_by_batch(pixels[:1], features[:1], 3.0), fuse(pixels[:1], features[:1], 3.0), rtol=1e-12)
    np.testing.assert_array_equal(released.fuse_by_batch(0 * pixels, features, 3.0), features)


def test_the_anomaly_map_is_fused_as_it_is_told():
    x, y = np.random.default_rng(0).uniform(-1, 1, (2, 2, 8, 8, 3))
    x[0] = 0.9 * y[0] + 0.1 * x[0]
    features = lambda images: [images[:, ::2, ::2]]  # noqa: E731
    image, batch = (difference_map(x, y, features, pixel_weight=1.0, sigma=1.0, fuse=f) for f in (fuse, released.fuse_by_batch))
    fused = released.fuse_by_batch(pixel_map(x, y), feature_map(features(x), features(y), (8, 8)), 1.0)
    np.testing.assert_allclose(batch, smooth(fused, 1.0) / 2, rtol=1e-12)
    assert abs(batch - image).max() > 0.01


@pytest.mark.equation("E14")
def test_every_test_image_changes_every_mask():
    """Row 5: maps from 0.2 to 0.6, then one more image whose only defect is 1.2."""
    maps = np.array([[[0.2, 0.3, 0.45, 0.6]]])
    assert released.released_threshold(maps, 0.5) == pytest.approx(0.4)
    np.testing.assert_array_equal(suspected(maps, released.released_threshold(maps, 0.5)).ravel(), [0, 0, 1, 1])
    more = np.concatenate([maps, [[[0.2, 0.2, 0.2, 1.2]]]])
    np.testing.assert_array_equal(suspected(more, released.released_threshold(more, 0.5))[0].ravel(), [0, 0, 0, 0])


def test_maps_that_can_be_read_once_only_set_no_released_threshold():
    with pytest.raises(TypeError, match="several times"):
        released.released_threshold((maps for maps in np.zeros((2, 1, 3, 3))), 0.5)


@pytest.mark.equation("E14")
@pytest.mark.parametrize("share", [0.0, 0.12, 1.0])
def test_the_threshold_scales_with_the_maps(share):
    maps = np.random.default_rng(0).random((4, 5, 5))
    before, after = (suspected(each, released.released_threshold(each, share)) for each in (maps, 8 * maps + 2))
    np.testing.assert_array_equal(after, before)
    assert before.mean() == (0 if share == 1 else pytest.approx(1 - share, abs=0.05))


@pytest.mark.equation("E13")
@pytest.mark.parametrize("weight", [0.0, 2.0])
def test_normal_pixels_are_replaced_before_each_call_and_guided_with_the_others(weight):
    """Row 6, in a loop: under one noise for all steps, not after the last; the denoiser is that of no mask."""
    noise, calls, seen = draws()(), [], {300: q_sample(Y, draws()(), alpha_bar(300))}
    inner = norm_guide(WORLD.predict_noise, Y, weight) if weight else PRIOR

    def denoise(x, t):
        calls.append((t, x))
        return inner(x, t)

    x_0 = released.released_chain(denoise, Y, MASK, 300, TIMES, draws(), after_step=lambda s, x: seen.update({s: x}))
    assert [t for t, _ in calls] == TIMES[:-1]
    for t, x in calls:
        np.testing.assert_allclose((1 - MASK) * x, (1 - MASK) * q_sample(Y, noise, alpha_bar(t)), rtol=1e-12)
        np.testing.assert_array_equal(MASK * x, MASK * seen[t])
    t, x = calls[-1]
    level, at = alpha_bar(t), np.array([t])
    eps = WORLD.predict_noise(x, at)
    if weight:
        eps = eps + weight * (1 - level) ** 0.5 * misfit_gradient(WORLD.predict_noise, x, at, Y, level, unit_residual)[1]
    np.testing.assert_allclose(x_0, reverse.tweedie(x, eps, level), rtol=1e-12)


@pytest.mark.equation("E12", "E13")
@pytest.mark.parametrize("ddim_eta", [1.0, 0.3])
def test_normal_pixels_end_at_y_by_equation_10_and_only_near_it_by_replacement(ddim_eta):
    """Row 6: from t = 0, where the noise has a deviation of 0.01. Without a mask there is nothing to replace."""

    def ends(mask):
        for chain in (mdps_chain, released.released_chain):
            yield chain(PRIOR, Y, mask, 300, [300, 200, 100, 0, -1], draws(), ddim_eta=ddim_eta)

    paper, theirs = (abs((1 - MASK) * (x_0 - Y)).max() for x_0 in ends(MASK))
    assert paper < 1e-13 and 1e-4 < theirs < 0.1
    np.testing.assert_array_equal(*ends(None))


@pytest.mark.equation("E02")
@pytest.mark.parametrize("start, first", [(150, 140), (200, 180), (250, 240), (1, 0), (20, 0), (21, 20), (999, 980)])
def test_the_network_is_called_first_below_the_start_and_last_at_0(start, first):
    """Row 7: both chains take an image that is noised to `start`; the paper's calls the network there first."""
    timesteps = released.released_timesteps(start, 20)
    assert timesteps == [*range(first, -1, -20), -1] and timesteps[-2] == 0
    assert timesteps[0] < start == visited_timesteps(start, 20)[0]


@pytest.mark.equation("E02", "E13")
@pytest.mark.parametrize("chain", [mdps_chain, released.released_chain])
def test_the_start_is_noised_further_than_the_first_call_says(chain):
    """Row 7, in either chain."""
    calls, ones = [], np.ones_like(Y)
    denoise = lambda x, t: calls.append((t, x)) or x  # noqa: E731
    chain(denoise, 0 * Y, None, 50, released.released_timesteps(50, 20), lambda: ones)
    assert [t for t, _ in calls] == [40, 20, 0]
    np.testing.assert_allclose(calls[0][1] ** 2, 1 - alpha_bar(50))


@pytest.mark.parametrize("start, stride", [(1000, 20), (0, 20), (50, 0)])
def test_no_chain_outside_the_schedule(start, stride):
    with pytest.raises(ValueError, match="a chain of the released code"):
        released.released_timesteps(start, stride)
