"""What a run says: a plain line every so often where no terminal is, nothing where quiet is asked for."""

import sys

import pytest

from mdps_ref.job import progress


@pytest.fixture
def clock(monkeypatch):
    """A clock that the test turns."""
    now = [0.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    return now


def work(clock, total=10):
    with progress.stage("calibration", {}), progress.progress(total, "image", "guided chain", 2) as shown:
        for _ in range(total - 2):
            clock[0] += 12
            shown.note("loss 1")
            shown.update(1)


def test_a_line_every_half_minute_names_the_stage_and_the_rest(clock, capsys):
    work(clock)
    lines = capsys.readouterr().err.splitlines()
    assert lines == [
        "calibration: guided chain: 5 of 10 images, loss 1, about 1 min left",
        "calibration: guided chain: 8 of 10 images, loss 1, less than a minute left",
    ]


def test_the_last_line_tells_no_time_that_is_left(clock, capsys):
    work(clock, 5)
    assert capsys.readouterr().err.splitlines() == ["calibration: guided chain: 5 of 5 images, loss 1"]


@pytest.mark.parametrize("level, expected", [("quiet", 0), ("normal", 2), ("verbose", 3)])
def test_the_level_says_how_much(level, expected, clock, capsys):
    with progress.speaking(level):
        work(clock)
    assert len(capsys.readouterr().err.splitlines()) == expected


def test_without_standard_error_nothing_fails(clock, monkeypatch):
    monkeypatch.setattr(sys, "stderr", None)
    work(clock)
