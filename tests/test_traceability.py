"""Every equation has an id in the docstring of the function that owns it, a mark on its tests, and a row in the README's appendix."""

import ast
import json
import pathlib
import re

ROOT = pathlib.Path(__file__).parents[1]
IDS = {f"E{number:02}" for number in range(1, 25)}
ROW = "| {} | {} | `{}` |"


def owners():
    """(id, first sentence of the docstring, file:function) of all that state an equation."""
    for path in sorted((ROOT / "mdps_ref").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.FunctionDef | ast.ClassDef):
                text = ast.get_docstring(node) or ""
                for stated in re.findall(r"Eq: ((?:E\d\d,? ?)+)", text):
                    for equation in re.findall(r"E\d\d", stated):
                        claim = re.split(r"\.?\s*\n\n|\.?  (?=Eq|Shapes|Range)|\.$", text)[0]
                        yield equation, " ".join(claim.split()), f"{path.relative_to(ROOT / 'mdps_ref')}:{node.name}"


def marks():
    """The ids on the tests' marks."""
    for path in (ROOT / "tests").rglob("test_*.py"):
        for arguments in re.findall(r"mark\.equation\(([^)]*)\)", path.read_text(encoding="utf-8")):
            yield from re.findall(r"E\d\d", arguments)


def appendix():
    """The table as it should stand in the README."""
    rows = [ROW.format(equation, claim.replace("|", "\\|"), owner) for equation, claim, owner in sorted(owners())]
    return "\n".join(["| id | statement | owner |", "|---|---|---|", *rows])


def test_every_equation_has_an_owner():
    assert {equation for equation, _, _ in owners()} == IDS


def test_every_equation_has_a_test():
    assert set(marks()) == IDS


def test_the_readmes_appendix_is_what_the_docstrings_say():
    stands = (ROOT / "README.md").read_text(encoding="utf-8").partition("## Appendix: the equations\n\n")[2].strip()
    assert stands == appendix(), f"put this under the appendix's heading:\n{appendix()}"


def test_a_tutorial_names_no_equation_that_is_none():
    for path in (ROOT / "tutorials").glob("*.ipynb"):
        cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
        named = set(re.findall(r"\bE\d\d\b", " ".join(line for cell in cells for line in cell["source"])))
        assert named and named <= IDS, path.name
