"""Records on the disk: what a kill leaves is a whole beginning, and a chain's records are its Maps."""

import errno

import numpy as np
import pytest
from helpers import normal

from mdps_ref.job import records
from mdps_ref.job.chain_records import ChainRecords
from mdps_ref.job.images import StoredImages, StoredMasks, check_images
from mdps_ref.job.maps import Maps, centre
from mdps_ref.job.records import Records

ROWS = np.arange(5 * 6, dtype=np.float32).reshape(5, 2, 3)


@pytest.fixture
def five(tmp_path):
    made = Records(tmp_path / "below" / "five", ("<f4", (2, 3)))
    made.append(ROWS[:2])
    made.append(ROWS[2:])
    return made


INDICES = [2, -1, slice(None), slice(1, 4), slice(4, 1), slice(None, None, 2), slice(3, None, -1), np.array([3, 0, 3]), np.array([], int)]


@pytest.mark.parametrize("index", INDICES, ids=str)
def test_they_are_read_as_an_array_is(index, five):
    assert len(five) == 5
    np.testing.assert_array_equal(five[index], ROWS[index])
    with pytest.raises(IndexError):
        five[5]


@pytest.mark.parametrize(
    "spoil, left", [(lambda b: b[:-1], 4), (lambda b: b + b"torn", 5), (lambda b: b[:30] + b"x" + b[31:], 1), (lambda b: b"", 0)]
)
def test_what_follows_a_whole_beginning_is_dropped(spoil, left, five):
    five.path.write_bytes(spoil(five.path.read_bytes()))
    opened = Records(five.path, five.dtype)
    np.testing.assert_array_equal(opened[:], ROWS[:left])
    opened.append(ROWS[left:])
    np.testing.assert_array_equal(Records(five.path, five.dtype)[:], ROWS)


def test_a_file_that_is_begun_anew_is_empty_and_not_read(five, monkeypatch):
    monkeypatch.setattr(Records, "_whole", lambda self: pytest.fail("was read"))
    assert len(Records(five.path, five.dtype, anew=True)) == 0 and five.path.stat().st_size == 0


def test_a_full_disk_is_one_line_and_leaves_what_was_there(five, fails_with, monkeypatch):
    def torn(path, mode):
        handle = open(path, mode)  # noqa: SIM115
        handle.write(b"half")
        handle.close()
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch, fails_with(five.path, "no space left"):
        patch.setattr(records, "open", torn, raising=False)
        five.append(ROWS)
    np.testing.assert_array_equal(Records(five.path, five.dtype)[:], ROWS)


def test_images_and_masks_in_files_take_the_place_of_arrays(tmp_path, some_images):
    images, masks = StoredImages(tmp_path / "images", 16), StoredMasks(tmp_path / "masks", 4)
    images.append(some_images(3))
    assert check_images(images, 16) is images
    np.testing.assert_array_equal(images[1:], some_images(3)[1:])
    for mask in (np.eye(4, dtype=bool), None, np.zeros((4, 4), bool)):
        masks.append(mask)
    assert masks[1] is None and (masks[0] == np.eye(4)).all() and [mask is None for mask in masks[:]] == [False, True, False]


@pytest.fixture
def some_maps():
    """some_maps(count): random Maps of 16 x 16 pixels."""

    def make(count):
        values = [abs(normal(count, 16, 16, seed=seed)).astype(np.float32) for seed in range(4)]
        return Maps(normal(count, 16, 16, 3).astype(np.float32), *values[:3], values[0].max(axis=(1, 2)), values[3])

    return make


def part_of(maps, part):
    return Maps(**{name: array[part] for name, array in vars(maps).items()})


def test_a_chains_records_are_the_judged_values_of_its_maps(tmp_path, quick_config, some_maps):
    config, maps = quick_config(image_score="max"), some_maps(5)
    truths = [None, np.zeros((14, 14), bool), *(normal(3, 14, 14) > 1)]
    kept = ChainRecords(tmp_path, "mdps", config, 14, 5, truths, shown=[4, 0])
    for part in (slice(0, 2), slice(2, 5)):
        kept.add(part_of(maps, part))
    judged = centre(maps, 14, config)
    np.testing.assert_array_equal(kept.anomaly(slice(1, 4)), maps.anomaly[1:4])
    np.testing.assert_array_equal(kept.score, judged.score)
    np.testing.assert_allclose(kept.difference, judged.difference.mean(axis=(1, 2)), rtol=1e-6)
    inside = [
        difference[truth].mean() if truth is not None and truth.any() else np.nan
        for difference, truth in zip(judged.difference, truths, strict=True)
    ]
    np.testing.assert_allclose(kept.inside, inside, rtol=1e-6)
    ends = [(judged.anomaly + sign * judged.spread).max(axis=(1, 2)) for sign in (1, -1)]
    np.testing.assert_allclose(kept.width, (ends[0] - ends[1]) / 2, rtol=1e-6)
    np.testing.assert_array_equal(np.concatenate([part for _, part in kept.judged_anomaly()]), judged.anomaly)
    shown = kept.shown_maps()
    for name, array in vars(judged).items():
        np.testing.assert_array_equal(getattr(shown, name), array[[4, 0]])


@pytest.mark.parametrize("there, kept", [(3, 2), (4, 4), (5, 5)])
def test_only_whole_batches_are_gone_on_from(there, kept, tmp_path, quick_config, some_maps):
    """16 chains at once, so 2 images of 8 samples; the last batch is one image."""
    config, maps = quick_config(samples=8), some_maps(5)
    ChainRecords(tmp_path, "guided", config, 16, 5).add(part_of(maps, slice(0, there)))
    again = ChainRecords(tmp_path, "guided", config, 16, 5)
    assert again.done == kept
    np.testing.assert_array_equal(again.anomaly(slice(None)), maps.anomaly[:kept])
