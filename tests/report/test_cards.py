"""The cards: the picture of an image, its map with the outline of the true defect, and the words below them."""

import re

import numpy as np
import pytest
from helpers import pictures

from mdps_ref.report.cards import good_reconstructions, heat_limit, heat_over, scale, where_it_looks, where_it_was_wrong
from mdps_ref.report.overlay import heat_colours

MASKS = {
    "a ring at the border": [[1, 1, 1, 0], [1, 0, 1, 0], [1, 1, 1, 1]],
    "two that touch at a corner": [[1, 0, 0], [0, 1, 0], [0, 0, 0]],
    "everything": [[1, 1], [1, 1]],
}


@pytest.mark.parametrize("mask", MASKS.values(), ids=MASKS)
def test_the_outline_encloses_the_mask_and_nothing_else(mask, fake_result):
    """Going right along a row, each upright piece of the outline leads into the mask or out of it; going down, each level one."""
    mask = np.array(mask, bool)
    result = fake_result(("rust",))
    result.truths[0] = mask
    (path,) = set(re.findall(r' d="([^"]*)"', where_it_looks(result)))
    across, down = np.zeros((2, mask.shape[0] + 1, mask.shape[1] + 1), int)
    for start, line, end in re.findall(r"M(\d+) (\d+)H(\d+)", path):
        down[int(line), int(start) : int(end)] += 1
    for line, start, end in re.findall(r"M(\d+) (\d+)V(\d+)", path):
        across[int(start) : int(end), int(line)] += 1
    np.testing.assert_array_equal(down.cumsum(axis=0)[:-1, :-1] % 2, mask)
    np.testing.assert_array_equal(across.cumsum(axis=1)[:-1, :-1] % 2, mask)


def test_only_a_defect_has_an_outline_and_a_missing_mask_is_told(fake_result):
    text = where_it_looks(fake_result(("good", "rust")))
    assert text.count("<svg") == 1 and text.index("<b>good</b>") < text.index("<svg") < text.index("<b>rust</b>")
    text = where_it_looks(fake_result(("good", "rust"), masks=False))
    assert "<svg" not in text and text.count("no mask") == 1


def test_a_card_shows_the_image_and_its_map_on_the_scale_of_all(fake_result):
    result, everything = fake_result(shown=[2, 0]), fake_result()
    drawn = pictures(where_it_looks(result))
    assert len(drawn) == 4
    for row, index in enumerate(result.shown):
        y, anomaly = (everything.images[index] + 1) / 2, everything.chains["mdps"].shown.anomaly[index]
        np.testing.assert_allclose(drawn[2 * row], y, atol=0.5 / 255 + 1e-6)
        level = np.sqrt(np.minimum(anomaly / heat_limit(result), 1))[..., None]
        expected = (1 - 0.85 * level) * y.mean(axis=-1, keepdims=True) + 0.85 * level * heat_colours(level[..., 0])
        np.testing.assert_allclose(drawn[2 * row + 1], expected, atol=0.5 / 255 + 1e-6)


DECISIONS = [
    ("rust", 2, "right", "flagged"),
    ("rust", 1, "wrong", "missed"),
    ("good", 2, "wrong", "false alarm"),
    ("good", 1, "right", "passed"),
]


@pytest.mark.parametrize(("kind", "score", "mark", "word"), DECISIONS)
def test_right_and_wrong_decisions_are_marked(kind, score, mark, word, fake_result):
    text = where_it_looks(fake_result((kind,), mdps={"score": np.array([score], np.float32)}, threshold=1.5))
    assert f'<span class="{mark}">{word}</span>' in text


def test_wrong_decisions_are_shown_with_their_names_and_maps(fake_result):
    scores = np.array([1, 2, 1, 2, 1], np.float32)
    result = fake_result(("good", "good", "rust", "rust", "bent"), mdps={"score": scores}, threshold=1.5, shown=[0])
    html, everything = where_it_was_wrong(result), fake_result(("good", "good", "rust", "rust", "bent"))
    named = re.findall(r"<b>(\w+)</b> <span class=\"wrong\">([\w ]+)</span><br><small>(\d+)", html)
    assert named == [("good", "false alarm", "001"), ("bent", "missed", "004"), ("rust", "missed", "002")]
    for index, (y, heat) in zip((1, 4, 2), zip(*[iter(pictures(html))] * 2, strict=True), strict=True):
        np.testing.assert_allclose(y, (everything.images[index] + 1) / 2, atol=0.5 / 255 + 1e-6)
        expected = heat_over(everything.images[index], everything.chains["mdps"].shown.anomaly[index], heat_limit(result))
        np.testing.assert_allclose(heat, expected, atol=0.5 / 255 + 1e-6)
    assert html.count("<svg") == 2
    assert where_it_was_wrong(fake_result(("good",), mdps={"score": scores[:1]}, threshold=1.5)) == ""


@pytest.mark.parametrize(
    ("kind", "score", "threshold", "share"),
    [
        ("good", 1.2345, 1, "1.2"),
        ("good", 1.003, 1, "1.003"),
        ("good", 25.4, 2, "13"),
        ("rust", 0.5, 2, "0.25"),
        ("rust", 0.996, 1, "0.996"),
        ("rust", 2, 2, "1"),
        ("rust", 0.0001, 1, "less than 0.01"),
        ("good", 1, 0, None),
        ("rust", -1, 1, None),
        ("rust", 1, np.inf, None),
    ],
)
def test_the_card_of_a_wrong_decision_says_how_far_its_score_is_from_the_threshold(kind, score, threshold, share, fake_result):
    result = fake_result((kind,), mdps={"score": np.array([score], np.float32)}, threshold=float(threshold))
    assert re.findall("The score is (.*) times the threshold", where_it_was_wrong(result)) == ([share] if share else [])
    assert "times the threshold" not in where_it_looks(result)


def test_the_ticks_of_the_scale_stand_at_the_map_values_of_their_colours(fake_result):
    """A map of the value at a tick, over a black image, has the colour of the scale there, as far as the map covers the image."""
    text, top = scale(0.5), 0.5
    ticks = [float(tick) for tick in re.findall("<span>([^<]*)</span>", text)]
    colours = np.array([[int(c) for c in rgb.split(",")] for rgb in re.findall(r"rgb\(([^)]*)\)", text)]) / 255
    assert ticks[0] == 0 and ticks[-1] == top
    for place, tick in zip(np.linspace(0, 1, 6), ticks, strict=True):
        drawn = heat_over(-np.ones((1, 1, 3)), np.full((1, 1), tick), top)[0, 0]
        at = [np.interp(place, np.linspace(0, 1, len(colours)), colours[:, channel]) for channel in range(3)]
        np.testing.assert_allclose(drawn, 0.85 * place * np.array(at), atol=0.03)


def test_a_tick_of_hundreds_is_written_out():
    assert re.findall("<span>([^<]*)</span>", scale(191.4)) == ["0", "7.66", "30.6", "68.9", "122", "191"]


def test_a_scale_of_zeros_still_has_a_top(fake_result):
    assert heat_limit(fake_result(mdps={"anomaly": np.zeros((4, 16, 16), np.float32)})) == 1


def test_good_images_are_shown_with_their_reconstructions(fake_result):
    result = fake_result(("good", "good", "rust"))
    drawn = pictures(good_reconstructions(result))
    assert len(drawn) == 4
    np.testing.assert_allclose(drawn[3], (result.chains["reconstruction"].shown.x_0[1] + 1) / 2, atol=0.5 / 255 + 1e-6)
    assert good_reconstructions(fake_result(("rust",))) == ""
