"""Each exercise is passed by the library's function; each known mistake, and each stub, gets its own words and never a traceback."""

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter, generate_binary_structure, label, uniform_filter, zoom

from mdps_ref.autograd.tape import PRIMITIVES, primitive
from mdps_ref.check import check, exercises
from mdps_ref.check.table import EXERCISES

MISTAKES = [(name, sentence) for name, exercise in EXERCISES.items() for sentence in exercise.mistakes]


@pytest.mark.parametrize("name", EXERCISES)
def test_the_librarys_function_is_right(name, capsys):
    assert check(name, EXERCISES[name].answer)
    assert capsys.readouterr().out.startswith(f"{name}: right. ")


@pytest.mark.parametrize("name, sentence", MISTAKES)
def test_a_known_mistake_is_told_by_its_own_sentence(name, sentence, capsys):
    assert not check(name, EXERCISES[name].mistakes[sentence])
    assert capsys.readouterr().out == f"{name}: not yet. {sentence}\n"


STUBS = {
    "returned None": (lambda *arguments: None, "returned None"),
    "takes too little": (lambda x: x, "raised TypeError"),
    "a name of another cell": (lambda *arguments: eval("my_tweedie"), "'my_tweedie' is not defined. If another cell defines it"),
    "a shape": (lambda x_t, eps, z, a, b: x_t[0], "The shape of the result is (3, 3, 2); it should be (2, 3, 3, 2)"),
    "two results": (lambda x_t, eps, z, a, b: (x_t, eps), "It should return one result"),
    "text": (lambda x_t, eps, z, a, b: np.full(x_t.shape, "x"), "it should hold numbers"),
    "a ragged list": (lambda x_t, eps, z, a, b: [[1], [2, 3]], "does not become an array"),
    "nan": (lambda x_t, eps, z, a, b: x_t * np.nan, "nan or infinity"),
    "whole numbers": (lambda x_t, eps, z, a, b: x_t.astype(int), "fractions rounded away"),
    "noise": (lambda x_t, eps, z, a, b: np.cos(x_t), "the step back of DDPM: found"),
    "the sign": (lambda *arguments: -STEP(*arguments), "The sign is wrong"),
    "a factor": (lambda *arguments: 3 * STEP(*arguments), "the result is 3 times what it should be"),
    "a root": (lambda *arguments: (1 - arguments[3]) ** 0.5 * STEP(*arguments), "sqrt(1 - alpha_bar_t) times"),
    "an inverse": (lambda *arguments: -STEP(*arguments) / arguments[3], "1 / alpha_bar_t times what it should be, and the sign"),
    "any factor": (lambda *arguments: arguments[3] ** 3 * STEP(*arguments), "differs from case to case"),
}
STEP = EXERCISES["E07"].answer


@pytest.mark.parametrize("stub, words", STUBS.values(), ids=STUBS)
def test_a_wrong_result_gets_words(stub, words, capsys):
    assert not check("E07", stub)
    told = capsys.readouterr().out
    assert words in told and told.count("\n") == 1


def test_a_result_that_is_right_only_in_the_cases_gets_the_oracles_words(capsys):
    """Exponentials overflow at +1000; at rate 1 an index is out of range."""

    def overflowing(maps, k):
        shares = np.exp(maps.reshape(len(maps), -1))
        return np.sort(shares / shares.sum(axis=1, keepdims=True), axis=1)[:, -k:].sum(axis=1)

    def highest_at_rate_1(scores, rate):
        return np.sort(scores)[len(scores) - 1 - int(rate * len(scores) + 1e-9)]

    def beyond_at_rate_1(scores, rate):
        return np.sort(scores)[::-1][int(rate * len(scores) + 1e-9)]

    assert not check("E19", overflowing) and not check("E24 threshold", highest_at_rate_1) and not check("E24 threshold", beyond_at_rate_1)
    overflow, rate, beyond = capsys.readouterr().out.splitlines()
    assert "with 1000 added: found nan" in overflow and "at rate 1.0: found" in rate
    assert "With rate = 1.0 beyond_at_rate_1 raised IndexError" in beyond


TIES = {
    "stable": lambda scores: np.argsort(-scores, kind="stable"),
    "turned": lambda scores: np.argsort(scores, kind="stable")[::-1],
    "any": lambda scores: np.argsort(-scores),
}


@pytest.mark.parametrize("order", TIES.values(), ids=TIES)
def test_entries_of_one_score_that_are_counted_one_by_one_are_told_with_the_numbers(order, capsys):
    def one_by_one(labels, scores):
        ranked = labels[order(scores)]
        return (ranked * ranked.cumsum() / np.arange(1, len(ranked) + 1)).sum() / ranked.sum()

    def pairs_one_by_one(labels, scores):
        ranked = labels[order(scores)]
        return (~ranked * ranked.cumsum()).sum() / (ranked.sum() * (~ranked).sum())

    assert not check("E22", one_by_one) and not check("E21", pairs_one_by_one)
    precision, area = capsys.readouterr().out.splitlines()
    assert "not counted one by one" in precision and "found 1, expected 0.5" in precision and "factor" not in precision
    assert "a tie counts one half" in area and "expected 0.5" in area and "factor" not in area


