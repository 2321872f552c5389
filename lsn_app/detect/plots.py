"""The Detect tab's figures: the score on its scale, and bars of what a photo is and is not."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
import plotly.graph_objects as go

from lsn_app.shared.plots import _finish_bars, finish, plain
from lsn_app.shared.theme import KNOWN, NEGATIVES, NEUTRAL, UNKNOWN

TOP = 10


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


def batch_histogram(scores: Sequence[float], threshold: float) -> go.Figure:
    """How the scores of many photos lie on both sides of the threshold.

    Args:
        scores: one or more.
        threshold: γ, finite.
    """
    values = np.asarray(scores, dtype=np.float64)
    # The threshold is an edge, so that no bar stands on both sides of it.
    low, high = min(values.min(), threshold), max(values.max(), threshold)
    width = (high - low) / int(np.clip(round(2 * math.sqrt(values.size)), 8, 40)) or 1.0
    first, last = math.floor((low - threshold) / width), math.ceil((high - threshold) / width)
    edges = threshold + width * np.arange(first, max(last, first + 1) + 1)
    figure = go.Figure()
    for name, chosen, colour in (
        ("none of the classes", values < threshold, UNKNOWN),
        ("known", values >= threshold, KNOWN),
    ):
        figure.add_bar(
            x=(edges[:-1] + edges[1:]) / 2,
            y=np.histogram(values[chosen], bins=edges)[0],
            width=width,
            name=name,
            marker={"color": colour, "line": {"width": 0}},
            hovertemplate=f"%{{y}} photos: {name}<extra></extra>",
        )
    figure.add_shape(
        type="line", x0=threshold, x1=threshold, y0=0, y1=1, yref="paper", line={"color": NEUTRAL, "dash": "dash"}
    )
    figure.update_xaxes(title="score: further right fits better")
    figure.update_yaxes(title="photos", rangemode="tozero")
    figure.update_layout(barmode="stack", bargap=0.05, showlegend=True)
    return finish(figure, 230, top_margin=34)


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
