"""The book: each notebook runs afresh, is committed executed, is built like the others, and states the equations as the registry does."""

import ast
import importlib.util
import os
import pathlib
import re

import heads
import matplotlib.pyplot as plt
import nbformat
import numpy as np
import pytest
from book_map import map_page

from mdps_ref.check import exercises

ROOT = pathlib.Path(__file__).parents[1]
FOLDER = ROOT / "tutorials"
NOTEBOOKS = sorted(FOLDER.glob("*.ipynb"))
ROOM = float(os.environ.get("TUTORIAL_ROOM", "inf"))  # how many times the limits on CPU seconds a busy machine may take; .ci/run sets it
LONGEST_CELL, LARGEST_FILE = 20, 1_000_000  # lines, bytes
TAUGHT = ["autograd", "kernels", "nn", "diffusion", "posterior", "scoring"]
OPENING = ["What you will do", "What you will learn", "What you need", "Minutes"]
CLOSING = ["In short", "Try it", "Go further", "Sources"]
HOME = {  # the notebook that has to state an equation; another may, too
    "04": ["E01", "E03"],
    "05": ["E04"],
    "06": ["E02", "E05", "E06", "E07"],
    "07": ["E08", "E09"],
    "08": ["E10", "E11"],
    "09": ["E12", "E13", "E14", "E20"],
    "11": ["E15", "E16", "E17", "E18"],
    "12": ["E19", "E21", "E22", "E23", "E24"],
}
each_notebook = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)


def cells(path, kind=None):
    """The cells of a notebook, of one kind or of all."""
    return [cell for cell in nbformat.read(path, as_version=4).cells if kind in (None, cell.cell_type)]


def claims(path):
    """(id, text) of each cell that states an equation under the heading `### E07 · ...`."""
    for cell in cells(path, "markdown"):
        for part in re.split(r"^(?=#{1,6} )", cell.source, flags=re.MULTILINE):
            for equation in re.findall(r"^#{2,4} (E\d\d) · ", part):
                yield equation, part


def module(name):
    """A module of the tutorials' folder."""
    spec = importlib.util.spec_from_file_location(name, FOLDER / f"{name}.py")
    loaded = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(loaded)
    return loaded


def registry():
    """The LaTeX of each equation."""
    return module("equations").LATEX


def squeezed(latex):
    """LaTeX without what changes only its spacing and its lines."""
    return re.sub(r"\s|&|\\[,;!]|\\q?quad", "", latex)


def public_functions():
    """The names of the functions and classes that the book is about."""
    for path in [path for room in TAUGHT for path in (ROOT / "mdps_ref" / room).rglob("*.py")]:
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.FunctionDef | ast.ClassDef) and not node.name.startswith("_"):
                yield node.name


@pytest.mark.slow
@each_notebook
def test_it_runs_afresh_within_its_cpu_time(path):
    refresh = module("refresh")
    cells, total = refresh.cpu_seconds(path)
    assert [(place, seconds) for place, seconds in cells.items() if seconds > ROOM * refresh.CELL_SECONDS] == []
    assert total < ROOM * refresh.NOTEBOOK_SECONDS


@each_notebook
def test_it_is_committed_executed_in_order(path):
    code = cells(path, "code")
    assert [cell.execution_count for cell in code] == list(range(1, len(code) + 1))
    assert not [output for cell in code for output in cell.outputs if output.output_type == "error" or output.get("name") == "stderr"]


@each_notebook
def test_its_outputs_hold_no_warning_and_no_path_and_it_is_small(path):
    shown = str(
        [{k: v for k, v in output.items() if k != "data"} | _texts(output) for cell in cells(path, "code") for output in cell.outputs]
    )
    assert re.findall(r"\w*Warning\b|/(?:home|root|tmp|work|Users|usr)/\S*", shown) == []
    assert path.stat().st_size < LARGEST_FILE


def _texts(output):
    """The parts of an output that are text."""
    return {kind: value for kind, value in output.get("data", {}).items() if not kind.startswith("image/png")}


@each_notebook
def test_no_code_cell_is_longer_than_a_glance(path):
    assert [cell.source.splitlines()[0] for cell in cells(path, "code") if len(cell.source.splitlines()) > LONGEST_CELL] == []


@each_notebook
def test_it_opens_and_closes_as_all_do(path):
    first, rest = cells(path)[0].source, "\n".join(cell.source for cell in cells(path, "markdown"))
    assert first.startswith("# ")
    assert [part for part in OPENING if f"**{part}**" not in first] == []
    at = [rest.rfind(f"\n## {part}\n") for part in CLOSING]
    assert -1 not in at and at == sorted(at), dict(zip(CLOSING, at, strict=True))


@each_notebook
def test_its_head_leads_to_its_own_page_on_the_site(path):
    (place,) = re.findall(rf'href="([^"]*\b{path.name})"><img', map_page((FOLDER / "README.md").read_text(encoding="utf-8")))
    links = re.findall(r"^\[Run this page in a browser tab\]\(([^)]*)\)", cells(path)[0].source, re.MULTILINE)
    assert links == [heads.SITE + place], "write it with: python tutorials/lite/heads.py"


@each_notebook
def test_it_defines_nothing_that_it_should_import(path):
    defined = {
        node.name
        for cell in cells(path, "code")
        for node in ast.walk(ast.parse(cell.source))
        if isinstance(node, ast.FunctionDef | ast.ClassDef)
    }
    assert defined & set(public_functions()) == set()


