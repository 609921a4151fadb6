"""Folders of tiny image files: what is found in them, and one line for every error."""

import pathlib
import shutil

import numpy as np
import pytest
from helpers import write_image
from PIL import Image

from mdps_ref.data import folders, images, masks, pixels

SHARED = pathlib.Path(__file__).parents[3] / "shared" / "data"


@pytest.fixture
def nut(tmp_path):
    """A category "nut" with every kind of file, created in an unsorted order."""
    for name in ("train/good/010.png", "train/good/002.JPG", "train/good/001.png"):
        write_image(tmp_path / "nut" / name)
    for name in ("test/good/000.png", "test/crack/001.png", "test/crack/000.png", "test/colour/003.png", "test/colour/a.b.png"):
        write_image(tmp_path / "nut" / name)
    write_image(tmp_path / "nut/ground_truth/crack/000_mask.png")
    write_image(tmp_path / "nut/ground_truth/colour/003.png")
    write_image(tmp_path / "nut/ground_truth/good/000_mask.png")
    return tmp_path


# Folders


def test_items_are_sorted_named_and_given_their_masks(nut):
    category = folders.read_category(nut, "nut")
    assert (category.root, category.name, category.layout) == (nut / "nut", "nut", "mvtec")
    assert [item.name for item in category.train] == ["train/good/001", "train/good/002", "train/good/010"]
    names = ["test/colour/003", "test/colour/a.b", "test/crack/000", "test/crack/001", "test/good/000"]
    assert [item.name for item in category.test] == names
    assert [item.defect for item in category.test] == ["colour", "colour", "crack", "crack", "good"]
    assert [item.is_anomalous for item in category.test] == [True, True, True, True, False]
    masks = [nut / "nut/ground_truth/colour/003.png", None, nut / "nut/ground_truth/crack/000_mask.png", None, None]
    assert [item.mask_path for item in category.test] == masks
    assert category.test[0].path == nut / "nut/test/colour/003.png"


def test_only_visible_image_files_count(nut):
    before = folders.read_category(nut, "nut")
    for name in ("train/good/._001.png", "train/good/Thumbs.db", "test/.cache/000.png", "test/readme.png"):
        (nut / "nut" / name).parent.mkdir(exist_ok=True)
        (nut / "nut" / name).write_text("no image")
    (nut / "nut/test/good/folder.png").mkdir()
    assert folders.read_category(nut, "nut") == before


@pytest.mark.parametrize("suffix", [".png", ".PNG", ".jpg", ".JPEG", ".bmp", ".tif", ".TIFF"])
def test_suffixes_in_either_case(tmp_path, suffix):
    write_image(tmp_path / f"c/train/good/0{suffix}")
    write_image(tmp_path / f"c/test/good/0{suffix}")
    item = folders.read_category(str(tmp_path), "c").train[0]
    assert item.name == "train/good/0"
    assert images.load_image(item.path, 8).shape == (8, 8, 3)


def test_a_link_that_leads_nowhere_is_not_passed_over(nut, fails_with):
    (nut / "nut/train/good/003.png").symlink_to(nut / "gone.png")
    item = folders.read_category(nut, "nut").train[2]
    with fails_with("003.png", "no such file"):
        images.load_image(item.path, 8)


@pytest.mark.parametrize("name", ["", ".", "..", "nut/train", "bolt"])
def test_an_unknown_category_is_answered_with_those_that_are_there(nut, name, fails_with):
    (nut / "cable").mkdir()
    (nut / ".git").mkdir()
    (nut / "bolt.zip").touch()
    with fails_with(repr(name), "there are cable, nut"):
        folders.read_category(nut, name)


def test_the_categories_that_there_are_are_listed_twenty_at_most(tmp_path, fails_with):
    with fails_with(tmp_path / "nowhere", "no such data folder"):
        folders.read_category(tmp_path / "nowhere", "nut")
    with fails_with("no category 'nut'", "none"):
        folders.read_category(tmp_path, "nut")
    for i in range(23):
        (tmp_path / f"c{i:02}").mkdir()
    with fails_with("c00, c01", "c19 and 3 more"):
        folders.read_category(tmp_path, "bolt")


