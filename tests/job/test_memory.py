"""Memory does not grow with the number of images: nothing of the size of a map is kept of each, by scoring, detection and metrics."""

import functools
import tracemalloc
import types

import numpy as np
import pytest
from helpers import write_image

from mdps_ref.data.listing import Listed
from mdps_ref.job.chain_records import ChainRecords
from mdps_ref.job.detect import Model, detect
from mdps_ref.job.evaluate import chain_result, evaluate
from mdps_ref.job.images import StoredImages, StoredMasks
from mdps_ref.job.maps import Maps
from mdps_ref.job.scoring_session import RowFile, score_files

SIZE, FEW, MANY = 32, 64, 320
MAP = 4 * SIZE**2  # bytes


def peak(work):
    """The largest memory, in bytes, that Python and NumPy hold during a call of work."""
    tracemalloc.start()
    try:
        work()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def growth(peak_of):
    """How much the peak grows with each further image."""
    peak_of(FEW // 2)  # imports and caches
    return (peak_of(MANY) - peak_of(FEW)) / (MANY - FEW)


def test_of_scoring(tmp_path, quick_config):
    photograph = write_image(tmp_path / "photograph.png", np.zeros((SIZE, SIZE, 3), np.uint8))

    def scored(images):
        """What a detector finds whose chains take no time."""
        maps = np.abs(images).mean(axis=-1)
        decided = np.zeros(len(images), bool)
        return types.SimpleNamespace(score=maps.max(axis=(1, 2)), flagged=decided, unsure=decided, anomaly=maps)

    detector = types.SimpleNamespace(config=quick_config(image_size=SIZE), white=None, score=scored)

    def score(count):
        images = [Listed(photograph, f"{k}.png") for k in range(count)]
        table = RowFile(tmp_path / f"scores-{count}.csv", False)
        return peak(lambda: all(score_files(detector, images, table, keep=lambda image, anomaly: None)))

    assert growth(score) < MAP / 4


def test_of_what_a_report_needs_of_a_chain(tmp_path, quick_config, monkeypatch):
    """Four numbers of each image, from records that hold its map, too."""
    monkeypatch.setattr("mdps_ref.job.chain_records.AT_ONCE", FEW // 8)
    config = quick_config(image_size=SIZE)
    zeros = np.zeros((FEW, SIZE, SIZE), np.float32)
    maps = Maps(np.zeros((FEW, SIZE, SIZE, 3), np.float32), zeros, zeros, zeros, zeros[:, 0, 0], zeros)

    def read(count):
        kept = ChainRecords(tmp_path / str(count), "mdps", config, SIZE, count)
        while kept.done < count:
            kept.add(maps)
        return peak(lambda: kept.score)

    assert growth(read) < MAP / 4


@pytest.mark.parametrize("masked", [True, False])
def test_of_detection_and_its_metrics(masked, tmp_path, quick_config, monkeypatch):
    """Sets without intervals, which have a bound of their own."""
    monkeypatch.setattr("mdps_ref.job.evaluate.MOST_RESAMPLED", 0)
    monkeypatch.setattr("mdps_ref.scoring.pixel_table.AT_ONCE", 16 * SIZE**2)
    monkeypatch.setattr("mdps_ref.scoring.pixel_table.MOST_ROWS", 8 * SIZE**2)
    config, rng = quick_config(image_size=SIZE, masked=masked), np.random.default_rng(0)

    def maps_of(model, batches, config, chain_name):
        """The Maps of chains that take no time."""
        for images, mask in batches:
            anomaly = np.abs(images).mean(axis=-1)
            suspected = np.ones_like(anomaly) if mask is None else mask[..., 0]
            yield Maps(images, anomaly, anomaly * suspected, 0 * anomaly, anomaly.max(axis=(1, 2)), suspected)

    def detected(count):
        folder = tmp_path / str(count)
        images, truths = StoredImages(folder / "images", SIZE), StoredMasks(folder / "masks", SIZE)
        defective = np.arange(count) % 2 == 0
        for is_defective in defective:
            images.append(rng.uniform(-1, 1, (1, SIZE, SIZE, 3)).astype(np.float32))
            truths.append(np.eye(SIZE, dtype=bool) & is_defective)

        def work():
            keep = functools.partial(ChainRecords, folder, config=config, side=SIZE, count=count, truths=truths, shown=[0])
            found = detect(Model(None, None, np), images, config, 0.5, keep, maps_of)
            chains = {name: chain_result(getattr(found, name), truths) for name in ("mdps", "guided", "reconstruction")}
            evaluate(chains, [0.5], defective, [SIZE * bool(label) for label in defective], config)

        return peak(work)

    assert growth(detected) < MAP / 4
