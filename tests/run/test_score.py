"""`python -m mdps_ref.score`: every image has its row; a broken call goes on; it finds what the detector finds."""

import csv
import dataclasses
import json
import os
import shlex
import shutil
import sys

import numpy as np
import pytest
from helpers import cut
from PIL import Image

from mdps_ref import score
from mdps_ref.data.images import load_image
from mdps_ref.data.listing import list_images
from mdps_ref.job import scoring_session
from mdps_ref.job.detector import Detector
from mdps_ref.job.interrupt import Interrupted
from mdps_ref.job.run_folder import folder_for_scores
from mdps_ref.job.scoring_session import HEAD, Row, RowFile, score_files
from mdps_ref.report.overlay import heat_top, overlay


@pytest.fixture
def photographs(place, tmp_path):
    """A folder of photographs: nested, of odd names, one broken and one that is no image."""
    folder = tmp_path / "photographs"
    shutil.copytree(place / "data/part/test", folder)
    shutil.copytree(place / "data/part/train/good", folder / "below")
    shutil.copy(folder / "good/000.png", folder / "=SUM(A1).png")
    shutil.copy(folder / "good/000.png", folder / "a, b\n\x1b[31m.png")
    shutil.copy(folder / "good/000.png", folder / f"{'n' * 248}.png")
    cut(folder / "dent/000.png")
    (folder / "notes.txt").write_text("none")
    return folder


@pytest.fixture
def scored(done, photographs, tmp_path, contents):
    """scored(name, *arguments): score the photographs into a new folder; its files."""

    def run(name, *arguments):
        assert score.main([str(done), str(photographs), "--out", str(tmp_path / name), *arguments]) == 0
        return contents(tmp_path / name)

    return run


def rows_of(content):
    return list(csv.DictReader(content.decode().splitlines()))


def test_every_image_has_a_row_with_its_score_or_the_reason_why_not(done, photographs, scored, capsys):
    found = scored("out")
    rows = {row["path"]: row for row in rows_of(found["scores.csv"])}
    assert len(rows) == sum(path.is_file() for path in photographs.rglob("*")) - 1
    assert "truncated" in rows["dent/000.png"]["left_out"] and rows["dent/000.png"]["score"] == rows["dent/000.png"]["flagged"] == ""
    (too_long,) = (row for name, row in rows.items() if name.endswith("nnn.png"))
    assert "too long" in too_long["left_out"]
    assert "'=SUM(A1).png" in rows and "a, b\\n\\x1b[31m.png" in rows
    detector = Detector.load(done)
    for name in ("rust/000.png", "below/002.png"):
        alone = detector.score(load_image(photographs / name, 16)[None])
        assert float(rows[name]["score"]) == pytest.approx(float(alone.score[0]), rel=1e-5)
        assert rows[name]["flagged"] == str(int(alone.flagged[0])) and rows[name]["unsure"] == str(int(alone.unsure[0]))
        with Image.open(photographs / name) as image, Image.open(photographs.parent / "out/maps" / f"{name}.tiff") as anomaly:
            assert image.size == anomaly.size and anomaly.mode == "F"
    assert len([name for name in found if name.startswith("maps/")]) == len(rows) - 2
    told = capsys.readouterr()
    assert "2 left out" in told.out and "notes.txt" in told.err and "dent/000.png" in told.err


def test_lines_of_json_say_the_same_and_standard_output_takes_either(done, photographs, scored, capsys):
    rows, lines = rows_of(scored("csv")["scores.csv"]), scored("json", "--json")["scores.jsonl"].decode().splitlines()
    for row, line in zip(rows, map(json.loads, lines), strict=True):
        assert (f"{line['score']:.8g}" if line["score"] is not None else "") == row["score"]
        assert bool(line["left_out"]) == bool(row["left_out"])
    capsys.readouterr()
    assert score.main([str(done / "detector.npz"), str(photographs), "--out", "-", "--quiet"]) == 0
    assert rows_of(capsys.readouterr().out.encode()) == rows


