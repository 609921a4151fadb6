"""The HTML of the report: the page's outline and style, and the elements for a name, a number, a share, pairs of values and a figure."""

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


def percent(share):
    """Return a share in percent, such as "99.6 %"; only a share of 0 or 1 reads 0 % or 100 %."""
    text = f"{100 * share:.1f}".removesuffix(".0")
    text = "over 99.9" if text == "100" and share < 1 else "under 0.1" if text == "0" and share > 0 else text
    return f"{text}\N{NO-BREAK SPACE}%"


def data_uri(data):
    """Return PNG bytes as an address that holds them."""
    return f"data:image/png;base64,{base64.b64encode(data).decode()}"


def pairs_table(pairs):
    """Return a table of names and values, in as many columns as fit."""
    rows = "\n".join(f"<div><dt>{escaped(name)}</dt><dd>{escaped(value) or '–'}</dd></div>" for name, value in pairs.items())
    return f"<dl>\n{rows}\n</dl>"


def figure_element(name, data, caption, kind="wide"):
    """Return a figure with its caption; the PNG bytes are embedded in the page. A wide one scrolls in its own box on a phone."""
    return f'<figure><div class="{kind}"><img alt="{name}" src="{data_uri(data)}"></div><figcaption>{caption}</figcaption></figure>'


