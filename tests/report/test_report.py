"""The report: complete, self-contained, true to its numbers, and there for every kind of test set."""

import dataclasses
import html.parser
import io
import re

import numpy as np
import pytest
from PIL import Image

from mdps_ref.report import figures
from mdps_ref.job.config import make_config
from mdps_ref.job.detect import Detection, Maps
from mdps_ref.job.evaluate import evaluate
from mdps_ref.report.html import STYLE
from mdps_ref.report.page import METRICS, Result, page, write_report
from mdps_ref.released.rules import leaks

SIDE = 16
KINDS = ("good", "good", "bent", "rust")


def fake_maps(rng, count, level):
    """Random Maps; level: of the anomaly maps, which differ from image to image."""
    anomaly = (level * rng.random((count, SIDE, SIDE)) * np.arange(1, count + 1)[:, None, None]).astype(np.float32)
    return Maps(
        x_0=rng.uniform(-1, 1, (count, SIDE, SIDE, 3)).astype(np.float32),
        difference=anomaly / 2,
        anomaly=anomaly,
        spread=anomaly / 3,
        score=anomaly.max(axis=(1, 2)),
        suspected=(rng.random((count, SIDE, SIDE)) > 0.5).astype(np.float32),
    )


def fake_result(defects=KINDS, masks=True, names=None, **settings):
    """A Result of random arrays with images of these kinds, its metrics as `evaluate` gives them."""
    rng = np.random.default_rng(0)
    count, config = len(defects), make_config({"image_size": SIDE, "samples": 2} | settings)
    plain, stage1, masked = (fake_maps(rng, count, level) for level in (0.1, 0.2, 0.5))
    detection = Detection(plain, stage1, masked, 0.0123) if config.masked else Detection(plain, masked, masked)
    defective = [kind != "good" for kind in defects]
    truths = [np.zeros((SIDE, SIDE), bool) for _ in defects]
    for i in np.flatnonzero(defective):
        truths[i][2:6, : 4 + i] = True
    truths = [truth if masks or not bad else None for truth, bad in zip(truths, defective, strict=True)]
    held_out = rng.random(5).astype(np.float32)
    return Result(
        config=config,
        images=rng.uniform(-1, 1, (count, SIDE, SIDE, 3)).astype(np.float32),
        names=names or [f"test/{kind}/{i:03}" for i, kind in enumerate(defects)],
        defects=list(defects),
        truths=truths,
        detection=detection,
        held_out_scores=held_out,
        metrics=evaluate(detection, held_out, defective, truths, config),
        log=np.stack([np.geomspace(1, 0.01, 70), np.ones(70)], axis=1),
        seconds={"training": 12.34},
        versions={"numpy": "9.8.7"},
    )


def written(folder, result):
    """The page's text."""
    return write_report(folder, result).read_text(encoding="utf-8")


def blank(result):
    """The page with all its words and blank figures, which take no time."""
    return page(result, dict.fromkeys(("differences", "gallery", "scores", "curves", "loss"), b""))


