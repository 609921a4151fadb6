"""Frozen features and the difference map: the authors' maps from the same images and the same ResNet, float32."""

import numpy as np
import pytest

from mdps_ref.nn.resnet import fold_resnet, resnet_features
from mdps_ref.released.chain import fuse_by_batch
from mdps_ref.scoring.difference import difference_map, feature_map, pixel_map
from mdps_ref.scoring.image_score import softmax_top_k

MEAN, DEVIATION = np.array([0.485, 0.456, 0.406], np.float32), np.array([0.229, 0.224, 0.225], np.float32)
SIGMA = 4
SINGLE_PASS = 2e-5
COSINE_ROUNDING = 2 * 4 * 2**-24  # of two layers: four times the step of a float32 just below 1, each


@pytest.fixture(scope="module")
def map_limit(resnet_case):
    """How close the maps must come, as a part of their largest value.

    They are sums of 1 - cos. If features agree to a hundredth, a float32 cosine holds only four or five digits of that: golden maps are
    up to 1.6e-5 from the same maps in float64 for one block a layer, up to 8e-5 for more. So ours may differ by the rounding of theirs.
    """
    return max(SINGLE_PASS, COSINE_ROUNDING / resnet_case.array("perceptual").max())


@pytest.fixture(scope="module")
def features(resnet_case):
    """features(images, layers): of images in [-1, 1]; those of layers 2 and 3 are compared."""
    weights = fold_resnet(resnet_case.state)
    return lambda images, layers=("layer2", "layer3"): resnet_features(weights, ((images + 1) / 2 - MEAN) / DEVIATION, layers)


@pytest.fixture(scope="module")
def distance(resnet_case, features):
    """The difference map.  Shapes: -> (N, H, W)."""
    a, b, eta = (resnet_case.array(key) for key in ("a", "b", "eta"))
    return difference_map(a, b, features, pixel_weight=float(eta), sigma=SIGMA, fuse=fuse_by_batch)


def test_features(resnet_case, features):
    for key, layer in zip(("feat1", "feat2", "feat3"), features(resnet_case.array("a"), ("layer1", "layer2", "layer3")), strict=True):
        assert layer.dtype == np.float32
        resnet_case.check(key, layer)


def test_pixel_map(resnet_case):
    resnet_case.check("pixel", pixel_map(resnet_case.array("a"), resnet_case.array("b"))[..., None])


def test_perceptual_map(resnet_case, features, map_limit):
    a, b = resnet_case.array("a"), resnet_case.array("b")
    resnet_case.check("perceptual", feature_map(features(a), features(b), a.shape[1:3])[..., None], map_limit)


def test_difference_map(resnet_case, distance, map_limit):
    resnet_case.check("distance", distance[..., None], map_limit)


def test_image_score(resnet_case, distance):
    resnet_case.check("image_score_top500", softmax_top_k(distance, 500))