@pytest.mark.parametrize("there, missing", [("test/good/0", "train/good"), ("test/ok/0", "train/ok")])
def test_a_set_without_training_images(tmp_path, there, missing, fails_with):
    write_image(tmp_path / "nut/test/dent/0.png")
    write_image(tmp_path / "nut" / f"{there}.png")
    (tmp_path / "nut" / missing).mkdir(parents=True)
    (tmp_path / "nut" / missing / "0.heic").touch()
    with fails_with(tmp_path / "nut", f"no images in {missing}", ".png", "not read: ", "0.heic") as refusal:
        folders.read_category(tmp_path, "nut")
    assert "pixel metrics" not in str(refusal.value)


@pytest.mark.parametrize("good", ["good", "ok"])
@pytest.mark.parametrize("test", [None, "test", "test/good", "test/crack"])
def test_there_may_be_nothing_to_test_on(test, good, tmp_path):
    write_image(tmp_path / "nut/train" / good / "0.png")
    if test:
        (tmp_path / "nut" / test.replace("good", good)).mkdir(parents=True)
        (tmp_path / "nut" / test.replace("good", good) / "Thumbs.db").touch()
    category = folders.read_category(tmp_path, "nut")
    assert category.test == () and [item.name for item in category.train] == [f"train/{good}/0"]


@pytest.mark.parametrize("name", ["test/0.png", "test/crack/0.heic", "test/crack/more/0.png"])
def test_a_test_folder_whose_images_are_not_found_is_not_taken_for_an_empty_one(name, nut, fails_with):
    shutil.rmtree(nut / "nut/test")
    (nut / "nut" / name).parent.mkdir(parents=True)
    (nut / "nut" / name).touch()
    with fails_with(nut / "nut", "no images in test/good or test/<defect>", "remove it", "not read: ") as refusal:
        folders.read_category(nut, "nut")
    assert "here give" not in str(refusal.value)


def test_two_images_of_one_name_would_share_their_noise(nut, fails_with):
    write_image(nut / "nut/train/good/001.bmp")
    with fails_with("001.png", "001.bmp", "suffix"):
        folders.read_category(nut, "nut")


# BTAD's layout


@pytest.fixture
def btad(tmp_path):
    """A category "01" of BTAD. Masks may have their image's suffix, as in BTAD's category "03"."""
    for name in ("train/ok/0001.bmp", "train/ok/0000.bmp", "test/ok/0000.BMP", "test/ko/0002.bmp", "test/ko/0001.bmp", "test/ko/0000.png"):
        write_image(tmp_path / "01" / name)
    for name in ("ko/0000.png", "ko/0001_mask.BMP", "ok/0000.png"):
        write_image(tmp_path / "01/ground_truth" / name)
    return tmp_path


def test_btad_is_recognised_and_its_ok_is_good(btad):
    category = folders.read_category(btad, "01")
    assert category.layout == "btad"
    assert [item.name for item in category.train] == ["train/ok/0000", "train/ok/0001"]
    assert [item.name for item in category.test] == ["test/ko/0000", "test/ko/0001", "test/ko/0002", "test/ok/0000"]
    assert [item.defect for item in category.train + category.test] == ["good", "good", "ko", "ko", "ko", "good"]
    assert [item.is_anomalous for item in category.test] == [True, True, True, False]
    truth = btad / "01/ground_truth/ko"
    assert [item.mask_path for item in category.test] == [truth / "0000.png", truth / "0001_mask.BMP", None, None]
    assert category.test[3].path == btad / "01/test/ok/0000.BMP"


