"""Every image alone, normal pixels led back to themselves, thresholds from held-out images, and each row of the rules on both sides."""

import dataclasses
import functools

import numpy as np
import pytest

from mdps_ref.errors import InputError
from mdps_ref.job import chains as job_chains
from mdps_ref.job import detect
from mdps_ref.job import maps as job_maps
from mdps_ref.job.images import judged_side
from mdps_ref.job.maps import InMemory, Maps, centre
from mdps_ref.nn.unet import init_unet
from mdps_ref.posterior.sampler import mdps_chain, prior_denoiser

CHAINS = ("reconstruction", "guided", "mdps")
ROUNDING = 1e-5  # of values around 1, where products of another number of rows may add up in another order; 7e-7 was seen


@pytest.fixture(scope="module")
def make_model():
    """make_model(config): a model with random weights, none of which is zero, so that it predicts some noise and has some slope."""

    def make(config):
        rng = np.random.default_rng(0)
        weights = init_unet(config.unet())
        return detect.make_model({name: w + rng.normal(0, 0.05, w.shape).astype(w.dtype) for name, w in weights.items()}, config)

    return make


@pytest.fixture(scope="module")
def images(some_images):
    return some_images(5)


def noise_only(images, config):
    """Samples where the network sees no noise, so that the noise of the start is left in them."""
    blind = detect.Model(lambda x_t, t: np.zeros_like(x_t), lambda y: [y], np)
    return job_chains.draw_samples(blind, images, dataclasses.replace(config, samples=1, ddim_eta=0.0), "reconstruction")[:, 0]


@pytest.fixture
def chains(make_model, images):
    """chains(config, name): the Maps of these chains."""

    def run(config, name, images=images, mask=None):
        mask_of = None if mask is None else lambda part: mask[part]
        return detect.run_chains(make_model(config), images, config, name, mask_of).result()

    return run


def assert_close(a, b):
    np.testing.assert_allclose(a, b, rtol=ROUNDING, atol=ROUNDING)


def assert_same(one, other, at=slice(None), kept=None):
    """That Maps or Detections agree to rounding, the images of the second taken at `at`; or image `kept` of one, and the other's first."""
    for field in dataclasses.fields(one):
        a, b = getattr(one, field.name), getattr(other, field.name)
        if isinstance(a, Maps):
            assert_same(a, b, at, kept)
        elif field.name == "mask_threshold":
            assert a == b
        else:
            a, b = (a, b[at]) if kept is None else (a[kept], b[0])
            assert a.dtype == b.dtype == np.float32
            np.testing.assert_allclose(a, b, rtol=ROUNDING, atol=ROUNDING, err_msg=field.name)


def differ(one, other):
    """Whether two Maps of the same first image differ by more than rounding in the sample they show."""
    return abs(one.x_0[0] - other.x_0[0]).max() > 0.001


# Every image alone


