"""The table of rows, what its settings resolve to, and in plain words what leaks from one test image to another."""

import dataclasses
import re

import pytest

from mdps_ref.job.config import make_config
from mdps_ref.released.rules import ROWS, SIDES, Rules, leaks, resolve_rules

FIELDS = {field.name for field in dataclasses.fields(Rules)} - {"taken_from_released"}
RELEASED = {"rules": "released"}


def test_every_field_stands_in_one_row_and_differs_between_its_sides():
    paper, released = map(resolve_rules, SIDES)
    fields = [name for row in ROWS.values() for name in row.paper]
    assert sorted(fields) == sorted(FIELDS) and all(row.paper.keys() == row.released.keys() for row in ROWS.values())
    assert [name for name in fields if getattr(paper, name) == getattr(released, name)] == []
    assert [row.number for row in ROWS.values()] == [*range(1, 9), 12]
    assert all(row.paper_says != row.released_says and "|" not in row.paper_says + row.released_says for row in ROWS.values())


@pytest.mark.parametrize("name", ROWS)
@pytest.mark.parametrize("side", SIDES)
def test_an_excepted_row_takes_the_other_side_and_no_other_row_does(side, name):
    rules, (other,) = resolve_rules(side, name), set(SIDES) - {side}
    for row_name, row in ROWS.items():
        for field in row.paper:
            values = {each: getattr(row, each)[field] for each in SIDES}
            assert getattr(rules, field) == values[other if row_name == name else side]
    assert rules.taken_from_released == ({name} if side == "paper" else ROWS.keys() - {name})


def test_several_rows_are_excepted_with_commas_between():
    rules = resolve_rules("paper", "norm, mask,")
    assert rules.taken_from_released == {"norm", "mask"}
    assert resolve_rules("released", ",".join(ROWS)) == resolve_rules("paper")


def test_a_guide_depends_on_rows_1_and_2():
    names = {excepted: [*resolve_rules("paper", excepted).guides] for excepted in ("", "guidance", "norm")}
    assert names[""] == names["norm"] == ["norm", "squared_norm", "moment_matched"] and names["guidance"] == ["norm"]
    paper, excepted, released = (resolve_rules(*sides).guides["norm"] for sides in (("paper",), ("paper", "norm"), ("released",)))
    assert excepted is released is not paper


def test_a_strength_means_the_same_at_every_size_or_a_weight_does():
    """Row 3."""
    paper, released = (resolve_rules(side).weight for side in SIDES)
    assert paper(0.1, (64, 64, 3)) == pytest.approx(2 * paper(0.1, (32, 32, 3)))
    assert released(0.1, (64, 64, 3)) == released(0.1, (32, 32, 3)) == paper(0.1, (256, 256, 3))


@pytest.mark.parametrize("excepted, shared", [("", False), ("norm", True), ("fusion", True), ("mask,start", False)])
def test_images_share_batches_where_something_runs_over_the_batch(excepted, shared):
    assert resolve_rules("paper", excepted).share_batches == shared


def test_unknown_rules_or_rows_are_refused_and_the_others_are_told(fails_with):
    with fails_with("'best'", *SIDES):
        resolve_rules("best")
    with fails_with("'paste', 'sampling'", *ROWS):
        resolve_rules("paper", "sampling,mask,paste")


@pytest.mark.parametrize(
    "settings, rows",
    [
        (RELEASED, {2, 4, 5}),
        (RELEASED | {"batch_size": 1}, {5}),
        (RELEASED | {"masked": False}, {2, 4}),
        (RELEASED | {"masked": False, "batch_size": 1}, set()),
        (RELEASED | {"mask_threshold": 0.5}, {2, 4}),
        (RELEASED | {"rules_except": "norm,mask"}, {4}),
        (RELEASED | {"rules_except": "guidance", "guidance": "squared_norm"}, {4, 5}),
        ({"rules_except": "norm"}, {2}),
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
