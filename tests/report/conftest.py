"""What the tests of the report share: a Result of random arrays."""

import numpy as np
import pytest

from mdps_ref.job.config import make_config
from mdps_ref.job.detect import Detection, Maps
from mdps_ref.job.evaluate import evaluate
from mdps_ref.job.result import Result

SIDE = 16


def fake_maps(rng, count, level):
    """Random Maps whose anomaly maps are larger for every further image."""
    anomaly = (level * rng.random((count, SIDE, SIDE)) * np.arange(1, count + 1)[:, None, None]).astype(np.float32)
    return Maps(
        x_0=rng.uniform(-1, 1, (count, SIDE, SIDE, 3)).astype(np.float32),
        difference=anomaly / 2,
        anomaly=anomaly,
        spread=anomaly / 3,
        score=anomaly.max(axis=(1, 2)),
        suspected=(rng.random((count, SIDE, SIDE)) > 0.5).astype(np.float32),
    )


def _fake_result(defects=("good", "good", "bent", "rust"), masks=True, names=None, mdps=None, threshold=None, **settings):
    rng = np.random.default_rng(0)
    count, config = len(defects), make_config({"image_size": SIDE, "samples": 2} | settings)
    reconstruction, guided, own = (fake_maps(rng, count, level) for level in (0.1, 0.2, 0.5))
    own = Maps(**vars(own) | (mdps or {}))
    detection = Detection(reconstruction, guided, own, 0.0123) if config.masked else Detection(reconstruction, own, own)
    defective = [kind != "good" for kind in defects]
    truths = [np.zeros((SIDE, SIDE), bool) for _ in defects]
    for i in np.flatnonzero(defective):
        truths[i][2:6, : 4 + i] = True
    truths = [truth if masks or not bad else None for truth, bad in zip(truths, defective, strict=True)]
    held_out = rng.random(5).astype(np.float32)
    metrics = evaluate(detection, held_out, defective, truths, config)
    if threshold is not None:
        metrics["mdps"]["decision_threshold"] = threshold
    return Result(
        config=config,
        images=rng.uniform(-1, 1, (count, SIDE, SIDE, 3)).astype(np.float32),
        names=names or [f"test/{kind}/{i:03}" for i, kind in enumerate(defects)],
        defects=list(defects),
        truths=truths,
        detection=detection,
        held_out_scores=held_out,
        metrics=metrics,
        log=np.stack([np.geomspace(1, 0.01, 70), np.ones(70)], axis=1),
        seconds={"training": 12.34},
        versions={"numpy": "9.8.7"},
    )


@pytest.fixture(scope="session")
def fake_result():
    """fake_result(defects, masks, names, mdps, threshold, **settings): a Result of random arrays with images of these kinds.

    mdps replaces some of MDPS's Maps, threshold the decision's. masks: whether defects have true masks.
    """
    return _fake_result
