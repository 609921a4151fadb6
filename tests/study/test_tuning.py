"""Settings without labels: which candidate wins, and what quality is."""

import collections

import numpy as np
import pytest

from mdps_ref.data.planted import plant_in_all
from mdps_ref.job import chains
from mdps_ref.job.detect import make_model
from mdps_ref.nn.unet import init_unet
from mdps_ref.study import candidates, experiment, tuning


def only_networks(monkeypatch, names):
    """As if the weights of these ImageNet networks, and no others, were on this machine."""
    for module in (tuning, candidates):
        monkeypatch.setattr(module, "found_networks", lambda: names)


class Judge:
    """A rung whose candidates have a known quality on each image: {mask_share: array}."""

    def __init__(self, count, qualities):
        self.count, self.qualities = count, qualities
        self.counts = np.tile(np.random.default_rng(0).multinomial(count, np.full(count, 1 / count), 200), 2)

    def measured(self, candidate):
        return candidate.plain

    def quality(self, config, chain_name):
        values = np.tile(self.qualities[config.mask_share][: self.count], 2)
        return lambda counts: counts @ values / counts.sum(axis=1)


def chosen(qualities, config, counts=(10, 40)):
    tried = [{"mask_share": share} for share in qualities]
    return tuning._choose("mask", "mdps", tried, config, [Judge(count, qualities) for count in counts])


def test_the_best_candidate_wins_if_it_is_better_beyond_chance(quick_config):
    noise = np.random.default_rng(1).normal(0, 0.1, (3, 40))
    made, trials = chosen({0.05: 0.5 + noise[0], 0.1: 0.8 + noise[1], 0.2: 0.7 + noise[2]}, quick_config())
    assert made.mask_share == 0.1 and {trial.images for trial in trials} == {40}
    assert trials[0].settings == {} and trials[0].gain == trials[0].low == trials[0].high == 0


def test_what_is_there_stays_where_the_difference_is_within_one_standard_error(quick_config):
    noise = np.random.default_rng(2).normal(0, 0.2, 40)
    noise -= noise.mean()
    standard_error = noise.std() / np.sqrt(40)
    for gain, wins in ((0.8 * standard_error, False), (1.3 * standard_error, True)):
        made, _ = chosen({0.05: np.full(40, 0.5), 0.1: 0.5 + gain + noise}, quick_config(), counts=(40,))
        assert (made.mask_share == 0.1) == wins


@pytest.mark.parametrize("counts", [(40,), (13, 40), (2, 6)])
@pytest.mark.parametrize("many", [1, 12])
def test_among_equal_candidates_the_best_is_taken_in_a_sixth_of_all_cases(many, counts, quick_config):
    """By one standard error alone, it would be taken in most of them, if there are many."""
    shares, taken, by_one = np.linspace(0.1, 0.9, many).round(2), 0, 0
    for seed in range(150):
        noise = np.random.default_rng(seed).normal(0, 0.2, (1 + many, counts[-1]))
        made, trials = chosen({0.05: noise[0], **dict(zip(shares, noise[1:], strict=True))}, quick_config(), counts)
        taken += made.mask_share != 0.05
        by_one += max(trials, key=lambda trial: trial.quality).low > 0
    assert 0.08 < taken / 150 < 0.25 and (many == 1 or by_one > 1.5 * taken)


def test_a_single_image_changes_nothing(quick_config):
    made, trials = chosen({0.05: np.zeros(1), 0.1: np.ones(1)}, quick_config(), counts=(1,))
    assert made.mask_share == 0.05 and trials[1].gain == 1


def test_what_is_poor_on_few_images_is_not_tried_on_many(quick_config):
    qualities = {share: np.full(40, 0.5 + share) for share in (0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6)}
    made, trials = chosen(qualities, quick_config())
    assert [trial.settings for trial in trials] == [{}, {"mask_share": 0.5}, {"mask_share": 0.6}] and made.mask_share == 0.6


