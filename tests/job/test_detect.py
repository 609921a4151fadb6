"""Every image alone, normal pixels led back to themselves, thresholds from held-out images; and the metrics of maps made by hand."""

import dataclasses
import json

import numpy as np
import pytest

from mdps_ref.errors import InputError
from mdps_ref.job import detect
from mdps_ref.job.detector import Detector
from mdps_ref.job.evaluate import evaluate, metrics_of
from mdps_ref.job.images import judged_side
from mdps_ref.nn.unet import init_unet

NAMES = ["test/a/000", "test/a/001", "test/b/000", "test/good/000", "test/good/001"]
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


def assert_same(one, other, at=slice(None), kept=None):
    """That Maps or Detections agree to rounding, the images of the second taken at `at`; or image `kept` of one, and the other's first."""
    for field in dataclasses.fields(one):
        a, b = getattr(one, field.name), getattr(other, field.name)
        if isinstance(a, detect.Maps):
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
    values = np.sort(detect.run_chains(model, images, NAMES, config, "guided").anomaly, axis=None)
    middle = values[len(values) // 3 : -len(values) // 3]
    widest = np.diff(middle).argmax()
    threshold = float(middle[widest : widest + 2].mean())
    return model, config, threshold, detect.detect(model, images, NAMES, config, threshold)


def test_the_order_of_the_images_does_not_matter(together, images):
    model, config, threshold, found = together
    order = [3, 1, 4, 0, 2]
    assert_same(detect.detect(model, images[order], [NAMES[i] for i in order], config, threshold), found, order)


@pytest.mark.parametrize("at_once", [1, 4, 64])
def test_how_many_chains_run_at_once_does_not_matter(at_once, together, images, monkeypatch):
    model, config, threshold, found = together
    monkeypatch.setattr(detect, "CHAINS_AT_ONCE", at_once)
    assert_same(detect.detect(model, images, NAMES, config, threshold), found)


def test_the_other_images_do_not_matter(together, images):
    model, config, threshold, found = together
    for others in (images[:0], np.ones_like(images[:2]), -images[3:4]):
        among = np.concatenate([images[2:3], others])
        names = [NAMES[2], "x", "y"][: len(among)]
        assert_same(found, detect.detect(model, among, names, config, threshold), kept=2)


def test_the_name_keys_the_noise(together, images):
    model, config, threshold, found = together
    renamed = detect.detect(model, images[:1], ["another"], config, threshold)
    assert differ(renamed.reconstruction, found.reconstruction)


def test_each_chain_has_a_strength_of_its_own(together, images):
    model, config, threshold, found = together
    stronger = detect.detect(model, images, NAMES, dataclasses.replace(config, guided_strength=1.0), threshold)
    assert_same(stronger.reconstruction, found.reconstruction)
    assert differ(stronger.guided, found.guided)
    stronger = detect.detect(model, images, NAMES, dataclasses.replace(config, mdps_strength=1.0), threshold)
    assert_same(stronger.reconstruction, found.reconstruction)
    assert_same(stronger.guided, found.guided)
    assert differ(stronger.mdps, found.mdps)


def test_each_chain_has_noise_of_its_own(together, images):
    model, config, _, _ = together
    config = dataclasses.replace(config, guided_strength=0.0, mdps_strength=0.0)
    reconstruction, guided, mdps = (detect.run_chains(model, images, NAMES, config, kind) for kind in ("reconstruction", "guided", "mdps"))
    assert differ(reconstruction, guided) and differ(guided, mdps) and differ(mdps, reconstruction)


# The mask


def test_normal_pixels_come_back_as_they_were_and_suspected_ones_do_not(make_model, images, quick_config):
    config = quick_config()
    mask = np.zeros((5, 16, 16, 1), np.float32)
    mask[:, 4:9, 3:12] = 1
    maps = detect.run_chains(make_model(config), images, NAMES, config, "mdps", mask)
    change = abs(maps.x_0 - images)
    assert (change * (1 - mask)).max() < ROUNDING
    assert (change * mask).max() > 0.1
    np.testing.assert_array_equal(maps.suspected, mask[..., 0])


def test_the_mask_is_where_the_guided_map_exceeds_the_threshold(together):
    _, _, threshold, found = together
    np.testing.assert_array_equal(found.mdps.suspected, found.guided.anomaly > threshold)
    assert 0 < found.mdps.suspected.mean() < 1
    assert found.guided.suspected.all() and found.reconstruction.suspected.all()


def test_without_suspicion_the_image_comes_back_and_scores_nothing(make_model, images, quick_config):
    config = quick_config(samples=2)
    found = detect.detect(make_model(config), images, NAMES, config, threshold=np.inf)
    np.testing.assert_allclose(found.mdps.x_0, images, atol=ROUNDING)
    assert found.mdps.anomaly.max() < 0.01 * found.reconstruction.anomaly.max()


# Samples


def test_one_sample_has_no_spread_and_several_have_some(together, make_model, images, quick_config):
    one = detect.detect(make_model(quick_config()), images, NAMES, quick_config(), 0.5)
    assert not any(maps.spread.any() for maps in (one.reconstruction, one.guided, one.mdps))
    *_, two = together
    assert all(maps.spread.any() for maps in (two.reconstruction, two.guided, two.mdps))


def test_more_samples_leave_the_first_as_it_was_and_maps_are_means(together, make_model, images, quick_config):
    """Of two maps a and b the mean is m and the deviation s = |a - b| / 2, so b = 2 m - a and |m - a| = s."""
    *_, two = together
    one = detect.detect(make_model(quick_config()), images, NAMES, quick_config(), 0.5)
    np.testing.assert_allclose(one.reconstruction.x_0, two.reconstruction.x_0, atol=ROUNDING)
    np.testing.assert_allclose(one.reconstruction.difference, abs(one.reconstruction.x_0 - images).mean(axis=-1), atol=ROUNDING)
    np.testing.assert_allclose(abs(two.reconstruction.anomaly - one.reconstruction.anomaly), two.reconstruction.spread, atol=ROUNDING)
    assert abs(two.reconstruction.difference - one.reconstruction.difference).max() > 0.001


# Calibration


@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 1.0])
def test_the_threshold_leaves_the_share_of_held_out_pixels_suspected(share, make_model, images, quick_config):
    config = quick_config(mask_share=share)
    model = make_model(config)
    threshold, scores = detect.calibrate(model, images, NAMES, config)
    found = detect.detect(model, images, NAMES, config, threshold)
    suspected = found.mdps.suspected.mean()
    assert share - 2 / found.mdps.suspected.size <= suspected <= share
    np.testing.assert_allclose(found.mdps.score, scores, rtol=ROUNDING)


