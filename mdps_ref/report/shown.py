"""A report below a notebook's cell."""

import html
import pathlib


class Shown:
    """A page of HTML that Jupyter shows whole, in a frame of its own, so that neither changes how the other looks.

    Parameters
    ----------
    path : path-like
        The page. It is read when it is shown.
    height : int
        The frame's, in pixels.
    """

    def __init__(self, path, height=700):
        self.path, self.height = pathlib.Path(path).absolute(), height

    def __repr__(self):
        return f"report: {self.path}"

    def _repr_html_(self):
        page = html.escape(self.path.read_text(encoding="utf-8"))
        return (
            f'<iframe title="{html.escape(repr(self))}" srcdoc="{page}" style="width: 100%; height: {self.height}px; border: 0"></iframe>'
        )
