"""The page of an ablation: a table with intervals, a dot-and-whisker figure, what differs from MDPS beyond chance; and ablation.json."""

import dataclasses
import math
from string import Template

import matplotlib
from matplotlib.figure import Figure

from mdps_ref.data.files import write_text
from mdps_ref.job.run_folder import write_json
from mdps_ref.report.html import escaped, figure_element, pairs_table, whole_page
from mdps_ref.report.style import CHAINS, GOOD_COLOUR, INK, WIDTH, plain_axes, png

GROUPS = {"steps": "Steps", "settings": "Settings", "features": "Features", "baselines": "Baselines"}
COLUMNS = {  # metric -> its name and format
    "image_auroc": ("Image AUROC", ".3f"),
    "image_average_precision": ("Image AP", ".3f"),
    "pixel_auroc": ("Pixel AUROC", ".3f"),
    "pixel_average_precision": ("Pixel AP", ".3f"),
    "aupro_30": ("AUPRO 30 %", ".3f"),
    "aupro_5": ("AUPRO 5 %", ".3f"),
    "contrast": ("Contrast", ".1f"),
}
HIGHER, LOWER = "▲", "▼"


def mark(difference):
    """Return HIGHER or LOWER for a paired difference whose interval excludes 0, else ""."""
    return HIGHER if difference.low > 0 else LOWER if difference.high < 0 else ""


def write_ablation(folder, ablation, about):
    """Write ablation.json and ablation.html into `folder`, each whole or not at all.

    Parameters
    ----------
    folder : Path
    ablation : Ablation
    about : dict
        What was asked for, as JSON takes it: "category", "images", "settings" and "versions" among it.
    """
    rows = [dataclasses.asdict(row) | {part: _json(getattr(row, part)) for part in ("metrics", "differences")} for row in ablation.rows]
    with matplotlib.rc_context():
        matplotlib.rcdefaults()  # a user's matplotlibrc changes nothing here
        picture = png(figure(ablation.rows))
    text = page(ablation, about, picture)
    write_json(folder / "ablation.json", about | {"rows": rows, "left_out": ablation.left_out})
    write_text(folder / "ablation.html", text)


def _json(intervals):
    """Intervals by name, with None for nan."""
    return {name: {k: None if math.isnan(v) else v for k, v in i._asdict().items()} for name, i in intervals.items()}


def figure(rows):
    """Plot image AUROC, pixel AUROC and AUPRO of each row with its interval; MDPS is a vertical line.

    Parameters
    ----------
    rows : list of Row

    Returns
    -------
    Figure
    """
    drawn = Figure((WIDTH, 1.1 + 0.27 * len(rows)), layout="constrained")
    heights = {}
    for row in rows:  # with a gap before each group
        heights[row.name] = len(heights) + 0.6 * len({other.group for other in rows[: len(heights) + 1]})
    mdps = next(row for row in rows if row.name == "mdps")
    for axes, metric in zip(drawn.subplots(1, 3, sharey=True), mdps.differences, strict=True):
        for row in rows:
            value, low, high = row.metrics[metric]
            colour = CHAINS["mdps"].colour if row is mdps else INK if row.group != "baselines" else CHAINS["guided"].colour
            axes.plot([low, high], [heights[row.name]] * 2, color=colour, linewidth=1.6, solid_capstyle="butt")
            filled = colour if row is mdps or mark(row.differences[metric]) else "white"
            axes.plot(value, heights[row.name], "o", color=colour, markerfacecolor=filled, markersize=6, clip_on=False)
        axes.axvline(mdps.metrics[metric].value, color=CHAINS["mdps"].colour, linewidth=1, zorder=1)
        axes.set_yticks(list(heights.values()), [row.title for row in rows])
        axes.set_ylim(max(heights.values()) + 0.7, min(heights.values()) - 0.7)
        plain_axes(axes, COLUMNS[metric][0])
        axes.tick_params(axis="y", length=0, labelsize=10.5)
        axes.locator_params(axis="x", nbins=4)  # so that long labels, such as 0.965, do not touch
        axes.grid(axis="x", color="#e4e4e4", linewidth=0.8)
        axes.spines["left"].set_visible(False)
        axes.spines["bottom"].set_color(GOOD_COLOUR)
        axes.set_axisbelow(True)
    return drawn


