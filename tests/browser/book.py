"""The book in headless Chromium: a server on this machine, a browser that can reach nothing else, and notebooks whose cells run."""

import contextlib
import functools
import http.server
import shutil
import threading
from typing import NamedTuple

CHROMIUM = ("chromium", "chromium-browser", "google-chrome")
FLAGS = (
    *("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync"),
    *("--disable-background-networking", "--disable-component-update", "--host-resolver-rules=MAP * ~NOTFOUND , EXCLUDE 127.0.0.1"),
)
MINUTE = 60_000  # milliseconds
OPEN = "() => window.jupyterapp?.shell.currentWidget?.context?.isReady"
SOURCES = """async () => {
  const panel = window.jupyterapp.shell.currentWidget;
  await panel.sessionContext.ready;
  await panel.sessionContext.session.kernel.info;
  return panel.content.widgets.filter(cell => cell.model.type === "code").map(cell => cell.model.sharedModel.getSource());
}"""
RUN = """async ([number, source]) => {
  const notebook = window.jupyterapp.shell.currentWidget.content;
  const at = notebook.widgets.map((cell, i) => cell.model.type === "code" ? i : -1).filter(i => i >= 0)[number];
  const cell = notebook.widgets[at];
  if (source !== null) cell.model.sharedModel.setSource(source);
  notebook.activeCellIndex = at;
  const begun = performance.now();
  await window.jupyterapp.commands.execute("notebook:run-cell");
  return {seconds: (performance.now() - begun) / 1000, outputs: cell.model.outputs.toJSON()};
}"""


def find_chromium():
    """The path of an installed Chromium, or None."""
    return next(filter(None, map(shutil.which, CHROMIUM)), None)


class Ran(NamedTuple):
    """What a cell did."""

    seconds: float
    outputs: list

    @property
    def error(self):
        """Name, value and the end of the traceback of what the cell raised; "" if it raised nothing."""
        return "".join(f"{o['ename']}: {o['evalue']}\n{''.join(o['traceback'][-2:])}" for o in self.outputs if o["output_type"] == "error")

    @property
    def text(self):
        """What the cell printed and showed as text."""
        return "".join(_text(o) for o in self.outputs)

    @property
    def stderr(self):
        """What the cell printed on standard error."""
        return "".join(_text(o) for o in self.outputs if o.get("name") == "stderr")

    def shows(self, kind):
        """Whether an output is of this MIME type."""
        return any(kind in o.get("data", {}) for o in self.outputs)


def _text(output):
    parts = output.get("text", output.get("data", {}).get("text/plain", ""))
    return parts if isinstance(parts, str) else "".join(parts)


class _Quiet(http.server.SimpleHTTPRequestHandler):
    """Serves files and says nothing."""

    def log_message(self, *_):
        pass


@contextlib.contextmanager
def served(folder):
    """Serve a folder on this machine; the address, without a slash at its end."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(_Quiet, directory=folder))
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


class Book:
    """A browser with an empty profile, at the site."""

    def __init__(self, context, address):
        self.address, self.complaints, self.away = address, [], []
        self.page = context.new_page()
        context.on("request", self._asked)
        context.on("console", lambda said: said.type == "error" and self.complaints.append(f"{said.text} ({said.location['url']})"))
        context.on("weberror", lambda error: self.complaints.append(str(error.error)))

    def _asked(self, request):
        if not request.url.startswith((self.address, "data:", "blob:")):
            self.away.append(request.url)

    def open(self, name):
        """Open a notebook; the sources of its code cells, once its kernel is ready."""
        self.page.goto(f"{self.address}/notebooks/index.html?path={name}")
        self.page.wait_for_function(OPEN, timeout=10 * MINUTE)
        return self.page.evaluate(SOURCES)

    def run(self, number, source=None):
        """Run a code cell, counted from 0, as it stands or with another source; what it did."""
        return Ran(**self.page.evaluate(RUN, [number, source]))


@contextlib.contextmanager
def opened(playwright, address, width=1300, height=1000, scheme="light"):
    """A Book in a fresh browser.  At its end the console must hold no error, and nothing may have been asked from anywhere else."""
    browser = playwright.chromium.launch(executable_path=find_chromium(), args=FLAGS)
    try:
        context = browser.new_context(viewport={"width": width, "height": height}, color_scheme=scheme)
        context.set_default_timeout(0)
        book = Book(context, address)
        yield book
        assert (book.complaints, book.away) == ([], []), f"on the console: {book.complaints}; asked from elsewhere: {book.away}"
    finally:
        browser.close()