@pytest.mark.parametrize("size", [(1600, 1600), (600, 600), (800, 600)])
def test_btads_sizes_become_squares_and_its_masks_follow(tmp_path, size):
    image, mask = Image.new("RGB", size, (51, 0, 255)), Image.new("L", size)
    mask.paste(255, (size[0] // 2, 0, *size))
    write_image(tmp_path / "03/train/ok/0000.bmp", image)
    write_image(tmp_path / "03/test/ko/0000.bmp", image)
    write_image(tmp_path / "03/ground_truth/ko/0000.bmp", mask)
    (item,) = folders.read_category(tmp_path, "03").test
    np.testing.assert_allclose(images.load_image(item.path, 8)[3, 4], [-0.6, -1, 1], atol=1e-6)
    truth = masks.load_mask(item.mask_path, 8, pixels.image_size(item.path))
    np.testing.assert_array_equal(truth, np.arange(8)[None] >= 4 * np.ones((8, 1)))


def test_a_category_in_neither_layout(tmp_path, fails_with):
    write_image(tmp_path / "nut/train/fine/0.png")
    with fails_with(tmp_path / "nut", "train/good (MVTec AD", "train/ok (BTAD"):
        folders.read_category(tmp_path, "nut")


@pytest.mark.parametrize(("layout", "other"), [("good", "train/ok"), ("good", "test/ok"), ("ok", "train/good"), ("ok", "test/good")])
def test_a_category_in_both_layouts(tmp_path, layout, other, fails_with):
    for place in (f"train/{layout}", f"test/{layout}", other):
        write_image(tmp_path / "nut" / place / "0.png")
    with fails_with(tmp_path / "nut", "mixes", "good", "ok", "one of them"):
        folders.read_category(tmp_path, "nut")


@pytest.mark.parametrize("second", ["0000.bmp", "0000_mask.png", "0000.PNG"])
def test_two_masks_of_one_image(btad, second, fails_with):
    write_image(btad / "01/ground_truth/ko" / second)
    with fails_with("0000.png", second, "second mask", "remove one"):
        folders.read_category(btad, "01")


def test_what_is_no_mask_is_passed_over(btad):
    before = folders.read_category(btad, "01")
    for name in ("._0000.png", "0002.txt", "0000_mask_old.png", "0002x.png"):
        (btad / "01/ground_truth/ko" / name).touch()
    assert folders.read_category(btad, "01") == before


# Held-out images


def good_items(count):
    return tuple(folders.Item(pathlib.Path(f"{i}.png"), f"train/good/{i:03}", "good", None) for i in range(count))


@pytest.mark.parametrize("count, share, held", [(2, 0.01, 1), (2, 0.99, 1), (10, 0.2, 2), (10, 0.99, 9), (10, 0.01, 1), (100, 0.25, 25)])
def test_split_parts_the_items_and_leaves_neither_side_empty(count, share, held):
    items = good_items(count)
    train, held_out = folders.split_held_out(items, share, seed=0)
    assert len(held_out) == held
    assert sorted(train + held_out, key=items.index) == list(items)
    assert list(train) == sorted(train, key=items.index) and list(held_out) == sorted(held_out, key=items.index)


def test_split_depends_on_the_seed_and_on_nothing_else():
    items = good_items(40)
    _, held_out = folders.split_held_out(items, 0.3, seed=1)
    assert set(folders.split_held_out(items[::-1], 0.3, seed=1)[1]) == set(held_out)
    assert set(folders.split_held_out(items, 0.3, seed=2)[1]) != set(held_out)
    assert held_out != items[: len(held_out)]


def test_what_cannot_be_split(fails_with):
    for share in (0, 1, -0.5, float("nan")):
        with fails_with(str(share), "between 0 and 1"):
            folders.split_held_out(good_items(4), share, seed=0)
    for count in (0, 1):
        with fails_with(str(count), "at least 2"):
            folders.split_held_out(good_items(count), 0.2, seed=0)


@pytest.mark.skipif(not (SHARED / "mvtec_leather_subset").is_dir(), reason=f"{SHARED} holds no mvtec_leather_subset")
def test_a_piece_of_mvtec_ad():
    leather = folders.read_category(SHARED, "mvtec_leather_subset")
    assert (len(leather.train), len(leather.test)) == (4, 15)
    assert {item.defect for item in leather.test} == {"color", "cut", "fold", "glue", "good", "poke"}
    train = np.stack([images.load_image(item.path, 64) for item in leather.train])
    assert train.shape == (4, 64, 64, 3) and -1 <= train.min() < train.max() <= 1
    for item in leather.test:
        assert item.is_anomalous == (item.mask_path is not None)
        if item.is_anomalous:
            mask = masks.load_mask(item.mask_path, 64, pixels.image_size(item.path))
            assert 0 < mask.mean() < 0.5
