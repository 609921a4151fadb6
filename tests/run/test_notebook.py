"""A run from a notebook's cell: the same run, and the report below the cell."""

import html
import re

import pytest

from mdps_ref import run


def test_a_run_in_a_notebook_prints_its_metrics_and_shows_its_report(small_synthetic, capsys):
    shown = run.in_notebook("--image-size", "32", "--train", "--quiet")
    assert shown.path == small_synthetic / "report.html" and str(shown.path) in repr(shown)
    printed = capsys.readouterr()
    assert "image auroc" in printed.out and "flagged: " in printed.out and not printed.err
    (page,) = re.findall('<iframe [^>]*srcdoc="([^"]*)"', shown._repr_html_())
    assert html.unescape(page) == shown.path.read_text(encoding="utf-8")


@pytest.mark.parametrize(
    "flags, part",
    [
        (["--train-steps", "x"], "--train-steps"),
        (["--nosuch"], "--nosuch"),
        (["--list"], "--list"),
        (["--category", "all"], "--category all"),
    ],
    ids=str,
)
def test_a_flag_that_a_cell_cannot_use_is_one_line(flags, part, fails_with):
    with fails_with(part):
        run.in_notebook(*flags)


class Bare:
    """A stream as a notebook in a browser has it: what is written is shown, and that is all."""

    def __init__(self):
        self.text = ""

    def write(self, text):
        self.text += text

    def flush(self):
        pass


def test_streams_may_know_nothing_of_themselves(monkeypatch, tmp_path):
    out, err = Bare(), Bare()
    monkeypatch.setattr("sys.stdout", out)
    monkeypatch.setattr("sys.stderr", err)
    assert run.main(["--data", str(tmp_path / "none"), "--category", "part"]) == 2
    assert err.text.startswith("mdps_ref: ") and err.text.count("\n") == 1 and not out.text