@pytest.fixture(scope="module")
def together(make_model, images, quick_config):
    """The model, the config, a threshold, and the Detection of all images at once, 2 samples an image.

    The threshold lies in the widest gap between the middle values of the maps, so that rounding moves no pixel past it.
    """
    config = quick_config(samples=2)
    model = make_model(config)
    values = np.sort(detect.run_chains(model, images, config, "guided").result().anomaly, axis=None)
    middle = values[len(values) // 3 : -len(values) // 3]
    widest = np.diff(middle).argmax()
    threshold = float(middle[widest : widest + 2].mean())
    return model, config, threshold, detect.detect(model, images, config, threshold)


def test_neither_order_nor_other_images_nor_chains_at_once_matter(together, images, monkeypatch):
    model, config, threshold, found = together
    order = [3, 1, 4, 0, 2]
    assert_same(detect.detect(model, images[order], config, threshold), found, order)
    for others in (images[:0], np.ones_like(images[:2]), -images[3:4]):
        among = np.concatenate([images[2:3], others])
        assert_same(found, detect.detect(model, among, config, threshold), kept=2)
    for at_once in (1, 4, 64):
        monkeypatch.setattr(job_chains, "CHAINS_AT_ONCE", at_once)
        assert_same(detect.detect(model, images, config, threshold), found)


@pytest.mark.parametrize("share", [1, 2, 4])
def test_the_chains_that_all_processes_run_at_once_do_not_grow_with_n(share, images, quick_config):
    """A process that has one of `share` parts of the samples runs that part of the chains that go at once."""
    widest = []
    model = detect.Model(lambda x_t, t: widest.append(len(x_t)) or np.zeros_like(x_t), None, np)
    for n in (16, 32, 64):
        config, widest[:] = quick_config(samples=n), []
        parts = job_chains._sampled(model, images[:1], config, "reconstruction", None, range(n // share))
        assert sum(part.shape[1] for part in parts) == n // share
        assert max(widest) == job_chains.CHAINS_AT_ONCE // share


def test_the_pixels_and_the_chain_key_the_noise(together, images):
    """With no network in the way, the noise of the start is what a sample differs by from its image."""
    model, config, threshold, found = together
    noises = [x - y for x, y in zip(noise_only(images, config), images, strict=True)]
    again = noise_only(np.concatenate([images[1:], images[:1]]), config)[-1] - images[0]
    assert abs(again - noises[0]).max() < 0.01 < abs(noises[1] - noises[0]).max()
    config = dataclasses.replace(config, guided_strength=0.0, mdps_strength=0.0)
    reconstruction, guided, mdps = (detect.run_chains(model, images, config, chain).result() for chain in CHAINS)
    assert differ(reconstruction, guided) and differ(guided, mdps) and differ(mdps, reconstruction)


def test_each_chain_has_a_strength_of_its_own(together, images):
    model, config, threshold, found = together
    for setting, moved in (("guided_strength", "guided"), ("mdps_strength", "mdps")):
        stronger = detect.detect(model, images, dataclasses.replace(config, **{setting: 1.0}), threshold)
        for chain in CHAINS[: CHAINS.index(moved)]:
            assert_same(getattr(stronger, chain), getattr(found, chain))
        assert differ(getattr(stronger, moved), getattr(found, moved))


@pytest.mark.parametrize("chain", CHAINS)
def test_ddim_eta_changes_every_step_but_the_last(chain, chains, quick_config):
    """The last step leads to x0_hat and draws nothing, so where it is the only one the setting plays no part."""
    for start, different in ((60, True), (20, False)):
        random, still = (chains(quick_config(guided_start=start, mdps_start=start, ddim_eta=eta), chain) for eta in (1.0, 0.0))
        assert differ(random, still) == different


# The mask


def test_normal_pixels_come_back_as_they_were_and_suspected_ones_do_not(chains, images, quick_config):
    mask = np.zeros((5, 16, 16, 1), np.float32)
    mask[:, 4:9, 3:12] = 1
    maps = chains(quick_config(), "mdps", mask=mask)
    change = abs(maps.x_0 - images)
    assert (change * (1 - mask)).max() < ROUNDING
    assert (change * mask).max() > 0.1
    np.testing.assert_array_equal(maps.suspected, mask[..., 0])


def test_the_mask_is_where_the_guided_map_exceeds_the_threshold_and_without_one_the_image_comes_back(together, images):
    model, config, threshold, found = together
    np.testing.assert_array_equal(found.mdps.suspected, found.guided.anomaly > threshold)
    assert 0 < found.mdps.suspected.mean() < 1 and found.guided.suspected.all() and found.reconstruction.suspected.all()
    found = detect.detect(model, images, config, threshold=np.inf)
    np.testing.assert_allclose(found.mdps.x_0, images, atol=ROUNDING)
    assert found.mdps.anomaly.max() < 0.01 * found.reconstruction.anomaly.max()


def test_an_image_with_an_empty_mask_is_its_own_sample_without_a_chain(make_model, images, quick_config):
    """Eq. (10), which the chain confirms to rounding. The released rules replace normal pixels, so their chain has to run."""
    config, model, mask = quick_config(), make_model(quick_config()), np.zeros((5, 16, 16, 1), np.float32)
    mask[3, 4:9, 4:9] = 1
    calls = []
    counted = dataclasses.replace(model, predict_noise=lambda x_t, t: calls.append(len(t)) or model.predict_noise(x_t, t))
    found = job_chains.batch_maps(counted, images, config, "mdps", mask)
    assert set(calls) == {1}
    np.testing.assert_array_equal(found.x_0[:3], images[:3])
    empty = [0, 1, 2, 4]
    assert not any(getattr(found, name)[empty].any() for name in ("anomaly", "spread", "difference", "score", "suspected"))
    assert_same(found, job_chains.batch_maps(model, images[3:4], config, "mdps", mask[3:4]), kept=3)
    sampled = job_chains.batch_maps(model, images, quick_config(rules_except="normal_pixels"), "mdps", mask)
    assert abs(sampled.x_0[:3] - images[:3]).max() > ROUNDING
    denoise = prior_denoiser(model.predict_noise)
    x_0 = mdps_chain(denoise, images, 0 * mask, 60, [60, 30, 0, -1], lambda: images[::-1])
    np.testing.assert_allclose(x_0, images, atol=ROUNDING)


def test_a_fixed_mask_threshold_takes_the_place_of_the_calibrated_one(together, images):
    model, config, threshold, found = together
    fixed = dataclasses.replace(config, mask_threshold=threshold)
    assert detect.calibrate(model, images, fixed)[0] == threshold != detect.calibrate(model, images, config)[0]
    assert_same(detect.detect(model, images, fixed), found)
    with pytest.raises(InputError, match="threshold"):
        detect.detect(model, images, config)


@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 1.0])
def test_the_calibrated_threshold_leaves_the_share_of_held_out_pixels_suspected(share, make_model, images, quick_config):
    config = quick_config(mask_share=share)
    model = make_model(config)
    threshold, scores = detect.calibrate(model, images, config)
    found = detect.detect(model, images, config, threshold)
    suspected = found.mdps.suspected.mean()
    assert share - 2 / found.mdps.suspected.size <= suspected <= share
    np.testing.assert_allclose(found.mdps.score, scores, rtol=ROUNDING)


@pytest.mark.parametrize("rules", ["paper", "released"])
def test_the_masks_threshold_reads_a_few_maps_at_a_time(rules, make_model, images, quick_config, monkeypatch):
    read, config = [], quick_config(rules=rules)

    class Watched(InMemory):
        def anomaly(self, part):
            read.append(part.stop - part.start)
            return super().anomaly(part)

    monkeypatch.setattr(job_maps, "AT_ONCE", 2)
    if rules == "paper":
        guided = detect.detect(make_model(config), images, config, 0.1).guided.anomaly.astype(float)
        found = detect.calibrate(make_model(config), images, config, keep=Watched)[0]
        assert found == np.quantile(guided, 1 - config.mask_share, method="higher")
    else:
        found = detect.detect(make_model(config), images, config, keep=Watched)
        guided = found.guided.anomaly.astype(float)
        assert found.mask_threshold == pytest.approx(guided.min() + config.mask_lambda * np.ptp(guided))
    assert read[:3] == [2, 2, 1]


@pytest.mark.parametrize("rules", ["paper", "released"])
def test_without_a_mask_one_guided_chain_is_the_result(rules, make_model, images, quick_config, monkeypatch):
    config = quick_config(rules=rules, masked=False, guided_strength=9.0, guided_start=200)
    model = make_model(config)
    expected = detect.run_chains(model, images, config, "mdps").result()
    run, ran = detect.run_chains, []
    monkeypatch.setattr(detect, "run_chains", lambda *args, **more: ran.append(args[3]) or run(*args, **more))
    found = detect.detect(model, images, config)
    assert ran == ["reconstruction", "mdps"] and found.mask_threshold is None
    assert found.mdps is found.guided and found.mdps.suspected.all()
    assert_same(found.mdps, expected)
    ran.clear()
    threshold, scores = detect.calibrate(model, images, config)
    assert ran == ["mdps"] and threshold is None
    np.testing.assert_allclose(scores, expected.score, rtol=ROUNDING)


# Samples


def test_more_samples_leave_the_first_as_it_was_and_maps_are_means(together, chains, images, quick_config):
    """Of two maps a and b the mean is m and the deviation s = |a - b| / 2, so b = 2 m - a and |m - a| = s."""
    *_, found = together
    one, two = chains(quick_config(), "reconstruction"), found.reconstruction
    assert not one.spread.any() and all(getattr(found, chain).spread.any() for chain in CHAINS)
    np.testing.assert_allclose(one.x_0, two.x_0, atol=ROUNDING)
    np.testing.assert_allclose(one.difference, abs(one.x_0 - images).mean(axis=-1), atol=ROUNDING)
    np.testing.assert_allclose(abs(two.anomaly - one.anomaly), two.spread, atol=ROUNDING)
    assert abs(two.difference - one.difference).max() > 0.001


EXTREMES = [
    {"guided_start": 0, "mdps_start": 0},
    {"guided_start": 999, "mdps_start": 999, "stride": 1000},
    {"rules": "released", "guided_start": 1, "mdps_start": 1},
    {"rules": "released", "guided_start": 999, "mdps_start": 999, "stride": 1000},
    {"blur": 0.0},
    {"blur": 0.25},
    {"pixel_weight": 0.0},
    {"guidance": "squared_norm"},
    {"feature_timestep": 0},
    {"feature_timestep": 999},
    {"image_score": "max"},
    {"image_score": "softmax_top_500", "image_size": 24},
    {"image_size": 8},
    {"image_size": 16, "network": "small"},
]


@pytest.mark.parametrize("settings", EXTREMES, ids=str)
def test_settings_at_the_ends_of_their_ranges_give_numbers(settings, make_model, some_images, quick_config):
    config = quick_config(**settings)
    images = some_images(2, config.image_size)
    found = detect.detect(make_model(config), images, config, 0.5)
    for maps in (found.reconstruction, found.guided, found.mdps):
        assert maps.x_0.shape == images.shape
        assert maps.anomaly.shape == maps.spread.shape == maps.difference.shape == maps.suspected.shape == images.shape[:3]
        assert maps.score.shape == (2,)
        assert all(np.isfinite(getattr(maps, field.name)).all() for field in dataclasses.fields(maps))


def test_a_chain_that_gives_nan_is_refused_in_one_line(images, quick_config, fails_with):
    broken = detect.Model(lambda x_t, t: np.nan * x_t, lambda y: [y], np)
    with fails_with("reconstruction", "nan", "learning_rate"):
        detect.run_chains(broken, images[:1], quick_config(), "reconstruction")


# The rules, row by row


def known(quick_config, **settings):
    """The Config of a quick run by the released rules: a guidance that shows, and batches of 2."""
    return quick_config(**{"rules": "released", "batch_size": 2, "guided_strength": 3.0, "mdps_strength": 3.0} | settings)


@pytest.mark.parametrize(
    "rules, excepted, w_at_32, guided, mdps",
    [
        ("paper", "", 32, [90, 60, 30, 0, -1], [50, 20, -1]),
        ("paper", "strength", 256, [90, 60, 30, 0, -1], [50, 20, -1]),
        ("paper", "start", 32, [60, 30, 0, -1], [30, 0, -1]),
        ("released", "", 256, [60, 30, 0, -1], [30, 0, -1]),
    ],
)
def test_each_chain_has_its_strength_and_start_and_the_rules_read_them(
    rules, excepted, w_at_32, guided, mdps, make_model, some_images, quick_config, monkeypatch
):
    """Row 3: w = strength sqrt(H W C), or what that is at 256 x 256 x 3.  Row 7: where the first call is.  Each may be excepted alone."""
    config = quick_config(
        rules=rules, rules_except=excepted, image_size=32, guided_strength=0.1, mdps_strength=0.2, guided_start=90, mdps_start=50
    )
    seen = []

    def guide(predict_noise, y, weight, mask):
        seen.append(weight)

    def chain(denoise, y, mask, start, timesteps, draw, ddim_eta):
        seen.extend((start, timesteps))
        return y

    recorded = dataclasses.replace(config.resolved_rules, chain=chain, norm_guide=guide)
    monkeypatch.setattr(type(config), "resolved_rules", property(lambda self: recorded))
    for name in CHAINS:
        detect.run_chains(make_model(config), some_images(1, 32), config, name)
    w = [pytest.approx(strength * w_at_32 * 3**0.5) for strength in (0.1, 0.2)]
    assert seen == [50, mdps, w[0], 90, guided, w[1], 50, mdps]


@pytest.mark.parametrize("chain", ["guided", "mdps"])
def test_a_batch_is_batch_size_images_in_their_order(chain, chains, images, quick_config):
    """Rows 2 and 4; that the paper's images are alone stands above."""
    config = known(quick_config)
    together = chains(config, chain)
    parts = [chains(config, chain, images[i : i + 2]) for i in (0, 2, 4)]
    for field in dataclasses.fields(Maps):
        assert_close(getattr(together, field.name), np.concatenate([getattr(part, field.name) for part in parts]))
    other = np.concatenate([images[:1], 5 * images[2:3]])  # another neighbour of the first image, one that fits worse
    assert differ(chains(config, chain, other), together)
    two = chains(known(quick_config, samples=2), chain)  # a batch is one sample of each image
    assert_close(two.x_0, together.x_0)
    assert_close(abs(two.anomaly - together.anomaly), two.spread)


def test_a_map_depends_on_its_batch_even_where_its_sample_does_not(chains, images, quick_config):
    """Row 4 alone: without guidance there is no norm."""
    two = images[:2] * np.array([0.1, 1], np.float32)[:, None, None, None]
    for settings, same in (({"rules": "paper"}, True), ({"rules_except": "fusion"}, True), ({}, False)):
        config = known(quick_config, guided_strength=0.0, **settings)
        among, alone = chains(config, "guided", two), chains(config, "guided", two[:1])
        assert_close(among.x_0[0], alone.x_0[0])
        assert (abs(among.anomaly[0] - alone.anomaly[0]).max() < ROUNDING) == same


def test_the_released_mask_follows_the_test_set_and_is_used_on_held_out_images(make_model, images, quick_config):
    """Row 5, in batches of 1, so that rows 2 and 4 play no part."""
    config = known(quick_config, batch_size=1, mask_lambda=0.3)
    model, more_images = make_model(config), np.concatenate([images, np.sign(images[:1])])
    few, more = detect.detect(model, images, config), detect.detect(model, more_images, config)
    assert_close(more.guided.anomaly[:5], few.guided.anomaly)
    for found in (few, more):
        low, high = found.guided.anomaly.min(), found.guided.anomaly.max()
        assert found.mask_threshold == pytest.approx(low + 0.3 * (high - low), rel=1e-6)
    assert (more.mdps.suspected[:5] != few.mdps.suspected).any()
    with pytest.raises(InputError, match="detect first"):
        detect.calibrate(model, images, config)
    threshold, scores = detect.calibrate(model, images, config, few.mask_threshold)
    assert threshold == few.mask_threshold
    np.testing.assert_allclose(scores, few.mdps.score, rtol=ROUNDING)
    alone = dataclasses.replace(config, rules_except="mask")
    assert detect.calibrate(model, images, alone)[0] != few.mask_threshold


@pytest.mark.parametrize(
    "settings, exact", [({}, True), ({"rules_except": "normal_pixels"}, False), ({"rules": "released"}, False)], ids=str
)
def test_normal_pixels_come_back_exactly_or_roughly(settings, exact, make_model, images, quick_config):
    """Row 6, on its own too: then the guided chain, which has no mask, is the paper's."""
    config = quick_config(**settings)
    found = detect.detect(make_model(config), images, config, 0.06)
    change = abs(found.mdps.x_0 - images) * (1 - found.mdps.suspected[..., None])
    assert 0 < found.mdps.suspected.mean() < 1
    assert (change.max() < ROUNDING) == exact and change.max() < 0.5
    if config.rules == "paper":
        assert_same(found.guided, detect.run_chains(make_model(config), images, quick_config(), "guided").result())


def test_the_centre_is_judged_and_scored_anew(chains, make_model, images, quick_config):
    """Row 12: 224 of 256 pixels a side of MVTec AD's images; held-out images are scored by their centre, too."""
    sides = {rules: [judged_side(quick_config(rules=rules), layout) for layout in ("mvtec", "btad")] for rules in ("paper", "released")}
    assert sides == {"paper": [16, 16], "released": [14, 16]}
    assert judged_side(quick_config(rules="released", image_size=256), "mvtec") == 224
    config = quick_config(masked=False, image_score="max")
    whole = chains(config, "mdps")
    central = functools.partial(InMemory, crop=lambda maps: centre(maps, 6, config))
    _, scores = detect.calibrate(make_model(config), images, config, keep=central)
    np.testing.assert_allclose(scores, whole.anomaly[:, 5:11, 5:11].max(axis=(1, 2)), rtol=ROUNDING)
    whole.anomaly[0, 0, 0] = whole.score[0] = 99
    assert centre(whole, 16, config) is whole
    part = centre(whole, 14, config)
    for field in dataclasses.fields(Maps):
        if field.name != "score":
            np.testing.assert_array_equal(getattr(part, field.name), getattr(whole, field.name)[:, 1:15, 1:15])
    np.testing.assert_array_equal(part.score, whole.anomaly[:, 1:15, 1:15].max(axis=(1, 2)))
    assert part.score[0] < 99
