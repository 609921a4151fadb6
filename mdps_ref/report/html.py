"""The HTML of the report: the page's outline and style, and the elements for a name, a number, pairs of values and a figure."""

import base64
import html
from string import Template

X_0, Y = "<i>x</i><sub>0</sub>", "<i>y</i>"


def escaped(name):
    """Return a name as HTML text, with bytes that are no UTF-8 replaced."""
    return html.escape(str(name).encode(errors="replace").decode())


def number(value, form):
    """Return a number in this format; "not defined" for None."""
    return "not defined" if value is None else format(value, form)


def pairs_table(pairs):
    """Return a table of names and values, in as many columns as fit."""
    rows = "\n".join(f"<div><dt>{escaped(name)}</dt><dd>{escaped(value) or '–'}</dd></div>" for name, value in pairs.items())
    return f"<dl>\n{rows}\n</dl>"


def figure_element(name, data, caption):
    """Return a figure with its caption; the PNG bytes are embedded in the page."""
    image = base64.b64encode(data).decode()
    picture = f'<div class="picture"><img alt="{name}" src="data:image/png;base64,{image}"></div>'
    return f"<figure>{picture}<figcaption>{caption}</figcaption></figure>"


STYLE = """
:root { color-scheme: light; }
body { margin: 0 auto; max-width: 1100px; padding: 2.5rem 1.5rem 4rem; color: #1a1a1a; background: #fff;
       font: 17px/1.55 Charter, "Bitstream Charter", "Sitka Text", Cambria, Georgia, serif; }
h1, h2, table, dl, .subtitle, .note, figcaption { font-family: system-ui, -apple-system, "Segoe UI", Helvetica, Arial, sans-serif; }
h1 { font-size: 2rem; line-height: 1.2; margin: 0; letter-spacing: -0.01em; }
h2 { font-size: 1.2rem; margin: 3rem 0 0.8rem; padding-top: 0.6rem; border-top: 1px solid #1a1a1a; }
.subtitle { color: #555; font-size: 0.9rem; margin: 0.4rem 0 1.8rem; }
p { max-width: 46rem; margin: 0 0 1rem; }
.note { max-width: 44rem; margin: 1.4rem 0; padding: 0.8rem 1.1rem; border-left: 4px solid #d55e00; background: #fdf3ec;
        font-size: 0.9rem; }
.note p, .note ul { margin: 0.2rem 0; }
.note ul { padding-left: 1.2rem; }
figure { margin: 1.2rem 0 0; break-inside: avoid; }
sub { line-height: 0; }
.wide { overflow-x: auto; }
img { display: block; width: 100%; height: auto; }
figcaption { font-size: 0.84rem; line-height: 1.45; color: #444; max-width: 56rem; margin-top: 0.7rem; }
table { border-collapse: collapse; font-size: 0.88rem; line-height: 1.4; width: 100%; border-bottom: 1.5px solid #1a1a1a; }
table.narrow { width: auto; min-width: min(30rem, 100%); }
thead th { border-top: 1.5px solid #1a1a1a; border-bottom: 1px solid #1a1a1a; font-weight: 600; vertical-align: bottom; }
th, td { padding: 0.42rem 0.9rem 0.42rem 0; text-align: left; vertical-align: top; }
tbody th { font-weight: 500; white-space: nowrap; }
tbody tr + tr > * { border-top: 1px solid #e4e4e4; }
.number { text-align: right; white-space: nowrap; font-variant-numeric: tabular-nums; padding-right: 1.6rem; }
td:last-child:not(.number) { color: #444; }
dl { columns: 3 15rem; column-gap: 2.5rem; font-size: 0.84rem; margin: 0; }
dl div { display: flex; justify-content: space-between; gap: 1rem; border-bottom: 1px solid #e4e4e4; padding: 0.22rem 0;
         break-inside: avoid; }
dt { color: #555; }
dd { margin: 0; text-align: right; overflow-wrap: anywhere; font-variant-numeric: tabular-nums; }
/* On a phone, figures keep a readable size and scroll. A metric's numbers stand below its name, and its explanation below them. */
@media (max-width: 44rem) {
  body { padding: 1.5rem 1rem 3rem; }
  .picture { overflow-x: auto; }
  .picture img { min-width: 44rem; }
  .number { padding-right: 0.5rem; }
  .metrics tr { display: flex; flex-wrap: wrap; }
  .metrics tr > * { flex: 1 0 100%; border: 0; padding: 0.15rem 0; }
  .metrics tr > .number { flex: 1 1 0; text-align: left; white-space: normal; }
  .metrics thead tr { border-top: 1.5px solid #1a1a1a; border-bottom: 1px solid #1a1a1a; }
  .metrics tbody tr { padding: 0.4rem 0; }
  .metrics tbody tr + tr { border-top: 1px solid #e4e4e4; }
  .metrics thead th:last-child { display: none; }
}
@media print { body { padding: 0; font-size: 11pt; } h2 { break-after: avoid; } tr { break-inside: avoid; } }
"""

OUTLINE = Template("""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; img-src data:; style-src 'unsafe-inline'">
<title>$title</title>
<style>$style</style>
</head>
<body>
$body
</body>
</html>
""")


def whole_page(title, body, more_style=""):
    """Return a page that needs no other file, and may load none; `title` and `body` are HTML."""
    return OUTLINE.substitute(title=title, body=body, style=STYLE + more_style)


PAGE = Template("""<h1>Masked diffusion posterior sampling: $category</h1>
<p class="subtitle">$subtitle</p>
$summary
$leaks
<h2>How much of an image is changed</h2>
$differences
<h2>Image by image</h2>
$gallery
<h2>Metrics</h2>
$metrics
$curves
<h2>The decision</h2>
<p>$decision</p>
$kinds
$scores
$tuning
<h2>Training</h2>
$loss
<h2>Images</h2>
$told
<h2>Settings</h2>
$settings
<h2>Time and versions</h2>
$seconds
$versions""")
