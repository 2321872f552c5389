"""The figures hold the numbers they claim to show."""

from __future__ import annotations

import math

import numpy as np
import pytest

from lsn_app.detect.plots import batch_histogram, negative_bars, positive_bars, score_scale, softmax

COSINES = {"dog": 0.30, "cat": 0.25, "elephant": 0.10}
NEGATIVE = {"dog": [0.10, 0.12], "cat": [0.20, 0.22], "elephant": [0.30, 0.28]}


def test_softmax_is_the_formula() -> None:
    values = np.array(list(COSINES.values()))
    by_hand = np.exp(values / 0.01) / np.exp(values / 0.01).sum()
    assert softmax(values.tolist(), 0.01) == pytest.approx(by_hand, abs=1e-12)
    assert softmax([1.0, 0.0], 1e-4) == pytest.approx([1.0, 0.0])  # exp(10,000) would overflow


def test_positive_bars_show_the_best_classes_first_with_raw_cosines_on_hover() -> None:
    figure = positive_bars(COSINES, 0.05)
    bars = figure.data[0]
    assert list(figure.layout.yaxis.ticktext) == ["dog", "cat", "elephant"]
    assert list(bars.y) == [0, 1, 2] and figure.layout.yaxis.range == (2.5, -0.5)  # the first is at the top
    assert list(bars.x) == pytest.approx(softmax([0.30, 0.25, 0.10], 0.05))
    assert [row[1] for row in bars.customdata] == [0.30, 0.25, 0.10]
    assert "customdata[1]" in bars.hovertemplate


def test_probabilities_are_over_all_classes_although_ten_are_shown() -> None:
    many = {f"class {i}": i / 100 for i in range(40)}
    figure = positive_bars(many, 0.01)
    bars = figure.data[0]
    assert len(bars.y) == 10 and figure.layout.yaxis.ticktext[0] == "class 39"
    assert bars.x[0] == pytest.approx(softmax(list(many.values()), 0.01)[39])
    assert sum(bars.x) < 1


def test_negative_bars_have_one_group_for_each_prompt_set_in_the_order_of_the_positive_ones() -> None:
    figure = negative_bars(COSINES, NEGATIVE, 0.05)
    assert [bars.name for bars in figure.data] == ["negative prompt 1", "negative prompt 2"]
    assert list(figure.layout.yaxis.ticktext) == ["dog", "cat", "elephant"]
    assert list(figure.data[1].x) == pytest.approx(softmax([0.12, 0.22, 0.28], 0.05))


def test_histogram_counts_every_calibration_score_and_marks_score_and_threshold() -> None:
    scores = np.random.default_rng(0).normal(0.2, 0.02, 300)
    figure = score_scale(0.1, 0.15, known=False, calibration=scores)
    bars, mark = figure.data
    assert sum(bars.y) == 300
    assert list(mark.x) == [0.1]
    assert any(shape.type == "line" and shape.x0 == 0.15 for shape in figure.layout.shapes)
    low, high = figure.layout.xaxis.range
    assert low < 0.1 and high > scores.max()


def test_scale_without_calibration_or_without_a_finite_threshold() -> None:
    plain = score_scale(0.2, 0.1, known=True)
    assert len(plain.data) == 1 and not plain.layout.yaxis.visible
    assert plain.layout.xaxis.range[0] < 0.1 < 0.2 < plain.layout.xaxis.range[1]
    nothing_refused = score_scale(0.2, -math.inf, known=True, calibration=[0.2, 0.2])
    assert all(math.isfinite(value) for value in nothing_refused.layout.xaxis.range)
    assert not any("threshold" in note.text for note in nothing_refused.layout.annotations)


def test_class_names_cannot_carry_markup_into_the_figure() -> None:
    figure = positive_bars({'<a href="x">dog</a>': 0.3, "cat": 0.1}, 0.05)
    assert "<a" not in figure.layout.yaxis.ticktext[0]
    assert "<a" not in figure.data[0].customdata[0][0]


def test_long_names_that_begin_alike_stay_apart() -> None:
    names = {"a very long class name, the first": 0.3, "a very long class name, the second": 0.2}
    bars = positive_bars(names, 0.05).data[0]
    assert len(set(bars.y)) == 2
    assert bars.customdata[1][0] == "a very long class name, the second"


def test_no_bar_of_many_scores_stands_on_both_sides_of_the_threshold() -> None:
    scores = np.random.default_rng(0).normal(0.0, 1.0, 500)
    for threshold in (-0.3, 5.0, -5.0):
        below, above = batch_histogram(scores.tolist(), threshold).data
        assert (sum(below.y), sum(above.y)) == ((scores < threshold).sum(), (scores >= threshold).sum())
        for bars, side in ((below, -1), (above, 1)):
            edges = np.asarray(bars.x)[np.asarray(bars.y) > 0] - side * bars.width / 2
            assert (side * (edges - threshold) >= -1e-9).all()
    assert sum(sum(bars.y) for bars in batch_histogram([0.5, 0.5], 0.5).data) == 2