def test_calibration_needs_held_out_images(make_model, images, quick_config):
    with pytest.raises(InputError):
        detect.calibrate(make_model(quick_config()), images[:0], [], quick_config())


EXTREMES = [
    {"guided_start": 0, "mdps_start": 0},
    {"guided_start": 999, "mdps_start": 999, "stride": 1000},
    {"rules": "released", "guided_start": 1, "mdps_start": 1},
    {"rules": "released", "guided_start": 999, "mdps_start": 999, "stride": 1000},
    {"masked": False},
    {"blur": 0.0},
    {"blur": 0.25},
    {"pixel_weight": 0.0},
    {"guidance": "squared_norm"},
    {"feature_timestep": 0},
    {"feature_timestep": 999},
    {"image_score": "max"},
    {"image_score": "softmax_top_500"},
    {"image_size": 8},
    {"image_size": 16, "network": "small"},
]


@pytest.mark.parametrize("settings", EXTREMES, ids=str)
def test_settings_at_the_ends_of_their_ranges_give_numbers(settings, make_model, some_images, quick_config):
    config = quick_config(**settings)
    images = some_images(2, config.image_size)
    found = detect.detect(make_model(config), images, NAMES[:2], config, 0.5)
    for maps in (found.reconstruction, found.guided, found.mdps):
        assert maps.x_0.shape == images.shape
        assert maps.anomaly.shape == maps.spread.shape == maps.difference.shape == maps.suspected.shape == images.shape[:3]
        assert maps.score.shape == (2,)
        assert all(np.isfinite(getattr(maps, field.name)).all() for field in dataclasses.fields(maps))


