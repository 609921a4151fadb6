"""Settings: what is taken, what is refused and in which words; nothing is guessed, and nothing is ignored."""

import dataclasses
import json
import math
import typing

import numpy as np
import pytest

from mdps_ref.job import config
from mdps_ref.job.config import Config, make_config
from mdps_ref.job.images import judged_side
from mdps_ref.job.settings_file import read_settings
from mdps_ref.nn.unet import NETWORKS

TYPES = {field.name: field.type for field in dataclasses.fields(Config)}
NUMBERS = {
    name: float if kind in (float, float | None) else int for name, kind in TYPES.items() if kind in (int, float, int | None, float | None)
}
NEEDED = {"feature_size": {"features": "efficientnet_lite0", "image_size": 8}}  # what a number at its ends goes with


def test_no_setting_goes_unchecked():
    """Every number has a range and every name of something in the package its choices; names from outside, and yes or no, have neither."""
    data = {"data", "category", "skip_bad", "strict"}
    files = {"weights", "feature_weights", "feature_layers"}
    neither = data | files | {"masked", "rules_except", "augment", "tune", "tails"}
    assert TYPES.keys() == config.RANGES.keys() | config.CHOICES.keys() | neither
    assert NUMBERS.keys() == config.RANGES.keys()


def test_the_defaults_lie_in_their_ranges_and_are_of_their_types():
    assert make_config({}) == Config()
    assert make_config(dataclasses.asdict(Config())) == Config()


def test_an_unknown_key_is_refused_and_the_closest_one_is_told(fails_with):
    with fails_with("sampels", "samples?", "strid", "stride?", "zzz", "--list"):
        make_config({"sampels": 3, "strid": 1, "zzz": 2})


WRONG = {
    int: [1.0, "1", True, None, [1], np.int64(1)],
    float: ["1.0", True, None, [1.0], np.float32(1)],
    str: [1, None, True, ["a"]],
    bool: [0, 1, "yes", None],
}


@pytest.mark.parametrize("name", TYPES)
def test_a_value_of_another_type_is_refused(name, fails_with):
    kinds = typing.get_args(TYPES[name]) or (TYPES[name],)
    for value in WRONG[kinds[0]]:
        if type(value) not in kinds:
            with fails_with(name, repr(value), kinds[0].__name__):
                make_config({name: value})


@pytest.mark.parametrize("name", [name for name, kind in TYPES.items() if kind is float])
def test_whole_numbers_are_taken_for_floats(name):
    (value,) = config.checked({name: 1}).values()
    assert type(value) is float and value == 1


@pytest.mark.parametrize("name", NUMBERS)
def test_numbers_just_outside_their_range_are_refused_and_those_at_its_ends_taken(name, fails_with):
    low, high = config.RANGES[name]
    kind = NUMBERS[name]
    for end, beyond in ((low, -1), (high, 1)):
        if name != "image_size":  # 8 and 1024 suit every network's halvings only by chance: they are tried below
            assert getattr(make_config({name: end, **NEEDED.get(name, {})}), name) == end
        outside = end + beyond if kind is int else math.nextafter(end, beyond * math.inf)
        if math.isfinite(outside):
            with fails_with(name, outside, low, high):
                make_config({name: outside})


@pytest.mark.parametrize("name", [name for name, kind in TYPES.items() if kind is float])
@pytest.mark.parametrize("value", [math.nan, -math.inf], ids=str)
def test_what_is_no_finite_number_is_refused(name, value, fails_with):
    with fails_with(name):
        make_config({name: value})


@pytest.mark.parametrize("name", config.CHOICES)
def test_each_choice_is_taken_and_any_other_refused(name, fails_with):
    for choice in config.CHOICES[name]:
        assert getattr(make_config({name: choice, "image_size": 64}), name) == choice
    with fails_with(name, "'best'", *config.CHOICES[name]):
        make_config({name: "best"})