def test_quality_is_1_for_maps_that_show_the_defects_and_a_half_or_less_for_maps_that_show_nothing(some_images, quick_config):
    good = some_images(6)
    _, planted, _ = plant_in_all(good, seed=0)
    masks, labels, once = np.concatenate([np.zeros_like(planted), planted]), np.repeat([False, True], 6), np.ones((1, 12))
    assert tuning.quality(masks.astype(float), labels, masks, quick_config())(once)[0] == pytest.approx(1)
    assert tuning.quality(np.zeros(masks.shape), labels, masks, quick_config())(once)[0] <= 0.5


@pytest.mark.parametrize("count, most, times", [(1, 96, 30), (6, 96, 5), (7, 96, 5), (30, 96, 1), (40, 96, 1), (2, 8, 4), (8, 8, 1)])
def test_few_images_have_several_twins_which_are_drawn_together(count, most, times, quick_config, monkeypatch):
    """But large images, of which `most` may be looked at, no more than a twin each if there are so many."""
    made = []
    monkeypatch.setattr(tuning, "MOST_PIXELS", most * quick_config().image_size ** 2)
    monkeypatch.setattr(tuning, "FAMILIES", {})
    only_networks(monkeypatch, [])
    rungs_of = tuning._rungs
    monkeypatch.setattr(tuning, "_rungs", lambda *what: made.extend(rungs_of(*what)) or made)
    config = quick_config(tune=True, features="unet")
    weights = init_unet(config.unet())
    images = np.random.default_rng(0).uniform(-1, 1, (count, config.image_size, config.image_size, 3)).astype(np.float32)
    tuning.tune(make_model(weights, config), weights, config, images, images[:1])
    for rung in made:
        assert len(rung.masks) == rung.counts.shape[1] == (1 + times) * rung.count
        assert (rung.masks.any(axis=(1, 2)) == (np.arange(len(rung.masks)) >= rung.count)).all()
        drawn, of_twins = np.split(rung.counts, [rung.count], axis=1)
        assert sorted(map(tuple, of_twins.T)) == sorted(times * list(map(tuple, drawn.T))) and (drawn.sum(axis=1) == rung.count).all()
    assert made[-1].count == count


def test_a_rung_has_the_images_twins_and_samples_of_the_rung_before_and_more(some_images):
    made = []

    def experiment(images):
        made.append(images)
        return len(made) - 1

    images = some_images(7)
    few, all_images = tuning._rungs(experiment, images, seed=0, times=2)
    assert few.good == all_images.good[:1] and few.twins == all_images.twins[:1]  # what is computed of them is shared
    planted, masks, _ = plant_in_all(images, 0, 2)
    np.testing.assert_array_equal(np.concatenate([made[i] for i in all_images.good]), images)
    of_image = {image.tobytes(): k % 7 for k, image in enumerate(planted)}
    for rung in (few, all_images):
        twins = np.concatenate([made[i] for i in rung.twins])
        numbers = [of_image[twin.tobytes()] for twin in twins]
        assert sorted(numbers) == sorted(2 * list(range(rung.count)))
        np.testing.assert_array_equal(rung.counts[:, rung.count :], rung.counts[:, numbers])
        wanted = {image.tobytes(): mask for image, mask in zip(planted, masks, strict=True)}
        np.testing.assert_array_equal(rung.masks[rung.count :], [wanted[twin.tobytes()] for twin in twins])


def test_features_are_judged_on_one_guided_chain_and_the_mask_on_chains_under_it(some_images, quick_config, monkeypatch):
    """One image, then its twin; what a chain is drawn for is noted."""
    drawn, draw, config, families = [], chains.draw_samples, quick_config(tune=True), tuning.FAMILIES
    only_networks(monkeypatch, [])
    monkeypatch.setattr(tuning, "FEWEST_TWINS", 1)
    monkeypatch.setattr(chains, "draw_samples", lambda *what: drawn.append(what[3]) or draw(*what))
    weights = init_unet(config.unet())
    model = make_model(weights, config)
    for family, wanted in (("features", {"guided"}), ("mask", {"guided", "mdps"})):
        drawn.clear()
        monkeypatch.setattr(tuning, "FAMILIES", {family: families[family]})
        tuning.tune(model, weights, config, some_images(1), some_images(2))
        assert set(drawn) <= wanted and drawn.count("guided") == 2 + (family == "features")  # those that the whitening is fitted to