# The authors' rules


def known(quick_config, **settings):
    """The Config of a quick run by the released rules: a guidance that shows, and batches of 2."""
    return quick_config(**{"rules": "released", "batch_size": 2, "guided_strength": 3.0, "mdps_strength": 3.0} | settings)


@pytest.fixture
def asked(make_model, some_images, monkeypatch):
    """asked(config): {chain: (weight of its guide or 0, start, timesteps)}, as run_chains hands them to the rules' functions."""

    def ask(config):
        seen, weights = {}, []
        rules = config.resolved_rules()

        def guide(predict_noise, y, weight, mask):
            weights.append(weight)
            return lambda x_t, t: x_t

        def chain(denoise, y, mask, start, timesteps, draw, ddim_eta):
            seen[name] = (weights.pop() if weights else 0, start, timesteps)
            return y

        recorded = dataclasses.replace(rules, chain=chain, norm_guide=guide)
        with monkeypatch.context() as patch:
            patch.setattr(type(config), "resolved_rules", lambda self: recorded)
            for name in ("reconstruction", "guided", "mdps"):
                detect.run_chains(make_model(config), some_images(1, config.image_size), NAMES[:1], config, name)
        return seen

    return ask


def test_w_grows_with_the_image_or_is_what_it_is_at_256(asked, quick_config):
    """Row 3: w = strength sqrt(H W C), by the released rules always that of 256 x 256 x 3."""
    for rules, at_16, at_32 in (("paper", 16, 32), ("released", 256, 256)):
        for size, side in ((16, at_16), (32, at_32)):
            seen = asked(quick_config(rules=rules, image_size=size, guided_strength=0.1, mdps_strength=0.2))
            weights = [seen[chain][0] for chain in ("reconstruction", "guided", "mdps")]
            np.testing.assert_allclose(weights, np.array([0, 0.1, 0.2]) * side * 3**0.5)


def test_each_chain_has_a_start_of_its_own_and_the_rules_say_where_the_first_call_is(asked, quick_config):
    """Row 7."""
    for rules, guided, mdps in (("paper", [90, 60, 30, 0, -1], [50, 20, -1]), ("released", [60, 30, 0, -1], [30, 0, -1])):
        seen = asked(quick_config(rules=rules, guided_start=90, mdps_start=50))
        assert {chain: found[1:] for chain, found in seen.items()} == {
            "reconstruction": (50, mdps),
            "guided": (90, guided),
            "mdps": (50, mdps),
        }


@pytest.mark.parametrize("kind", ["guided", "mdps"])
def test_a_batch_is_batch_size_images_in_their_order(kind, make_model, images, quick_config):
    """Rows 2 and 4; that the paper's images are alone stands above."""
    config, model = known(quick_config), make_model(known(quick_config))
    together = detect.run_chains(model, images, NAMES, config, kind)
    parts = [detect.run_chains(model, images[i : i + 2], NAMES[i : i + 2], config, kind) for i in (0, 2, 4)]
    for field in dataclasses.fields(detect.Maps):
        joined = np.concatenate([getattr(part, field.name) for part in parts])
        np.testing.assert_allclose(getattr(together, field.name), joined, rtol=ROUNDING, atol=ROUNDING)
    other = np.concatenate([images[:1], 5 * images[2:3]])  # another neighbour of the first image, one that fits worse
    assert differ(detect.run_chains(model, other, NAMES[:2], config, kind), together)


