"""The synthetic set: its random stream determines an image, and a mask is where the image differs from its clean twin.

The oracle throughout is the clean twin: the good image drawn from the same random stream, with the same noise.
"""

import os
import pathlib
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image
from scipy import ndimage

from mdps_ref.backend import random_stream
from mdps_ref.data import synthetic
from mdps_ref.data.synthetic import DEFECTS, draw_defect, draw_good, write_category

ROOT = pathlib.Path(__file__).resolve().parents[2]
KINDS = [(category, defect) for category, defects in DEFECTS.items() for defect in defects]
kinds = pytest.mark.parametrize("category, defect", KINDS, ids=[f"{c}-{d}" for c, d in KINDS])
categories = pytest.mark.parametrize("category", DEFECTS)


def stream(name):
    return random_stream(0, "test_synthetic", str(name))


def difference(image, twin):
    """The largest difference of a channel, (H, W), in grey levels."""
    return abs(image.astype(int) - twin.astype(int)).max(axis=-1)


def with_twin(category, defect, size, name):
    """An image with a defect, its mask, and its difference from the clean twin."""
    image, mask = draw_defect(category, defect, size, stream(name))
    return image, mask, difference(image, draw_good(category, size, stream(name)))


def test_every_category_has_enough_kinds_of_defect():
    assert {category: len(set(defects)) >= 5 for category, defects in DEFECTS.items()} == dict.fromkeys(("weave", "tiles", "washer"), True)


@categories
def test_good_images_are_bytes_of_the_asked_size(category):
    for size in (32, 37, 64):
        image = draw_good(category, size, stream(0))
        assert image.shape == (size, size, 3) and image.dtype == np.uint8
        assert image.min() < 70 and image.max() > 150  # neither flat nor out of the camera's range


@kinds
def test_a_stream_tells_all_and_another_stream_something_else(category, defect):
    first, again, other = (draw_defect(category, defect, 32, stream(name)) for name in ("a", "a", "b"))
    np.testing.assert_array_equal(first[0], again[0])
    np.testing.assert_array_equal(first[1], again[1])
    assert (first[0] != other[0]).mean() > 0.5
    assert (first[1] != other[1]).any()


@kinds
def test_the_mask_is_where_the_image_leaves_its_clean_twin(category, defect):
    visible = 255 * synthetic.VISIBLE
    for name in range(3):
        _, mask, differs = with_twin(category, defect, 64, name)
        assert mask.dtype == bool and mask.shape == (64, 64)
        assert differs[~mask].max() <= visible + 1  # 1: each of the two was rounded to a grey level
        assert (differs[mask] >= visible - 1).mean() > 0.7  # the others fill narrow gaps between those that differ
        beside = ndimage.binary_dilation(differs >= visible - 1, iterations=2)
        assert not (mask & ~beside).any()


@kinds
def test_a_defect_is_local(category, defect):
    _, mask, differs = with_twin(category, defect, 64, 0)
    far = ndimage.distance_transform_edt(~mask) > 9
    assert far.mean() > 0.5
    assert differs[far].max() <= 1


@kinds
def test_a_defect_is_seen_at_32_pixels(category, defect):
    for name in range(12):  # so none is empty either
        _, mask, differs = with_twin(category, defect, 32, name)
        assert 0.007 < mask.mean() < 0.14
        assert differs[mask].mean() > 24  # twenty times the sensor noise


@kinds
def test_a_defect_is_now_here_now_there(category, defect):
    masks = [draw_defect(category, defect, 32, stream(name))[1] for name in range(12)]
    assert not np.logical_and.reduce(masks).any()


@kinds
def test_a_larger_image_shows_the_same_scene(category, defect):
    (small, small_mask, _), (large, large_mask, _) = (with_twin(category, defect, size, 1) for size in (32, 128))
    light = ((large / 255 + 0.055) / 1.055) ** 2.4  # what a sensor with pixels four times as wide adds up
    shrunk = 255 * (1.055 * light.reshape(32, 4, 32, 4, 3).mean(axis=(1, 3)) ** (1 / 2.4) - 0.055)
    assert abs(shrunk - small).mean() < 3  # their noise differs
    both, either = (f(small_mask, large_mask[2::4, 2::4]).sum() for f in (np.logical_and, np.logical_or))
    assert both / either > 0.5


@categories
def test_good_images_vary_less_than_defects_do(category):
    goods = np.array([draw_good(category, 32, stream(name)) for name in range(20)], float)
    lighting = goods.mean(axis=(1, 2, 3))
    assert 0.02 < lighting.std() / lighting.mean() < 0.08
    slopes = np.array([goods[:, :, half].mean(axis=(1, 2, 3)) for half in (slice(0, 16), slice(16, 32))]) / lighting
    assert (slopes[0] > slopes[1]).mean() > 0.7 and np.ptp(slopes[0]) > 0.01  # the lamp hangs on the left, not always alike
    even = goods / lighting[:, None, None, None]
    places = [np.unravel_index(np.argmax(shift_match(even[0], one)), (7, 7)) for one in even[1:]]
    assert len(set(places)) > 1  # not all in one place
    spread = abs(goods - goods.mean(axis=0)).max(axis=-1).mean()
    depth = np.mean([(d := with_twin(category, defect, 32, 0))[2][d[1]].mean() for defect in DEFECTS[category]])
    assert 3 < spread < 0.6 * depth


