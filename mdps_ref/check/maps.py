"""Exercises of difference maps and image scores: E15 to E20."""

import math

import numpy as np

from mdps_ref.check.exercise import Exercise, agree, normal
from mdps_ref.scoring import difference, filters, image_score

IMAGES = [normal(2, 4, 4, 3, seed=seed) for seed in range(2)]
MAPS = [abs(normal(2, 6, 5, seed=seed)) for seed in range(2)]
FEATURES = [[normal(2, 4, 3, 5, seed=seed), normal(2, 2, 2, 3, seed=seed)] for seed in range(2)]
DEVIATION = difference.IMAGENET_DEVIATION


def pixel_map_in_loops(f):
    """a twin in loops: a mean over the channels, in ImageNet's deviations of an image in [0, 1]."""
    x_0, y = IMAGES
    found = np.asarray(f(x_0, y))
    for i, r, c in np.ndindex(found.shape):
        parts = [abs(x_0[i, r, c, k] - y[i, r, c, k]) / 2 / (0.229, 0.224, 0.225)[k] for k in range(3)]
        agree(found[i, r, c], sum(parts) / 3, f"the pixel map at {(i, r, c)}")


def feature_map_by_loops(features_x, features_y, size):
    """Pool 3 x 3 counting the zeros beyond the border, take 1 - cos, enlarge with the corners on each other, and add the layers."""
    total = np.zeros((len(features_x[0]), *size))
    for a, b in zip(features_x, features_y, strict=True):
        n, h, w, _ = a.shape
        distance = np.zeros((n, h, w))
        for i, r, c in np.ndindex(n, h, w):
            window = np.s_[i, max(0, r - 1) : r + 2, max(0, c - 1) : c + 2]
            u, v = a[window].sum(axis=(0, 1)) / 9, b[window].sum(axis=(0, 1)) / 9
            distance[i, r, c] = 1 - u @ v / np.sqrt(u @ u * (v @ v))
        for i, r, c in np.ndindex(n, *size):
            y, x = r * (h - 1) / (size[0] - 1), c * (w - 1) / (size[1] - 1)
            r0, c0 = min(int(y), h - 2), min(int(x), w - 2)
            dy, dx = y - r0, x - c0
            corners = distance[i, r0 : r0 + 2, c0 : c0 + 2]
            total[i, r, c] += np.array([1 - dy, dy]) @ corners @ np.array([1 - dx, dx])
    return total


def feature_map_in_loops(f):
    """a twin in loops, and equal features have the distance 0."""
    agree(f(*FEATURES, (9, 7)), feature_map_by_loops(*FEATURES, (9, 7)), "the feature map")
    agree(f(FEATURES[0], FEATURES[0], (6, 6)), np.zeros((2, 6, 6)), "the feature map of equal features")


def angles(f):
    """angles that are known: of equal, opposite and orthogonal features, and of two at 60 degrees."""
    a = np.array([1.0, 0.0]).reshape(1, 1, 1, 2)
    half = np.array([0.5, math.sqrt(3) / 2]).reshape(1, 1, 1, 2)
    for b, right in [(3 * a, 1), (-2 * a, -1), (a[..., ::-1], 0), (7 * half, 0.5)]:
        agree(f(a, b), [[[right]]], f"the cosine between {a.ravel()} and {b.ravel()}")


def pixels_reach_their_weight(f):
    """the definition, image by image: the pixel part reaches its weight times the largest feature, and a map of zeros adds nothing."""
    pixels, features = MAPS
    for weight in (3.0, 0.5):
        for found, pixel, feature in zip(f(pixels, features, weight), pixels, features, strict=True):
            part = found - feature
            agree(part.max(), weight * feature.max(), "the largest entry of the pixel part")
            agree(part * pixel.max(), part.max() * pixel, "the pixel part along the pixel map")
    agree(f(0 * pixels, features, 3.0), features, "the fusion with a pixel map of zeros")


def smooth_by_loops(maps, sigma):
    """Weigh every pixel within 4 sigma by a Gaussian, the border mirrored about the edge pixel."""
    n, h, w = maps.shape
    radius = round(4 * sigma)
    kernel = [math.exp(-0.5 * (k / sigma) ** 2) for k in range(-radius, radius + 1)]
    mirror = lambda i, size: (size - 1) - abs((size - 1) - abs(i))  # noqa: E731
    out = np.zeros(maps.shape)
    for i, r, c in np.ndindex(n, h, w):
        for p, q in np.ndindex(len(kernel), len(kernel)):
            weight = kernel[p] * kernel[q] / sum(kernel) ** 2
            out[i, r, c] += weight * maps[i, mirror(r + p - radius, h), mirror(c + q - radius, w)]
    return out