def test_a_map_depends_on_its_batch_even_where_its_sample_does_not(make_model, images, quick_config):
    """Row 4 alone: without guidance there is no norm."""
    config = known(quick_config, guided_strength=0.0)
    two = images[:2] * np.array([0.1, 1], np.float32)[:, None, None, None]
    for rules, same in (("paper", True), ("released", False)):
        config = dataclasses.replace(config, rules=rules)
        among = detect.run_chains(make_model(config), two, NAMES[:2], config, "guided")
        alone = detect.run_chains(make_model(config), two[:1], NAMES[:1], config, "guided")
        np.testing.assert_allclose(among.x_0[0], alone.x_0[0], rtol=ROUNDING, atol=ROUNDING)
        assert (abs(among.anomaly[0] - alone.anomaly[0]).max() < ROUNDING) == same


def test_one_sample_of_each_image_is_a_batch(make_model, images, quick_config):
    model = make_model(known(quick_config))
    one, two = (detect.run_chains(model, images, NAMES, known(quick_config, samples=n), "guided") for n in (1, 2))
    np.testing.assert_allclose(two.x_0, one.x_0, rtol=ROUNDING, atol=ROUNDING)
    np.testing.assert_allclose(abs(two.anomaly - one.anomaly), two.spread, atol=ROUNDING)


@pytest.mark.parametrize("rules", ["paper", "released"])
def test_an_image_more_moves_the_masks_of_others_by_the_released_rule_alone(rules, make_model, images, quick_config):
    """Row 5, in batches of 1, so that rows 2 and 4 play no part."""
    config = known(quick_config, rules=rules, batch_size=1, mask_lambda=0.3)
    model = make_model(config)
    given = 0.06 if rules == "paper" else None
    few = detect.detect(model, images, NAMES, config, given)
    more = detect.detect(model, np.concatenate([images, np.sign(images[:1])]), [*NAMES, "test/z/000"], config, given)
    np.testing.assert_allclose(more.guided.anomaly[:5], few.guided.anomaly, rtol=ROUNDING, atol=ROUNDING)
    if rules == "paper":
        assert few.mask_threshold == more.mask_threshold == 0.06
        np.testing.assert_array_equal(more.mdps.suspected[:5], few.mdps.suspected)
    else:
        for found in (few, more):
            low, high = found.guided.anomaly.min(), found.guided.anomaly.max()
            assert found.mask_threshold == pytest.approx(low + 0.3 * (high - low), rel=1e-6)
        assert (more.mdps.suspected[:5] != few.mdps.suspected).any()


@pytest.mark.parametrize("rules", ["paper", "released"])
def test_normal_pixels_come_back_exactly_or_roughly(rules, make_model, images, quick_config):
    """Row 6."""
    config = quick_config(rules=rules)
    found = detect.detect(make_model(config), images, NAMES, config, 0.06)
    change = abs(found.mdps.x_0 - images) * (1 - found.mdps.suspected[..., None])
    assert 0 < found.mdps.suspected.mean() < 1
    assert (change.max() < ROUNDING) == (rules == "paper") and change.max() < 0.5


def test_the_released_threshold_is_asked_for_and_used_on_held_out_images(make_model, images, quick_config):
    config = known(quick_config)
    model = make_model(config)
    with pytest.raises(InputError, match="detect first"):
        detect.calibrate(model, images, NAMES, config)
    found = detect.detect(model, images, NAMES, config)
    threshold, scores = detect.calibrate(model, images, NAMES, config, found.mask_threshold)
    assert threshold == found.mask_threshold
    np.testing.assert_allclose(scores, found.mdps.score, rtol=ROUNDING)


# Without a mask


@pytest.mark.parametrize("rules", ["paper", "released"])
def test_without_a_mask_one_guided_pass_is_the_result(rules, make_model, images, quick_config, monkeypatch):
    config = quick_config(rules=rules, masked=False, guided_strength=9.0, guided_start=200)
    model = make_model(config)
    expected = detect.run_chains(model, images, NAMES, config, "mdps")
    run, kinds = detect.run_chains, []
    monkeypatch.setattr(detect, "run_chains", lambda *args: kinds.append(args[4]) or run(*args))
    found = detect.detect(model, images, NAMES, config)
    assert kinds == ["reconstruction", "mdps"] and found.mask_threshold is None
    assert found.mdps is found.guided and found.mdps.suspected.all()
    assert_same(found.mdps, expected)
    kinds.clear()
    threshold, scores = detect.calibrate(model, images, NAMES, config)
    assert kinds == ["mdps"] and threshold is None
    np.testing.assert_allclose(scores, expected.score, rtol=ROUNDING)