STYLE = """
:root { color-scheme: light; --ink: #1a1a1a; --soft: #555; --line: #e2e2e2; --blue: #0072b2; --right: #00694e; --wrong: #9c2364; }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 1100px; padding: 2.5rem 1.5rem 4rem; color: var(--ink); background: #fff;
       font: 16px/1.55 system-ui, -apple-system, "Segoe UI", Helvetica, Arial, sans-serif; overflow-wrap: break-word; }
h1 { font-size: 1.15rem; line-height: 1.3; margin: 0; color: var(--soft); font-weight: 600; }
h2 { font-size: 1.5rem; line-height: 1.25; letter-spacing: -0.01em; margin: 3.4rem 0 0.9rem; padding-top: 0.8rem;
     border-top: 2px solid var(--ink); }
h3 { font-size: 1.02rem; margin: 2.2rem 0 0.5rem; }
p { max-width: 46rem; margin: 0 0 0.9rem; }
ul { padding-left: 1.2rem; }
.subtitle { color: var(--soft); font-size: 0.86rem; margin: 0.2rem 0 1.6rem; }
.lead { max-width: none; font-size: clamp(1.65rem, 4.6vw, 2.7rem); line-height: 1.18; letter-spacing: -0.02em; margin: 0 0 1rem; }
.lead b { color: var(--blue); }
.lead + p { font-size: 1.08rem; max-width: 52rem; }
.tiles { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 17rem), 1fr)); gap: 1rem; margin: 1.6rem 0; }
.tile { border-top: 4px solid var(--blue); background: #f4f8fb; padding: 0.9rem 1.1rem; }
.tile h3 { margin: 0; font-size: 0.95rem; color: var(--soft); font-weight: 600; }
.tile p { font-size: 0.9rem; line-height: 1.45; margin: 0; }
.tile .value { font-size: 2.3rem; line-height: 1.25; font-weight: 600; font-variant-numeric: tabular-nums; }
.note { max-width: 52rem; margin: 1.4rem 0; padding: 0.8rem 1.1rem; border-left: 4px solid var(--wrong); background: #fbf0f6;
        font-size: 0.94rem; }
.note p, .note ul { margin: 0.2rem 0; }
.cards { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(100%, 15.5rem), 1fr)); gap: 1.3rem 1.2rem; list-style: none;
         padding: 0; margin: 1.2rem 0 0; }
.card { break-inside: avoid; min-width: 0; }
.card p { font-size: 0.9rem; line-height: 1.4; margin: 0.4rem 0 0; }
.pair { display: grid; grid-template-columns: 1fr 1fr; gap: 3px; }
.picture { position: relative; }
.picture svg { position: absolute; inset: 0; width: 100%; height: 100%; overflow: visible; }
.picture path { fill: none; stroke: #fff; stroke-width: 1.5; vector-effect: non-scaling-stroke; }
.picture .halo { stroke: #000; stroke-width: 3.5; stroke-opacity: 0.55; }
.right { color: var(--right); } .wrong { color: #fff; background: var(--wrong); padding: 0 0.4em; border-radius: 3px; }
.steps { list-style: none; padding: 0; margin: 1.2rem 0 0; }
.step { display: grid; grid-template-columns: 8.6rem repeat(var(--wide), 1fr); gap: 4px; align-items: end; margin-top: 4px; }
.step p { font-size: 0.9rem; line-height: 1.4; margin: 0; align-self: center; }
.group { display: contents; }
.group span { display: block; font-size: 0.78rem; line-height: 1.25; color: var(--soft); margin-bottom: 0.2rem; }
.step + .step .group span { display: none; }
.scale { max-width: 25rem; margin: 1.3rem 0 0.6rem; font-size: 0.78rem; color: var(--soft); }
.bar { height: 0.7rem; }
.ticks { display: flex; justify-content: space-between; font-variant-numeric: tabular-nums; }
.panels { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 19rem), 1fr)); gap: 1.6rem 2.2rem; align-items: start; }
.panels > * { margin: 0; min-width: 0; }
.halves { grid-template-columns: repeat(auto-fit, minmax(min(100%, 27rem), 1fr)); }
code { white-space: nowrap; } small, sub { line-height: 1.3; } small { color: var(--soft); font-size: 0.85em; } sub { line-height: 0; }
figure { margin: 1.2rem 0 0; break-inside: avoid; }
.fits { max-width: 34rem; } .wide { overflow-x: auto; }
img { display: block; width: 100%; height: auto; }
figcaption { font-size: 0.84rem; line-height: 1.45; color: #444; max-width: 56rem; margin-top: 0.6rem; }
table { border-collapse: collapse; font-size: 0.88rem; line-height: 1.4; width: 100%; border-bottom: 1.5px solid var(--ink); }
table.narrow { width: auto; min-width: min(30rem, 100%); }
thead th { border-top: 1.5px solid var(--ink); border-bottom: 1px solid var(--ink); font-weight: 600; vertical-align: bottom; }
th, td { padding: 0.42rem 0.9rem 0.42rem 0; text-align: left; vertical-align: top; }
tbody th { font-weight: 500; white-space: nowrap; }
tbody tr + tr > * { border-top: 1px solid var(--line); }
.number { text-align: right; white-space: nowrap; font-variant-numeric: tabular-nums; padding-right: 1.6rem; }
td:last-child:not(.number) { color: #444; }
dl { columns: 3 15rem; column-gap: 2.5rem; font-size: 0.84rem; margin: 0; }
dl div { display: flex; justify-content: space-between; gap: 1rem; border-bottom: 1px solid var(--line); padding: 0.22rem 0;
         break-inside: avoid; }
dt { color: var(--soft); }
dd { margin: 0; text-align: right; overflow-wrap: anywhere; font-variant-numeric: tabular-nums; }
/* On a phone, wide figures keep a readable size and scroll. A metric's numbers stand below its name, and its explanation below them. */
@media (max-width: 44rem) {
  body { padding: 1.4rem 1rem 3rem; }
  .wide img { min-width: 44rem; }
  .step { display: block; margin-top: 1.4rem; }
  .group { display: grid; grid-template-columns: repeat(var(--narrow), 1fr); gap: 4px; align-items: end; margin-top: 4px; }
  .step + .step .group span { display: block; }
  .number { padding-right: 0.5rem; }
  tbody th { white-space: normal; }
  .metrics tr { display: flex; flex-wrap: wrap; }
  .metrics tr > * { flex: 1 0 100%; border: 0; padding: 0.15rem 0; }
  .metrics tr > .number { flex: 1 1 0; text-align: left; white-space: normal; }
  .metrics thead tr { border-top: 1.5px solid var(--ink); border-bottom: 1px solid var(--ink); }
  .metrics thead th { border: 0; }
  .metrics tbody tr { padding: 0.4rem 0; }
  .metrics tbody tr + tr { border-top: 1px solid var(--line); }
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


PAGE = Template("""<h1>Masked diffusion posterior sampling (MDPS): $category</h1>
<p class="subtitle">$subtitle</p>
$verdict
$warning
$leaks
<h2>Where it looks</h2>
<p>$looks</p>
$cards
<h3>Where it was wrong</h3>
<p>$wrong</p>
$wrong_cards
<h2>Why to believe it, or not</h2>
<p>$method</p>
<h3>Three chains compared</h3>
<div class="panels halves">
$differences
<div>
<p>$found</p>
</div>
</div>
<h3>Is the network trained enough? $enough</h3>
<p>$trained</p>
$reconstructions
<h3>Step by step</h3>
<p>$stepwise</p>
$steps
<h3>Does it know when it is wrong?</h3>
<div class="panels halves">
$uncertainty
<div>
<p>$unsure</p>
</div>
</div>
<h2>The numbers</h2>
<p>$intervals</p>
$metrics
<h2>The decision</h2>
<p>$decision</p>
<div class="panels halves">
$scores
<div>
$kinds
</div>
</div>
<h3>At every threshold</h3>
<div class="panels">
$curves
</div>
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
