"""The built site, served on this machine, and a browser at it; or the reason why there is none."""

import functools
import importlib.util
import json
import os
import pathlib
import subprocess
import sys

import pytest
from book import find_chromium, opened, served

ROOT = pathlib.Path(__file__).parents[2]
MODULES = {"playwright": "browser", "jupyterlite_core": "site", "jupyterlite_pyodide_kernel": "site"}  # and the extra that installs each


def reason_to_skip():
    """Why the book cannot be opened in a browser here; None if it can."""
    folder = os.environ.get("MDPS_BROWSER")
    if not folder:
        return "MDPS_BROWSER names no folder; make one with: python tests/browser/prepare.py DIR"
    if not pathlib.Path(folder, "pyodide", "pyodide-lock.json").is_file():
        return f"{folder}: holds no Pyodide; fill it with: python tests/browser/prepare.py {folder}"
    missing = [name for name in MODULES if importlib.util.find_spec(name) is None]
    if missing:
        return f"{', '.join(missing)}: not installed; pip install -e '.[{','.join(sorted({MODULES[name] for name in missing}))}]'"
    return None if find_chromium() else "no chromium, chromium-browser or google-chrome is installed"


@pytest.fixture(scope="session")
def address(tmp_path_factory):
    """Where the site is served. It is built as for readers; JupyterLite shows its application to scripts, so that tests can run cells."""
    reason = reason_to_skip()
    if reason:
        pytest.skip(reason)
    site = tmp_path_factory.mktemp("site") / "www"
    pyodide = pathlib.Path(os.environ["MDPS_BROWSER"], "pyodide").absolute()
    build = [sys.executable, ROOT / "tutorials/lite/build.py", "--out", site, "--pyodide", pyodide]
    done = subprocess.run([*map(str, build)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    settings = json.loads((site / "jupyter-lite.json").read_text(encoding="utf-8"))
    settings["jupyter-config-data"]["exposeAppInBrowser"] = True
    (site / "jupyter-lite.json").write_text(json.dumps(settings), encoding="utf-8")
    with served(site) as address:
        yield address


@pytest.fixture(scope="session")
def playwright(address):
    """Playwright, started once."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as started:
        yield started


@pytest.fixture
def browse(playwright, address):
    """browse(width=1300, scheme="light"): a context with a Book; see `book.opened`."""
    return functools.partial(opened, playwright, address)
