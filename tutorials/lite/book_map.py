"""The first page of the site: the map of the book, made from the tables of tutorials/README.md."""

import html
import pathlib
import re
import string

HERE = pathlib.Path(__file__).parent
NOTEBOOK = re.compile(
    r'^\| <img src="(?P<picture>[^"]+)"[^>]*> \| \[(?P<number>\d\d) (?P<title>[^]]+)\]\((?P<file>[^)]+)\) '
    r"\| (?P<about>[^|]+) \| (?P<minutes>\d+) \| (?P<equations>[^|]*)\|$",
    re.MULTILINE,
)
READER = re.compile(r"^\| (?P<who>[a-z]+) \| (?P<where>\d[^|]+) \|$", re.MULTILINE)


def map_page(readme):
    """Write the page.

    Parameters
    ----------
    readme : str
        The text of tutorials/README.md.

    Returns
    -------
    str
        HTML. Its links lead to the notebooks in JupyterLite, below the folder of the page.
    """
    notebooks = [row.groupdict() for row in NOTEBOOK.finditer(readme)]
    files = {row["number"]: row["file"] for row in notebooks}
    page = string.Template((HERE / "map.html").read_text(encoding="utf-8"))
    return page.substitute(
        introduction=_inline(re.match(r"# [^\n]+\n+(.+?)\n\n", readme, re.DOTALL)[1].partition("The notebooks need no Internet")[0]),
        readers="\n".join(_reader(row, files) for row in READER.finditer(readme)),
        notebooks="\n".join(_card(row) for row in notebooks),
    )


def address(file):
    """Return the address of a notebook in JupyterLite, from the folder of the page."""
    return f"notebooks/index.html?path={file}"


def _card(row):
    """A notebook: its picture, its title, what it is about, its minutes and its equations."""
    row = {name: _inline(text) for name, text in row.items()}
    equations = f" · equations {row['equations']}" if row["equations"] else ""
    return (
        f'<li><a href="{address(row["file"])}"><img src="{row["picture"]}" alt="" loading="lazy">'
        f"<h3>{row['number']} · {row['title']}</h3></a>"
        f'<p>{row["about"]}</p><p class="small">{row["minutes"]} minutes{equations}</p></li>'
    )


def _reader(row, files):
    """A kind of reader, and where to start; each number is a link."""
    where = re.sub(r"\b\d\d\b", lambda at: f'<a href="{address(files[at[0]])}">{at[0]}</a>', _inline(row["where"]))
    return f"<li><b>{_inline(row['who'])}</b> <span>{where}</span></li>"


def _inline(text):
    """A piece of Markdown that has no more than code in it."""
    return re.sub("`([^`]+)`", r"<code>\1</code>", html.escape(text.strip(), quote=False))
