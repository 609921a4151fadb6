"""Build the book as a site: every notebook live in the reader's browser, with nothing installed.

python tutorials/lite/build.py --out DIR    then: python -m http.server --directory DIR
Exit status: 0, or 2 with one line that says what could not be had.
"""

import argparse
import json
import pathlib
import re
import shutil
import sys
import tempfile

import distribution
import heads
from book_map import map_page

HERE = pathlib.Path(__file__).parent
TUTORIALS = HERE.parent
SETTINGS = ("jupyter-lite.json", "jupyter_lite_config.json", "overrides.json")
LEFT_OUT = ("README.md", "refresh.py", "gallery.jpg")  # of the tutorials' files: they are for the repository
ICON = '<link rel="icon" href="favicon.ico">'
# The words are shown until JupyterLite has drawn its first element. Its printed lines would break within words.
OPENING = """<style>
      .opening { margin: 3em; font: 17px system-ui, sans-serif; color: GrayText }
      body:has(.lm-Widget) .opening { display: none }
      body .jp-RenderedText pre { word-break: normal; overflow-wrap: anywhere }
    </style>
    <p class="opening" role="status">Opening the page, which takes some seconds …</p>"""
SOURCES = ("setup.cfg", "pyproject.toml", "README.md", "LICENSE")  # what a wheel is made from, beside the package


def main(arguments=None):
    """Build; return the exit status."""
    args = parser().parse_args(arguments)
    try:
        build(args.out, args.pyodide)
    except distribution.GatheringError as error:
        print(f"build: {error}", file=sys.stderr)
        return 2
    print(f"site: {args.out}; look at it with: python -m http.server --directory {args.out}")
    return 0


def parser():
    """The command line."""
    p = argparse.ArgumentParser(description=__doc__.partition("\n")[0], allow_abbrev=False)
    p.add_argument("--out", metavar="DIR", type=pathlib.Path, required=True, help="a new folder for the site")
    p.add_argument(
        "--pyodide",
        metavar="DIR",
        type=pathlib.Path,
        help="folder that has Pyodide and its wheels already, or gets them (default: get them each time, 45 MB)",
    )
    return p


def build(out, pyodide=None):
    """Build the site.

    Parameters
    ----------
    out : Path
        A folder that does not exist, or is empty.
    pyodide : Path or None
        See `distribution.gather`; it is filled where it is not complete.

    Raises
    ------
    GatheringError
        If something cannot be had, or the folder is taken.
    """
    if out.exists() and any(out.iterdir()):
        raise distribution.GatheringError(f"{out}: is not empty; remove it, or give another folder to --out")
    with tempfile.TemporaryDirectory() as temporary:
        workshop = pathlib.Path(temporary)
        pyodide = pyodide or workshop / "pyodide"
        if not (pyodide / distribution.LOCK).exists():
            distribution.gather(pyodide)
        run_jupyterlite(workshop / "lite", out)
        shutil.copytree(pyodide, out / "pyodide")
        wheel = own_wheel(workshop)
        add_package(out / "pyodide", wheel)
    write_front(out, wheel.name)


def run_jupyterlite(workshop, out):
    """Let JupyterLite build its pages, with the notebooks and what they read as contents."""
    contents = workshop / "contents"
    contents.mkdir(parents=True)
    for name in SETTINGS:
        shutil.copy(HERE / name, workshop)
    for path in TUTORIALS.iterdir():
        if path.is_file() and path.name not in LEFT_OUT:
            shutil.copy(path, contents)
    for notebook in contents.glob("*.ipynb"):
        notebook.write_text(heads.on_site(notebook.read_text(encoding="utf-8")), encoding="utf-8")
    distribution.command(
        *(sys.executable, "-m", "jupyterlite_core", "build", "--lite-dir", workshop, "--contents", contents),
        *("--output-dir", out.absolute()),
        cwd=workshop,
    )
    for page in out.glob("*/index.html"):
        page.write_text(completed(page.read_text(encoding="utf-8")), encoding="utf-8")


def completed(page):
    """Complete a page of JupyterLite: name the icon beside it, and say that it is opening while it is still blank.

    Without the name the browser asks for an icon at the server's root, where the site has none.
    """
    return re.sub("(<body[^>]*>)", rf"\1\n    {OPENING}", page.replace("<head>", f"<head>\n    {ICON}", 1), count=1)


def own_wheel(workshop):
    """Make the wheel of the package that stands beside the tutorials; return its path.

    It is made from a copy: setuptools leaves a folder behind, the files of which would be part of the next wheel.
    """
    source = workshop / "source"
    source.mkdir()
    shutil.copytree(TUTORIALS.parent / "mdps_ref", source / "mdps_ref", ignore=shutil.ignore_patterns("__pycache__"))
    for name in SOURCES:
        shutil.copy(TUTORIALS.parent / name, source)
    pip = (sys.executable, "-m", "pip", "wheel", "--quiet", "--disable-pip-version-check", "--no-deps")
    distribution.command(*pip, "--wheel-dir", workshop / "own", source)
    return next((workshop / "own").glob("mdps_ref-*.whl"))


def add_package(pyodide, wheel):
    """Enter the wheel in the site's lock, so that `import mdps_ref` loads it and what it needs."""
    info, packages = distribution.read_lock(pyodide)
    distribution.add_wheel(pyodide, packages, wheel, list(distribution.BOOK_NEEDS), ["mdps_ref"])
    distribution.write_lock(pyodide, info, packages)


def write_front(out, wheel_name):
    """Write the map of the book, which the site opens on, and put the page for readers without Python beside it."""
    shutil.copytree(HERE / "try_it", out / "try_it")
    places = {"pyodide": "../pyodide/", "wheel": f"../pyodide/{wheel_name}"}
    (out / "try_it" / "site.json").write_text(json.dumps(places) + "\n", encoding="utf-8")
    shutil.copytree(TUTORIALS / "pictures", out / "pictures")
    (out / "index.html").write_text(map_page((TUTORIALS / "README.md").read_text(encoding="utf-8")), encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())