def page(ablation, about, picture):
    """Write the whole page.

    Parameters
    ----------
    ablation, about
        As for `write_ablation`.
    picture : bytes
        The figure as PNG.

    Returns
    -------
    str
        HTML.
    """
    images = about["images"]
    part = f", chosen from all {images['of']} in their shares" if images["good"] + images["defective"] < images["of"] else ""
    without = f"; {images['without_mask']} of them have no mask, and take no part in the pixel metrics" * bool(images["without_mask"])
    left_out = "".join(f"<li>{escaped(name)}: {escaped(reason)}</li>" for name, reason in ablation.left_out.items())
    caption = (
        "Dots are the values on the test images, whiskers the 95 % intervals, the blue line MDPS. A filled dot differs from MDPS beyond "
        "chance: the paired interval excludes 0. Baselines are orange."
    )
    body = PAGE.substitute(
        category=escaped(about["category"]),
        subtitle=f"{images['good']} good and {images['defective']} defective test images{part}{without}. Seed {about['seed']}.",
        found=_found(ablation.rows),
        figure=figure_element("Metrics of each row", picture, caption),
        table=_table(ablation.rows),
        left_out=f"<h2>Left out</h2><ul>{left_out}</ul>" if left_out else "",
        settings=pairs_table({name: str(value) for name, value in about["settings"].items()}),
        versions=pairs_table(about["versions"] | {"command": about["command"]}),
    )
    return whole_page(f"Ablation: {escaped(about['category'])}", body, MORE_STYLE)


def _found(rows):
    """Say which rows are below MDPS beyond chance, and which above it, metric by metric."""
    lines = ""
    for metric in rows[0].differences:
        for sign, word in ((LOWER, "lower"), (HIGHER, "higher")):
            names = [escaped(row.title) for row in rows if mark(row.differences[metric]) == sign]
            lines += f"<li>{COLUMNS[metric][0]} is {word} than that of MDPS: {'; '.join(names) or 'none'}.</li>\n"
    return f"<ul>{lines}</ul>"


def _table(rows):
    """Write all values, with their intervals below them."""
    head = "".join(f'<th class="number">{name}</th>' for name in (*(name for name, _ in COLUMNS.values()), "Seconds an image"))
    body, groups = "", dict.fromkeys(row.group for row in rows)
    for group in groups:
        body += f'<tr class="group"><th colspan="{len(COLUMNS) + 2}">{GROUPS[group]}</th></tr>\n'
        for row in (row for row in rows if row.group == group):
            cells = "".join(_cell(row, metric, form) for metric, (_, form) in COLUMNS.items())
            of_mdps = ' class="mdps"' * (row.name == "mdps")
            name = f"{escaped(row.title)}<br><small>{escaped(row.name)}</small>"
            body += f'<tr{of_mdps}><th>{name}</th>{cells}<td class="number">{row.seconds:.3g}</td></tr>\n'
    return f'<div class="wide"><table><thead><tr><th>Row</th>{head}</tr></thead><tbody>\n{body}</tbody></table></div>'


def _cell(row, metric, form):
    """Write a value, its mark and its interval."""
    found = row.metrics.get(metric)
    if found is None or math.isnan(found.value):
        return '<td class="number">–</td>'
    sign = mark(row.differences[metric]) if metric in row.differences else ""
    ends = f"{format(found.low, form)}–{format(found.high, form)}"
    kind = {HIGHER: " higher", LOWER: " lower"}.get(sign, "")
    return f'<td class="number{kind}">{sign} {format(found.value, form)}<br><small>{ends}</small></td>'


MORE_STYLE = """
.wide th, .wide td { padding-right: 0.5rem; }
.wide tbody th { white-space: normal; min-width: 9.5rem; }
.wide small { color: #555; font-weight: 400; }
.wide .group th { padding-top: 1.1rem; font-weight: 700; }
.wide .mdps { background: #e8f1f8; }
.higher { color: #00694e; } .lower { color: #b34a00; }
@media (max-width: 44rem) {
  .wide table { min-width: 58rem; }
  .wide tbody th { position: sticky; left: 0; background: #fff; }
  .wide .mdps th { background: #e8f1f8; }
}
"""
PAGE = Template("""<h1>What each step is worth: $category</h1>
<p class="subtitle">$subtitle</p>
<p>Each row is evaluated on the same images. Differences to MDPS are paired: both methods see the same resamples of the images. Listed
here are those whose 95 % interval excludes 0. Of many rows, about one in twenty is listed by chance.</p>
$found
<h2>At a glance</h2>
$figure
<h2>All values</h2>
<p>Below each value is its bootstrap 95 % interval over the test images. ▲ is higher and ▼ lower than MDPS beyond chance. Seconds count
the chains and distances that a row needs, also those that it shares with another row. Contrast says nothing about ranking: an untrained
network can have much.</p>
$table
$left_out
<h2>Settings of this ablation</h2>
$settings
<h2>Versions</h2>
$versions""")