@pytest.mark.parametrize("network", NETWORKS)
def test_an_image_size_must_be_one_that_the_network_can_halve(network, fails_with):
    multiple = 2 ** (len(NETWORKS[network].multipliers) - 1)
    for size in range(8, 73):
        if size % multiple:
            with fails_with(size, f"multiple of {multiple}"):
                make_config({"network": network, "image_size": size})
        else:
            assert make_config({"network": network, "image_size": size}).unet().image_size == size


def test_what_the_rules_have_no_meaning_for_is_refused_unless_its_row_is_excepted(fails_with):
    """Rows 1 and 7: the released code knows the norm alone, and below a start of 0 it has nothing to call."""
    for name, value, row in (("guidance", "squared_norm", "guidance"), ("guided_start", 0, "start"), ("mdps_start", 0, "start")):
        for rules, rows in (("paper", ""), ("released", row)):
            assert getattr(make_config({name: value}, rules=rules, rules_except=rows), name) == value
        for rules, rows in (("released", ""), ("paper", row)):
            with fails_with(name, repr(value), repr(rules)):
                make_config({name: value}, rules=rules, rules_except=rows)
    assert make_config(rules="released", guided_start=1, mdps_start=1).guidance == "norm"
    with fails_with("'norms'", "norm, strength"):
        make_config(rules_except="start, norms")


def test_what_the_networks_own_features_cannot_have_is_refused(fails_with):
    for name, value in (("feature_weights", "r.pth"), ("feature_layers", "layer2"), ("feature_size", 128)):
        assert getattr(make_config({name: value, "features": "resnet18"}), name) == value
        for features in ("unet", "auto"):
            with fails_with(name, repr(value), repr(features)):
                make_config({name: value, "features": features})


def test_features_are_taken_of_enlarged_images_never_of_smaller_ones(fails_with):
    for size in (64, 65, 128):
        assert make_config(features="mobilenet_v1", image_size=64, feature_size=size).feature_size == size
    with fails_with("feature_size is 63", "image_size 64"):
        make_config(features="mobilenet_v1", image_size=64, feature_size=63)


def test_the_guided_map_is_added_only_where_there_is_one(fails_with):
    assert make_config(guided_weight=1).guided_weight == 1.0
    with fails_with("guided_weight is 1.0", "without a mask"):
        make_config(guided_weight=1, masked=False)


def test_a_config_cannot_be_changed():
    with pytest.raises(dataclasses.FrozenInstanceError):
        Config().seed = 1


# Defaults


@pytest.mark.parametrize("size, network", [(8, "tiny"), (32, "tiny"), (40, "small"), (128, "small"), (160, "released"), (1024, "released")])
def test_the_network_and_its_defaults_follow_the_image_size(size, network):
    made = make_config(image_size=size)
    assert made.network == network
    assert all(getattr(made, name) == value for name, value in config.NETWORK_DEFAULTS[network].items())


def test_what_is_given_wins_over_the_defaults_and_a_keyword_over_the_dictionary():
    small = config.NETWORK_DEFAULTS["small"]
    made = make_config({"image_size": 32, "network": "small", "train_steps": 7, "seed": 1}, seed=2)
    assert (made.network, made.train_steps, made.samples, made.seed) == ("small", 7, small["samples"], 2)
    assert small["train_steps"] != 7 and small["samples"] != Config.samples


def test_defaults_are_settings_of_networks_that_there_are():
    assert config.NETWORK_DEFAULTS.keys() <= NETWORKS.keys()
    for network, settings in config.NETWORK_DEFAULTS.items():
        make_config(settings | {"network": network, "image_size": NETWORKS[network].image_size})


# Files


def write(path, text):
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def test_a_config_written_down_is_read_back_the_same(tmp_path):
    made = make_config({"seed": 2**63 - 1, "learning_rate": 0.1 + 0.2, "category": "Größe", "image_size": 16})
    path = write(tmp_path / "config.json", json.dumps(dataclasses.asdict(made)))
    assert make_config(read_settings(path)) == made


NO_SETTINGS = {
    "text": "samples = 8",
    "nothing": "",
    "cut short": '{"samples": 8',
    "not UTF-8": b'{"data": "\xff"}',
    "a list": "[1, 2]",
    "a number": "3",
    "null": "null",
    "nested without end": "[" * 100_000,
}


