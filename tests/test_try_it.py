"""The page "try it" without a browser: what its Python file computes, its thresholds, its colours, and that it asks nobody else."""

import itertools
import json
import pathlib
import re

import numpy as np
import pytest
import try_it_thresholds
from PIL import Image

from mdps_ref import Detector
from mdps_ref.job.detect import make_model
from mdps_ref.nn.unet import init_unet
from mdps_ref.scoring.metrics import threshold_at_rate

try_it = try_it_thresholds.try_it
PAGE = pathlib.Path(try_it.__file__).parent
ROWS = json.loads((PAGE / "thresholds.json").read_text())
CHEAP = {"start": 100, "strength": 0.0, "samples": 1, "mask_share": 0.05}
FILES = sorted(path for path in PAGE.iterdir() if path.suffix in (".html", ".css", ".js"))


def row_of(**knobs):
    (row,) = (row for row in ROWS if all(row[name] == value for name, value in knobs.items()))
    return dict(row)


def watched(pixels, row):
    """What the page is told at the end of a search."""
    *_, last = try_it.told(pixels.tobytes(), json.dumps(row))
    return last["verdict"]


@pytest.mark.parametrize("threshold", [0.0, 1e-3, 1e9])
@pytest.mark.parametrize("changes", [{}, {"samples": 3, "stride": 20}, {"guided_strength": 0.0, "mdps_strength": 0.0}])
def test_a_watched_search_ends_as_the_detector_does(quick_config, some_images, changes, threshold):
    config = quick_config(**changes)
    rng = np.random.default_rng(3)
    weights = {name: w + 0.05 * rng.standard_normal(w.shape).astype(w.dtype) for name, w in init_unet(config.unet()).items()}
    y = some_images(1)
    scores = Detector(weights, config, threshold, 0.01).score(y)
    *_, found = try_it.watch(make_model(weights, config), y, config, threshold)
    np.testing.assert_allclose(found.anomaly, scores.anomaly[0], rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(found.spread, scores.spread[0], rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(found.x_0, scores.x_0[0], rtol=1e-5, atol=1e-5)
    np.testing.assert_array_equal(found.mask, scores.suspected[0])
    judged = try_it.verdict(found, config, 0.01)
    assert judged["score"] == pytest.approx(scores.score[0])
    assert (judged["flagged"], judged["unsure"]) == (scores.flagged[0], scores.unsure[0])


def test_steps_go_down_and_show_the_picture_outside_the_mask(quick_config, some_images):
    config, y = quick_config(), some_images(1)
    weights = init_unet(config.unet())
    model = make_model(weights, config)
    guided = next(one for one in try_it.watch(model, y, config, 0.0) if isinstance(one, try_it.Found))
    what = list(try_it.watch(model, y, config, np.median(guided.anomaly)))
    steps = [one for one in what if isinstance(one, try_it.Step)]
    assert [(step.chain, step.t) for step in steps] == [(chain, t) for chain in ("guided", "mdps") for t in (60, 30, 0)]
    mask = what[-1].mask.astype(bool)
    assert 0 < mask.sum() < mask.size
    for step in steps[3:]:
        np.testing.assert_allclose(step.x_0[~mask], y[0][~mask], atol=1e-4)
        assert abs(step.x_0[mask] - y[0][mask]).max() > 1e-2


def test_a_scratch_changes_the_pixels_along_its_line_alone():
    pixels = try_it.picture("good", 0)
    assert (try_it.scratched(pixels, []) == pixels).all()
    changed = (try_it.scratched(pixels, [[[0.25, 0.5], [0.25, 0.5], [0.75, 0.5]]]) != pixels).any(axis=-1)
    rows, columns = np.nonzero(changed)
    middle, width = 0.5 * try_it.PICTURE, 3 * try_it.WIDTH * try_it.PICTURE
    assert abs(rows - middle).max() < width
    assert columns.min() > 0.25 * try_it.PICTURE - width and columns.max() < 0.75 * try_it.PICTURE + width
    assert changed[:, int(0.3 * try_it.PICTURE) : int(0.7 * try_it.PICTURE)].any(axis=0).all()


def test_a_dot_is_a_scratch():
    pixels = try_it.picture("good", 0)
    changed = (try_it.scratched(pixels, [[[0.5, 0.26]]]) != pixels).any(axis=-1)
    assert 1 <= changed.sum() < 60


def test_what_is_no_image_is_told_in_one_line(tmp_path):
    path = tmp_path / "washer.png"
    path.write_text("not a picture")
    answer = try_it.opened(path)
    assert answer.keys() == {"error"} and "washer.png" in answer["error"] and "\n" not in answer["error"]
    Image.fromarray(try_it.picture("rust", 1)).save(path)
    assert try_it.opened(path) == {"picture": try_it.drawn("rust", 1)}


def test_every_position_of_the_knobs_has_its_thresholds():
    choices = [sorted({row[name] for row in ROWS}) for name in try_it.KNOBS]
    assert sorted(tuple(row[name] for name in try_it.KNOBS) for row in ROWS) == list(itertools.product(*choices))
    assert {tuple(choice) for choice in choices} == {tuple(choice) for choice in try_it_thresholds.CHOICES.values()}
    for row in ROWS:
        assert len(row["good_scores"]) == try_it_thresholds.GOOD
        rate = try_it.USUAL.false_positive_rate
        assert row["decision_threshold"] == pytest.approx(threshold_at_rate(np.array(row["good_scores"]), rate), rel=1e-3)


def test_the_usual_position_is_the_packages_own():
    usual = re.search(r"const USUAL = (\{.*\});", (PAGE / "try_it.js").read_text())[1]
    knobs = json.loads(re.sub(r"(\w+):", r'"\1":', usual))
    assert row_of(**knobs)
    assert try_it.config_of(**knobs) == try_it.USUAL


def test_the_thresholds_are_those_of_the_command():
    (row,) = try_it_thresholds.rows({name: (value,) for name, value in CHEAP.items()}, try_it_thresholds.GOOD)
    expected = row_of(**CHEAP)
    assert row.pop("good_scores") == pytest.approx(expected.pop("good_scores"), rel=1e-2)
    assert row == pytest.approx(expected, rel=1e-3)


def test_a_scratch_is_flagged_where_it_is_and_the_good_washer_is_not():
    row = row_of(start=100, strength=1.0, samples=1, mask_share=0.05)
    good = try_it.picture("good", 0)
    assert not watched(good, row)["flagged"]
    found = watched(try_it.scratched(good, [[[0.6, 0.25], [0.76, 0.42]]]), row)
    assert found["flagged"]
    along = np.linspace(0, 1, 50)
    assert np.hypot(found["x"] - 0.6 - 0.16 * along, found["y"] - 0.25 - 0.17 * along).min() < 0.06


def test_what_is_told_has_the_sizes_that_the_page_expects():
    *steps, last = try_it.told(try_it.drawn("good", 1), json.dumps(row_of(**CHEAP)))
    side = try_it.USUAL.image_size
    assert {len(step[name]) for step in steps if "x_t" in step for name in ("x_t", "x_0")} == {3 * side**2}
    assert [len(last[name]) for name in ("mask", "anomaly", "sample")] == [side**2, 4 * side**2, 3 * side**2]
    json.dumps(last["verdict"])


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_the_page_names_no_other_server(path):
    assert re.findall(r"(?:https?:)?//[\w-]+\.\w[^\s\"']*", path.read_text()) == []


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_words_have_contrast(dark):
    schemes = re.findall(r":root \{(.*?)\}", (PAGE / "try_it.css").read_text(), re.DOTALL)
    colours = dict(re.findall(r"--([\w-]+): (#\w+)", schemes[dark]))
    for ground, words in itertools.product(("ground", "card"), ("ink", "soft", "link", "bad", "good")):
        assert contrast(colours[ground], colours[words]) >= 4.5, (ground, words)
        assert contrast(colours[ground], colours["edge"]) >= 3, (ground, "edge")
    assert contrast(colours["link"], colours["on-link"]) >= 4.5


def contrast(one, other):
    """WCAG's contrast of two colours, #rgb or #rrggbb."""
    low, high = sorted(map(luminance, (one, other)))
    return (high + 0.05) / (low + 0.05)


def luminance(code):
    digits = code[1:] if len(code) == 7 else "".join(2 * digit for digit in code[1:])
    values = [int(digits[k : k + 2], 16) / 255 for k in (0, 2, 4)]
    linear = [v / 12.92 if v <= 0.04045 else ((v + 0.055) / 1.055) ** 2.4 for v in values]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
