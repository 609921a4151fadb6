"""The list of settings tells the defaults that a run really has, and what each setting does."""

import ast
import dataclasses
import re

import pytest

from mdps_ref import run
from mdps_ref.job.choices import descriptions, in_words, listing
from mdps_ref.job.config import CHOICES, NETWORK_DEFAULTS, Config, make_config
from mdps_ref.scoring.features import file_of_weights


def listed():
    """{setting: {"": its default, and each name in brackets: the default there}}, read from the list."""
    found = {}
    for name, value, brackets in re.findall(r"^  (\w+) = (.*?)(?:  \((.*)\))?$", listing(), re.MULTILINE):
        others = dict(part.split(": ") for part in brackets.split("; ")) if brackets else {}
        found[name] = {source: ast.literal_eval(text) for source, text in ({"": value} | others).items()}
    return found


def test_every_setting_has_a_description_of_its_own():
    about = descriptions()
    told = {field.name: about[field.name] for field in dataclasses.fields(Config)}
    assert len(set(told.values())) == len(told)


@pytest.mark.parametrize("network", NETWORK_DEFAULTS)
def test_the_list_tells_the_defaults_of_each_network(network):
    made = dataclasses.asdict(make_config(network=network)) | {"network": Config.network}
    assert {name: values.get(network, values[""]) for name, values in listed().items()} == made


def test_the_list_tells_the_defaults_of_a_run_with_bundled_weights():
    made = dataclasses.asdict(run.requested_config(run.parser().parse_args([]), {}))
    assert made["weights"] == "bundled"
    told = {name: values.get("bundled weights", values.get(made["network"], values[""])) for name, values in listed().items()}
    assert told == made | {"network": Config.network}


def test_the_settings_come_first_and_the_many_presets_last():
    assert re.findall(r"^(\w+)", listing(), re.MULTILINE) == ["settings", "networks", "features", "presets"]


def listed_features():
    """{name: what the list says of these features}."""
    return dict(re.findall(r"^  ([\w+]+): (.*)$", listing().partition("\nfeatures")[2], re.MULTILINE))


def test_the_list_has_all_features_that_can_be_chosen():
    names = [name for name in listed_features() if name != "unet+NAME"]
    both = [f"unet+{name}" for name in names if name not in ("auto", "unet")]
    assert {*names, *both} == {*CHOICES["features"]} and "unet+NAME" in listed_features()


@pytest.mark.parametrize("name", [name for name in listed_features() if "needs" in listed_features()[name]])
def test_the_list_says_of_each_file_of_weights_what_the_error_says_where_it_is_missing(name, tmp_path, monkeypatch, fails_with):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    file, source = re.fullmatch("needs (.*?); (.*)", listed_features()[name]).groups()
    with fails_with(f"{file}: no such file of weights; {source}"):
        file_of_weights(name)


def test_changes_in_words():
    assert in_words({"features": "unet", "feature_layers": "", "feature_size": None}) == "features unet"
    assert in_words({"tails": "0.1,0.2"}) == "surprisals" and in_words({"tails": ""}) == "no surprisals" and in_words({}) == "as before"
