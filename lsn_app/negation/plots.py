"""The bars of how often photos choose the denial of a class."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import plotly.graph_objects as go

from lsn_app.shared.plots import _finish_bars, plain
from lsn_app.shared.theme import KNOWN, NEUTRAL, UNKNOWN
from lsn_core.negation import NotCount

MOST_CLASSES = 40


def not_bars(counts: Sequence[NotCount]) -> go.Figure:
    """Share of photos that chose "not" about each class, wordings of one class taken together; at most 40 classes.

    Where it is known what the photos show there are two bars: photos of the class, for which "not" is wrong, and the
    others, for which it is right.

    Args:
        counts: of one kind of prompts, classes in the same order for each wording.
    """
    names = list(dict.fromkeys(item.class_name for item in counts))[:MOST_CLASSES]
    totals = {name: np.zeros(4, dtype=int) for name in names}  # photos, of these "not"; photos of the class, "not"
    for item in counts:
        if item.class_name in totals:
            own = (item.images_of_class or 0, item.chose_not_of_class or 0)
            totals[item.class_name] += (item.images, item.chose_not, *own)
    labelled = any(item.images_of_class is not None for item in counts)
    figure = go.Figure()
    groups = [("all photos", NEUTRAL, [(n, k) for n, k, _, _ in totals.values()])]
    if labelled:
        groups = [
            ("photos of the class: 0 % is right", UNKNOWN, [(n, k) for _, _, n, k in totals.values()]),
            ("other photos: 100 % is right", KNOWN, [(n - m, k - j) for n, k, m, j in totals.values()]),
        ]
    for title, colour, pairs in groups:
        figure.add_bar(
            orientation="h",
            y=list(range(len(names))),
            x=[k / n if n else None for n, k in pairs],
            name=title,
            marker={"color": colour, "pattern": {"shape": "/" if colour == UNKNOWN else ""}},
            text=[f"{k / n:.0%}" if n else "" for n, k in pairs],
            textposition="outside",
            cliponaxis=False,
            customdata=[[plain(name), f"{k} of {n}"] for name, (n, k) in zip(names, pairs, strict=True)],
            hovertemplate="%{customdata[0]}<br>“not” chosen %{customdata[1]} times<extra></extra>",
        )
    figure.update_layout(showlegend=labelled, barmode="group", legend={"traceorder": "normal"})
    return _finish_bars(figure, names, 1.4 if labelled else 1, "chose “not”")
