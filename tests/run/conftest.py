"""A small folder of images, a command line that takes a moment, and the folder of a complete run."""

import json
import pathlib

import numpy as np
import pytest
from PIL import Image

from mdps_ref import run
from mdps_ref.job import config, images

# The path of each image, its size (width, height) and its kind.
IMAGES = {
    "train/good/000.png": (20, 28, "colour"),
    "train/good/001.jpg": (28, 20, "colour"),
    "train/good/002.png": (9, 40, "grey"),
    "train/good/003.tiff": (16, 16, "16-bit grey"),
    "test/good/000.png": (20, 28, "colour"),
    "test/good/001.tiff": (33, 17, "16-bit grey"),
    "test/dent/000.png": (20, 28, "colour"),
    "test/dent/001.bmp": (21, 12, "grey"),
    "test/rust/000.png": (16, 16, "colour"),
}
MASKS = {"ground_truth/dent/000_mask.png": (20, 28), "ground_truth/rust/000.png": (16, 16)}


def draw(path, pixels):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)


@pytest.fixture(scope="session")
def place(tmp_path_factory):
    """A folder with quick settings in `quick.json`, and in `data` random images of odd sizes and kinds; a defect has no mask."""
    place, rng = tmp_path_factory.mktemp("place"), np.random.default_rng(0)
    for name, (width, height, kind) in IMAGES.items():
        shape = (height, width, 3) if kind == "colour" else (height, width)
        draw(
            place / "data/part" / name,
            rng.integers(0, 65536, shape, np.uint16) if kind == "16-bit grey" else rng.integers(0, 256, shape, np.uint8),
        )
    for name, (width, height) in MASKS.items():
        mask = np.zeros((height, width), np.uint8)
        mask[3:9, 2:8] = 255
        draw(place / "data/part" / name, mask)
    quick = {"image_size": 16, "train_steps": 3, "batch_size": 2, "checkpoint_every": 2, "stride": 30, "samples": 2}
    quick |= {"decay_share": 0, "guided_start": 60, "mdps_start": 60, "image_score": "max", "features": "unet"}
    (place / "quick.json").write_text(json.dumps(quick))
    return place


@pytest.fixture(scope="session")
def sizes():
    """{path: (width, height)} of the test images."""
    return {name: image[:2] for name, image in IMAGES.items() if name.startswith("test/")}


@pytest.fixture(scope="session")
def call(place):
    """call(*arguments): the quick command line on the data, with these arguments added."""
    quick = ["--data", str(place / "data"), "--category", "part", "--config", str(place / "quick.json")]
    return lambda *arguments: run.main([*quick, *map(str, arguments)])


@pytest.fixture(scope="session")
def done(place, call):
    """The folder of a complete run."""
    assert call("--out", place / "done") == 0
    return place / "done"


@pytest.fixture
def no_report(monkeypatch):
    """Leave out the report, which takes longer than all the rest."""
    monkeypatch.setattr(run, "write_report", lambda folder, result: None)


@pytest.fixture
def small_synthetic(tmp_path, monkeypatch):
    """A synthetic set and settings small enough for a test; returns the folder that the run will be in."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(images, "SYNTHETIC", {"size": 32, "train": 3, "test_good": 1, "per_defect": 1})
    quick = {"train_steps": 2, "batch_size": 2, "guided_start": 60, "mdps_start": 60, "stride": 30, "samples": 1}
    monkeypatch.setitem(config.NETWORK_DEFAULTS, "tiny", quick)
    return tmp_path / "runs" / "washer-32"


@pytest.fixture(scope="session")
def cluster():
    """A cluster of two processes. A task whose process is killed is not tried again, unless a test changes `allowed_failures`."""
    distributed = pytest.importorskip("distributed", reason="Dask is not installed: the extra `cluster`")
    dask = pytest.importorskip("dask")
    with (
        dask.config.set({"distributed.scheduler.allowed-failures": 0}),
        distributed.LocalCluster(2, threads_per_worker=1, dashboard_address=":0") as cluster,
    ):
        yield cluster


@pytest.fixture
def client(cluster):
    """A client of that cluster, whose processes are both there; an earlier test may have killed some."""
    distributed = pytest.importorskip("distributed")
    with distributed.Client(cluster) as client:
        client.wait_for_workers(2)
        yield client


@pytest.fixture(scope="session")
def contents():
    """contents(folder): {path in the folder: bytes} of every file."""
    return lambda folder: {
        path.relative_to(folder).as_posix(): path.read_bytes() for path in sorted(pathlib.Path(folder).rglob("*")) if path.is_file()
    }