def shift_match(image, other):
    """How well `other`, moved by -3 to 3 pixels down and across, agrees with `image`: minus the mean square difference."""
    middle = image[3:-3, 3:-3]
    moved = [[other[3 + i : 29 + i, 3 + j : 29 + j] for j in range(-3, 4)] for i in range(-3, 4)]
    return -((np.array(moved) - middle) ** 2).mean(axis=(2, 3, 4))


def test_bands_leave_no_seam(monkeypatch):
    """The number of rows drawn at a time does not matter, nor does a last band that is cut short."""
    for category in DEFECTS:
        banded = draw_good(category, 37, stream(0))
        monkeypatch.setattr(synthetic, "BAND", 37)
        np.testing.assert_array_equal(draw_good(category, 37, stream(0)), banded)
        monkeypatch.undo()


def files_below(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def test_the_layout_on_disk_is_mvtec_ads(tmp_path):
    folder = write_category(tmp_path, "washer", size=32, train=3, test_good=2, per_defect=2)
    expected = {f"train/good/{k:03d}.png" for k in range(3)} | {f"test/good/{k:03d}.png" for k in range(2)}
    for defect in DEFECTS["washer"]:
        expected |= {f"test/{defect}/{k:03d}.png" for k in range(2)} | {f"ground_truth/{defect}/{k:03d}_mask.png" for k in range(2)}
    assert folder == tmp_path / "washer"
    assert set(files_below(folder)) == expected
    for defect in DEFECTS["washer"]:
        with Image.open(folder / f"test/{defect}/001.png") as image, Image.open(folder / f"ground_truth/{defect}/001_mask.png") as mask:
            assert (image.mode, mask.mode, image.size, mask.size) == ("RGB", "L", (32, 32), (32, 32))
            drawn = draw_defect("washer", defect, 32, random_stream(0, "synthetic", f"washer/test/{defect}/001"))
            np.testing.assert_array_equal(np.asarray(image), drawn[0])
            np.testing.assert_array_equal(np.asarray(mask), 255 * drawn[1])


def test_no_two_images_are_alike(tmp_path):
    images = [data for name, data in files_below(write_category(tmp_path, "weave", 32, 4, 4, 2)).items() if "ground_truth" not in name]
    assert len(set(images)) == len(images)


def test_a_rerun_gives_the_same_bytes_and_more_images_change_no_other(tmp_path):
    few = files_below(write_category(tmp_path / "few", "tiles", size=32, train=2, test_good=1, per_defect=1))
    again = files_below(write_category(tmp_path / "few", "tiles", size=32, train=2, test_good=1, per_defect=1))
    more = files_below(write_category(tmp_path / "more", "tiles", size=32, train=4, test_good=2, per_defect=2))
    other_seed = files_below(write_category(tmp_path / "other", "tiles", size=32, train=2, test_good=1, per_defect=1, seed=1))
    assert again == few
    assert {name: more[name] for name in few} == few
    assert all(other_seed[name] != few[name] for name in few if "ground_truth" not in name)


MISTAKES = {
    "category": (lambda root: draw_good("gear", 32, stream(0)), ["'gear'", *DEFECTS]),
    "category of a defect": (lambda root: draw_defect("gear", "hole", 32, stream(0)), ["'gear'", *DEFECTS]),
    "category to write": (lambda root: write_category(root, "gear"), ["'gear'", *DEFECTS]),
    "defect": (lambda root: draw_defect("weave", "rust", 32, stream(0)), ["'rust'", "weave", *DEFECTS["weave"]]),
    "small": (lambda root: draw_good("weave", 31, stream(0)), ["31", "32", "1024"]),
    "large": (lambda root: draw_good("weave", 1025, stream(0)), ["1025", "32", "1024"]),
    "half a pixel": (lambda root: draw_good("weave", 64.5, stream(0)), ["64.5", "32", "1024"]),
    "count": (lambda root: write_category(root, "weave", train=-1), ["train", "-1"]),
}


@pytest.mark.parametrize("draw, named", MISTAKES.values(), ids=MISTAKES)
def test_a_mistake_is_told_in_one_line_that_names_value_and_choices(draw, named, tmp_path, fails_with):
    with fails_with(*named):
        draw(tmp_path)
    assert not any(tmp_path.iterdir())


def make_synthetic(*arguments):
    command = [sys.executable, str(ROOT / "data_scripts" / "make_synthetic.py"), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, env=os.environ | {"PYTHONPATH": str(ROOT)})


def test_the_command_writes_a_set_and_says_where(tmp_path):
    small = ("--size", 32, "--train", 1, "--test-good", 1, "--per-defect", 1, "--seed", 5)
    done = make_synthetic("--out", tmp_path, "--category", "weave", "tiles", *small)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.split() == [str(tmp_path / "weave"), str(tmp_path / "tiles")]
    written = files_below(tmp_path)
    same = files_below(write_category(tmp_path / "own", "weave", 32, train=1, test_good=1, per_defect=1, seed=5))
    assert {name.removeprefix("weave/"): data for name, data in written.items() if name.startswith("weave/")} == same

    refused = make_synthetic("--out", tmp_path, "--category", "washer", "tiles", *small)
    assert refused.returncode == 2 and refused.stdout == ""
    assert refused.stderr.count("\n") == 1 and str(tmp_path / "tiles") in refused.stderr
    assert not (tmp_path / "washer").exists()  # refused before anything was drawn


def test_the_command_refuses_an_unknown_category_in_one_line(tmp_path):
    refused = make_synthetic("--out", tmp_path / "new", "--category", "weave", "gear")
    assert refused.returncode == 2 and refused.stderr.count("\n") == 1 and "'gear'" in refused.stderr and "washer" in refused.stderr
    assert not (tmp_path / "new").exists()
