"""The gallery: which images it shows, what stands in a row, and the colour scales that all images share."""

import numpy as np
import pytest

from mdps_ref.job.result import choose_images
from mdps_ref.report.gallery import DECISIONS, HEAT, SPREAD, gallery, heat_limit


def overlays(figure, cmap):
    """The maps (not the colour images) that are drawn with this colour map."""
    return [image for axes in figure.axes for image in axes.images if image.cmap.name == cmap and image.get_array().ndim == 2]


def tops(result):
    """The tops of the scales: of the anomaly maps of the whole test set, where fake_result() has all shown, and of the shown spread."""
    heat = np.quantile(result.chains["mdps"].shown.anomaly, 0.995, method="inverted_cdf")
    return {HEAT: heat, SPREAD: np.percentile(result.chains["mdps"].shown.spread, 99.5)}


@pytest.mark.parametrize("shown", [[0, 1, 2, 3], [0]])
def test_all_maps_share_the_test_sets_colour_scale(shown, fake_result):
    result = fake_result(shown=shown)
    figure, expected = gallery(result), {HEAT: tops(fake_result())[HEAT], SPREAD: tops(result)[SPREAD]}
    for cmap, a_row in ((HEAT, 2), (SPREAD, 1)):
        drawn = overlays(figure, cmap)
        assert len(drawn) == a_row * len(shown)
        assert {(image.norm.vmin, image.norm.vmax) for image in drawn} == {(0, float(expected[cmap]))}


def test_a_scale_of_zeros_still_has_a_top(fake_result):
    assert heat_limit(fake_result(mdps={"anomaly": np.zeros((4, 16, 16), np.float32)})) == 1


def test_a_row_shows_what_its_title_says(fake_result):
    result, everything = fake_result(shown=[2, 0]), fake_result()
    figure = gallery(result)
    rows = figure.axes[:8], figure.axes[8:16]
    plain, mdps, images = everything.chains["reconstruction"].shown, everything.chains["mdps"].shown, everything.images
    expected = (images, plain.x_0, plain.anomaly, mdps.suspected, mdps.x_0, mdps.anomaly, mdps.spread, images)
    for row, index in zip(rows, result.shown, strict=True):
        for axes, source in zip(row, expected, strict=True):
            *under, picture = (image.get_array() for image in axes.images)
            pixels = source[index]
            np.testing.assert_allclose(picture, (pixels + 1) / 2 if pixels.ndim == 3 else pixels, atol=1e-6)
            assert [np.abs(grey - images[index].mean(axis=-1)).max() < 1e-6 for grey in under] == [True] * len(under)
        texts = {result.defects[index], f"{index:03}", f"score {result.chains['mdps'].score[index]:.3f}"}
        assert texts <= {text.get_text() for text in row[0].texts}
    assert rows[0][7].collections and not rows[1][7].collections  # only a defect has an outline


@pytest.mark.parametrize(("masked", "samples"), [(True, 2), (True, 1), (False, 2), (False, 1)])
def test_a_mask_and_a_spread_are_shown_only_where_there_are_any(masked, samples, fake_result):
    figure = gallery(fake_result(masked=masked, samples=samples, shown=[2, 0]))
    count = 6 + masked + (samples > 1)
    titles = [axes.get_title() for axes in figure.axes][:count]
    assert (any("mask" in title for title in titles), "spread" in titles) == (masked, samples > 1)
    assert [text.get_text() for text in figure.texts] == ["reconstruction", "MDPS" if masked else "MDPS, no mask"]
    assert len(figure.axes) == 2 * count + 1 + (samples > 1)  # two rows, and the colour bars
    assert [len(overlays(figure, cmap)) for cmap in (HEAT, SPREAD)] == [4, 2 * (samples > 1)]
    assert figure.axes[count - 1].collections


def test_the_ticks_of_a_colour_bar_stand_evenly_apart(fake_result):
    result = fake_result()
    for axes, top in zip(gallery(result).axes[-2:], tops(result).values(), strict=True):
        ticks = axes.xaxis.get_ticklocs()
        assert ticks[0] == 0 and ticks[-1] == pytest.approx(top)
        np.testing.assert_allclose(np.diff(axes.transData.transform(np.stack([ticks, ticks], 1))[:, 0], n=2), 0, atol=1e-6)


@pytest.mark.parametrize(("defective", "score", "flagged"), [(True, 2, True), (True, 1, False), (False, 2, True), (False, 0, False)])
def test_the_decision_beside_an_image(defective, score, flagged, fake_result):
    result = fake_result(("rust" if defective else "good",), mdps={"score": np.array([score], np.float32)}, threshold=1.0)
    texts = [text.get_text() for text in gallery(result).axes[0].texts]
    assert set(texts) & set(DECISIONS.values()) == {DECISIONS[defective, flagged]}


def test_good_images_are_chosen_first_and_every_kind_of_defect():
    defects = ["bent"] * 5 + ["good"] * 9 + ["rust"] * 1 + ["scratch"] * 5
    for limit in range(3, 25):
        chosen = choose_images(defects, limit)
        kinds = [defects[i] for i in chosen]
        assert len(set(chosen)) == len(chosen) == min(limit, len(defects))
        assert {"bent", "rust", "scratch"} <= set(kinds)
        assert ("good" in kinds) == (limit > 3)
        assert kinds == sorted(kinds, key=lambda kind: (kind != "good", kind))
    assert choose_images(defects, 8) == [5, 6, 0, 1, 2, 14, 15, 16]
    assert choose_images(defects, 2) == [0, 14]
    assert [defects[i] for i in choose_images(defects, 12)].count("good") == 3
    assert choose_images(["good"] * 3, 12) == [0, 1, 2]
    assert choose_images(["rust"] * 20, 12) == list(range(12))
