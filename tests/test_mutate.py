"""The table of mutants: no unknown id is passed over, and tests that could not run are no evidence."""

import subprocess
import sys

import mutate
import pytest


def test_every_line_to_break_is_there():
    assert [row for row in mutate.MUTANTS if row[2] not in (mutate.ROOT / "mdps_ref" / row[1]).read_text(encoding="utf-8")] == []


def test_an_unknown_id_is_refused_in_one_line(capsys):
    assert mutate.main(["E02", "E99"]) == 2
    assert "E99" in (error := capsys.readouterr().err) and error.count("\n") == 1


@pytest.mark.parametrize("status, printed, expected", [(1, "FAILED tests/a.py::test_b[c] - d", 0), (0, "", 1), (2, "E", 2), (5, "", 2)])
def test_its_exit_status_says_what_was_found(status, printed, expected, monkeypatch, capsys):
    """Of tests run by this interpreter; those that could not run are no sign that a mutant lives."""
    done = subprocess.CompletedProcess([], status, printed, "")
    monkeypatch.setattr(mutate, "MUTANTS", mutate.MUTANTS[:1])
    monkeypatch.setattr(mutate.subprocess, "run", lambda command, **_: done if command[0] == sys.executable else None)
    assert mutate.main([]) == expected
    assert ("lives" in capsys.readouterr().out.splitlines()[2]) == (status == 0)


@pytest.mark.slow
def test_the_copy_holds_all_that_the_tests_need_and_they_go_red():
    red, fault = mutate.red_tests(*next(row for row in mutate.MUTANTS if row[0] == "E16"))
    assert red and not fault
