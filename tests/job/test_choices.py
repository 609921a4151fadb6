"""The list of settings tells the defaults that a run really has, and what each setting does."""

import ast
import dataclasses
import re

import pytest

from mdps_ref import run
from mdps_ref.job.choices import descriptions, listing
from mdps_ref.job.config import NETWORK_DEFAULTS, Config, make_config


def listed():
    """{setting: {"": its default, and each name in brackets: the default there}}, read from the list."""
    found = {}
    for name, value, brackets in re.findall(r"^  (\w+) = (.*?)(?:  \((.*)\))?$", listing().partition("\nsettings")[2], re.MULTILINE):
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
    made = dataclasses.asdict(run.requested_config(run.parser().parse_args([])))
    assert made["weights"] == "bundled"
    told = {name: values.get("bundled weights", values.get(made["network"], values[""])) for name, values in listed().items()}
    assert told == made | {"network": Config.network}