def test_overlays_have_the_size_of_their_image_and_one_colour_scale(done, photographs, scored):
    found, detector = scored("out", "--overlays"), Detector.load(done)
    drawn = [name for name in found if name.startswith("overlays/")]
    assert len(drawn) == len([name for name in found if name.startswith("maps/")])
    with Image.open(photographs / "good/000.png") as image, Image.open(photographs.parent / "out/overlays/good/000.png.png") as over:
        assert image.size == over.size

    def pixels(anomaly):
        (photographs.parent / "over.png").write_bytes(overlay(photographs / "rust/000.png", anomaly, detector))
        with Image.open(photographs.parent / "over.png") as image:
            return np.asarray(image).astype(int)

    with Image.open(photographs / "rust/000.png") as image:
        np.testing.assert_allclose(pixels(np.zeros((16, 16), np.float32)), np.asarray(image), atol=1)
    top = heat_top(detector.config, detector.decision_threshold, detector.mask_threshold)
    half, whole, more = (pixels(np.full((16, 16), share * top, np.float32)) for share in (0.5, 1, 7))
    assert (whole == more).all() and (half != whole).any()


@pytest.mark.parametrize("as_json", [[], ["--json"]], ids=["csv", "json"])
@pytest.mark.parametrize("batches", [0, 1])
def test_what_was_stopped_or_torn_goes_on_to_the_same_bytes(as_json, batches, done, photographs, scored, tmp_path, contents, monkeypatch):
    whole, keep_on = scored("whole", "--overlays", *as_json), [batches]

    def stop():
        keep_on.append(1)
        if len(keep_on) - 2 == batches:
            raise Interrupted(15)

    with monkeypatch.context() as patch:
        patch.setattr(scoring_session, "stop_if_asked", stop)
        arguments = [str(done), str(photographs), "--out", str(tmp_path / "out"), "--overlays", *as_json]
        assert score.main(arguments) == 143
    table = tmp_path / "out" / ("scores.jsonl" if as_json else "scores.csv")
    table.write_bytes(table.read_bytes() + b"dent/0")  # a row that a kill tore
    assert score.main([*arguments, "--resume"]) == 0
    assert contents(tmp_path / "out") == whole


def test_the_order_of_the_images_and_their_place_do_not_change_a_score(done, photographs, scored, tmp_path):
    before = {row["path"]: row["score"] for row in rows_of(scored("before")["scores.csv"])}
    (photographs / "aaa.png").write_bytes((photographs / "rust/000.png").read_bytes())
    photographs.rename(tmp_path / "elsewhere")
    assert score.main([str(done), str(tmp_path / "elsewhere"), "--out", str(tmp_path / "after")]) == 0
    for row in rows_of((tmp_path / "after/scores.csv").read_bytes()):
        if before.get(row["path"]):
            assert float(row["score"]) == pytest.approx(float(before[row["path"]]), rel=1e-4)


WRONG = {
    "no detector": (["nowhere", "PHOTOGRAPHS", "--out", "OUT"], "nowhere", "no such"),
    "a checkpoint": (["DONE/checkpoint.npz", "PHOTOGRAPHS", "--out", "OUT"], "checkpoint.npz", "no detector"),
    "no images": (["DONE", "nowhere", "--out", "OUT"], "nowhere"),
    "a folder with files": (["DONE", "PHOTOGRAPHS", "--out", "PHOTOGRAPHS"], "other files than scores", "another folder"),
    "weights of no network": (
        ["DONE", "PHOTOGRAPHS", "--out", "OUT", "--feature-weights", "x.pth"],
        "no features",
        "leave --feature-weights",
    ),
    "overlays on standard output": (["DONE", "PHOTOGRAPHS", "--out", "-", "--overlays"], "--out -", "--overlays"),
    "strict": (["DONE", "PHOTOGRAPHS", "--out", "OUT", "--strict"], "--strict", "notes.txt"),
}


@pytest.mark.parametrize("arguments, parts", [(arguments, parts) for arguments, *parts in WRONG.values()], ids=WRONG)
def test_a_wrong_call_is_one_line_and_leaves_nothing(arguments, parts, done, photographs, tmp_path, capsys):
    places = {"DONE": str(done), "PHOTOGRAPHS": str(photographs), "OUT": str(tmp_path / "out")}
    for word, place in places.items():
        arguments = [argument.replace(word, place) for argument in arguments]
    assert score.main([*arguments, "--quiet"]) == 2
    told = capsys.readouterr()
    assert told.out == "" and told.err.count("\n") == 1 and [part for part in parts if part not in told.err] == []
    assert not (tmp_path / "out").exists() and not os.path.exists(photographs / "scores.csv")


