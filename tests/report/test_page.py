"""The page: complete, self-contained, true to its numbers, and there for every kind of test set."""

import dataclasses
import html.parser
import re

import numpy as np
import pytest
from PIL import Image

from mdps_ref.released.rules import leaks
from mdps_ref.report.html import STYLE
from mdps_ref.report.page import page, write_report
from mdps_ref.report.style import CHAINS, HALF, THIRD, WIDTH
from mdps_ref.report.tables import METRICS

FIGURES = ["differences", "loss", "pro", "roc-images", "roc-pixels", "scores", "uncertainty"]


class Elements(html.parser.HTMLParser):
    """The names and attributes of a page's elements, its shown text, and the elements that were left open."""

    def __init__(self, page):
        super().__init__()
        self.elements, self.text, self.open = [], "", []
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        if tag not in ("meta", "img", "br"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += data


def written(folder, result):
    """The text of the page that write_report writes."""
    return write_report(folder, result).read_text(encoding="utf-8")


def without_settings(result):
    """The shown text of the page, with blank figures, up to the settings."""
    return Elements(page(result, dict.fromkeys(FIGURES, b""))).text.partition("Settings")[0]


@pytest.fixture(scope="module", autouse=True)
def coarse():
    """Small PNGs: they are drawn faster."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("mdps_ref.report.style.DOTS_PER_INCH", 40)
        yield


@pytest.fixture(scope="module")
def whole(tmp_path_factory, fake_result):
    """A Result, the folder of its report, and the page."""
    folder = tmp_path_factory.mktemp("report")
    result = fake_result()
    return result, folder, written(folder, result)


def test_the_page_needs_no_other_file_and_runs_nothing(whole):
    result, _, text = whole
    page, pictures = Elements(text), (2 + 7) * len(result.shown) + 2 * result.defects.count("good") + 2 * len(result.mistakes.indices)
    links = [value for _, attributes in page.elements for name, value in attributes.items() if name in ("src", "href", "srcset", "data")]
    assert len(links) == len(FIGURES) + pictures
    assert all(link.startswith("data:image/png;base64,") for link in links)
    assert [name for _, attributes in page.elements for name in attributes if name == "href" or name.startswith("on")] == []
    assert not {tag for tag, _ in page.elements} & {"script", "link", "iframe", "object", "base"}
    assert "url(" not in text and "@import" not in text
    assert page.open == []


def test_the_browser_is_told_to_run_and_to_load_nothing(whole):
    elements = Elements(whole[2]).elements
    policy = {"http-equiv": "Content-Security-Policy", "content": "default-src 'none'; img-src data:; style-src 'unsafe-inline'"}
    assert elements.index(("meta", policy)) < elements.index(("style", {}))  # a policy holds only for what comes after it


def test_every_metric_stands_on_the_page(whole):
    result, _, page = whole
    cells = Elements(page).text
    for chain in CHAINS:
        for name, metric in METRICS.items():
            assert format(result.metrics[chain][name], metric.form) in cells, (chain, name)
        for name, (low, high) in result.metrics[chain]["intervals"].items():
            assert f"{low:{METRICS[name].form}}–{high:{METRICS[name].form}}" in cells, (chain, name)
    assert result.metrics["mdps"]["intervals"].keys() == {"image_auroc", "image_average_precision", "pixel_auroc", "aupro", "contrast"}
    assert f"{result.threshold:.4g}" in cells
    assert f"{result.metrics['mdps']['f1']:.3f}" in cells
    assert "0.0123" in cells
    others = {"pixel_auroc_error", "aupro_error", "intervals", "interval_error"}
    assert set(result.metrics["guided"]) == METRICS.keys() | others
    assert "not defined" not in cells


def test_what_the_page_uses_is_styled_and_what_is_styled_is_used(whole):
    used = {name for _, attributes in Elements(whole[2]).elements for name in attributes.get("class", "").split()}
    assert used | {"note", "wide"} == set(re.findall(r"\.([a-z]+)", STYLE))


def test_a_note_tells_how_test_images_change_each_other(fake_result, monkeypatch):
    result = fake_result(rules="released")
    text = Elements(page(result, {})).text
    assert len(leaks(result.config)) == 3
    assert [sentence for sentence in leaks(result.config) if sentence not in text] == []
    assert 'class="note"' not in page(fake_result(), {})
    monkeypatch.setattr("mdps_ref.report.sentences.leaks", lambda config: ["One norm a <batch>."] if config is result.config else [])
    text = page(result, {})
    note = text[(start := text.index('<div class="note"')) : text.index("</div>", start)]
    assert "<li>One norm a &lt;batch&gt;.</li>" in note
    assert text.index("<h1>") < text.index(note) < text.index("<h2>")
    assert Elements(text).open == []


def test_a_warning_of_too_little_training_comes_before_all_numbers_but_the_verdict(fake_result):
    text = page(fake_result(warning="the network is trained <too> little"), {})
    note = text[text.index('<div class="note"') : text.index("</div>", text.index('<div class="note"'))]
    assert "is trained &lt;too&gt; little" in note
    assert text.index('class="lead"') < text.index(note) < text.index("<h2>")


def test_the_check_of_the_training_and_the_uncertainty_stand_on_the_page(fake_result):
    result = fake_result(("good", "good", "rust", "rust"), mdps={"score": np.array([1, 6, 2, 8], np.float32)}, threshold=3.0)
    text = without_settings(result)
    assert [number for number in ("0.11", "0.22", "0.033", "0.044", "enough? Yes") if number not in text] == []
    result.metrics["trained_enough"]["enough"] = False
    assert "enough? No" in without_settings(result)
    result.metrics["uncertainty"] |= {"wrong": 2, "error": 0.5, "set_aside": 1, "drop": {"spread": 0.17, "distance": -0.03}}
    text = without_settings(result)
    assert "2 of 4 decisions" in text and "falls by 17.0" in text and "rises by 3.0" in text
    result.metrics["uncertainty"] |= {"wrong": 0, "error": 0.0}
    assert "None of the 4 decisions is wrong" in without_settings(result)


def test_a_test_set_too_large_for_intervals_says_so(fake_result, monkeypatch):
    monkeypatch.setattr("mdps_ref.job.evaluate.MOST_RESAMPLED", 3)
    result = fake_result()
    assert {chain.tally for chain in result.chains.values()} == {None}
    assert "No intervals" in without_settings(result) and "interval_error" in result.metrics["mdps"]


def test_without_a_mask_the_page_names_neither_the_guided_chain_nor_a_mask(fake_result):
    result = fake_result(masked=False)
    text = without_settings(result)
    assert "MDPS, no mask" in text
    assert "mask" not in re.sub("Masked diffusion|no mask|true masks", "", text)
    assert "guided" not in text and "suspected" not in text
    table = page(result, {}).partition('<table class="metrics">')[2].partition("</table>")[0]
    assert table.count('<td class="number">') == 2 * len(METRICS)


def test_the_settings_that_the_summary_and_the_captions_tell(fake_result):
    same, other = (without_settings(fake_result(guided_start=start, mdps_start=200)) for start in (200, 250))
    assert "timestep 200" in same and "timestep 200" in other
    assert "timestep 250" in other and "timestep 250" not in same
    centre, whole = without_settings(fake_result(image_size=32)), same
    assert "16 × 16 of 32 × 32" in centre and " of 32 × 32" not in whole
    assert "spread" in without_settings(fake_result()) and "spread" not in without_settings(fake_result(samples=1))


def test_every_setting_timing_and_version_stands_on_the_page(whole):
    result, _, page = whole
    for name, value in dataclasses.asdict(result.config).items():
        assert f"<dt>{name}</dt><dd>{value or '–' if isinstance(value, str) else value}</dd>" in page
    assert "12.3 s" in page and "9.8.7" in page


@pytest.mark.parametrize(("rules", "of_detection"), [("paper", False), ("released", True)])
def test_settings_of_the_training_are_marked_where_there_was_none(rules, of_detection, fake_result):
    """Under the released rules test images share a batch, too."""
    listed = re.findall("<dt>([^<]*)</dt><dd>[^<]*\\(not used\\)</dd>", page(fake_result(weights="there.npz", rules=rules), {}))
    batch = [] if of_detection else ["batch_size"]
    trained = ["learning_rate", "clip_norm", "weight_decay", "l2", "ema_decay", "warm_up_steps", "decay_share", "augment"]
    assert listed == ["train_steps", *batch, *trained, "checkpoint_every"]
    assert "<dd> (" not in page(fake_result(weights="there.npz", augment=""), {})
    assert "not used" not in page(fake_result(), {}).partition("Settings</h2>")[2]


def test_the_page_counts_the_wrong_decisions_and_says_how_many_are_shown(fake_result):
    told = without_settings(fake_result(("good", "rust"), mdps={"score": np.array([1, 2], np.float32)}, threshold=1.5))
    assert "None of the 2 decisions is wrong" in told
    defects = ("good",) * 2 + ("rust",) * 30
    result = fake_result(defects, mdps={"score": np.append([1, 2], np.ones(30)).astype(np.float32)}, threshold=1.5, shown=[0])
    assert "31 of 32 decisions are wrong: 30 missed defective images and 1 false alarm. 12 are shown" in without_settings(result)


def test_a_finer_scale_is_named_where_the_overlays_have_one(fake_result):
    """An overlay's scale ends at 6 thresholds, that of the page at a quantile of the maps."""
    defects, score = ("good", "rust"), np.array([3, 4], np.float32)

    def told(top, threshold=1.0):
        anomaly = np.full((2, 16, 16), top, np.float32)
        return "--overlays" in without_settings(fake_result(defects, mdps={"anomaly": anomaly, "score": score}, threshold=threshold))

    assert [told(top) for top in (5.9, 6.1)] == [False, True]
    assert not told(6.1, threshold=3.5), "no decision is wrong"


@pytest.mark.parametrize(("defects", "of_each"), [(("good", "good", "rust"), True), (("good", "good"), False)])
def test_the_draws_of_the_intervals_are_counted(defects, of_each, fake_result):
    result = fake_result(defects)
    result.metrics["mdps"]["intervals"] = {"image_auroc": [0.5, 1]}
    (sentence,) = re.findall(r"We drew[^.]*\.", without_settings(result))
    assert re.findall(r"[\d,]*\d", sentence) == [str(len(defects)), "1,000", *(["2", "1"] if of_each else [])]


def test_the_kinds_table_counts_and_flags(fake_result):
    scores = np.array([1, 2, 6, 3, 6, 8], np.float32)
    result = fake_result(("good", "good", "rust", "bent", "bent", "bent"), mdps={"score": scores}, threshold=3.0)
    text = page(result, {})
    rows = [line for line in text.splitlines() if line.startswith("<tr><th>") and " %</td>" in line]
    texts = [Elements(row).text for row in rows[-3:]]
    assert texts == ["good21.50000 %", "bent35.666767 %", "rust16.0000100 %"]  # a score at the threshold is not flagged
    assert "3 of 4" in text and "0 of 2" in text


def images_section(result):
    """The lines of the section on images."""
    section = page(result, {}).partition("<h2>Images</h2>")[2].partition("<h2>")[0]
    return [Elements(line).text for line in re.findall("<li>(.*?)</li>", section)]


def test_the_page_tells_what_the_run_told_and_over_what_the_metrics_are(fake_result):
    told = ["7 good images to train on", "1 file was set aside"]
    *lines, over = images_section(fake_result(told=told))
    assert lines == told
    assert re.findall(r"[\d,]*\d", over) == ["2", "2", "972", "52"]  # images; pixels: 4 x 16 x 16, of which 4 x 6 and 4 x 7 are anomalous
    over = images_section(fake_result(masks=False))[-1]
    assert re.findall(r"[\d,]*\d", over) == ["2", "2", "2", "512", "0"] and "without a mask" in over


def test_a_rounding_error_is_told_only_where_there_is_one(fake_result):
    result = fake_result(masks=False)
    errors = [(result.metrics[chain], name) for chain in CHAINS for name in ("pixel_auroc_error", "aupro_error")]
    assert len(images_section(result)) == 1
    for share, (metrics, name) in enumerate(errors, 1):
        metrics[name] = share / 10  # the largest so far
        assert str(share / 10) in images_section(result)[1]
    for metrics, name in errors:
        metrics[name] = None
    assert len(images_section(result)) == 1


def test_figures_are_written_and_are_those_on_the_page(whole):
    _, folder, page = whole
    paths = sorted((folder / "figures").iterdir())
    assert [path.stem for path in paths] == FIGURES
    for path in paths:
        with Image.open(path) as image:
            image.load()
            assert image.format == "PNG" and image.width in (40 * WIDTH, 40 * HALF, 40 * THIRD)
            assert not image.text


def test_the_same_result_gives_the_same_bytes(whole, tmp_path):
    result, folder, _ = whole
    write_report(tmp_path, result)
    for name in ("report.html", *(f"figures/{name}.png" for name in FIGURES)):
        assert (tmp_path / name).read_bytes() == (folder / name).read_bytes()


def test_names_are_shown_and_never_become_markup(tmp_path, fake_result):
    kind = "<b>&\"'$\\q$"  # between dollars matplotlib would see broken mathematics
    names, told = ["test/good/<i>0", f"test/{kind}/<script>'\"一\udcff\n$"], "</li><img src='x' onerror=\"y\"><script>&amp;"
    result = fake_result(("good", kind), names=names, told=[told, "b\udce4d"], category='a<script>"&', threshold=-1.0)
    page = written(tmp_path, result)
    parsed = Elements(page)
    assert "<script" not in page and kind not in page
    assert [text for text in (kind, told, 'a<script>"&') if text not in parsed.text] == []
    assert result.mistakes.indices == [0]
    assert len([tag for tag, _ in parsed.elements if tag == "img"]) == len(FIGURES) + 9 + 9 + 2 + 2  # and the good and the wrong one again
    assert parsed.open == []
    assert "b?d" in without_settings(fake_result(("good", "b\udce4d"), category="caf\udce9"))  # a file name that is no UTF-8


@pytest.mark.parametrize(
    ("defects", "masks", "undefined"),
    [
        (("good",), True, 6),
        (("rust",), True, 4),
        (("good", "good", "bent", "rust"), False, 4),
        (("rust",), False, 7),
    ],
)
def test_a_metric_that_is_not_defined_says_so_and_why(tmp_path, defects, masks, undefined, fake_result):
    result = fake_result(defects, masks)
    page = written(tmp_path, result)
    none = [metric for name, metric in METRICS.items() if result.metrics["mdps"][name] is None]
    assert len(none) == undefined
    assert page.count('<td class="number">not defined</td>') == 3 * undefined
    rows = {row.partition("</th>")[0]: row for row in page.split("<tr><th>")}
    assert [metric.name for metric in none if metric.needs not in rows[metric.name]] == []
    assert ("<b>not defined</b>" in page) == (result.metrics["mdps"]["f1"] is None)
    assert "nan" not in Elements(page).text.lower().split()


def test_good_images_that_come_back_exactly_are_drawn_and_told(tmp_path, fake_result):
    page = written(tmp_path, fake_result(mdps={"difference": np.zeros((4, 16, 16), np.float32)}))
    assert '<td class="number">0.0000' in page and "not defined" in page


def test_all_zero_maps_and_loaded_weights(tmp_path, fake_result):
    zero = np.zeros((4, 16, 16), np.float32)
    result = fake_result(weights="there.npz", mdps={"anomaly": zero, "spread": zero, "score": zero[:, 0, 0]})
    before_settings = written(tmp_path, dataclasses.replace(result, log=np.zeros((0, 2)))).partition("<h2>Settings")[0]
    assert not (tmp_path / "figures" / "loss.png").exists()
    assert "there.npz" in before_settings


def test_the_unit_of_maps_is_told_where_they_are_surprisals(fake_result):
    tails = ";".join(2 * ["1,2,3,4,5,6,7,8,9,0.5"])
    assert "nats" in without_settings(fake_result(features="unet", tails=tails))
    assert "nats" not in without_settings(fake_result(features="unet"))


def test_the_page_tells_that_the_guided_map_is_part_of_the_result(fake_result):
    assert "2.5 times" in without_settings(fake_result(guided_weight=2.5))
    assert "times, to the maps" not in without_settings(fake_result())
