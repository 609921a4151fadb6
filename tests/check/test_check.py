"""Each exercise is passed by the library's function; each known mistake, and each stub, gets its own words and never a traceback."""

import numpy as np
import pytest

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
