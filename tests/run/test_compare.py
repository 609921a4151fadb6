"""`python -m mdps_ref.compare`: two runs on the same test images."""

import json
import os
import shutil

import numpy as np
import pytest
from PIL import Image

from mdps_ref import compare
from mdps_ref.job.run_folder import PLAN
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
    metrics = {name: (value, value, difference) for name, difference in differences.items()}
    lines = compare.table(metrics).splitlines()
    assert [line[-1] for line in lines[1:4]] == ["+", "-", "]"] and "beyond chance" in lines[4]
    few = compare.table(metrics, enough=False).splitlines()
    assert {line[-1] for line in few[1:4]} == {"]"} and f"fewer than {compare.FEWEST}" in few[4]


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
    Image.fromarray(255 - values).save(mask)
    changed = refusal(capsys, done, tmp_path / "changed")
    assert "is not what it was in the run" in changed
    next((data / "part/test/dent").iterdir()).unlink()
    assert "has no longer the image test/dent/" in refusal(capsys, done, tmp_path / "changed")


def test_a_test_image_of_one_run_alone_is_told(done, copied, capsys):
    rows = (copied / "scores.csv").read_text().splitlines()
    (copied / "scores.csv").write_text("\n".join(rows[:-1]) + "\n")
    assert f"{done}: " in (err := refusal(capsys, done, copied)) and "is a test image of this run alone" in err


@pytest.mark.parametrize(
    "content", ["", "path,defect\ntest/good/000.png,good\n", "path,score\nx,much\n", "path,score\nx\n", "path,score\nx,nan\n"], ids=repr
)
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


def test_more_training_images_leave_runs_comparable(done, place, call, tmp_path):
    data = shutil.copytree(place / "data", tmp_path / "data")
    shutil.copyfile(data / "part/test/good/000.png", data / "part/train/good/more.png")
    assert call("--data", data, "--out", tmp_path / "more", "--quiet") == 0
    assert compare.main([str(done), str(tmp_path / "more")]) == 0


def test_masks_of_sixteen_bits_have_the_images_white(tmp_path, call):
    """12-bit images, and a mask of three levels up to their white; of 65535 no level would reach the half."""
    rng = np.random.default_rng(0)
    for name in ("train/good/0", "train/good/1", "train/good/2", "test/good/0", "test/dent/0"):
        path = tmp_path / f"data/part/{name}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 4096, (16, 16)).astype(np.uint16)).save(path)
    mask = np.zeros((16, 16), np.uint16)
    mask[4:8], mask[5:7] = 3000, 4095
    (tmp_path / "data/part/ground_truth/dent").mkdir(parents=True)
    Image.fromarray(mask).save(tmp_path / "data/part/ground_truth/dent/0.png")
    assert call("--data", tmp_path / "data", "--out", tmp_path / "run", "--quiet") == 0
    (truth,) = [truth for truth in compare.Results(tmp_path / "run").truths() if truth.any()]
    np.testing.assert_array_equal(truth, mask > 0)


def test_a_name_that_is_no_text_is_read_as_it_was_written(tmp_path, done):
    path = tmp_path / "scores.csv"
    path.write_bytes(b"path,defect,score,flagged\ntest/good/\xe9.png,good,0.5,0\n")
    assert compare._rows(path) == {os.fsdecode(b"test/good/\xe9.png"): 0.5}


def test_runs_of_another_category_and_folders_of_runs_are_told(done, copied, capsys):
    settings = json.loads((copied / "config.json").read_text())
    shutil.copytree(settings["data"], copied / "data")
    (copied / "data/part").rename(copied / "data/bolt")
    (copied / "maps/part").rename(copied / "maps/bolt")
    (copied / "config.json").write_text(json.dumps(settings | {"data": str(copied / "data"), "category": "bolt"}))
    assert "is a run on 'bolt', not on 'part'" in refusal(capsys, done, copied)
    (copied / PLAN).write_text("{}")
    assert "the folder of one of them" in refusal(capsys, done, copied)


def test_moved_images_are_answered_with_the_remedy(done, copied, capsys):
    settings = json.loads((copied / "config.json").read_text())
    (copied / "config.json").write_text(json.dumps(settings | {"data": str(copied / "gone")}))
    assert f"run --resume --out {copied} --data DIR" in refusal(capsys, done, copied)


def test_a_map_that_is_missing_is_told(done, copied, capsys):
    path = next((copied / "maps").rglob("*.tiff"))
    path.unlink()
    assert f"{path}: is missing" in refusal(capsys, done, copied)
