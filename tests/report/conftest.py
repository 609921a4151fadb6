"""What the tests of the report share: a Result of random arrays."""

import numpy as np
import pytest
from helpers import chain_result_of

from mdps_ref.job.config import make_config
from mdps_ref.job.evaluate import evaluate
from mdps_ref.job.maps import Maps
from mdps_ref.job.result import Mistakes, Result, choose_images
from mdps_ref.scoring.metrics import exceeds

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


def _fake_result(
    defects=("good", "good", "bent", "rust"), masks=True, names=None, mdps=None, threshold=None, shown=None, told=(), warning="", **settings
):
    rng = np.random.default_rng(0)
    count, config = len(defects), make_config({"image_size": SIDE, "samples": 2} | settings)
    reconstruction, guided, own = (fake_maps(rng, count, level) for level in (0.1, 0.2, 0.5))
    own = Maps(**vars(own) | (mdps or {}))
    maps = {"mdps": own, "guided": guided if config.masked else own, "reconstruction": reconstruction}
    defective = [kind != "good" for kind in defects]
    truths = [np.zeros((SIDE, SIDE), bool) for _ in defects]
    for i in np.flatnonzero(defective):
        truths[i][2:6, : 4 + i] = True
    truths = [truth if masks or not bad else None for truth, bad in zip(truths, defective, strict=True)]
    held_out, mask_threshold = rng.random(5).astype(np.float32), 0.0123 if config.masked else None
    shown = list(range(count)) if shown is None else shown
    chains = {name: chain_result_of(chain, truths, shown) for name, chain in maps.items()}
    areas = [truth if truth is None else int(truth.sum()) for truth in truths]
    metrics = evaluate(chains, held_out, defective, areas, config, mask_threshold)
    metrics["trained_enough"] = {"enough": True, "images": 3, "noise_loss": 0.11, "gaussian_noise_loss": 0.22}
    metrics["trained_enough"] |= {"reconstruction_error": 0.033, "other_image_error": 0.044}
    if threshold is not None:
        metrics["mdps"]["decision_threshold"] = threshold
    images = rng.uniform(-1, 1, (count, SIDE, SIDE, 3)).astype(np.float32)
    wrong = np.flatnonzero(exceeds(own.score, metrics["mdps"]["decision_threshold"]) != defective)
    wrong = [int(wrong[i]) for i in choose_images([defects[i] for i in wrong])]
    return Result(
        config=config,
        names=names or [f"test/{kind}/{i:03}" for i, kind in enumerate(defects)],
        defects=list(defects),
        shown=shown,
        images=images[shown],
        truths=[truths[i] for i in shown],
        mistakes=Mistakes(wrong, [images[i] for i in wrong], [truths[i] for i in wrong], [own.anomaly[i] for i in wrong]),
        chains=chains,
        mask_threshold=mask_threshold,
        held_out_scores=held_out,
        metrics=metrics,
        log=np.stack([np.geomspace(1, 0.01, 70), np.ones(70)], axis=1),
        seconds={"training": 12.34},
        versions={"numpy": "9.8.7"},
        told=list(told),
        warning=warning,
    )


@pytest.fixture(scope="session")
def fake_result():
    """fake_result(defects, masks, names, mdps, threshold, shown, told, warning, **settings): a Result of random arrays with such images.

    mdps replaces some of MDPS's Maps, threshold the decision's. masks: whether defects have true masks. All images are shown if none are
    named.
    """
    return _fake_result
