"""The plots: their numbers, and every kind of test set."""

import io

import numpy as np
import pytest

from mdps_ref.report import plots
from mdps_ref.report.style import CHAINS


def test_the_comparison_beside_the_differences(fake_result):
    result = fake_result()
    for chain, good, defect in (("mdps", 0.01, 0.27), ("guided", 0.2, 0.3), ("reconstruction", 0.1, 0.3)):
        result.metrics[chain] |= {"good_difference": good, "defect_difference": defect, "contrast": defect / good}
    texts = [text.get_text() for text in plots.differences(result).axes[0].texts]
    for numbers in (("27.0", "10.0× closer", "90 %"), ("1.5", "2.0× farther", "100 %")):
        assert [text for text in texts if all(number in text for number in numbers)]


@pytest.mark.parametrize(("own", "words"), [(0.1001, "as close"), (0.0999, "as close"), (0.09, "1.1× closer"), (0.11, "1.1× farther")])
def test_closeness_in_words(own, words):
    assert plots.closeness({"good_difference": own}, {"good_difference": 0.1}) == words


def test_differences_beyond_the_pixel_range_stay_in_sight(fake_result):
    result = fake_result()
    result.metrics["mdps"]["defect_difference"] = 50.0
    assert plots.differences(result).axes[0].get_xlim() == (plots.SMALLEST, 75)


def test_the_histogram_counts_the_flagged_of_each_kind(fake_result):
    scores = np.array([1, 2, 6, 3, 6, 8], np.float32)
    result = fake_result(("good", "good", "rust", "bent", "bent", "bent"), mdps={"score": scores}, threshold=3.0)
    counts = [text.get_text().split()[:3] for text in plots.score_histogram(result).axes[1].texts]
    assert counts == [["0", "of", "5"], ["0", "of", "2"], ["2", "of", "3"], ["1", "of", "1"]]


def test_scores_that_differ_by_rounding_alone_have_a_histogram(fake_result):
    result = fake_result(mdps={"score": np.float32(1) + np.arange(4, dtype=np.float32) * np.finfo(np.float32).eps})
    result.held_out_scores[:] = 1
    plots.score_histogram(result)


def test_curves_carry_the_areas_and_stop_where_pro_stops(fake_result):
    result = fake_result()
    drawn = [figure.axes[0] for figure in plots.curves(result).values()]
    for axes, metric in zip(drawn, ("image_auroc", "pixel_auroc", "aupro"), strict=True):
        texts = [text.get_text() for text in axes.get_legend().get_texts()]
        assert [text.rpartition(" ")[2] for text in texts] == [f"{result.metrics[chain][metric]:.3f}" for chain in CHAINS]
    assert drawn[2].get_xlim()[1] == 0.3
    lines = {line.get_label().partition(":")[0]: line.get_data() for line in drawn[1].lines}
    for key, chain in CHAINS.items():
        x, y = lines[chain.name]
        assert np.trapezoid(y, x) == pytest.approx(result.metrics[key]["pixel_auroc"], abs=1e-3)


def test_curves_that_coincide_are_all_seen(fake_result):
    """Each lies on wider ones."""
    for figure in plots.curves(fake_result()).values():
        widths = [line.get_linewidth() for line in figure.axes[0].lines]
        assert widths == sorted(set(widths), reverse=True) and len(widths) == len(CHAINS)


def test_without_a_mask_no_chain_is_drawn_twice(fake_result):
    result, names = fake_result(masked=False), ["MDPS, no mask", "reconstruction"]
    texts = [text.get_text() for text in plots.differences(result).axes[0].texts]
    assert [text for text in texts if text in names] == names and "guided" not in texts
    for figure in plots.curves(result).values():
        assert [line.get_text().partition(":")[0] for line in figure.axes[0].get_legend().get_texts()] == names


@pytest.mark.parametrize("samples", [1, 2])
def test_the_uncertainty_is_drawn_by_each_measure_beside_chance(samples, fake_result):
    """Wrong is the second decision of four. The spread calls it the most certain; the distance, the least certain."""
    score, spread = np.array([1, 4, 9, 9], np.float32), np.array([3, 1, 4, 2], np.float32)[:, None, None] * np.ones((1, 16, 16), np.float32)
    result = fake_result(("good", "good", "rust", "rust"), mdps={"score": score, "spread": spread}, threshold=3.0, samples=samples)
    lines = plots.uncertainty(result).axes[0].lines
    drawn = [list(line.get_ydata()) for line in lines if len(line.get_ydata()) == 4]
    expected = [[25, 100 / 3, 50, 100], [25, 0, 0, 0]][2 - samples :]
    np.testing.assert_allclose(drawn, expected)
    assert list(lines[0].get_ydata()) == [25, 25]


def test_a_curve_of_many_points_keeps_its_shape():
    x, y = np.append(np.zeros(50_000), np.linspace(0, 1, 50_000)), np.append(np.linspace(0, 0.9, 50_000), np.linspace(0.9, 1, 50_000))
    thin_x, thin_y = plots._thinned(x, y)
    assert len(thin_x) <= 2000
    assert (thin_x[0], thin_y[0], thin_x[-1], thin_y[-1]) == (0, 0, 1, 1)
    assert max(np.diff(thin_x).max(), np.diff(thin_y).max()) < 0.002


def test_the_loss_is_averaged_over_the_steps_around():
    raw, mean = plots.loss_curve(np.array([[4.0, 1], [2, 1], [3, 1]])).axes[0].lines
    assert list(raw.get_ydata()) == [4, 2, 3]
    assert list(mean.get_ydata()) == [3, 3, 3]
    long = plots.loss_curve(np.stack([np.arange(200.0) + 1, np.ones(200)], 1)).axes[0].lines[1].get_ydata()
    assert long[100] == pytest.approx(np.mean(np.arange(77, 127)))


def test_figures_leave_no_global_state(fake_result):
    pyplot = pytest.importorskip("matplotlib.pyplot")
    plots.curves(fake_result())["pro"].savefig(io.BytesIO(), format="png")
    assert pyplot.get_fignums() == []