@pytest.mark.parametrize("name", ["E04", "E14", "E21", "E22", "E23", "E24", "E24 threshold"])
def test_a_single_number_is_no_factor_of_another(name, capsys):
    """Any wrong number is a multiple of the right one, so the numbers are told."""
    answers = iter(np.sqrt(np.arange(2.0, 99)))
    assert not check(name, lambda *arguments: next(answers))
    told = capsys.readouterr().out
    assert "factor" not in told and "found" in told and "expected" in told


def test_one_factor_of_all_single_numbers_is_told(capsys):
    assert not check("E21", lambda labels, scores: 3 * EXERCISES["E21"].answer(labels, scores))
    assert "the result is 3 times what it should be" in capsys.readouterr().out


def test_an_argument_that_is_changed_is_told(capsys):
    def spoiling(x_t, eps, alpha_bar_t):
        x_t -= (1 - alpha_bar_t) ** 0.5 * eps
        x_t /= alpha_bar_t**0.5
        return x_t

    assert not check("E05", spoiling)
    assert "spoiling changes its argument x_t in place" in capsys.readouterr().out


@pytest.mark.parametrize("name, words", [("E7", "E07"), ("nonsense 9", "exercises()"), (7, "no such exercise")])
def test_an_unknown_name_is_told_with_its_neighbours(name, words, capsys):
    assert not check(name, STEP)
    assert words in capsys.readouterr().out


def test_the_name_of_a_function_is_no_function(capsys):
    assert not check("E07", "my_step")
    assert "without brackets" in capsys.readouterr().out


def test_a_primitive_of_the_readers_own(capsys):
    cube = primitive(lambda y, x: lambda g: 3 * x**2 * g)(lambda x: x**3)
    square = primitive(lambda y, x: lambda g: x * g)(lambda x: x**2)
    PRIMITIVES.pop("<lambda>")
    x = np.array([0.5, -1.0])
    assert check("primitive", cube, x) and not check("primitive", square, x) and not check("primitive", cube)
    assert not check("primitive", cube, np.array([1, 2]))
    right, wrong, empty, whole = capsys.readouterr().out.splitlines()
    assert "right. " in right and "argument 0 is off by" in wrong and "Give its arguments" in empty and "float64" in whole


PRIMITIVE_STUBS = {
    "a function": (lambda x: None, "returned None. Write its body"),
    "a primitive": (primitive(lambda y, x: lambda g: g)(lambda x: None), "returned None. Write its body"),
    "a pullback": (primitive(lambda y, x: None)(lambda x: x**2), "must be a function of g, not NoneType"),
    "a pullback without g": (
        primitive(lambda y, x: 2 * x)(lambda x: x**2),
        "must be a function of g, not ndarray: did you forget an inner `lambda g:`?",
    ),
    "what it pulls back": (primitive(lambda y, x: lambda g: None)(lambda x: x**2), "to argument 0 returned None. End it"),
}
PRIMITIVES.pop("<lambda>")


@pytest.mark.parametrize("stub, words", PRIMITIVE_STUBS.values(), ids=PRIMITIVE_STUBS)
def test_a_primitive_that_is_not_written_yet_gets_words(stub, words, capsys):
    assert not check("primitive", stub, np.ones(3))
    assert words in capsys.readouterr().out


# Each is written as a reader would, without the library's faults.
MISTAKEN = {
    "softmax without keepdims": ("softmax", lambda x: np.exp(x) / np.exp(x).sum(-1), "keep it (keepdims=True)"),
    "softmax over all axes": ("softmax", lambda x: np.exp(x) / np.exp(x).sum(), "each row has its own"),
    "softmax pullback without keepdims": (
        "softmax pullback",
        lambda g, x: softmax_of(x) * (g - (g * softmax_of(x)).sum(-1)),
        "keep it (keepdims=True)",
    ),
    "softmax pullback over all axes": (
        "softmax pullback",
        lambda g, x: softmax_of(x) * (g - (g * softmax_of(x)).sum()),
        "one sum over the whole array",
    ),
    "matmul pullback, transposed": ("matmul pullback", lambda g, a, b: b @ g.T, "transposed result"),
    "matmul pullback, both": ("matmul pullback", lambda g, a, b: (g @ b.T, a.T @ g), "of a alone is asked for"),
    "smoothing by scipy": ("E18", lambda maps, sigma: gaussian_filter(maps, sigma, mode="mirror"), "so that images mix"),
    "smoothing up to 3 sigma": (
        "E18",
        lambda maps, sigma: gaussian_filter(maps, (0, sigma, sigma), mode="mirror", truncate=3),
        "cut off at 3 sigma",
    ),
    "4 sigma rounded down": (
        "E18",
        lambda maps, sigma: gaussian_filter(maps, (0, sigma, sigma), mode="mirror", radius=(0, int(4 * sigma), int(4 * sigma))),
        "This test fails: the smoothed map",
    ),
    "4-connected regions": ("E23", lambda *arguments: with_regions_of(4, *arguments), "8-connected"),
    "int of a product": ("E24 threshold", lambda scores, rate: np.sort(scores)[::-1][int(len(scores) * rate)], "28.999"),
}


