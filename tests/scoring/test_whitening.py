"""Whitened features: their squared distance is Mahalanobis's, and good differences count alike in all directions."""

import numpy as np
import pytest

from mdps_ref.scoring import whitening
from mdps_ref.scoring.difference import layer_distances, squared_distance
from mdps_ref.scoring.whitening import SecondMoments, whitened

rng = np.random.default_rng(0)
MIX = rng.standard_normal((5, 5))  # channels that differ in size, and that are correlated


def layers(count, grow=1.0):
    """Two layers of features of `count` images."""
    return [grow * rng.standard_normal((count, 6, 4, 5)) @ MIX, grow * rng.standard_normal((count, 3, 2, 3))]


def fitted(pairs):
    covariance = SecondMoments()
    for pair in pairs:
        covariance.add(*pair)
    return covariance.whitening()


def pooled_by_hand(features):
    """The mean of each pixel and its neighbours, 3 x 3; those beyond the border count as 0."""
    out = np.empty_like(features)
    for y in range(features.shape[1]):
        for x in range(features.shape[2]):
            out[:, y, x] = features[:, max(0, y - 1) : y + 2, max(0, x - 1) : x + 2].sum(axis=(1, 2)) / 9
    return out


def test_the_distance_is_that_of_mahalanobis():
    """Against its closed form, d^T S^-1 d, with the second moments summed in a loop."""
    pairs = [(layers(4), layers(4)), (layers(3), layers(3))]
    x, y = layers(2), layers(2)
    of_x, of_y = (whitened(lambda f: f, fitted(pairs), np)(f) for f in (x, y))
    for layer in range(2):
        differences = [pooled_by_hand(b[layer]) - pooled_by_hand(a[layer]) for a, b in pairs]
        vectors = np.concatenate([d.reshape(-1, d.shape[-1]) for d in differences])
        moments = sum(np.outer(d, d) for d in vectors) / len(vectors)
        channels = len(moments)
        moments = 0.9 * moments + 0.1 * np.trace(moments) / channels * np.eye(channels)
        d = x[layer] - y[layer]
        expected = np.einsum("nhwi,ij,nhwj->nhw", d, np.linalg.inv(moments), d) / channels
        np.testing.assert_allclose(squared_distance(of_x[layer], of_y[layer]), expected, rtol=1e-4)


def test_good_differences_count_alike_in_all_directions(monkeypatch):
    monkeypatch.setattr(whitening, "SHRINKAGE", 0.0)
    x, y = layers(50), layers(50)
    matrices = fitted([(x, y)])
    differences = (pooled_by_hand(x[0]) - pooled_by_hand(y[0])).reshape(-1, 5) @ matrices[0]
    np.testing.assert_allclose(differences.T @ differences / len(differences), np.eye(5), atol=1e-4)
    distances = layer_distances(*(whitened(lambda f: f, matrices, np)(f) for f in (x, y)), (6, 4), squared_distance)
    np.testing.assert_allclose(distances[0].mean(), 1, rtol=1e-4)


def test_it_does_not_matter_in_which_basis_features_are_given(monkeypatch):
    monkeypatch.setattr(whitening, "SHRINKAGE", 0.0)
    basis, pair, (x, _), (y, _) = rng.standard_normal((5, 5)), (layers(9), layers(9)), layers(2), layers(2)
    distances = []
    for turn in (np.eye(5), basis):
        matrices = fitted([([a[0] @ turn], [b[0] @ turn]) for a, b in [pair]])
        [of_x], [of_y] = (whitened(lambda f: f, matrices, np)([f @ turn]) for f in (x, y))
        distances.append(squared_distance(of_x, of_y))
    np.testing.assert_allclose(*distances, rtol=1e-3)


def test_where_reconstructions_are_perfect_features_stay_as_they_are():
    x = layers(3)
    for matrix in fitted([(x, x)]):
        np.testing.assert_array_equal(matrix, np.eye(len(matrix)))


def test_features_of_other_layers_are_refused(fails_with):
    with fails_with("[5]", "[5, 3]"):
        whitened(lambda f: f[:1], fitted([(layers(2), layers(2))]), np)(layers(1))


@pytest.mark.parametrize("grow", [1e-12, 1e12])
def test_features_of_any_size(grow):
    matrices = fitted([(layers(5, grow), layers(5, grow))])
    distance = squared_distance(*(whitened(lambda f: f, matrices, np)(layers(5, grow))[0] for _ in range(2)))
    assert 0.3 < distance.mean() < 30


def test_features_that_are_not_finite_are_refused(fails_with):
    x, y = layers(2), layers(2)
    y[1][0, 0, 0, 0] = np.nan
    with fails_with("not finite", "learning_rate"):
        fitted([(x, y)])