@each_notebook
def test_drawing_is_left_to_the_books_style(path):
    source = "\n".join(cell.source for cell in cells(path, "code"))
    assert re.findall(r"rcParams|cmap=|color=\"#|matplotlib|plt\.subplots", source) == []


@each_notebook
def test_its_formulas_are_the_registrys(path):
    latex = registry()
    for equation, text in claims(path):
        assert any(squeezed(formula) in squeezed(text) for formula in latex[equation]), f"{equation}: state one of {latex[equation]}"


@each_notebook
def test_it_ends_with_two_to_four_exercises(path):
    text = "\n".join(cell.source for cell in cells(path, "markdown"))
    to_try = text[text.rfind("\n## Try it\n") : text.rfind("\n## Go further\n")]
    assert re.findall(r"^\*\*(\d)\. ", to_try, re.MULTILINE) in [list("12"), list("123"), list("1234")]


@each_notebook
def test_its_exercises_are_known_to_the_checker(path):
    asked = re.findall(r"^check\(\"([^\"]*)\"", "\n".join(cell.source for cell in cells(path, "code")), re.MULTILINE)
    assert set(asked) - exercises().keys() - {"primitive"} == set()


def test_the_map_of_the_book_shows_each_notebook_with_its_picture_and_its_minutes():
    table = (FOLDER / "README.md").read_text(encoding="utf-8")
    for path in NOTEBOOKS:
        (row,) = [line for line in table.splitlines() if f"({path.name})" in line]
        assert f"pictures/{path.name[:2]}.png" in row and (FOLDER / f"pictures/{path.name[:2]}.png").is_file()
        minutes = re.search(r"\*\*Minutes\*\*\s+About (\d+)", cells(path)[0].source).group(1)
        home = ", ".join(HOME.get(path.name[:2], []))
        assert row.endswith(f"| {minutes} | {home} |")
        assert sum("picture" in cell.metadata.get("tags", []) for cell in cells(path, "code")) == 1


def test_every_equation_has_its_cell_in_the_book():
    stated = {equation for path in NOTEBOOKS for equation, _ in claims(path)}
    assert {equation for equations in HOME.values() for equation in equations} == set(registry()) == stated


def test_refreshing_refuses_a_number_that_is_none(capsys):
    assert module("refresh").main(["99"]) == 1 and "99" in capsys.readouterr().err


def notebook_of(tmp_path, *sources):
    """A notebook with these code cells, in a folder of its own."""
    path = tmp_path / "42_try.ipynb"
    nbformat.write(nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(source) for source in sources]), path)
    return path


@pytest.mark.slow
def test_refreshing_saves_outputs_without_times_and_leaves_a_broken_notebook_as_it_was(tmp_path, capsys):
    refresh = module("refresh").refresh
    path = notebook_of(tmp_path, "print(6 * 7)")
    assert refresh(path) == 0
    (cell,) = cells(path)
    assert cell.outputs[0].text == "42\n" and "execution" not in cell.metadata
    before = notebook_of(tmp_path, "1 / 0").read_bytes()
    assert refresh(path) == 1 and path.read_bytes() == before
    assert "ZeroDivisionError" in capsys.readouterr().err


@pytest.mark.slow
def test_times_are_those_of_the_cpu_and_of_the_right_cell(tmp_path, capsys):
    refresh = module("refresh")
    work = "import time\nstart = time.process_time()\nwhile time.process_time() < start + 1.5: pass"
    path = notebook_of(tmp_path, "import time; time.sleep(1)", work, "time = None", "1")
    cells, total = refresh.cpu_seconds(path)
    assert 1.5 <= cells[1] < 2 and max(cells[0], cells[2], cells[3]) < 0.3 and total >= sum(cells.values())
    assert refresh.show_times(path) == 0
    refresh.CELL_SECONDS = 1
    assert refresh.show_times(path) == 1 and "[1] 1.5" in capsys.readouterr().out


def test_each_role_is_told_apart_in_colour_and_on_grey_paper():
    roles = {name: role for name, role in module("drawing").ROLES.items() if name not in ("mdps", "reconstruction")}
    assert len({role.colour for role in roles.values()}) == len(roles)
    red, green, blue = (np.array([int(role.colour[i : i + 2], 16) / 255 for role in roles.values()]) for i in (1, 3, 5))
    grey = 0.299 * red + 0.587 * green + 0.114 * blue
    looks = [(role.line, role.marker) for role in roles.values()]
    alike = [(i, j) for i in range(len(looks)) for j in range(i) if abs(grey[i] - grey[j]) < 0.1 and looks[i] == looks[j]]
    assert alike == []


def test_pictures_share_one_scale():
    drawing = module("drawing")
    mask, image, weak = np.eye(4, dtype=bool), np.zeros((4, 4, 3)), np.full((4, 4), 0.25)
    axes = drawing.images([image, mask, None, drawing.Heat(weak), drawing.Heat(4 * weak)], columns=5, outline=mask)
    scales = [axis.images[0].get_clim() for axis in axes if axis.images]
    assert scales == [(0, 1)] * 4 and not axes[2].images
    np.testing.assert_array_equal(axes[0].images[0].get_array(), 0.5)
    assert [axis.images[0].get_clim() for axis in drawing.heat_maps([weak, -weak], signed=True)] == [(-0.25, 0.25)] * 2
    plt.close("all")


def test_there_are_tutorials():
    assert NOTEBOOKS
