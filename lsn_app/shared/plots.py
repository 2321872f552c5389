"""Plotly figures of a verdict, as pure functions of numbers and names."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from lsn_app.shared.theme import KNOWN, NEGATIVES, NEUTRAL, UNKNOWN
from lsn_core.jobs import Point
from lsn_core.negation import NotCount

TOP = 10
MOST_CLASSES = 40
_GRID = "rgba(128,128,128,0.28)"
_LONGEST_NAME = 22
_BAR_HEIGHT = 30


def softmax(cosines: Sequence[float], temperature: float) -> list[float]:
    """Probabilities of cosines at temperature τ, in the order given."""
    scaled = np.asarray(cosines, dtype=np.float64) / temperature
    weights = np.exp(scaled - scaled.max())
    return [float(value) for value in weights / weights.sum()]


def score_scale(
    score: float,
    threshold: float,
    *,
    known: bool,
    calibration: Sequence[float] | None = None,
    score_label: str = "score",
) -> go.Figure:
    """The score beside the threshold; over a histogram of the calibration scores where there are some.

    Args:
        score: of the image in question.
        threshold: γ; -inf where nothing is rejected.
        known: the verdict, which colours the score.
        calibration: scores of the known images, or None.
        score_label: name of the horizontal axis.
    """
    counted = np.asarray(calibration if calibration is not None else [], dtype=np.float64)
    marks = [score, *([threshold] if math.isfinite(threshold) else []), *counted.tolist()]
    low, high = min(marks), max(marks)
    # Without calibration scores there is no natural width; twice the wider of the two marks shows both.
    room = (high - low) * 0.2 or max(abs(high) * 0.2, 1e-3)
    low, high = low - room, high + room
    figure = go.Figure()
    top = 1.0
    if counted.size:
        bins = int(np.clip(round(math.sqrt(counted.size) * 1.5), 5, 30))
        counts, edges = np.histogram(counted, bins=bins)
        top = float(counts.max())
        figure.add_bar(
            x=(edges[:-1] + edges[1:]) / 2,
            y=counts,
            width=np.diff(edges),
            name="calibration photos",
            marker={"color": NEUTRAL, "opacity": 0.75, "line": {"width": 0}},
            hovertemplate="%{y} calibration photos<br>score about %{x:.4f}<extra></extra>",
        )
    border = threshold if math.isfinite(threshold) else low
    _region(figure, low, border, UNKNOWN)
    _region(figure, border, high, KNOWN)
    if math.isfinite(threshold):
        figure.add_shape(
            type="line", x0=threshold, x1=threshold, y0=0, y1=1, yref="paper", line={"color": NEUTRAL, "dash": "dash"}
        )
        figure.add_annotation(
            x=threshold,
            y=1,
            yref="paper",
            yanchor="bottom",
            xanchor=_anchor(threshold, low, high),
            showarrow=False,
            text=f"threshold {threshold:.4f}",
        )
    colour, row = KNOWN if known else UNKNOWN, top * 1.22
    figure.add_shape(type="line", x0=score, x1=score, y0=0, y1=row, line={"color": colour, "width": 2})
    figure.add_scatter(
        x=[score],
        y=[row],
        mode="markers",
        name="this photo",
        marker={
            "color": colour,
            "size": 17,
            "symbol": "circle" if known else "x",
            "line": {"color": "white", "width": 1.5},
        },
        hovertemplate="this photo: %{x:.4f}<extra></extra>",
    )
    text = f"<b>this photo {score:.4f}</b>"
    figure.add_annotation(x=score, y=row, yshift=20, xanchor=_anchor(score, low, high), showarrow=False, text=text)
    figure.update_xaxes(range=[low, high], title=f"{score_label}: further right fits better")
    counts_step = max(1, math.ceil(top / 4))
    figure.update_yaxes(
        range=[0, top * 1.7],
        title="calibration photos",
        visible=bool(counted.size),
        tickvals=list(range(0, int(top) + 1, counts_step)),
        showgrid=False,
    )
    return finish(figure, 270 if counted.size else 190, top_margin=34)


def positive_bars(cosines: Mapping[str, float], temperature: float, top: int = TOP) -> go.Figure:
    """Probability of each class by its positive prompt; the best `top` classes, best first.

    Args:
        cosines: class name -> cosine to its positive prompt.
        temperature: the backbone's own.
    """
    names = best_classes(cosines, top)
    values = dict(zip(cosines, softmax(list(cosines.values()), temperature), strict=True))
    figure = go.Figure()
    figure.add_bar(
        orientation="h",
        y=list(range(len(names))),
        x=[values[name] for name in names],
        name="positive prompt",
        marker={"color": KNOWN},
        text=[f"{values[name]:.0%}" for name in names],
        textposition="outside",
        cliponaxis=False,
        customdata=[[plain(name), cosines[name]] for name in names],
        hovertemplate="%{customdata[0]}<br>probability %{x:.2%}<br>cosine %{customdata[1]:.4f}<extra></extra>",
    )
    return _finish_bars(figure, names, 1, "probability of the class")


def negative_bars(
    positive: Mapping[str, float], negative: Mapping[str, Sequence[float]], temperature: float, top: int = TOP
) -> go.Figure:
    """Probability that each negative prompt set gives to the denial of each class, in the order of `positive_bars`.

    Args:
        positive: class name -> cosine to its positive prompt; decides the order.
        negative: class name -> cosines to its K negative prompts.
        temperature: the backbone's own.
    """
    names = best_classes(positive, top)
    sets = len(next(iter(negative.values()), ()))
    figure = go.Figure()
    for k in range(sets):
        values = dict(zip(negative, softmax([row[k] for row in negative.values()], temperature), strict=True))
        figure.add_bar(
            orientation="h",
            y=list(range(len(names))),
            x=[values[name] for name in names],
            name="negative prompt" if sets == 1 else f"negative prompt {k + 1}",
            marker={"color": NEGATIVES[k % len(NEGATIVES)]},
            text=[f"{values[name]:.0%}" for name in names],
            textposition="outside",
            cliponaxis=False,
            customdata=[[plain(name), negative[name][k]] for name in names],
            hovertemplate="not %{customdata[0]}<br>probability %{x:.2%}<br>cosine %{customdata[1]:.4f}<extra></extra>",
        )
    figure.update_layout(showlegend=sets > 1, barmode="group")
    return _finish_bars(figure, names, max(1, sets * 0.6), "probability of “not this class”")


def training_curves(points: Sequence[Point], total: int) -> go.Figure:
    """Loss and accuracy of the training batches over the steps, positive prompts and then negative ones.

    Args:
        points: metrics over time, by step.
        total: steps in all.
    """
    figure = make_subplots(rows=2, cols=1, shared_xaxes=True, vertical_spacing=0.12)
    for phase, colour in (("positive", KNOWN), ("negative", UNKNOWN)):
        chosen = [point for point in points if point.phase == phase]
        for row, values in ((1, [point.loss for point in chosen]), (2, [point.accuracy for point in chosen])):
            figure.add_scatter(
                x=[point.step for point in chosen],
                y=values,
                mode="lines",
                name=f"{phase} prompts",
                legendgroup=phase,
                showlegend=row == 1 and bool(chosen),
                line={"color": colour, "width": 2, "dash": "solid" if phase == "positive" else "dot"},
                hovertemplate=f"step %{{x}}<br>{'loss %{y:.4f}' if row == 1 else 'accuracy %{y:.1%}'}<extra></extra>",
                row=row,
                col=1,
            )
    figure.update_xaxes(range=[0, max(total, 1)])
    figure.update_xaxes(title="training step", row=2, col=1)
    figure.update_yaxes(title="loss", rangemode="tozero", row=1, col=1)
    figure.update_yaxes(title="accuracy", range=[-0.03, 1.03], tickformat=".0%", row=2, col=1)
    figure.update_layout(showlegend=True)
    return finish(figure, 380, top_margin=34)


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


def best_classes(cosines: Mapping[str, float], top: int = TOP) -> list[str]:
    """The classes with the largest cosines, best first."""
    return sorted(cosines, key=lambda name: -cosines[name])[:top]


def _anchor(x: float, low: float, high: float) -> str:
    # A label in the middle of a mark near the edge would be cut off on a phone.
    place = (x - low) / (high - low)
    return "left" if place < 0.3 else "right" if place > 0.7 else "center"


def _region(figure: go.Figure, start: float, end: float, colour: str) -> None:
    figure.add_shape(
        type="rect",
        x0=start,
        x1=end,
        y0=0,
        y1=1,
        yref="paper",
        fillcolor=colour,
        opacity=0.13,
        line_width=0,
        layer="below",
    )


def plain(name: str) -> str:
    # Plotly reads a few HTML tags, links among them, in its texts, and class names come from visitors.
    return name.replace("&", "&amp;").replace("<", "&lt;")


def _finish_bars(figure: go.Figure, names: Sequence[str], rows_each: float, title: str) -> go.Figure:
    short = [name if len(name) <= _LONGEST_NAME else name[: _LONGEST_NAME - 1] + "…" for name in names]
    figure.update_xaxes(range=[0, 1.14], tickvals=[0, 0.25, 0.5, 0.75, 1], tickformat=".0%", title=title)
    # Places, not names, carry the bars: two long names may be cut to the same letters.
    figure.update_yaxes(
        range=[len(names) - 0.5, -0.5],
        tickvals=list(range(len(names))),
        ticktext=[plain(name) for name in short],
        showgrid=False,
    )
    height = int(90 + _BAR_HEIGHT * len(names) * rows_each)
    return finish(figure, height, top_margin=34 if figure.layout.showlegend else 8)


_AXIS = {
    "gridcolor": _GRID,
    "zeroline": False,
    "automargin": True,
    "title": {"standoff": 8, "font": {"size": 13}},
    "fixedrange": True,
}
# What all figures share, checked once by Plotly rather than in every answer. Transparent, so that the page's own light
# or dark shows; the page's css colours the text.
_LOOK = go.layout.Template(
    layout={
        "paper_bgcolor": "rgba(0,0,0,0)",
        "plot_bgcolor": "rgba(0,0,0,0)",
        "font": {"color": NEUTRAL, "size": 13, "family": "system-ui, sans-serif"},
        "legend": {"orientation": "h", "y": 1.02, "yanchor": "bottom", "x": 0},
        "showlegend": False,
        "dragmode": False,
        "modebar": {"remove": ["zoom", "pan", "select", "lasso", "zoomIn", "zoomOut", "autoScale", "resetScale"]},
        "bargap": 0.3,
        "xaxis": _AXIS,
        "yaxis": _AXIS,
    }
)


def finish(figure: go.Figure, height: int, top_margin: int) -> go.Figure:
    """Gives a figure the look of them all, and its height in pixels."""
    return figure.update_layout(template=_LOOK, height=height, margin={"l": 12, "r": 12, "t": top_margin, "b": 48})
