"""The table of rows: complete, both sides of every row different; and in plain words what leaks from one test image to another."""

import dataclasses
import re

import pytest

from mdps_ref.job.config import make_config
from mdps_ref.released.rules import RULES, Rules, leaks

NAMES = [field.name for field in dataclasses.fields(Rules)]
RELEASED = {"rules": "released"}


@pytest.mark.parametrize("name", NAMES)
def test_both_sides_of_a_row_differ_and_its_number_and_words_stand_in_the_table(name):
    paper, released = (getattr(RULES[side], name) for side in ("paper", "released"))
    assert paper != released
    (words,) = re.findall(rf"^ *{name} \(row \d+\): (.*)$", Rules.__doc__, re.MULTILINE)
    assert words.count("; ") == 1  # first the paper's side, then the authors'


def test_the_table_covers_rows_1_to_8_and_12():
    assert {int(row) for row in re.findall(r"\(row (\d+)\)", Rules.__doc__)} == {*range(1, 9), 12}


@pytest.mark.parametrize(
    "settings, rows",
    [
        (RELEASED, {2, 4, 5}),
        (RELEASED | {"batch_size": 1}, {5}),
        (RELEASED | {"masked": False}, {2, 4}),
        (RELEASED | {"masked": False, "batch_size": 1}, set()),
        ({}, set()),
        ({"rules": "paper", "batch_size": 64}, set()),
    ],
    ids=str,
)
def test_what_leaks_is_said_in_a_sentence_each(settings, rows):
    sentences = leaks(make_config(settings))
    assert {int(re.search(r"\(row (\d+)\)\.$", sentence)[1]) for sentence in sentences} == rows
    assert len(sentences) == len(rows) and all("\n" not in sentence for sentence in sentences)


def test_a_sentence_tells_how_many_images_share_a_batch():
    assert "the 5 test images" in leaks(make_config(RELEASED | {"batch_size": 5}))[0]
