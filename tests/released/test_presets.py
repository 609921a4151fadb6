"""The authors' settings: all there, what they expand to, and what wins over them."""

import dataclasses
import math

import pytest

from mdps_ref.job.config import make_config, with_defaults
from mdps_ref.posterior.guidance import guidance_weight
from mdps_ref.released.presets import PRESETS, preset_settings

AUTHORS = (256, 256, 3)


def config(preset, **settings):
    return make_config(with_defaults(settings, preset))


def test_all_eighteen_are_there():
    folders = {prefix: [name for name in PRESETS if name.startswith(f"released/{prefix}/")] for prefix in ("mvtec", "btad")}
    assert (len(folders["mvtec"]), len(folders["btad"]), len(PRESETS)) == (15, 3, 18)


@pytest.mark.parametrize("name", PRESETS)
def test_each_makes_a_config_in_which_the_authors_numbers_stand_again(name):
    made, authors = config(name), PRESETS[name]
    assert made.category == name.split("/")[2]
    assert (made.rules, made.network, made.image_size) == ("released", "released", 256)
    assert (made.batch_size, made.samples, made.stride) == (8, 1, 20)
    assert (made.pixel_weight, made.mdps_start) == (authors.pixel_weight, authors.mdps_start)
    assert guidance_weight(made.mdps_strength, AUTHORS) == pytest.approx(authors.mdps_weight)
    assert made.masked == (authors.mask_lambda is not None)
    if made.masked:
        assert (made.guided_start, made.mask_lambda) == (authors.guided_start, authors.mask_lambda)
        assert guidance_weight(made.guided_strength, AUTHORS) == pytest.approx(authors.guided_weight)
    else:
        assert authors.guided_start is authors.guided_weight is None


def test_an_image_of_the_authors_size_is_smoothed_and_penalised_as_theirs():
    made = config("released/mvtec/bottle")
    assert made.blur * 256 == 4 and made.l2 * math.prod(AUTHORS) == pytest.approx(0.05)
    assert (made.weight_decay, made.ema_decay, made.learning_rate) == (0, 0, 3e-4)
    assert (made.features, made.feature_layers, made.image_score) == ("wide_resnet101_2", "layer2,layer3", "softmax_top_500")


def test_those_without_a_mask():
    assert {name.rpartition("/")[2] for name in PRESETS if not config(name).masked} == {"carpet", "grid", "leather", "tile", "wood"}


@pytest.mark.parametrize(
    "rules, excepted, batch", [("paper", "", 8), ("released", "norm", 8), ("released", "mask", 1), ("paper", "norm", 1)]
)
@pytest.mark.parametrize("name", PRESETS)
def test_with_one_norm_an_image_a_strength_is_that_of_one_image_in_the_authors_batch(name, rules, excepted, batch):
    """Row 2: of 8 images alike, the norm over the batch is sqrt(8) of an image's; nothing else that a preset says changes."""
    released, other = config(name), config(name, rules=rules, rules_except=excepted)
    strengths = ("guided_strength", "mdps_strength")[not released.masked :]
    for strength in strengths:
        assert getattr(other, strength) * math.sqrt(batch) == pytest.approx(getattr(released, strength))
    assert {key for key in dataclasses.asdict(other) if getattr(other, key) != getattr(released, key)} <= {
        "rules",
        "rules_except",
        *strengths,
    }


def test_what_is_given_wins_over_a_preset_and_a_preset_over_what_suits_the_network():
    assert config("released/mvtec/tile").pixel_weight == 0 and config("released/mvtec/tile", pixel_weight=3.0).pixel_weight == 3
    made = config("released/btad/01", category="other", image_size=64, network="small", samples=5)
    assert (made.category, made.image_size, made.network, made.samples) == ("other", 64, "small", 5)
    assert made.mdps_start == 250 and make_config(with_defaults({"network": "small", "image_size": 64})).mdps_start == 400


@pytest.mark.parametrize("name", ["released/mvtec/botle", "bottle", "released", "Released/mvtec/bottle"])
def test_a_preset_that_there_is_not_is_refused_and_the_others_are_told(name, fails_with):
    with fails_with(repr(name), *PRESETS):
        preset_settings(name)


def test_the_name_of_a_data_set_alone_asks_for_all_its_categories(fails_with):
    with fails_with("'released/mvtec'", "--category all"):
        preset_settings("released/mvtec")


def test_rules_that_there_are_not_are_refused(fails_with):
    with fails_with("rules", "'best'", "paper, released"):
        config("released/mvtec/bottle", rules="best")