class Elements(html.parser.HTMLParser):
    """The names and attributes of a page's elements, its shown text, and the elements that were left open."""

    def __init__(self, page):
        super().__init__()
        self.elements, self.text, self.open = [], "", []
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        if tag not in ("meta", "img"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += data


@pytest.fixture(scope="module", autouse=True)
def coarse():
    """Small PNGs: they are drawn faster."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("mdps_ref.report.DOTS_PER_INCH", 40)
        yield


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A Result, the folder of its report, and the page."""
    folder = tmp_path_factory.mktemp("report")
    result = fake_result()
    return result, folder, written(folder, result)


def test_the_page_needs_nothing_from_outside_and_runs_nothing(whole):
    page = Elements(whole[2])
    links = [value for _, attributes in page.elements for name, value in attributes.items() if name in ("src", "href", "srcset", "data")]
    assert len(links) == 5
    assert all(link.startswith("data:image/png;base64,") for link in links)
    assert not {tag for tag, _ in page.elements} & {"script", "link", "iframe", "object", "base"}
    assert "url(" not in whole[2] and "@import" not in whole[2]
    assert page.open == []


def test_every_metric_stands_on_the_page(whole):
    result, _, page = whole
    cells = Elements(page).text
    for kind in ("mdps", "stage_1", "reconstruction"):
        for name, metric in METRICS.items():
            assert format(result.metrics[kind][name], metric.form) in cells, (kind, name)
    assert f"{result.metrics['mdps']['decision_threshold']:.4g}" in cells
    assert f"{result.metrics['mdps']['f1']:.3f}" in cells
    assert "0.0123" in cells
    assert set(result.metrics["stage_1"]) == METRICS.keys()
    assert "not defined" not in cells


def test_what_the_page_uses_is_styled_and_what_is_styled_is_used(whole):
    used = {name for _, attributes in Elements(whole[2]).elements for name in attributes.get("class", "").split()}
    assert used | {"note"} == set(re.findall(r"\.([a-z]+)", STYLE))


def test_an_image_that_depends_on_others_is_told_below_the_summary(monkeypatch):
    assert 'class="note"' not in page(fake_result(), {})
    asked = []
    monkeypatch.setattr("mdps_ref.report.leaks", lambda config: asked.append(config) or ["One norm a <batch>.", "The whole test set."])
    result = fake_result()
    text = page(result, {})
    note = text[text.index('<div class="note"') : text.index("</div>")]
    assert note.count("<li>") == 2 and "<li>One norm a &lt;batch&gt;.</li>" in note and "<li>The whole test set.</li>" in note
    assert text.index("<b>Found.</b>") < text.index(note) < text.index("<h2>")
    assert asked == [result.config]
    assert Elements(text).open == []


def test_what_the_released_rules_let_leak_stands_on_the_page():
    result = fake_result(rules="released")
    text = Elements(page(result, {})).text
    assert len(leaks(result.config)) == 3
    assert [sentence for sentence in leaks(result.config) if sentence not in text] == []


def test_without_a_mask_no_chain_is_shown_twice_and_no_word_is_of_a_mask():
    result = fake_result(masked=False)
    text = Elements(blank(result)).text.partition("Settings")[0]
    assert "without a mask" in text and "MDPS, no mask" in text
    assert "mask" not in re.sub("Masked diffusion|no mask|without a mask|true masks", "", text)
    assert "stage" not in text and "suspected" not in text
    table = blank(result).partition('<table class="metrics">')[2].partition("</table>")[0]
    assert table.count('<td class="number">') == 2 * len(METRICS)
    ticks = figures.differences(result).axes[0].get_yticklabels()
    assert [tick.get_text() for tick in ticks] == ["MDPS, no mask", "plain reconstruction"]
    for axes in figures.curves(result).axes:
        assert [line.get_text().partition(":")[0] for line in axes.get_legend().get_texts()] == ["MDPS, no mask", "plain reconstruction"]


def test_the_timesteps_that_the_stages_start_from_are_told():
    same, other = (Elements(page(fake_result(stage1_start=start, stage2_start=200), {})).text for start in (200, 250))
    assert "to timestep 200 of 1000" in same and "to timestep 200 of 1000" in other
    assert "stage 1, from timestep 250, holds" in other and "stage 1 holds" in same


def test_a_centre_that_alone_is_judged_is_told():
    assert "Only the centre" not in page(fake_result(), {})
    assert "Only the centre of each image is shown and judged, 16 × 16 of 32 × 32 pixels." in page(fake_result(image_size=32), {})


def test_the_best_of_a_row_is_bold_whichever_way_is_better(whole):
    result, _, page = whole
    for name in ("good_difference", "defect_difference"):
        values = [result.metrics[kind][name] for kind in ("mdps", "stage_1", "reconstruction")]
        best = (min if name == "good_difference" else max)(values)
        assert [f"<b>{value:.4f}</b>" in page for value in values] == [value == best for value in values]


def test_every_setting_timing_and_version_stands_on_the_page(whole):
    result, _, page = whole
    for name, value in dataclasses.asdict(result.config).items():
        assert f"<dt>{name}</dt><dd>{value or '–' if isinstance(value, str) else value}</dd>" in page
    assert "12.3 s" in page and "9.8.7" in page


def test_the_kinds_table_counts_and_flags():
    result = fake_result(("good", "good", "rust", "bent", "bent", "bent"))
    scores = np.array([1, 2, 6, 3, 6, 8], np.float32)
    detection = dataclasses.replace(result.detection, masked=dataclasses.replace(result.detection.masked, score=scores))
    metrics = result.metrics | {"mdps": result.metrics["mdps"] | {"decision_threshold": 3.0}}
    text = page(dataclasses.replace(result, detection=detection, metrics=metrics), {})
    rows = [line for line in text.splitlines() if line.startswith("<tr><th>") and " %</td>" in line]
    texts = [Elements(row).text for row in rows[-3:]]
    assert texts == ["good21.50000 %", "bent35.666767 %", "rust16.0000100 %"]  # a score at the threshold is not flagged
    assert "3 of 4 defective and 0 of 2 good images were flagged" in text


def test_figures_are_written_and_are_those_on_the_page(whole):
    _, folder, page = whole
    paths = sorted((folder / "figures").iterdir())
    assert [path.name for path in paths] == ["curves.png", "differences.png", "gallery.png", "loss.png", "scores.png"]
    for path in paths:
        with Image.open(path) as image:
            image.load()
            assert image.format == "PNG" and image.width == 40 * figures.WIDTH
            assert not image.text


def test_the_same_result_gives_the_same_bytes(whole, tmp_path):
    result, folder, _ = whole
    write_report(tmp_path, result)
    for name in ("report.html", *(f"figures/{name}.png" for name in ("curves", "differences", "gallery", "loss", "scores"))):
        assert (tmp_path / name).read_bytes() == (folder / name).read_bytes()


def test_names_are_shown_and_never_become_markup(tmp_path):
    kind = "<b>&\"'$\\q$"  # between dollars matplotlib would see broken mathematics
    result = fake_result(("good", kind), names=["test/good/<i>0", f"test/{kind}/一\udcff\n$"], category='a<script>"&')
    page = written(tmp_path, result)
    parsed = Elements(page)
    assert "<script" not in page and kind not in page
    assert kind in parsed.text and 'a<script>"&' in parsed.text
    assert parsed.open == []


def test_a_name_that_is_no_utf_8_does_not_stop_the_report(tmp_path):
    assert "b?d" in written(tmp_path, fake_result(("good", "b\udce4d"), category="caf\udce9"))


@pytest.mark.parametrize(
    ("defects", "masks", "undefined"),
    [
        (("good",), True, 6),
        (("rust",), True, 4),
        (KINDS, False, 4),
        (("rust",), False, 7),
    ],
)
def test_a_metric_that_is_not_defined_says_so_and_why(tmp_path, defects, masks, undefined):
    result = fake_result(defects, masks)
    page = written(tmp_path, result)
    none = [name for name in METRICS if result.metrics["mdps"][name] is None]
    assert len(none) == undefined
    assert page.count('<td class="number">not defined</td>') == 3 * undefined
    assert page.count("Not defined where there are no ") == undefined
    assert ("<b>not defined</b>; it needs" in page) == (result.metrics["mdps"]["f1"] is None)
    assert "nan" not in Elements(page).text.lower().split()


def test_good_images_that_come_back_exactly_are_drawn_and_told(tmp_path):
    result = fake_result()
    masked = dataclasses.replace(result.detection.masked, difference=np.zeros((4, SIDE, SIDE), np.float32))
    detection = dataclasses.replace(result.detection, masked=masked)
    labels = [kind != "good" for kind in result.defects]
    metrics = evaluate(detection, result.held_out_scores, labels, result.truths, result.config)
    page = written(tmp_path, dataclasses.replace(result, detection=detection, metrics=metrics))
    assert "<b>0.0000</b>" in page and "not defined" in page


def test_all_zero_maps_and_loaded_weights(tmp_path):
    result = fake_result(weights="there.npz")
    zero = np.zeros((4, SIDE, SIDE), np.float32)
    masked = dataclasses.replace(result.detection.masked, anomaly=zero, spread=zero, score=zero[:, 0, 0])
    result = dataclasses.replace(result, detection=dataclasses.replace(result.detection, masked=masked), log=np.zeros((0, 2)))
    page = written(tmp_path, result)
    assert not (tmp_path / "figures" / "loss.png").exists()
    assert "no curve" in page and "loaded from a checkpoint" in page and "there.npz" in page


def overlays(figure, cmap):
    """The maps (not the colour images) of a gallery that are drawn with this colour map."""
    return [image for axes in figure.axes for image in axes.images if image.cmap.name == cmap and image.get_array().ndim == 2]


@pytest.mark.parametrize("shown", [(0, 1, 2, 3), (0,)])
def test_all_maps_share_the_test_sets_colour_scale(shown):
    result = fake_result()
    figure = figures.gallery(result, shown)
    masked = result.detection.masked
    for cmap, maps, a_row in ((figures.HEAT, masked.anomaly, 2), (figures.SPREAD, masked.spread, 1)):
        drawn = overlays(figure, cmap)
        assert len(drawn) == a_row * len(shown)
        assert {(image.norm.vmin, image.norm.vmax) for image in drawn} == {(0, float(np.percentile(maps, 99.5)))}


def test_a_gallery_row_shows_what_its_title_says():
    result = fake_result()
    figure = figures.gallery(result, [2, 0])
    first = figure.axes[:8]
    shown = [axes.images[-1].get_array() for axes in first]
    plain, masked = result.detection.plain, result.detection.masked
    expected = (result.images, plain.x_0, plain.anomaly, masked.suspected, masked.x_0, masked.anomaly, masked.spread, result.images)
    for picture, source in zip(shown, expected, strict=True):
        pixels = source[2]
        np.testing.assert_allclose(picture, (pixels + 1) / 2 if pixels.ndim == 3 else pixels, atol=1e-6)
    assert first[7].collections and not figure.axes[15].collections  # only a defect has an outline


@pytest.mark.parametrize(("masked", "samples"), [(True, 2), (True, 1), (False, 2), (False, 1)])
def test_the_gallery_has_a_mask_and_a_spread_only_where_there_are_any(masked, samples):
    result = fake_result(masked=masked, samples=samples)
    figure = figures.gallery(result, [2, 0])
    titles = [axes.get_title() for axes in figure.axes]
    count = 6 + masked + (samples > 1)
    own = (["mask $m$"] * masked) + ["$x_0$, a sample" if samples > 1 else "$x_0$", "anomaly map"] + ["spread"] * (samples > 1)
    assert titles[:count] == ["test image $y$", "$x_0$", "anomaly map", *own, "true defect"]
    assert [text.get_text() for text in figure.texts] == ["plain reconstruction", "MDPS" if masked else "MDPS, no mask"]
    assert len(figure.axes) == 2 * count + 1 + (samples > 1)  # two rows, and the colour bars
    assert [len(overlays(figure, cmap)) for cmap in (figures.HEAT, figures.SPREAD)] == [4, 2 * (samples > 1)]
    assert figure.axes[count - 1].collections
    caption = blank(result).partition("test images, by file name")[2].partition("</figcaption>")[0]
    assert ("mask" in caption, "spread" in caption) == (masked, samples > 1)


def test_the_ticks_of_a_colour_bar_stand_evenly_apart():
    result = fake_result()
    bars, own = figures.gallery(result, [2]).axes[-2:], result.detection.masked
    for axes, maps in zip(bars, (own.anomaly, own.spread), strict=True):
        ticks = axes.xaxis.get_ticklocs()
        assert ticks[0] == 0 and ticks[-1] == pytest.approx(np.percentile(maps, 99.5))
        np.testing.assert_allclose(np.diff(axes.transData.transform(np.stack([ticks, ticks], 1))[:, 0], n=2), 0, atol=1e-6)


@pytest.mark.parametrize(
    ("defective", "score", "words"),
    [(True, 2, "flagged"), (True, 1, "passed: missed"), (False, 2, "flagged: false alarm"), (False, 0, "passed")],
)
def test_the_decision_beside_an_image(defective, score, words):
    result = fake_result(("rust" if defective else "good",))
    masked = dataclasses.replace(result.detection.masked, score=np.array([score], np.float32))
    result = dataclasses.replace(result, detection=dataclasses.replace(result.detection, masked=masked))
    result.metrics["mdps"]["decision_threshold"] = 1.0
    texts = [text.get_text() for text in figures.gallery(result, [0]).axes[0].texts]
    assert words in texts


def test_choose_takes_good_images_first_and_every_kind():
    defects = ["bent"] * 5 + ["good"] * 9 + ["rust"] * 1 + ["scratch"] * 5
    result = dataclasses.replace(fake_result(), defects=defects)
    for limit in range(3, 25):
        chosen = figures.choose(result, limit)
        kinds = [defects[i] for i in chosen]
        assert chosen == figures.choose(result, limit)
        assert len(set(chosen)) == len(chosen) == min(limit, len(defects))
        assert {"bent", "rust", "scratch"} <= set(kinds)
        assert ("good" in kinds) == (limit > 3)
        assert kinds == sorted(kinds, key=lambda kind: (kind != "good", kind))
    assert figures.choose(result, 8) == [5, 6, 0, 1, 2, 14, 15, 16]
    assert figures.choose(result, 2) == [0, 14]


def test_a_scale_of_nothing_still_has_a_top():
    assert figures.heat_limit(np.zeros((2, 3, 3))) == 1


def test_choose_with_one_class_only():
    assert figures.choose(dataclasses.replace(fake_result(), defects=["good"] * 3), 12) == [0, 1, 2]
    assert figures.choose(dataclasses.replace(fake_result(), defects=["rust"] * 20), 12) == list(range(12))


def test_curves_carry_the_areas_and_stop_where_pro_stops():
    result = fake_result()
    figure = figures.curves(result)
    for axes, metric in zip(figure.axes, ("image_auroc", "pixel_auroc", "aupro"), strict=True):
        texts = [text.get_text() for text in axes.get_legend().get_texts()]
        assert [text.rpartition(" ")[2] for text in texts] == [f"{result.metrics[kind][metric]:.3f}" for kind in figures.CHAINS]
    assert figure.axes[2].get_xlim() == (0, 0.3)
    lines = {line.get_label().partition(":")[0]: line for line in figure.axes[1].lines}
    x, y = lines["MDPS"].get_data()
    assert np.trapezoid(y, x) == pytest.approx(result.metrics["mdps"]["pixel_auroc"], abs=1e-3)


def test_a_curve_of_many_points_keeps_its_shape():
    x, y = np.append(np.zeros(50_000), np.linspace(0, 1, 50_000)), np.append(np.linspace(0, 0.9, 50_000), np.linspace(0.9, 1, 50_000))
    thin_x, thin_y = figures._thinned(x, y)
    assert len(thin_x) <= 2000
    assert (thin_x[0], thin_y[0], thin_x[-1], thin_y[-1]) == (0, 0, 1, 1)
    assert max(np.diff(thin_x).max(), np.diff(thin_y).max()) < 0.002


def test_the_shares_named_beside_the_differences():
    result = fake_result()
    for kind, good, defect in (("mdps", 0.01, 0.27), ("stage_1", 0.2, 0.3), ("reconstruction", 0.1, 0.3)):
        result.metrics[kind] |= {"good_difference": good, "defect_difference": defect, "contrast": defect / good}
    texts = [text.get_text() for text in figures.differences(result).axes[0].texts]
    assert "contrast 27.0\n10.0× closer on good images\n90 % of the difference in defects" in texts
    assert "contrast 1.5\n2.0× farther on good images\n100 % of the difference in defects" in texts


@pytest.mark.parametrize(("own", "words"), [(0.1001, "as close"), (0.0999, "as close"), (0.09, "1.1× closer"), (0.11, "1.1× farther")])
def test_closeness_in_words(own, words):
    text = figures.closeness({"good_difference": own}, {"good_difference": 0.1})
    assert text == f"{words} on good images"


def test_differences_beyond_the_pixel_range_stay_in_sight():
    result = fake_result()
    result.metrics["mdps"]["defect_difference"] = 50.0
    low, high = figures.differences(result).axes[0].get_xlim()
    assert (low, high) == (figures.SMALLEST, 75)


def test_the_loss_is_averaged_over_the_steps_around():
    figure = figures.loss_curve(np.array([[4.0, 1], [2, 1], [3, 1]]))
    raw, mean = figure.axes[0].lines
    assert list(raw.get_ydata()) == [4, 2, 3]
    assert list(mean.get_ydata()) == [3, 3, 3]
    long = figures.loss_curve(np.stack([np.arange(200.0) + 1, np.ones(200)], 1)).axes[0].lines[1].get_ydata()
    assert long[100] == pytest.approx(np.mean(np.arange(77, 127)))


def test_figures_leave_no_global_state():
    pyplot = pytest.importorskip("matplotlib.pyplot")
    figures.curves(fake_result()).savefig(io.BytesIO(), format="png")
    assert pyplot.get_fignums() == []


def test_scores_that_differ_by_rounding_alone_have_a_histogram():
    result = fake_result()
    score = np.float32(1) + np.arange(4, dtype=np.float32) * np.finfo(np.float32).eps
    masked = dataclasses.replace(result.detection.masked, score=score)
    held_out = np.full_like(result.held_out_scores, 1)
    figures.score_histogram(
        dataclasses.replace(result, detection=dataclasses.replace(result.detection, masked=masked), held_out_scores=held_out)
    )