@pytest.mark.parametrize("left", [b"", b"path,sco", b"path,score,flagged,unsure,left_out\n"], ids=["nothing", "half a head", "the head"])
def test_a_table_torn_before_its_first_row_begins_anew(left, done, photographs, scored, tmp_path):
    whole = scored("out")
    (tmp_path / "out/scores.csv").write_bytes(left)
    assert score.main([str(done), str(photographs), "--out", str(tmp_path / "out"), "--resume"]) == 0
    assert (tmp_path / "out/scores.csv").read_bytes() == whole["scores.csv"]


@pytest.mark.parametrize("as_json", [True, False])
@pytest.mark.parametrize("there, images, kept", [(5, 6, 4), (6, 6, 6), (5, 5, 5), (1, 6, 0)])
def test_only_the_rows_of_whole_batches_are_kept(there, images, kept, as_json, tmp_path):
    names, table = [f"{i}.png" for i in range(images)], RowFile(tmp_path / "table", as_json)
    table.resume(2, names)
    rows = [Row(name, 0.5, True, False) for name in names]
    table.append(rows[:there])
    assert table.resume(2, names) == rows[:kept]
    table.append(rows[kept:])
    assert table.resume(2, names) == rows


def test_long_paths_are_whole_in_the_table(tmp_path):
    table, names = RowFile(tmp_path / "table", False), [f"{'a' * 200}/{k}/{'b' * 200}\n.png" for k in range(2)]
    table.append([Row(name) for name in names])
    assert [row["path"] for row in rows_of(HEAD.encode() + table.path.read_bytes())] == [name.replace("\n", "\\n") for name in names]


def test_a_row_is_told_once_it_is_in_the_table(done, photographs, tmp_path):
    table = RowFile(tmp_path / "table", True)
    told = next(iter(score_files(Detector.load(done), list_images([photographs]), table)))
    assert json.loads(table.path.read_text().splitlines()[0])["path"] == told.path


@pytest.mark.parametrize("flags", [["--overlays"], ["--json"]], ids=str)
def test_a_folder_is_gone_on_with_as_it_was_begun(flags, done, photographs, scored, tmp_path, contents, capsys):
    before = scored("out")
    assert score.main([str(done), str(photographs), "--out", str(tmp_path / "out"), "--resume", *flags]) == 2
    assert f"begun with no {flags[0]}" in capsys.readouterr().err
    shutil.copytree(done, tmp_path / "other")
    detector = dataclasses.replace(Detector.load(done), decision_threshold=7.0)
    detector.save(tmp_path / "other/detector.npz", {})
    assert score.main([str(tmp_path / "other"), str(photographs), "--out", str(tmp_path / "out"), "--resume"]) == 2
    assert "another detector" in capsys.readouterr().err
    assert contents(tmp_path / "out") == before


def test_the_totals_are_of_the_whole_table_and_tell_the_threshold(done, photographs, scored, tmp_path, capsys):
    scored("out")
    first = capsys.readouterr().out.strip()
    assert score.main([str(done), str(photographs), "--out", str(tmp_path / "out"), "--resume"]) == 0
    assert capsys.readouterr().out.startswith(first + " (") and f"{Detector.load(done).decision_threshold:.4g}" in first


def test_results_among_the_photographs_are_not_scored(done, photographs, tmp_path, capsys):
    for name in ("first", "second"):
        assert score.main([str(done), str(photographs), "--out", str(photographs / name), "--overlays"]) == 0
    assert len(rows_of((photographs / "first/scores.csv").read_bytes())) == len(rows_of((photographs / "second/scores.csv").read_bytes()))
    assert "folder of scores" in capsys.readouterr().err


@pytest.mark.parametrize("flags", [["--json", "--quiet"], ["--overlays"]], ids=str)
def test_where_no_image_could_be_scored_the_status_is_1_and_the_folder_stays_free(flags, done, photographs, tmp_path, capsys):
    arguments = [str(done), str(photographs / "dent/000.png"), "--out", str(tmp_path / "a/out")]
    assert score.main([*arguments, *flags]) == 1
    assert "truncated" in capsys.readouterr().out and not (tmp_path / "a").exists()
    shutil.copy(photographs / "good/000.png", photographs / "dent/000.png")
    assert score.main(arguments) == 0
    (tmp_path / "mine").mkdir()
    cut(photographs / "dent/000.png")
    assert score.main([*arguments[:-1], str(tmp_path / "mine")]) == 1 and os.listdir(tmp_path / "mine") == []