def test_without_tune_features_are_chosen_and_tails_measured(some_images, quick_config, monkeypatch):
    """Where reconstructions are perfect, each pixel's own colour shows the defects better than the colour at another place."""
    good = some_images(12)

    def perfect(model, images, *_):
        return np.stack([good[abs(good - image).mean(axis=(1, 2, 3)).argmin()] for image in images])[:, None]

    monkeypatch.setattr(chains, "draw_samples", perfect)
    only_networks(monkeypatch, ["mobilenet_v1"])
    monkeypatch.setattr(experiment, "make_extractor", lambda config, xp: lambda images: [images, images])
    monkeypatch.setattr(experiment, "unet_features", lambda *_: lambda images: [np.roll(images, images.shape[1] // 2, axis=1)])
    config = quick_config(features="auto", pixel_weight=0.0)
    weights = init_unet(config.unet())
    settings, trials, _ = tuning.tune(make_model(weights, config), weights, config, good, good)
    assert settings["features"] in ("mobilenet_v1", "unet+mobilenet_v1")
    chosen = {"features", "feature_size", "feature_distance", "tails", "guided_weight"}
    assert {"features", "tails"} <= settings.keys() <= chosen
    assert {trial.family for trial in trials} == {"features", "both chains"}
    assert {"guided_weight": 1.0} in [trial.settings for trial in trials]


def test_a_run_tries_two_views_of_each_network_with_and_without_its_own_features_and_pixels(quick_config, monkeypatch):
    only_networks(monkeypatch, ["efficientnet_lite0"])
    current = quick_config(features="unet", image_size=64, tails=";".join(2 * ["1,2,3,4,5,6,7,8,9,0.5"]))
    tried = {tuning._candidate(current, settings) for settings in candidates.AUTO_FAMILIES["features"][0](current)}
    names = ("features", "feature_layers", "feature_size", "feature_distance", "pixel_weight")
    networks = [(own + "efficientnet_lite0", *view) for own in ("", "unet+") for view in (("", 256), ("blocks.10,blocks.14", 384))]
    wanted = {(*view, "mahalanobis", weight) for view in [("unet", "", None), *networks] for weight in (0.0, current.pixel_weight)}
    assert {tuple(getattr(candidate.plain, name) for name in names) for candidate in tried} == wanted
    assert all(candidate.adds_surprisals for candidate in tried)


def test_what_is_poor_on_few_images_has_its_features_extracted_of_these_alone(some_images, quick_config, monkeypatch):
    """The samples are the images, so all maps are 0, and the first third of the features goes on to all images."""
    seen, config, images = collections.Counter(), quick_config(features="auto"), some_images(12)
    monkeypatch.setattr(chains, "draw_samples", lambda model, images, *_: images[:, None])
    only_networks(monkeypatch, ["mobilenet_v1", "resnet18"])

    def extractor(config, xp):
        def extract(images):
            seen[config.features.removeprefix("unet+"), config.feature_layers] += len(images)
            return [images + np.float32(0.01) * np.arange(3, dtype=np.float32), images]

        return extract

    monkeypatch.setattr(experiment, "make_extractor", extractor)
    weights = init_unet(config.unet())
    tuning.tune(make_model(weights, config), weights, config, images, images)
    few, every = min(seen.values()), max(seen.values())
    assert len(seen) == 4 and few < every / 2 and sorted(seen.values()).count(few) >= 2


@pytest.fixture
def tuned(some_images, quick_config, monkeypatch):
    """tuned(families=None, **settings): what `tune` chooses where no network of ImageNet is found, its trials, and the chains drawn."""
    draw = chains.draw_samples

    def run(families=None, **settings):
        drawn = []
        only_networks(monkeypatch, [])
        monkeypatch.setattr(chains, "draw_samples", lambda *what: drawn.append(what[3]) or draw(*what))
        monkeypatch.setattr(tuning, "FAMILIES", families or tuning.FAMILIES)
        config = quick_config(**settings)
        weights = init_unet(config.unet())
        settings, trials, _ = tuning.tune(make_model(weights, config), weights, config, some_images(3), some_images(2))
        return settings, trials, drawn

    return run


def test_without_a_network_of_imagenet_only_tails_are_measured_and_the_remedy_is_told(tuned, capsys):
    settings, trials, drawn = tuned(features="auto")
    assert settings.keys() == {"features", "tails"} and settings["features"] == "unet" and not trials
    assert drawn == ["guided"]
    assert tuning.REMEDY in capsys.readouterr().err


def test_without_a_network_of_imagenet_a_given_mahalanobis_distance_is_measured_and_its_whitening_kept(tuned):
    settings, _, drawn = tuned(features="auto", feature_distance="mahalanobis")
    assert settings.keys() == {"features", "tails"} and drawn == ["guided", "guided"]  # of the images, and of those to fit to


@pytest.mark.parametrize("limit, count", [({}, 3), ({"MOST_IMAGES": 2}, 2), ({"MOST_PIXELS": 1}, 1)], ids=str)
def test_so_many_images_are_looked_at(limit, count, tuned, quick_config, monkeypatch):
    """Of three; with MOST_PIXELS, one image's worth."""
    for name, value in limit.items():
        monkeypatch.setattr(tuning, name, value * quick_config().image_size ** 2 if name == "MOST_PIXELS" else value)
    _, trials, _ = tuned({"image score": tuning.FAMILIES["image score"]}, features="unet", tune=True)
    assert {trial.images for trial in trials} == {count}


def test_without_a_mask_the_tails_are_those_of_the_one_chain_that_there_is(tuned):
    settings, _, drawn = tuned(features="auto", masked=False)
    assert "tails" in settings and drawn == ["mdps"]


@pytest.mark.parametrize(
    "settings",
    [{"rules": "released", "batch_size": 2}, {"mask_threshold": 0.3}, {"image_score": "softmax_top_500", "image_size": 24}],
    ids=str,
)
def test_no_tails_where_the_rules_a_given_threshold_or_the_score_leave_no_place_for_them(settings, tuned):
    assert tuned(features="auto", **settings)[0] == {"features": "unet"}


def test_tails_are_those_of_the_chosen_start(tuned, some_images, quick_config, monkeypatch):
    monkeypatch.setattr(tuning, "quality", lambda maps, labels, masks, config: lambda counts: np.full(len(counts), config.guided_start))
    families = {"start": (lambda current: ({"guided_start": 77},), "guided")}
    settings, _, _ = tuned(families, features="unet", tune=True, tails=";".join(2 * ["1,2,3,4,5,6,7,8,9,0.5"]))
    config = quick_config(features="unet", guided_start=77)
    weights = init_unet(config.unet())
    model = make_model(weights, config)
    good = experiment.Experiment(model, experiment.make_extractors([config], model, weights), some_images(3))
    assert settings == {"guided_start": 77, "tails": experiment.tails_of_good([good], config)}


def test_a_network_that_diverged_is_named_before_its_tails(some_images, quick_config, monkeypatch, fails_with):
    only_networks(monkeypatch, [])
    config = quick_config(features="auto")
    weights = {name: np.nan * array for name, array in init_unet(config.unet()).items()}
    with fails_with("the guided chain gave nan", "learning_rate"):
        tuning.tune(make_model(weights, config), weights, config, some_images(2), some_images(2))
