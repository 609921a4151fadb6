"""The authors' settings: all there, what they expand to, and what wins over them."""

import math

import pytest

from mdps_ref.job.config import Config, make_config, with_presets
from mdps_ref.posterior.guidance import guidance_weight
from mdps_ref.released.presets import PRESETS, preset_settings
from mdps_ref.released.rules import RULES

AUTHORS = (256, 256, 3)


def config(preset, **settings):
    return make_config(with_presets(settings, preset))


def test_all_eighteen_are_there():
    folders = {prefix: [name for name in PRESETS if name.startswith(f"released/{prefix}/")] for prefix in ("mvtec", "btad")}
    assert (len(folders["mvtec"]), len(folders["btad"]), len(PRESETS)) == (15, 3, 18)


@pytest.mark.parametrize("name", PRESETS)
def test_each_makes_a_config_in_which_the_authors_numbers_stand_again(name):
    made, authors = config(name), PRESETS[name]
    assert made.category == name.split("/")[2]
    assert (made.rules, made.network, made.image_size) == ("released", "released", 256)
    assert (made.batch_size, made.samples, made.stride) == (8, 1, 20)
    assert (made.eta, made.stage2_start) == (authors.eta, authors.stage2_start)
    assert guidance_weight(made.stage2_strength, AUTHORS) == pytest.approx(authors.stage2_weight)
    assert made.masked == (authors.mask_lambda is not None)
    if made.masked:
        assert (made.stage1_start, made.mask_lambda) == (authors.stage1_start, authors.mask_lambda)
        assert guidance_weight(made.stage1_strength, AUTHORS) == pytest.approx(authors.stage1_weight)
    else:
        assert authors.stage1_start is authors.stage1_weight is None


def test_an_image_of_the_authors_size_is_smoothed_and_penalised_as_theirs():
    made = config("released/mvtec/bottle")
    assert made.blur * 256 == 4 and made.l2 * math.prod(AUTHORS) == pytest.approx(0.05)
    assert (made.weight_decay, made.ema_horizon, made.learning_rate) == (0, 0, 3e-4)
    assert (made.features, made.feature_layers, made.image_score) == ("wide_resnet101_2", "layer2,layer3", "softmax_top_500")


def test_those_without_a_stage_1():
    assert {name.rpartition("/")[2] for name in PRESETS if not config(name).masked} == {"carpet", "grid", "leather", "tile", "wood"}


@pytest.mark.parametrize("name", PRESETS)
def test_by_the_papers_rules_a_strength_is_that_of_one_image_in_the_authors_batch(name):
    """Row 2: of 8 images alike, the norm over the batch is sqrt(8) of an image's; nothing else that a preset says changes."""
    released, paper = config(name), config(name, rules="paper")
    for stage in ("stage1_strength", "stage2_strength")[not released.masked :]:
        assert getattr(paper, stage) * math.sqrt(8) == pytest.approx(getattr(released, stage))
    changed = {key for key in vars(paper) if getattr(paper, key) != getattr(released, key)}
    assert changed <= {"rules", "stage1_strength", "stage2_strength"} and "rules" in changed
    assert RULES[paper.rules].mask_from == "held-out good images" and paper.mask_share == Config.mask_share


def test_what_is_given_wins_over_a_preset_and_a_preset_over_what_suits_the_network():
    assert config("released/mvtec/tile").eta == 0 and config("released/mvtec/tile", eta=3.0).eta == 3
    made = config("released/btad/01", category="other", image_size=64, network="small", samples=5)
    assert (made.category, made.image_size, made.network, made.samples) == ("other", 64, "small", 5)
    assert made.stage2_start == 250 and make_config(with_presets({"network": "small", "image_size": 64})).stage2_start == 400


@pytest.mark.parametrize("name", ["released/mvtec/botle", "bottle", "released", "Released/mvtec/bottle"])
def test_a_preset_that_there_is_not_is_refused_and_the_others_are_told(name, fails_with):
    with fails_with(repr(name), *PRESETS):
        preset_settings(name)


def test_rules_that_there_are_not_are_left_to_the_config(fails_with):
    with fails_with("rules", "'best'", "paper, released"):
        config("released/mvtec/bottle", rules="best")
