"""What stands below the title of each notebook: in the repository the link to the site, and on the site how its cells are run.

python tutorials/lite/heads.py    write it into all notebooks, and leave the rest of them as it is
A fork sets SITE to the address of its own site first.
"""

import json
import pathlib

from book_map import address

SITE = "http://127.0.0.1:8000/"  # where the README serves the site; once it is published, https://OWNER.github.io/REPOSITORY/
TUTORIALS = pathlib.Path(__file__).parents[1]
WORDS = "[Run this page in a browser tab]"
ON_SITE = (
    "**Every cell here is live.** Shift + Enter runs a cell; while it works, `[*]` stands beside it. What you see below the cells was "
    "computed beforehand. Your own results replace it, and numbers in the brackets tell which cells you have run. The first cell also "
    "starts Python, which takes half a minute or more."
)


def link(name):
    """Return the paragraph that leads from a notebook to its page on the site."""
    page, how = f"{WORDS}({SITE}{address(name)})", "../README.md#in-a-browser"
    if SITE.startswith("http://127.0.0.1"):
        return f"{page} (first build and serve the site, see [how]({how}))"
    return f"{page}, where every cell is live. [How that site is built and published]({how})"


def linked(text, name):
    """Return a notebook with its link.

    Parameters
    ----------
    text : str
        The notebook's file, with an older link or none.
    name : str
        The name of that file.

    Returns
    -------
    str
        The same file but for the link.
    """
    return _rewritten(text, [link(name)])


def on_site(text):
    """Return the site's copy of a notebook.

    Its head tells how cells are run. No cell is numbered yet, since the reader has run none. Its outputs are single strings: JupyterLite
    would show a list of lines with commas between.
    """
    notebook = json.loads(_rewritten(text, [ON_SITE]))
    for cell in notebook["cells"]:
        if cell["cell_type"] == "code":
            cell["execution_count"] = None
        for output in cell.get("outputs", ()):
            for place in (output, output.get("data", {})):
                place.update({name: "".join(value) for name, value in place.items() if isinstance(value, list) and name != "traceback"})
    return json.dumps(notebook, indent=1, ensure_ascii=False) + "\n"


def _rewritten(text, paragraphs):
    """The notebook with these paragraphs below its title, in place of the link."""
    notebook = json.loads(text)
    title, *rest = "".join(notebook["cells"][0]["source"]).split("\n\n")
    head = "\n\n".join([title, *paragraphs, *(part for part in rest if not part.startswith(WORDS))])
    notebook["cells"][0]["source"] = head.splitlines(keepends=True)
    return json.dumps(notebook, indent=1, ensure_ascii=False) + "\n"


def main():
    """Write the link into all notebooks."""
    for path in sorted(TUTORIALS.glob("*.ipynb")):
        path.write_text(linked(path.read_text(encoding="utf-8"), path.name), encoding="utf-8")


if __name__ == "__main__":
    main()