def test_a_cluster_without_dask_is_one_line_with_the_remedy(done, photographs, tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "dask", None)
    monkeypatch.delitem(sys.modules, "mdps_ref.job.cluster", raising=False)
    assert score.main([str(done), str(photographs), "--out", str(tmp_path / "out"), "--cluster", "local", "--quiet"]) == 2
    told = capsys.readouterr().err
    assert told.count("\n") == 1 and "Dask" in told and ".[cluster]" in told and not (tmp_path / "out").exists()


def test_with_strict_nothing_of_a_broken_image_is_written_and_it_is_scored_once_mended(done, photographs, tmp_path, contents, capsys):
    """16 chains at once are 8 images of 2 samples, so the broken one, of the second batch, leaves the first."""
    (photographs / "notes.txt").unlink()
    next(photographs.glob("nnn*.png")).unlink()
    for number in range(8):
        shutil.copy(photographs / "good/000.png", photographs / f"aa{number}.png")
    whole = (photographs / "good/000.png").read_bytes()
    arguments = [str(done), str(photographs), "--strict", "--out"]
    assert score.main([*arguments, str(tmp_path / "out")]) == 2
    assert "dent/000.png" in (told := capsys.readouterr().err.splitlines()[-1]) and "--resume" in told
    before = contents(tmp_path / "out")
    assert len(rows_of(before["scores.csv"])) == 8 and not [name for name in before if "dent" in name]
    (photographs / "dent/000.png").write_bytes(whole)
    assert score.main([*arguments, str(tmp_path / "out"), "--resume"]) == 0
    assert score.main([*arguments, str(tmp_path / "afresh")]) == 0
    assert contents(tmp_path / "out") == contents(tmp_path / "afresh")
    cut(photographs / "dent/000.png")
    capsys.readouterr()
    assert score.main([*arguments, "-", "--quiet"]) == 2
    out, err = capsys.readouterr()
    assert len(rows_of(out.encode())) == 8 and "--resume" not in err and "score again" in err


def test_strict_does_not_go_on_from_a_table_that_left_an_image_out(done, photographs, scored, tmp_path, contents, capsys):
    before = scored("out")
    (photographs / "notes.txt").unlink()
    assert score.main([str(done), str(photographs), "--out", str(tmp_path / "out"), "--resume", "--strict"]) == 2
    assert "dent/000.png" in (told := capsys.readouterr().err.splitlines()[-1]) and "another --out" in told
    assert contents(tmp_path / "out") == before


def replaced(name):
    return lambda photographs: shutil.copy(photographs / "good/001.tiff", photographs / name)


# What is done to the photographs after they were scored, and what the line must hold.
CHANGED = {
    "a photograph replaced": (replaced("rust/000.png"), "rust/000.png", "was changed", "another --out"),
    "a photograph repaired that was left out": (replaced("dent/000.png"), "dent/000.png", "was changed"),
    "one added": (replaced("below/000a.png"), "scores.csv", "below/000a.png was added", "another --out"),
    "one taken away": (lambda photographs: (photographs / "below/001.jpg").unlink(), "scores.csv", "below/001.jpg is missing"),
}


@pytest.mark.parametrize("change, parts", [(change, parts) for change, *parts in CHANGED.values()], ids=CHANGED)
def test_a_scoring_does_not_go_on_with_other_images(change, parts, done, photographs, scored, tmp_path, contents, capsys):
    before = scored("out")
    change(photographs)
    assert score.main([str(done), str(photographs), "--out", str(tmp_path / "out"), "--resume"]) == 2
    line = capsys.readouterr().err.splitlines()[-1]
    assert [part for part in parts if part not in line] == [], line
    assert contents(tmp_path / "out") == before


def test_a_photograph_that_could_not_be_opened_goes_on_as_left_out_until_it_is_put_there(done, photographs, scored, tmp_path, capsys):
    (photographs / "gone.png").symlink_to("nowhere")
    whole = scored("out")
    assert "no such file" in {row["path"]: row["left_out"] for row in rows_of(whole["scores.csv"])}["gone.png"]
    assert scored("out", "--resume") == whole
    (photographs / "gone.png").unlink()
    shutil.copy(photographs / "good/000.png", photographs / "gone.png")
    capsys.readouterr()
    assert score.main([str(done), str(photographs), "--out", str(tmp_path / "out"), "--resume", "--quiet"]) == 2
    assert "gone.png: was changed" in capsys.readouterr().err


