"""Step by step: what each chain made of the shown images. Pictures stand in one row, or on a phone in a row for each chain."""

import numpy as np

from mdps_ref.report.cards import heat_limit, heat_over, label, outline, picture, scale, unit
from mdps_ref.report.html import X_0, Y, percent
from mdps_ref.report.style import chains_of

LONGEST = 192  # pixels of a picture's side, about twice what a screen shows


def step_by_step(result):
    """Write a row of pictures for each shown image, and the colour scale below them.

    Parameters
    ----------
    result : Result

    Returns
    -------
    str
        HTML. Only a run with a mask has the mask, and only a run with several samples has the spread.
    """
    rows = [_pictures(result, row) for row in range(len(result.shown))]
    columns = [len(group) for group in rows[0]]
    steps = "".join(f'<li class="step"><p>{_who(result, row)}</p>{"".join(map(_group, groups))}</li>\n' for row, groups in enumerate(rows))
    style = f"--wide:{sum(columns)};--narrow:{max(columns)}"
    return f'<ul class="steps" style="{style}">\n{steps}</ul>\n{scale(heat_limit(result))}'


def _pictures(result, row):
    """Return [(caption, picture), ...] of a shown image: with what reconstruction made of it, and what MDPS did."""
    config, y, top = result.config, result.images[row], heat_limit(result)
    names = {key: chain.name for key, chain in chains_of(config).items()}
    reconstruction, mdps = (result.chains[key].shown for key in ("reconstruction", "mdps"))
    edge = outline(result.truths[row])

    def image(caption, x):
        return caption, picture(unit(x), "", longest=LONGEST)

    def heat(caption, values, over=""):
        return caption, picture(heat_over(y, values, top), "", over, LONGEST)

    first = [
        image(f"test image {Y}", y),
        image(f"{names['reconstruction']} {X_0}", reconstruction.x_0[row]),
        heat("its map", reconstruction.anomaly[row], edge),
    ]
    white = np.repeat(mdps.suspected[row][..., None], 3, axis=-1)
    mask = [("mask <i>m</i>", picture(white, "", longest=LONGEST))] if config.masked else []
    spread = [heat("spread", mdps.spread[row])] if config.samples > 1 else []
    sample = ", a sample" if config.samples > 1 else ""
    second = [*mask, image(f"{names['mdps']} {X_0}{sample}", mdps.x_0[row]), heat("its map", mdps.anomaly[row], edge), *spread]
    return first, second


def _group(pictures):
    """Write the pictures of one chain, each below its caption."""
    return f'<div class="group">{"".join(f"<div><span>{caption}</span>{drawn}</div>" for caption, drawn in pictures)}</div>'


def _who(result, row):
    """Write what image a row shows, and the share of its pixels that are masked."""
    masked = ""
    if result.config.masked:
        masked = f"<br><small>masked: {percent(float(result.chains['mdps'].shown.suspected[row].mean()))}</small>"
    return label(result, result.shown[row], result.truths[row]) + masked