# The part that is judged


def test_of_mvtec_ads_images_the_released_code_judges_the_centre(quick_config):
    """Row 12."""
    sides = {rules: [judged_side(quick_config(rules=rules), layout) for layout in ("mvtec", "btad")] for rules in ("paper", "released")}
    assert sides == {"paper": [16, 16], "released": [14, 16]}
    assert judged_side(quick_config(rules="released", image_size=256), "mvtec") == 224


def test_the_centre_is_scored_anew(make_model, images, quick_config):
    config = quick_config(image_score="max")
    whole = detect.run_chains(make_model(config), images, NAMES, config, "reconstruction")
    whole.anomaly[0, 0, 0] = whole.score[0] = 99
    assert detect.centre(whole, 16, config) is whole
    part = detect.centre(whole, 14, config)
    for field in dataclasses.fields(detect.Maps):
        if field.name != "score":
            np.testing.assert_array_equal(getattr(part, field.name), getattr(whole, field.name)[:, 1:15, 1:15])
    np.testing.assert_array_equal(part.score, whole.anomaly[:, 1:15, 1:15].max(axis=(1, 2)))
    assert part.score[0] < 99


def test_held_out_images_are_scored_by_their_centre_too(make_model, images, quick_config):
    config = quick_config(masked=False, image_score="max")
    model = make_model(config)
    whole = detect.run_chains(model, images, NAMES, config, "mdps")
    _, scores = detect.calibrate(model, images, NAMES, config, side=6)
    np.testing.assert_allclose(scores, whole.anomaly[:, 5:11, 5:11].max(axis=(1, 2)), rtol=ROUNDING)


# Features


def test_features_are_made_as_the_settings_say_and_once(make_model, quick_config, monkeypatch):
    made = []

    def make_features(*what):
        made.append(what)
        return lambda images: [images]

    monkeypatch.setattr(detect, "make_features", make_features)
    assert detect.make_extractor(quick_config(), np) is None and not made
    config = quick_config(features="resnet18", feature_weights="r.pth", feature_layers="layer1,layer3")
    extractor = detect.make_extractor(config, np)
    assert made == [("resnet18", "r.pth", "layer1,layer3", np)]
    weights = init_unet(config.unet())
    assert detect.make_model(weights, config, extractor).features is extractor and len(made) == 1
    assert detect.make_model(weights, config).features("y") == ["y"] and len(made) == 2


# Against the truth


def by_hand(anomaly, score=None, difference=None):
    """Maps with these values.  Shapes: anomaly, difference (N, H, W), score (N), the largest anomaly if not given."""
    anomaly = np.asarray(anomaly, np.float32)
    difference = anomaly if difference is None else np.asarray(difference, np.float32)
    score = anomaly.max(axis=(1, 2)) if score is None else np.asarray(score, np.float32)
    return detect.Maps(anomaly[..., None], difference, anomaly, 0 * anomaly, score, np.ones_like(anomaly))


def of_all(maps):
    return detect.Detection(maps, maps, maps)


LABELS = [True, True, False, False]
TRUTHS = np.zeros((4, 12, 12), bool)
TRUTHS[0, 2:5, 3:9] = TRUTHS[1, 7:9, 1:3] = True


def test_perfect_maps_score_1_and_their_opposite_0(quick_config):
    perfect = evaluate(of_all(by_hand(TRUTHS)), [0.0, 0.1], LABELS, list(TRUTHS), quick_config())["mdps"]
    for name in ("image_auroc", "image_average_precision", "pixel_auroc", "aupro", "f1"):
        assert perfect[name] == pytest.approx(1), name
    wrong = metrics_of(by_hand(1 - TRUTHS.astype(float), [0, 0, 1, 1]), LABELS, list(TRUTHS))
    assert (wrong["image_auroc"], wrong["pixel_auroc"], wrong["aupro"]) == (0, 0, 0)


