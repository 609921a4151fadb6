"""Pixel metrics from a table of counts: equal to those of all pixels at once, and within the stated error where values are rounded."""

import numpy as np
import pytest

from mdps_ref.scoring import pixel_table
from mdps_ref.scoring.intervals import tally_in_bins
from mdps_ref.scoring.metrics import aupro, auroc
from mdps_ref.scoring.pixel_table import PixelTable


@pytest.fixture
def maps():
    rng = np.random.default_rng(0)
    truths = np.zeros((12, 16, 16), bool)
    for i in range(0, 12, 2):
        truths[i, 2 : 5 + i // 2, 3:9] = truths[i, 12:14, 12:14] = True
    values = np.exp(rng.normal(size=truths.shape) + truths).astype(np.float32)
    values[3] = -values[3]  # maps may be negative, and some values are shared
    values[4, :8] = values[5, :8] = 0.0
    values[5, 0] = -0.0
    return values, truths


def filled(values, truths, step=1):
    table = PixelTable()
    for i in range(0, len(values), step):
        table.add(values[i : i + step], truths[i : i + step])
    return table


@pytest.mark.equation("E21", "E23")
@pytest.mark.parametrize("collected", [1, 700, 2**18])
def test_without_rounding_it_gives_the_metrics_of_all_pixels(collected, maps, monkeypatch):
    monkeypatch.setattr(pixel_table, "AT_ONCE", collected)
    values, truths = maps
    table = filled(values, truths, 5)
    assert table.auroc() == pytest.approx(auroc(truths, values), abs=1e-12)
    assert table.aupro(0.3) == pytest.approx(aupro(truths, values, 0.3), abs=1e-12)
    assert (table.auroc_error, table.aupro_error()) == (0, 0)
    assert table.quantile(0.995) == np.sort(values, axis=None)[int(np.ceil(0.995 * values.size)) - 1]


@pytest.mark.equation("E21", "E23")
@pytest.mark.parametrize("rows", [8, 40, 300])
def test_rounded_values_stay_within_the_stated_error_whatever_the_order(rows, maps, monkeypatch):
    monkeypatch.setattr(pixel_table, "MOST_ROWS", rows)
    monkeypatch.setattr(pixel_table, "AT_ONCE", 500)
    values, truths = maps
    table, turned = filled(values, truths), filled(values[::-1], truths[::-1], 3)
    for limit in (0.05, 0.3, 1.0):
        assert 0 < abs(table.aupro(limit) - aupro(truths, values, limit)) <= table.aupro_error(limit)
        assert table.aupro(limit) == pytest.approx(turned.aupro(limit), abs=1e-12)
    assert 0 < abs(table.auroc() - auroc(truths, values)) <= table.auroc_error < 4 / rows
    assert table.auroc() == pytest.approx(turned.auroc(), abs=1e-12)
    assert table.auroc_error == pytest.approx(turned.auroc_error)


def test_an_image_without_a_mask_counts_in_the_quantile_alone(maps):
    values, truths = maps
    table, without = filled(values, [None, *truths[1:]]), filled(values[1:], truths[1:])
    assert (table.auroc(), table.aupro()) == pytest.approx((without.auroc(), without.aupro()), abs=1e-12)
    assert filled(values[:1], [None]).quantile(1.0) == values[0].max()


def test_what_is_missing_is_nan():
    assert np.isnan(PixelTable().quantile(0.5))
    for truth in (None, np.zeros((4, 4), bool), np.ones((4, 4), bool)):
        table = filled(np.ones((1, 4, 4), np.float32), [truth])
        assert np.isnan(table.auroc()) and np.isnan(table.aupro())


@pytest.mark.parametrize("most", [4, 16, 10_000])
@pytest.mark.parametrize("rows", [40, 2**18])
def test_bins_hold_all_values_and_say_where_several_are_mixed(most, rows, maps, monkeypatch):
    monkeypatch.setattr(pixel_table, "MOST_ROWS", rows)
    values, truths = maps
    table = filled(values, [None, *truths[1:]])
    edges, mixed = table.bins(most)
    assert len(edges) <= most + 1 and (np.diff(edges) > 0).all() and values.max() <= edges[-1]
    at = np.searchsorted(edges, np.unique(values))
    several = np.bincount(at, minlength=len(edges)) > 1
    assert not (several & ~mixed).any()
    if rows > values.size:
        np.testing.assert_array_equal(mixed, several)


def test_metrics_in_bins_of_few_values_stay_near_those_of_all_pixels(maps):
    """Half of the bins are cut by the few anomalous pixels: where these lie, bins are fine."""
    values, truths = maps
    table, one = filled(values, truths), np.ones((1, len(values)), int)
    counted = tally_in_bins(*table.bins(32), truths, values)
    for value, error, exact in (
        (counted.auroc(one), counted.auroc_error(one), table.auroc()),
        (counted.aupro(one), counted.aupro_error(one), table.aupro()),
    ):
        assert 0 < abs(value[0] - exact) <= error[0] < 1 / 16
    counted = tally_in_bins(*table.bins(2 * values.size), truths, values)
    assert counted.auroc(one)[0] == pytest.approx(table.auroc(), abs=1e-12) and not counted.auroc_error(one).any()
