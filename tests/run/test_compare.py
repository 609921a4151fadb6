"""`python -m mdps_ref.compare`: two runs on the same test images."""

import shutil

import numpy as np
import pytest
from PIL import Image

from mdps_ref import compare
from mdps_ref.scoring import metrics
from mdps_ref.scoring.intervals import Interval


@pytest.fixture(scope="module")
def other(place, call):
    """A run on the same images as `done`, with another seed; every image has another map then."""
    assert call("--out", place / "other", "--seed", "1", "--quiet") == 0
    return place / "other"


@pytest.fixture
def copied(other, tmp_path):
    """A copy of that run, to be spoilt."""
    return shutil.copytree(other, tmp_path / "copied")


def refusal(capsys, *folders):
    """The line of a comparison that is refused."""
    assert compare.main([str(folder) for folder in folders]) == 2
    out, err = capsys.readouterr()
    assert out == "" and err.count("\n") == 1
    return err


def test_a_run_is_as_good_as_itself(done, capsys):
    assert compare.main([str(done), str(done)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "the settings are alike"
    rows = [line for line in lines if "auroc" in line or "aupro" in line]
    assert len(rows) == 3 and all(row.endswith("0.000 [0.000, 0.000]") for row in rows)


def test_values_are_those_of_the_scores_and_of_the_maps_at_the_images_own_size(done, other):
    one, second = (compare.Results(folder) for folder in (done, other))
    found = compare.compared(one, second)
    for run, place in ((one, 0), (second, 1)):
        good, defective = run.scores[~run.labels], run.scores[run.labels]
        wins = [(d > g) + (d == g) / 2 for d in defective for g in good]
        assert found["image auroc"][place].value == pytest.approx(np.mean(wins))
        pairs = [(truth, anomaly) for truth, anomaly in zip(run.truths(), run.maps(), strict=True) if truth is not None]
        truth, anomaly = (np.concatenate([part.ravel() for part in parts]) for parts in zip(*pairs, strict=True))
        assert found["pixel auroc"][place].value == pytest.approx(metrics.auroc(truth, anomaly), abs=1e-3)
    for before, after, difference in found.values():
        assert difference.value == pytest.approx(after.value - before.value)
        assert difference.low <= difference.value <= difference.high
    assert found["pixel auroc"][2].value != 0


@pytest.mark.parametrize("most", [24, 512])
def test_maps_and_masks_are_squares_of_the_images_longer_side(most, done, sizes, monkeypatch):
    monkeypatch.setattr(compare, "MOST_SIDE", most)
    results = compare.Results(done)
    for item, truth, anomaly in zip(results.files, results.truths(), results.maps(), strict=True):
        side = min(max(sizes[item]), most)
        assert anomaly.shape == (side, side) and (truth is None or truth.shape == (side, side))


def test_settings_that_differ_are_told(done, other, capsys):
    assert compare.main([str(done), str(other)]) == 0
    out = capsys.readouterr().out
    assert "seed: 0 | 1\n" in out and "samples:" not in out and "tails:" not in out


def test_the_mark_tells_what_lies_beyond_chance():
    value = Interval(0.5, 0.4, 0.6)
    differences = {"better": Interval(0.2, 0.1, 0.3), "worse": Interval(-0.2, -0.3, -0.1), "same": Interval(0.1, -0.1, 0.3)}
    lines = compare.table({name: (value, value, difference) for name, difference in differences.items()}).splitlines()
    assert [line[-1] for line in lines[1:4]] == ["+", "-", "]"]


@pytest.mark.parametrize("name", compare.RESULTS)
def test_a_run_without_results_is_refused(name, done, copied, capsys):
    path = copied / name
    shutil.rmtree(path) if path.is_dir() else path.unlink()
    assert f"{name} is missing" in refusal(capsys, done, copied)
    assert not path.exists()


def test_runs_on_other_test_images_are_refused(done, place, call, tmp_path, capsys):
    data = shutil.copytree(place / "data", tmp_path / "data")
    mask = next((data / "part/ground_truth").rglob("*.png"))
    values = np.asarray(Image.open(mask)).copy()
    values[:2] = 255
    Image.fromarray(values).save(mask)
    assert call("--data", data, "--out", tmp_path / "changed", "--quiet") == 0
    capsys.readouterr()
    assert "its mask is another file" in refusal(capsys, done, tmp_path / "changed")
    mask.unlink()
    assert "is missing since the run" in refusal(capsys, done, tmp_path / "changed")


def test_a_test_image_of_one_run_alone_is_told(done, copied, capsys):
    rows = (copied / "scores.csv").read_text().splitlines()
    (copied / "scores.csv").write_text("\n".join(rows[:-1]) + "\n")
    assert "is a test image of one run alone" in refusal(capsys, done, copied)


@pytest.mark.parametrize("content", ["", "path,defect\ntest/good/000.png,good\n", "path,score\nx,much\n", "path,score\nx\n"], ids=repr)
def test_a_spoilt_table_of_scores_is_refused(content, done, copied, capsys):
    (copied / "scores.csv").write_text(content)
    err = refusal(capsys, done, copied)
    assert str(copied) in err


def test_a_spoilt_map_is_refused(done, copied, capsys):
    path = next((copied / "maps").rglob("*.tiff"))
    path.write_bytes(path.read_bytes()[:60])
    assert compare.main([str(done), str(copied)]) == 2
    assert path.name in capsys.readouterr().err


def test_runs_without_defects_are_refused(done, copied, capsys):
    for folder in (first := shutil.copytree(copied, copied.parent / "first"), copied):
        rows = (folder / "scores.csv").read_text().splitlines()
        (folder / "scores.csv").write_text("\n".join(row for row in rows if row.startswith(("path", "test/good"))) + "\n")
    assert "all good" in refusal(capsys, first, copied)