def test_contrast_is_the_ratio_of_the_differences():
    """0.1 everywhere in good images, 0.6 under the true masks; around them 9, which counts for neither."""
    difference = np.where(TRUTHS, 0.6, 9.0)
    difference[2:] = 0.1
    metrics = metrics_of(by_hand(TRUTHS, difference=difference), LABELS, list(TRUTHS))
    assert metrics["good_difference"] == pytest.approx(0.1)
    assert metrics["defect_difference"] == pytest.approx(0.6)
    assert metrics["contrast"] == pytest.approx(6)
    difference[2:] = 0
    assert metrics_of(by_hand(TRUTHS, difference=difference), LABELS, list(TRUTHS))["contrast"] is None


@pytest.mark.parametrize(
    "kept, undefined",
    [
        ([0, 1], {"image_auroc", "image_average_precision", "good_difference", "contrast"}),
        ([2, 3], {"image_auroc", "image_average_precision", "pixel_auroc", "aupro", "defect_difference", "contrast"}),
    ],
    ids=["defects alone", "good images alone"],
)
def test_what_one_class_leaves_undefined_is_none(kept, undefined, quick_config):
    labels = [LABELS[i] for i in kept]
    metrics = evaluate(of_all(by_hand(TRUTHS[kept])), [0.0], labels, list(TRUTHS[kept]), quick_config())
    for kind in ("mdps", "guided", "reconstruction"):
        assert {name for name, value in metrics[kind].items() if value is None} == undefined | ({"f1"} if kind == "mdps" else set())
    json.dumps(metrics, allow_nan=False)


def test_a_defect_without_a_mask_takes_no_part_in_the_pixel_metrics():
    rng = np.random.default_rng(0)
    maps = by_hand(rng.random(TRUTHS.shape) + 0.3 * TRUTHS)
    truths = list(TRUTHS)
    truths[0] = None
    metrics = metrics_of(maps, LABELS, truths)
    rest = detect.Maps(*(getattr(maps, field.name)[1:] for field in dataclasses.fields(maps)))
    without, full = metrics_of(rest, LABELS[1:], truths[1:]), metrics_of(maps, LABELS, list(TRUTHS))
    for name in ("pixel_auroc", "aupro", "defect_difference"):
        assert metrics[name] == without[name] != full[name], name
    for name in ("image_auroc", "image_average_precision", "good_difference"):
        assert metrics[name] == full[name], name


def test_without_any_mask_only_the_images_are_judged(quick_config):
    maps = by_hand(TRUTHS[:2] + 1.0)
    metrics = evaluate(of_all(maps), [0.0], [True, True], [None, None], quick_config())
    assert all(metrics["mdps"][name] is None for name in ("pixel_auroc", "aupro", "defect_difference", "contrast"))
    assert metrics["mdps"]["decision_threshold"] == 0.0
    json.dumps(metrics, allow_nan=False)


@pytest.mark.parametrize("rate", [0.0, 0.1, 0.25, 1.0])
def test_the_decision_flags_no_more_than_the_rate_of_held_out_good_images(rate, quick_config):
    """And a finite number decides, even at the ends; the threshold knows held-out scores alone, not those of the test images."""
    held_out = np.random.default_rng(0).random(40)
    config = quick_config(false_positive_rate=rate)
    found = evaluate(of_all(by_hand(TRUTHS)), held_out, LABELS, list(TRUTHS), config)["mdps"]["decision_threshold"]
    other = evaluate(of_all(by_hand(7.0 * TRUTHS)), held_out, LABELS, list(TRUTHS), config)["mdps"]["decision_threshold"]
    assert found == other and np.isfinite(found)
    flagged = (held_out > found).mean()
    assert rate - 1 / 40 <= flagged <= rate


