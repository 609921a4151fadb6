"""What the README shows is what its code prints, and what it names exists."""

import contextlib
import io
import pathlib
import re

from mdps_ref import ablate, score
from mdps_ref.bench import __main__ as bench
from mdps_ref.run import parser

ROOT = pathlib.Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
SNIPPETS = re.findall(r"```python\n(.*?)```\n\n```text\n(.*?)```", README, re.DOTALL)


def test_the_snippets_print_what_stands_below_them(monkeypatch):
    """Run in their order, in one namespace, as a reader would."""
    monkeypatch.chdir(ROOT)
    names = {}
    for code, printed in SNIPPETS:
        out = io.StringIO()
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(io.StringIO()):
            exec(compile(code, "README.md", "exec"), names)
        assert out.getvalue() == printed


def test_there_are_snippets():
    assert len(SNIPPETS) == README.count("```python") > 0


def test_every_file_it_names_exists():
    table = README.partition("## Reading order")[2].partition("\n## ")[0]
    for name in re.findall(r"`([a-z_/]+(?:\.py|/))`", table):
        assert (ROOT / "mdps_ref" / name).exists() or (ROOT / name).exists(), name


def test_every_flag_it_names_is_one():
    known = {"--golden", "--equation", "--kernels", "--long", "--nworkers", "--nthreads", "--directory"}.union(
        *(re.findall(r"--[a-z-]+", p.format_help()) for p in (parser(), score.parser(), ablate.parser(), bench.parser()))
    )
    assert set(re.findall(r"(?<!-)--[a-z][a-z-]+", README)) <= known