def smooth_in_loops(f):
    """a twin in loops, and a constant map stays as it is."""
    agree(f(MAPS[0], 0.7), smooth_by_loops(MAPS[0], 0.7), "the smoothed map")
    agree(f(np.full((1, 8, 8), 0.7), 1.0), np.full((1, 8, 8), 0.7), "a constant map")


def softmax_in_loops(f):
    """the definition in loops, and a map to which a constant is added keeps its score."""
    for k in (1, 5):
        right = []
        for one in MAPS[0]:
            shares = sorted(math.exp(value) for value in one.ravel())
            right.append(sum(shares[-k:]) / sum(shares))
        agree(f(MAPS[0], k), right, f"the score with k = {k}")
    agree(f(MAPS[0] + 1000, 5), f(MAPS[0], 5), "the score of a map with 1000 added")


def highest_in_loops(f):
    """sorted values, of which the k highest are taken."""
    for k in (1, 4, 30):
        agree(f(MAPS[0], k), [sum(sorted(one.ravel())[-k:]) / k for one in MAPS[0]], f"the score with k = {k}")


def largest_entry(f):
    """a walk over all pixels, which keeps the largest."""
    agree(f(MAPS[0] - 5), [max(one.ravel().tolist()) for one in MAPS[0] - 5], "the largest entry of each map")


def moments(f):
    """sums in loops: the mean, and the root of the mean squared distance from it."""
    maps = normal(2, 5, 3, 4)
    mean, spread = f(maps)
    for i, r, c in np.ndindex(2, 3, 4):
        values = maps[i, :, r, c].tolist()
        middle = sum(values) / 5
        agree(mean[i, r, c], middle, f"the mean at {(i, r, c)}")
        agree(spread[i, r, c], math.sqrt(sum((value - middle) ** 2 for value in values) / 5), f"the spread at {(i, r, c)}")


def _features(before=("pool",), after=("enlarge",), distance=lambda u, v, dot: 1 - dot / (u * v), end=1, layers=sum):
    """A feature map with faults: other steps before or after the distance, another distance, other corners, another sum of the layers."""

    def mapped(features_x, features_y, size):
        maps = []
        for a, b in zip(features_x, features_y, strict=True):
            h, w = a.shape[1:3]
            steps = {
                "pool": [filters.mean3_matrix(h), filters.mean3_matrix(w)],
                "enlarge": [_linear(h, size[0], end), _linear(w, size[1], end)],
            }
            for step in before:
                a, b = (filters.along_both_axes(x, *steps[step]) for x in (a, b))
            u, v = (np.sqrt((x * x).sum(axis=-1)) for x in (a, b))
            one = distance(u, v, (a * b).sum(axis=-1))[..., None]
            for step in after:
                one = filters.along_both_axes(one, *steps[step])
            maps.append(one[..., 0])
        return layers(maps)

    return mapped


def _linear(size_in, size_out, end):
    """Linear interpolation whose last point is at size_in - end."""
    return np.maximum(0, 1 - abs(np.linspace(0, size_in - end, size_out)[:, None] - np.arange(size_in)))


def _smooth(exponent=-0.5, mirror=True, normalise=True, axes=(1, 2), cut=4):
    """Smoothing with faults: another Gaussian, a border of zeros, one axis alone or all three, another cut."""

    def smoothed(maps, sigma):
        radius = round(cut * sigma)
        kernel = np.exp(exponent * (np.arange(-radius, radius + 1) / sigma) ** 2)
        kernel = kernel / kernel.sum() if normalise else kernel
        for axis in axes:
            widths = [(radius, radius) if i == axis else (0, 0) for i in range(3)]
            padded = np.pad(maps, widths, mode=mirror if isinstance(mirror, str) else "reflect" if mirror else "constant")
            maps = np.apply_along_axis(lambda line: np.convolve(line, kernel, "valid"), axis, padded)
        return maps

    return smoothed


def _scaled(x_0, y):
    """|x_0 - y| in ImageNet's deviations, in [0, 1]."""
    return abs(x_0 - y) / (2 * DEVIATION)


def _flat(maps):
    return maps.reshape(len(maps), -1)


def _highest(values, k):
    return np.sort(values, axis=1)[:, -k:]


def _shares(maps):
    return np.exp(_flat(maps)) / np.exp(_flat(maps)).sum(axis=1, keepdims=True)