def test_each_chain_is_judged_by_its_own_maps(quick_config):
    perfect, blind = by_hand(TRUTHS), by_hand(np.zeros(TRUTHS.shape))
    for kind in ("mdps", "guided", "reconstruction"):
        found = dataclasses.replace(of_all(blind), **{kind: perfect})
        metrics = evaluate(found, [0.0], LABELS, list(TRUTHS), quick_config())
        assert {name for name in ("mdps", "guided", "reconstruction") if metrics[name]["image_auroc"] == 1} == {kind}


def test_a_chain_that_gives_nan_is_refused_in_one_line(images, quick_config, fails_with):
    broken = detect.Model(lambda x_t, t: np.nan * x_t, lambda y: [y], np)
    with fails_with("an image", "nan", "learning_rate"):
        detect.run_chains(broken, images[:1], ["an image"], quick_config(), "reconstruction")


# Settings of the method, and calls from Python


def test_the_stochasticity_of_the_steps_is_a_setting(together, images):
    model, config, threshold, found = together
    assert differ(detect.detect(model, images, NAMES, dataclasses.replace(config, ddim_eta=0.0), threshold).guided, found.guided)


def test_a_fixed_mask_threshold_takes_the_place_of_the_calibrated_one(together, images):
    model, config, threshold, found = together
    fixed = dataclasses.replace(config, mask_threshold=threshold)
    assert detect.calibrate(model, images, NAMES, fixed)[0] == threshold
    assert_same(detect.detect(model, images, NAMES, fixed), found)
    with pytest.raises(InputError, match="threshold"):
        detect.detect(model, images, NAMES, config)


def test_one_row_of_the_rules_may_take_the_other_side(make_model, images, quick_config):
    """Row 6 alone: everything else is the paper's."""
    maps = {}
    for rows in ("", "normal_pixels"):
        config = quick_config(rules_except=rows)
        maps[rows] = detect.detect(make_model(config), images, NAMES, config, 0.06)
    assert_same(maps[""].guided, maps["normal_pixels"].guided)
    normal = 1 - maps[""].mdps.suspected[..., None]
    off = [abs((maps[rows].mdps.x_0 - images) * normal).max() for rows in ("", "normal_pixels")]
    assert off[0] < ROUNDING < off[1]


def test_a_detector_gives_what_calibrate_and_detect_give(make_model, images, quick_config):
    config = quick_config()
    weights = {name: w + np.float32(0.03) for name, w in init_unet(config.unet()).items()}
    detector, model = Detector.calibrated(weights, images, config), detect.make_model(weights, config)
    names = [str(i) for i in range(5)]
    threshold, scores = detect.calibrate(model, images, names, config)
    found = detect.detect(model, images, names, config, threshold)
    ours = detector.score(images)
    assert detector.mask_threshold == threshold
    np.testing.assert_array_equal(ours.anomaly, found.mdps.anomaly)
    np.testing.assert_array_equal(ours.flagged, scores > np.float64(detector.decision_threshold))
    np.testing.assert_array_equal(ours.suspected, found.mdps.suspected == 1)


@pytest.mark.parametrize(
    "change, says",
    [
        (lambda images: (images + 1) * 127.5, "127.5"),
        (lambda images: ((images + 1) * 127.5).astype(np.uint8), "127.5"),
        (lambda images: images[0], "images[None]"),
        (lambda images: images[:, :8], "16"),
        (lambda images: images[..., :1], "3"),
        (lambda images: images * np.nan, "finite"),
        (lambda images: list(images), "NumPy"),
    ],
)
def test_images_that_would_score_wrongly_are_refused(change, says, together, images, fails_with):
    model, config, threshold, _ = together
    with fails_with(says):
        detect.detect(model, change(images), NAMES, config, threshold)


def test_two_images_of_one_name_are_refused(together, images, fails_with):
    model, config, threshold, _ = together
    with fails_with("test/a/000"):
        detect.detect(model, images[:2], ["test/a/000"] * 2, config, threshold)