def test_a_row_without_the_digest_of_its_image_is_scored_again(done, photographs, scored, tmp_path, contents):
    whole = scored("out")
    (tmp_path / "out/digests").write_bytes(whole["digests"][:-1])  # as a power cut may leave it
    assert score.main([str(done), str(photographs), "--out", str(tmp_path / "out"), "--resume"]) == 0
    assert contents(tmp_path / "out") == whole


def test_the_command_that_is_printed_goes_on_from_any_folder(done, photographs, scored, tmp_path, contents, monkeypatch, capsys):
    def stop():
        raise Interrupted(15)

    whole = scored("whole", "--overlays")
    (tmp_path / "elsewhere").mkdir()
    with monkeypatch.context() as patch:
        patch.setattr(scoring_session, "stop_if_asked", stop)
        patch.chdir(tmp_path)
        assert score.main([os.path.relpath(done), "photographs", "--out", "out", "--overlays"]) == 143
    command = shlex.split(capsys.readouterr().err.splitlines()[-1].partition("go on with: ")[2])
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert score.main(command[3:]) == 0
    assert contents(tmp_path / "out") == whole


def test_a_scoring_does_not_go_on_with_the_images_in_another_order(done, photographs, tmp_path, contents, capsys):
    arguments = [str(photographs / name) for name in ("good/000.png", "rust/000.png", "good/001.tiff")]
    assert score.main([str(done), *arguments, "--out", str(tmp_path / "out")]) == 0
    before = contents(tmp_path / "out")
    capsys.readouterr()
    assert score.main([str(done), *reversed(arguments), "--out", str(tmp_path / "out"), "--resume", "--quiet"]) == 2
    told = capsys.readouterr().err
    assert told.count("\n") == 1 and "scores.csv" in told and "another order" in told and "another --out" in told
    assert contents(tmp_path / "out") == before


# What is put into the folder of scores, and what the line must hold.
SPOILT = {
    "rows of another table": ("scores.csv", HEAD + "a.png,1\n" * 40, "no rows of scores"),
    "scores that are no numbers": ("scores.csv", HEAD + "a.png,high,0,0,\n" * 40, "no rows of scores"),
    "half a call": ("call.json", '{"detector":', "could not be read"),
    "a call that is a list": ("call.json", "[]", "no JSON object"),
}


@pytest.mark.parametrize("name, content, told", SPOILT.values(), ids=SPOILT)
def test_a_folder_with_spoilt_files_is_one_line_that_names_the_file(name, content, told, done, photographs, scored, tmp_path, capsys):
    scored("out")
    (tmp_path / "out" / name).write_text(content)
    capsys.readouterr()
    assert score.main([str(done), str(photographs), "--out", str(tmp_path / "out"), "--resume", "--quiet"]) == 2
    line = capsys.readouterr().err
    assert line.count("\n") == 1 and str(tmp_path / "out" / name) in line and told in line
    assert (tmp_path / "out" / name).read_text() == content


def test_into_one_folder_scores_one_process_at_a_time(done, photographs, tmp_path, capsys):
    with folder_for_scores(tmp_path / "out", False):
        assert score.main([str(done), str(photographs), "--out", str(tmp_path / "out"), "--quiet"]) == 2
        told = capsys.readouterr().err
    assert told.count("\n") == 1 and str(tmp_path / "out") in told and "another process" in told


@pytest.mark.parametrize(
    "image_score, mask_threshold, top", [("top_mean", 0.2, 3.0), ("softmax_top_500", 0.2, 1.2), ("softmax_top_500", None, 1)]
)
def test_the_colours_end_at_a_map_value(image_score, mask_threshold, top, quick_config):
    """The score `softmax_top_500` is no mean of map values, so its threshold says nothing of them."""
    config = dataclasses.replace(quick_config(image_size=32), image_score=image_score, masked=mask_threshold is not None)
    assert heat_top(config, 0.5, mask_threshold) == pytest.approx(top)