EXERCISES = {
    "E15": Exercise(
        "x_0, y",
        "the pixel map of both images (N, H, W), in ImageNet's deviations",
        difference.pixel_map,
        pixel_map_in_loops,
        [tuple(IMAGES)],
        {
            "Divide each channel by ImageNet's deviation.": lambda x, y: abs(x - y).mean(axis=-1) / 2,
            "That is the difference in pixel values; bring the images to [0, 1], then divide by ImageNet's deviation.": (
                lambda x, y: abs(x - y).mean(axis=-1)
            ),
            "Images lie in [-1, 1], which is two wide; bring them to [0, 1] first.": lambda x, y: (abs(x - y) / DEVIATION).mean(axis=-1),
            "Take the mean over the channels, not their sum.": lambda x, y: _scaled(x, y).sum(axis=-1),
            "The differences are squared; their absolute values are asked for.": lambda x, y: (_scaled(x, y) ** 2).mean(axis=-1),
            "The absolute value is missing, so channels cancel.": lambda x, y: ((x - y) / (2 * DEVIATION)).mean(axis=-1),
            "Take the absolute value before the mean over the channels, not after.": lambda x, y: abs(
                ((x - y) / (2 * DEVIATION)).mean(axis=-1)
            ),
            "The channels are still there: take their mean.": _scaled,
        },
    ),
    "E16": Exercise(
        "features_x, features_y, size",
        "the feature map (N, H, W): 1 - cos of pooled features, enlarged, summed over layers",
        difference.feature_map,
        feature_map_in_loops,
        [(*FEATURES, (9, 7))],
        {
            "That is the cosine; the distance is 1 minus it.": _features(distance=lambda u, v, dot: dot / (u * v)),
            "The 3 x 3 pooling is missing.": _features(before=()),
            "Pool the features, before the cosine; you pool the distance.": _features(before=(), after=("pool", "enlarge")),
            "Enlarge the distance, after the cosine; you enlarge the features.": _features(before=("pool", "enlarge"), after=()),
            "The features are not divided by their lengths, so this is no cosine.": _features(distance=lambda u, v, dot: 1 - dot),
            "The corners of small map and image have to lie on each other: the last point is at size - 1.": _features(end=0),
            "The layers are averaged; add them.": _features(layers=lambda maps: sum(maps) / len(maps)),
            "Only the first layer is there; add all of them.": _features(layers=lambda maps: maps[0]),
        },
    ),
    "E16 cosine": Exercise(
        "a, b",
        "the cosine between the feature vectors, pixel by pixel",
        difference.cosine_similarity,
        angles,
        [(FEATURES[0][0], FEATURES[1][0])],
        {
            "Divide by the lengths of both features.": lambda a, b: (a * b).sum(axis=-1),
            "That is the distance 1 - cos; the cosine is asked for.": lambda a, b: 1 - difference.cosine_similarity(a, b),
            "The lengths are squared: the root is missing.": lambda a, b: (a * b).sum(-1) / ((a * a).sum(-1) * (b * b).sum(-1)),
            "Only one of the lengths is divided by.": lambda a, b: (a * b).sum(-1) / np.sqrt((a * a).sum(-1)),
            "Take the sum over the channels, not their mean.": lambda a, b: (a * b).mean(-1) / np.sqrt((a * a).sum(-1) * (b * b).sum(-1)),
        },
    ),
    "E17": Exercise(
        "pixels, features, pixel_weight",
        "the fused map: both maxima are those of one image",
        difference.fuse,
        pixels_reach_their_weight,
        [(*MAPS, 3.0), (*MAPS, 0.5)],
        {
            "Take the maxima image by image, not over the whole batch.": lambda i, f, w: f + w * f.max() / i.max() * i,
            "The pixel map is not scaled to the feature map: the factor max(features) / max(pixels) is missing.": lambda i, f, w: f + w * i,
            "The pixel weight is missing.": lambda i, f, w: f + f.max((1, 2), keepdims=True) / i.max((1, 2), keepdims=True) * i,
            "The ratio of the maxima is upside down.": lambda i, f, w: (
                f + w * i.max((1, 2), keepdims=True) / f.max((1, 2), keepdims=True) * i
            ),
            "The feature map itself is missing.": lambda i, f, w: w * f.max((1, 2), keepdims=True) / i.max((1, 2), keepdims=True) * i,
            "A pixel map of zeros must add nothing: do not divide by its maximum 0.": (
                lambda i, f, w: f + w * f.max((1, 2), keepdims=True) * i / i.max((1, 2), keepdims=True) if i.max() > 0 else f * math.nan
            ),
        },
    ),
    "E18": Exercise(
        "maps, sigma",
        "the maps smoothed by a Gaussian that is cut off at 4 sigma, the border mirrored",
        difference.smooth,
        smooth_in_loops,
        [(MAPS[0], 0.7), (MAPS[0], 1.0)],
        {
            "The 1/2 in the Gaussian's exponent is missing.": _smooth(exponent=-1),
            "The border is filled with zeros; mirror it.": _smooth(mirror=False),
            "The mirror lies at the centre of the edge pixel; yours repeats that pixel.": _smooth(mirror="symmetric"),
            "The border is not mirrored; it is repeated.": _smooth(mirror="edge"),
            "The Gaussian is cut off at 3 sigma; cut it off at 4.": _smooth(cut=3),
            "The maps are smoothed along the batch axis, too, so that images mix.": _smooth(axes=(0, 1, 2)),
            "The kernel does not sum to 1.": _smooth(normalise=False),
            "The maps are smoothed along the columns alone.": _smooth(axes=(1,)),
            "The maps are smoothed along the rows alone.": _smooth(axes=(2,)),
        },
    ),
    "E19": Exercise(
        "maps, k",
        "the sum of the k largest entries of the softmax over all pixels",
        image_score.softmax_top_k,
        softmax_in_loops,
        [(MAPS[0], 5)],
        {
            "The softmax runs over the whole batch; each image has its own.": lambda maps, k: _highest(
                np.exp(_flat(maps)) / np.exp(maps).sum(), k
            ).sum(axis=1),
            "Those are the k smallest entries.": lambda maps, k: np.sort(_shares(maps), axis=1)[:, :k].sum(axis=1),
            "That is the mean of the k largest; their sum is asked for.": lambda maps, k: _highest(_shares(maps), k).mean(axis=1),
            "The softmax is missing.": lambda maps, k: _highest(_flat(maps), k).sum(axis=1),
            "The exponentials are not divided by their sum.": lambda maps, k: _highest(np.exp(_flat(maps)), k).sum(axis=1),
            "The softmax runs over the k largest alone, so its sum is always 1.": lambda maps, k: np.ones(len(maps)),
        },
    ),
    "E19 top mean": Exercise(
        "maps, k",
        "the mean of the k largest entries of each map",
        image_score.top_k_mean,
        highest_in_loops,
        [(MAPS[0], 4)],
        {
            "Those are the k smallest entries.": lambda maps, k: np.sort(_flat(maps), axis=1)[:, :k].mean(axis=1),
            "That is the k-th largest entry alone.": lambda maps, k: np.sort(_flat(maps), axis=1)[:, -k],
            "That is the sum; the mean is asked for.": lambda maps, k: _highest(_flat(maps), k).sum(axis=1),
            "The k largest are taken over the whole batch.": lambda maps, k: np.full(len(maps), np.sort(maps.ravel())[-k:].mean()),
            "The mean runs over the whole map; a small defect drowns in it.": lambda maps, k: maps.mean(axis=(1, 2)),
            "That is the largest entry alone.": lambda maps, k: maps.max(axis=(1, 2)),
        },
    ),
    "E19 maximum": Exercise(
        "maps",
        "the largest entry of each map",
        image_score.maximum,
        largest_entry,
        [(MAPS[0] - 5,)],
        {
            "The least entry is subtracted; then an image that is bad all over scores 0.": lambda maps: maps.max((1, 2)) - maps.min(),
            "That is the largest entry of the whole batch.": lambda maps: np.full(len(maps), maps.max()),
            "That is the largest absolute value.": lambda maps: abs(maps).max(axis=(1, 2)),
        },
    ),
    "E20": Exercise(
        "maps",
        "mean and spread over the n maps of each image",
        image_score.mean_and_spread,
        moments,
        [(normal(2, 5, 3, 4),)],
        {
            "The second result is the variance; the spread is its root.": lambda maps: (maps.mean(axis=1), maps.var(axis=1)),
            "The spread divides by n - 1; here it divides by n.": lambda maps: (maps.mean(axis=1), maps.std(axis=1, ddof=1)),
            "Mean and spread are swapped.": lambda maps: (maps.std(axis=1), maps.mean(axis=1)),
            "The mean runs over the images; it should run over the n maps of each.": lambda maps: (maps.mean(axis=0), maps.std(axis=0)),
            "The spread is missing: return mean and spread.": lambda maps: maps.mean(axis=1),
            "That spread is a mean absolute deviation; take the root of the mean square.": lambda maps: (
                maps.mean(axis=1),
                abs(maps - maps.mean(axis=1, keepdims=True)).mean(axis=1),
            ),
            "That is the spread of the mean; do not divide by sqrt(n).": lambda maps: (
                maps.mean(axis=1),
                maps.std(axis=1) / maps.shape[1] ** 0.5,
            ),
        },
    ),
}