def softmax_of(x):
    return np.exp(x) / np.exp(x).sum(axis=-1, keepdims=True)


def with_regions_of(neighbours, masks, maps, limit):
    """AUPRO by labelled regions, whose pixels have 4 or 8 neighbours."""
    structure = generate_binary_structure(2, 1 if neighbours == 4 else 2)
    parts = [(m[of == k]) for mask, m in zip(masks, maps, strict=True) for of, n in [label(mask, structure)] for k in range(1, n + 1)]
    thresholds = [np.inf, *np.unique(maps)[::-1]]
    rates = np.array([(maps[~masks] >= t).mean() for t in thresholds])
    heights = np.array([np.mean([(part >= t).mean() for part in parts]) for t in thresholds])
    at = np.append(rates[rates < limit], limit)
    return np.trapezoid(np.append(heights[rates < limit], np.interp(limit, rates, heights)), at) / limit


@pytest.mark.parametrize("name, function, words", MISTAKEN.values(), ids=MISTAKEN)
def test_a_mistake_in_a_readers_own_words_is_told(name, function, words, capsys):
    assert not check(name, function)
    assert words in capsys.readouterr().out


def test_regions_that_touch_at_corners_are_right_in_the_same_words():
    assert check("E23", lambda *arguments: with_regions_of(8, *arguments))


def convolution_of(x, w):
    """A convolution as large as x, offset by offset."""
    padded = np.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
    h, width = x.shape[1:3]
    return sum(padded[:, i : i + h, j : j + width] @ w[i, j] for i in range(3) for j in range(3))


CHANNELS = {
    "turned": (lambda w: w[::-1, ::-1], "channels have to be swapped"),
    "as it is": (lambda w: w, "turned by half a circle, and its channels"),
    "swapped": (lambda w: w.swapaxes(2, 3), "The kernel has to be turned"),
}


@pytest.mark.parametrize("kernel, words", CHANNELS.values(), ids=CHANNELS)
def test_a_kernel_on_the_way_back_is_turned_and_its_channels_are_swapped(kernel, words, capsys):
    assert not check("convolution pullback to x", lambda g, x, w, b: convolution_of(g, kernel(w)))
    assert words in capsys.readouterr().out
    assert check("convolution pullback to x", lambda g, x, w, b: convolution_of(g, w[::-1, ::-1].swapaxes(2, 3)))


def feature_map(order):
    """The feature map with its steps in some order: p pools, e enlarges, c takes 1 - cos."""

    def mapped(features_x, features_y, size):
        total = 0
        for a, b in zip(features_x, features_y, strict=True):
            both = [a, b]
            for step in order:
                both = [1 - cosine_of(*both)] if step == "c" else [STEPS[step](x, size) for x in both]
            total = total + both[0][..., 0]
        return total

    return mapped


def cosine_of(a, b):
    return (a * b).sum(-1, keepdims=True) / np.sqrt((a * a).sum(-1, keepdims=True) * (b * b).sum(-1, keepdims=True))


def enlarged(x, size):
    corners = zoom(x, (1, size[0] / x.shape[1], size[1] / x.shape[2], 1), order=1, mode="nearest")
    assert corners.shape[1:3] == size
    return corners


STEPS = {"p": lambda x, size: uniform_filter(x, (0, 3, 3, 0), mode="constant"), "e": enlarged}


@pytest.mark.parametrize("order, words", [("pec", "you enlarge the features"), ("cpe", "you pool the distance"), ("pce", None)])
def test_the_order_of_the_steps_of_a_feature_map(order, words, capsys):
    assert check("E16", feature_map(order)) == (words is None)
    assert (words or "right. ") in capsys.readouterr().out


def test_every_equation_has_an_exercise_and_sixty_mistakes_are_known():
    assert {name[:3] for name in exercises() if name[0] == "E"} >= {f"E{number:02}" for number in range(1, 25)}
    assert len(MISTAKES) >= 60


def test_what_should_be_a_function_and_is_none_is_told(capsys):
    assert not check("E13", lambda denoise, y, mask: y)
    assert "it returned ndarray; return a function of x_t and t" in capsys.readouterr().out
