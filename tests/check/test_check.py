"""Each exercise is passed by the library's function; each known mistake, and each stub, gets its own words and never a traceback."""

import numpy as np
import pytest

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


def test_every_equation_has_an_exercise_and_sixty_mistakes_are_known():
    assert {name[:3] for name in exercises() if name[0] == "E"} >= {f"E{number:02}" for number in range(1, 25)}
    assert len(MISTAKES) >= 60
