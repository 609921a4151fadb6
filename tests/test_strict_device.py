"""The whole run on a pretend device that refuses what CuPy refuses, and the same numbers as on the host."""

import csv
import json

import numpy as np
import pytest
from PIL import Image

from mdps_ref import run
from mdps_ref.autograd import ops
from mdps_ref.autograd.check import check_pullback
from mdps_ref.autograd.conv import conv2d
from mdps_ref.backend import array_module, to_device, to_host
from mdps_ref.released.rules import SIDES
from mdps_ref.scoring.image_score import IMAGE_SCORES


@pytest.fixture
def data(tmp_path):
    """A category of 16 x 16 images: 4 to train on, 2 good and 2 spotted ones to test."""
    rng = np.random.default_rng(0)
    for folder, count in (("train/good", 4), ("test/good", 2), ("test/spot", 2), ("ground_truth/spot", 2)):
        (tmp_path / "data/thing" / folder).mkdir(parents=True)
        for i in range(count):
            pixels = rng.integers(90, 110, (16, 16, 3), dtype=np.uint8)
            if "spot" in folder:
                pixels[4:8, 4:8] = 255
            if "truth" in folder:
                pixels = 255 * (pixels[..., 0] == 255).astype(np.uint8)
            Image.fromarray(pixels).save(tmp_path / "data/thing" / folder / f"{i}{'_mask' * ('truth' in folder)}.png")
    return tmp_path / "data"


def scores(folder):
    """The scores in a run folder."""
    with open(folder / "scores.csv", encoding="utf-8") as table:
        return np.array([float(row["score"]) for row in csv.DictReader(table)])


WHITENED = {"features": "unet", "feature_distance": "mahalanobis", "guided_weight": 0.5}


@pytest.mark.slow
@pytest.mark.parametrize("more", [*({"rules": rules} for rules in SIDES), WHITENED], ids=str)
def test_training_to_report_on_the_device(more, strict_device, data, tmp_path, monkeypatch):
    settings = tmp_path / "settings.json"
    quick = {"image_size": 16, "train_steps": 3, "batch_size": 2, "guided_start": 60, "mdps_start": 60, "stride": 30, "samples": 2}
    settings.write_text(json.dumps(quick | more))
    arguments = ["--data", str(data), "--category", "thing", "--config", str(settings)]
    assert run.main([*arguments, "--backend", "numpy", "--out", str(tmp_path / "host")]) == 0
    monkeypatch.setattr(run, "find_backend", lambda name: strict_device)
    assert run.main([*arguments, "--out", str(tmp_path / "device")]) == 0
    np.testing.assert_allclose(scores(tmp_path / "device"), scores(tmp_path / "host"), rtol=1e-3)


def test_the_checker_works_on_the_device(strict_device):
    x, w, b = (
        to_device(np.random.default_rng(i).standard_normal(s), strict_device) for i, s in enumerate([(1, 3, 3, 2), (3, 3, 2, 2), (2,)])
    )
    assert check_pullback(lambda x, w, b: ops.silu(conv2d(x, w, b)), [x, w, b]) < 1e-7


@pytest.mark.parametrize("name", IMAGE_SCORES)
def test_every_image_score_on_the_device(strict_device, name):
    maps = np.random.default_rng(0).random((2, 4, 4))
    np.testing.assert_allclose(to_host(IMAGE_SCORES[name](to_device(maps, strict_device))), IMAGE_SCORES[name](maps))


BUGS = {
    "a NumPy function": lambda x, d: np.exp(x),
    "a NumPy reduction": lambda x, d: np.sum(x),
    "implicit conversion": lambda x, d: np.asarray(x),
    "a host array added": lambda x, d: x + np.ones(3),
    "added to a host array": lambda x, d: np.ones(3) + x,
    "a NumPy scalar": lambda x, d: x * np.float64(2),
    "a host array as index": lambda x, d: x[np.array([0, 1])],
    "a host array assigned": lambda x, d: x.__setitem__(0, np.ones(())),
    "a host array in a stack": lambda x, d: d.stack([x, np.ones(3)]),
    "a host array in a choice": lambda x, d: d.where(x > 0, x, np.ones(3)),
    "mixing in a primitive": lambda x, d: ops.concatenate(x, np.ones(3)),
    "a host weight": lambda x, d: ops.linear(x, np.ones((3, 2)), np.ones(2)),
}


@pytest.mark.parametrize("bug", BUGS.values(), ids=BUGS)
def test_a_planted_device_bug_raises(bug, strict_device):
    with pytest.raises(TypeError):
        bug(to_device(np.ones(3), strict_device), strict_device)


def test_its_arrays_name_it(strict_device):
    assert array_module(to_device(np.ones(2), strict_device), 1.0) is strict_device


def test_cupy_has_every_function(strict_device):
    cupy = pytest.importorskip("cupy", reason="CuPy is not installed, so its functions cannot be listed")
    assert [name for name in strict_device.FUNCTIONS if not hasattr(cupy, name)] == []
    assert [name for name in strict_device.METHODS if not hasattr(cupy.ndarray, name)] == []