@pytest.mark.parametrize("text", NO_SETTINGS.values(), ids=NO_SETTINGS)
def test_a_file_without_settings_is_one_line_that_names_it(text, tmp_path, fails_with):
    for path in (write(tmp_path / "config.json", text), tmp_path / "none.json", tmp_path):
        with fails_with(path, "JSON"):
            read_settings(path)


@pytest.mark.parametrize("text, told", [('{"sampels": 8}', "sampels"), ('{"samples": "8"}', "'8'"), ('{"pixel_weight": true}', "True")])
def test_a_setting_that_cannot_be_is_refused_by_the_name_of_its_file(text, told, tmp_path, fails_with):
    path = write(tmp_path / "mine.json", text)
    with fails_with(path, told):
        read_settings(path)


@pytest.mark.parametrize(
    "text, told",
    [
        ('{"samples": 1, "samples": 2}', "'samples'"),
        ('{"pixel_weight": NaN}', "pixel_weight"),
        ('{"learning_rate": 1' + "0" * 400 + "}", "learning_rate"),
    ],
)
def test_a_setting_given_twice_no_number_or_past_all_numbers_is_refused(text, told, tmp_path, fails_with):
    path = write(tmp_path / "mine.json", text)
    with fails_with(path, told):
        read_settings(path)


def test_a_byte_order_mark_is_no_error(tmp_path):
    assert read_settings(write(tmp_path / "mine.json", b'\xef\xbb\xbf{"samples": 1}')) == {"samples": 1}


def test_what_a_file_holds_is_left_to_the_ranges(tmp_path, fails_with):
    for text in ("Infinity", "-1"):
        with fails_with("pixel_weight"):
            make_config(read_settings(write(tmp_path / "mine.json", f'{{"pixel_weight": {text}}}')))


@pytest.mark.parametrize("settings, says", [({"rules": "released"}, "released"), ({"mask_threshold": 0.5}, "mask_threshold")])
def test_tuning_is_refused_where_it_could_not_choose_the_mask(settings, says, fails_with):
    with fails_with("tune", says):
        make_config(tune=True, **settings)
    make_config(tune=True, rules="released", rules_except="mask")


TAIL = "1,2,3,4,5,6,7,8,9,0.5"


def test_the_score_of_500_pixels_needs_more_of_them_in_the_judged_centre(fails_with):
    """Of MVTec AD's images of 24 pixels the released rules judge 21: 441 pixels, whose softmax sums to 1."""
    config = make_config(image_score="softmax_top_500", image_size=24, rules="released")
    assert judged_side(config, "btad") == 24
    with fails_with("21 x 21", "image_size"):
        judged_side(config, "mvtec")
    with fails_with("20 x 20", "image_size"):
        make_config(image_score="softmax_top_500", image_size=20)


@pytest.mark.parametrize(
    "tails",
    ["1", TAIL, f"{TAIL};{TAIL};{TAIL}", f"{TAIL};1,2", f"{TAIL};{TAIL[2:]}", f"{TAIL};{TAIL.replace('2', '1')}", f"{TAIL};"]
    + [f"{TAIL};{TAIL.replace('9', wrong)}" for wrong in ("0", "-9", "nan", "inf", "x")],
)
def test_tails_are_ascending_quantiles_and_an_excess_for_each_layer_and_the_pixels(tails, fails_with):
    assert make_config(features="unet", tails=f"{TAIL};{TAIL}").tail_numbers() == [(1, 2, 3, 4, 5, 6, 7, 8, 9, 0.5)] * 2
    assert make_config(features="unet").tail_numbers() is None
    for more in ({"features": "auto"}, {"rules": "released"}, {"image_score": "softmax_top_500"}):
        with fails_with("leave tails out"):
            make_config({"features": "unet", "tails": f"{TAIL};{TAIL}"} | more)
    with fails_with("tails", "for each layer and for the pixels, 2 in all"):
        make_config(features="unet", tails=tails)
