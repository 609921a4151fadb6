"""A floor imports only floors below it, and its own; the README shows the floors from this table."""

import ast
import pathlib

import pytest

PACKAGE = pathlib.Path(__file__).parents[1] / "mdps_ref"
FLOORS = [  # from the top: what stands on a floor, and what it is for
    (("check",), "says in words what is wrong with a function that a reader wrote"),
    (("run", "score", "ablate", "compare", "export", "bench"), "entry points"),
    (("study",), "settings without labels; what each step is worth"),
    (("report", "command"), "figures, pages and overlays; flags, streams, signals"),
    (("job",), "settings, training, detection, evaluation, the run folder"),
    (("released",), "the authors' code: rules, settings, chain, names of arrays"),
    (("scoring",), "features, difference maps, scores, metrics"),
    (("posterior",), "MDPS: observation, guidance, mask, chain"),
    (("diffusion",), "schedule, noise, steps back"),
    (("nn",), "the UNet and its optimiser; frozen networks"),
    (("kernels", "weights"), "fast twins of primitives; files of weights"),
    (("autograd", "data"), "Tensors, primitives, pullbacks; images and folders"),
    (("backend",), "NumPy or CuPy; random streams"),
    (("errors",), "the one error that a user sees"),
]
LEVEL = {room: -depth for depth, (rooms, _) in enumerate(FLOORS) for room in rooms}
# Floors that may import these and nothing else below.
ALONE = {
    "autograd": {"backend", "errors"},
    "kernels": {"autograd", "backend", "errors"},
}
FILES = sorted(path for path in PACKAGE.rglob("*.py") if path != PACKAGE / "__init__.py")


def imports(path):
    """The mdps_ref rooms that a file imports."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        if isinstance(node, ast.ImportFrom) and node.module:
            names = [node.module] if "." in node.module else [f"{node.module}.{alias.name}" for alias in node.names]
        yield from (name.split(".")[1] for name in names if name.startswith("mdps_ref."))


def drawn():
    """The floors as the README shows them."""
    return "\n".join(f"{' · '.join(rooms):49}{what}" for rooms, what in FLOORS)


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_only_look_down(path):
    own = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
    for room in imports(path):
        assert room == own or LEVEL[room] < LEVEL[own], f"{path.name} imports {room}, which is not below it"
        assert room in {own, *ALONE.get(own, LEVEL)}, f"{path.name} imports {room}; {own} is to stand on {ALONE[own]} alone"


def test_every_room_has_its_floor():
    assert {path.relative_to(PACKAGE).parts[0].removesuffix(".py") for path in FILES} == LEVEL.keys()


def test_the_readme_shows_the_floors():
    assert drawn() in (PACKAGE.parent / "README.md").read_text(encoding="utf-8"), f"put this into the README:\n{drawn()}"


def test_no_file_is_longer_than_a_sitting():
    lines = {path: len(path.read_text(encoding="utf-8").splitlines()) for path in FILES}
    assert [path.name for path, count in lines.items() if count > 350] == []
    assert [path.name for path, count in lines.items() if path.parent.name == "autograd" and count > 250] == []
