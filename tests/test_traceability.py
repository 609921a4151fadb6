"""Every equation has an owner, whose docstring states it under `Equation`, marked tests, and a row in the README's appendix."""

import ast
import json
import pathlib
import re

import pytest

ROOT = pathlib.Path(__file__).parents[1]
IDS = {f"E{number:02}" for number in range(1, 25)}
ROW = "| {} | {} | `{}` |"
SECTION = re.compile(r"^Equation\n-+\n(.*?)(?=^\S[^\n]*\n-+$|\Z)", re.MULTILINE | re.DOTALL)


def statements(docstring):
    """(id, statement) of each line `E05 : x0_hat = ...` under `Equation`; a line indented by four spaces goes on with the one above."""
    for section in SECTION.findall(docstring):
        for line in re.sub(r"\n    ", " ", section.strip()).splitlines():
            stated = re.fullmatch(r"(E\d\d) : (\S.*)", line)
            if not stated:
                raise ValueError(f"{line!r} under Equation: expected an id, space, colon, space and the statement, as in 'E05 : x = 1'")
            yield stated.groups()


def owners():
    """(id, statement, file:function) of all that state an equation."""
    for path in sorted((ROOT / "mdps_ref").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.FunctionDef | ast.ClassDef):
                for equation, statement in statements(ast.get_docstring(node) or ""):
                    yield equation, statement, f"{path.relative_to(ROOT / 'mdps_ref')}:{node.name}"


def marks():
    """The ids on the tests' marks."""
    for path in (ROOT / "tests").rglob("test_*.py"):
        for arguments in re.findall(r"mark\.equation\(([^)]*)\)", path.read_text(encoding="utf-8")):
            yield from re.findall(r"E\d\d", arguments)


def appendix():
    """The table as it should stand in the README: by id, then in the order of the code."""
    rows = [
        ROW.format(equation, statement.replace("|", "\\|"), owner)
        for equation, statement, owner in sorted(owners(), key=lambda row: row[0])
    ]
    return "\n".join(["| id | statement | owner |", "|---|---|---|", *rows])


def test_a_section_is_read_line_by_line():
    docstring = "Do it.\n\nEquation\n--------\nE05 : a\n    + b : c\nE06 : d\n\nReferences\n----------\nE07 : no\n"
    assert list(statements(docstring)) == [("E05", "a + b : c"), ("E06", "d")]
    with pytest.raises(ValueError, match="'E05: a'"):
        list(statements("Equation\n--------\nE05: a\n"))


def test_every_equation_has_an_owner():
    assert {equation for equation, _, _ in owners()} == IDS


def test_every_equation_has_a_test():
    assert set(marks()) == IDS


def test_the_readmes_appendix_is_what_the_docstrings_say():
    _, letters, stands = (ROOT / "README.md").read_text(encoding="utf-8").rpartition("an anomaly map; o multiplies pixel by pixel.\n\n")
    assert letters and stands.strip() == appendix(), f"put this below the appendix's letters:\n{appendix()}"


def test_a_tutorial_names_no_equation_that_is_none():
    for path in (ROOT / "tutorials").glob("*.ipynb"):
        cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
        named = set(re.findall(r"\bE\d\d\b", " ".join(line for cell in cells for line in cell["source"])))
        assert named <= IDS, path.name
