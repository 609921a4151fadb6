"""Step by step: what stands in a row, on which scale, and what is said of the image."""

import re

import numpy as np
import pytest
from helpers import pictures, words

from mdps_ref.report.cards import heat_limit, heat_over, unit
from mdps_ref.report.steps import step_by_step


def rows_of(result):
    """The HTML of each row."""
    return re.findall(r'<li class="step">.*?</li>', step_by_step(result), re.DOTALL)


def test_a_row_shows_what_its_captions_say(fake_result):
    result, everything = fake_result(shown=[2, 0]), fake_result()
    plain, mdps = everything.chains["reconstruction"].shown, everything.chains["mdps"].shown
    for index, row in zip(result.shown, rows_of(result), strict=True):
        y, top = everything.images[index], heat_limit(everything)
        expected = {
            "test image y": unit(y),
            "reconstruction x0": unit(plain.x_0[index]),
            "its map": heat_over(y, plain.anomaly[index], top),
            "mask m": mdps.suspected[index][..., None] * np.ones(3),
            "MDPS x0, a sample": unit(mdps.x_0[index]),
            "its map ": heat_over(y, mdps.anomaly[index], top),
            "spread": heat_over(y, mdps.spread[index], top),
        }
        assert [words(caption) for caption in re.findall("<span>(.*?)</span>", row)] == [name.strip() for name in expected]
        for drawn, pixels in zip(pictures(row), expected.values(), strict=True):
            np.testing.assert_allclose(drawn, pixels, atol=0.5 / 255 + 1e-6)
        masked = 100 * mdps.suspected[index].mean()
        assert {result.defects[index], f"{index:03}, score {mdps.score[index]:.3f}"} <= set(re.findall(">([^<]+)<", row))
        assert float(re.search(r"masked: ([\d.]+)", row)[1]) == pytest.approx(masked, abs=0.05)
        assert row.count("<svg") == 2 * (result.defects[index] != "good")  # the outline of the defect, over both maps


@pytest.mark.parametrize(("masked", "samples"), [(True, 2), (True, 1), (False, 2), (False, 1)])
def test_a_mask_and_a_spread_are_shown_only_where_there_are_any(masked, samples, fake_result):
    result = fake_result(masked=masked, samples=samples, shown=[2, 0])
    for row in rows_of(result):
        assert ("mask <i>m</i>" in row, "masked: " in row, ">spread<" in row) == (masked, masked, samples > 1)
        assert len(pictures(row)) == 5 + masked + (samples > 1)
    wide, narrow = map(int, re.search(r"--wide:(\d+);--narrow:(\d+)", step_by_step(result)).groups())
    assert (wide, narrow) == (5 + masked + (samples > 1), max(3, 2 + masked + (samples > 1)))


def test_large_pictures_are_shrunk_and_small_ones_are_not_enlarged(fake_result, monkeypatch):
    monkeypatch.setattr("mdps_ref.report.steps.LONGEST", 8)
    result = fake_result(("good",))
    drawn = pictures(step_by_step(result))
    assert [picture.shape for picture in drawn] == [(8, 8, 3)] * 7
    blocks = unit(result.images[0]).reshape(8, 2, 8, 2, 3).mean(axis=(1, 3))
    np.testing.assert_allclose(drawn[0], blocks, atol=1.5 / 255)
    monkeypatch.setattr("mdps_ref.report.steps.LONGEST", 100)
    assert [picture.shape for picture in pictures(step_by_step(result))] == [(16, 16, 3)] * 7
