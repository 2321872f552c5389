"""What the Train tab says of jobs and data sets, and that a visitor's detector is for whoever has its label."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from lsn_app.serving.store import Store
from lsn_app.shared.uploads import open_others
from lsn_app.train.answer import together
from lsn_app.train.plots import training_curves
from lsn_app.train.tab import _token
from lsn_app.train.trial import Trial
from lsn_app.train.words import (
    contents_card,
    duration,
    is_worse,
    job_card,
    job_label,
    ood_note,
    recipe_choices,
    recipe_note,
)
from lsn_core import Backbone, Detector, UserError
from lsn_core.jobs import Job, Point
from lsn_core.jobs.inspection import Inspection, inspect
from lsn_core.jobs.limits import JobLimits

JOB = Job(
    "0123456789ab", "owner", "my <b>cats</b>", "queued", "x.zip", {"cat": 9}, None, None, "embedded", {}, 0.0, 0.0
)


def test_a_card_says_what_a_job_waits_for_and_how_long_it_takes() -> None:
    assert "Place 3 in the queue." in job_card(JOB, 3, None)
    assert "No worker is running" in job_card(JOB, 3, None, "No worker is running just now.")
    training = replace(JOB, state="training", step=20, total=45, phase="negative")
    assert "Step 20 of 45 (negative prompts), about 2 min left." in job_card(training, None, 90)
    assert '<progress value="20" max="45"' in job_card(training, None, None, True)
    failed = replace(JOB, state="failed", error="The disk is full.")
    assert "The disk is full." in job_card(failed, None, None, True)
    assert "<b>" not in job_card(failed, None, None, True)
    assert job_label(JOB, 2).endswith("queued, place 2 in the queue")


def test_results_stand_beside_hand_written_prompts_and_small_numbers_are_called_so() -> None:
    figures = {"id_accuracy": 0.9, "auroc": 0.95, "fpr95": 0.1}
    metrics = {**figures, **{f"zero_shot_{key}": 0.5 for key in figures}, "n_id": 14, "n_ood": 13, "ood": "<examples>"}
    metrics["lead"] = {"auroc": [0.45, 0.4, 0.5]}
    card = job_card(replace(JOB, state="done", metrics=metrics), None, None, True)
    assert "lsn-known" in card and "Better than hand-written MCM by 45.0 points of AUROC (+40.0 to +50.0)." in card
    assert "<td>AUROC</td><td>95 %</td><td>50 %</td>" in card and "take the figures as a hint" in card
    assert "14 photos of your classes" in card and "13 photos that show none of them (&lt;examples&gt;)" in card
    many = job_card(replace(JOB, state="done", metrics={**metrics, "n_id": 500, "n_ood": 500}), None, None, True)
    assert "take the figures as a hint" not in many
    assert "No photos were left" in job_card(replace(JOB, state="done", metrics={"n_id": 0}), None, None, True)


@pytest.mark.parametrize(
    ("lead", "worse", "words"),
    [
        ([0.02, -0.01, 0.05], False, "No clear difference to hand-written MCM: +2.0 points of AUROC (−1.0 to +5.0)"),
        ([-0.001, -0.02, 0.02], True, "Worse than hand-written MCM by 0.1 points of AUROC (−2.0 to +2.0)"),
        ([0.0, 0.0, 0.0], False, "No difference to hand-written MCM: 0.0 points of AUROC (0.0 to 0.0)."),
        ([-0.0003, -0.01, 0.01], False, "No clear difference to hand-written MCM: 0.0 points of AUROC (−1.0 to +1.0)"),
        (None, False, "Not compared with hand-written MCM"),
    ],
)
def test_a_detector_without_a_clear_lead_wears_no_tick(lead: list[float] | None, worse: bool, words: str) -> None:
    figures = {"id_accuracy": 0.9, "auroc": 0.95, "fpr95": 0.1}
    metrics = {**figures, "n_id": 200, "n_ood": 200, "ood": "x", "lead": lead and {"auroc": lead}}
    job = replace(JOB, state="done", metrics=metrics)
    card = job_card(job, None, None, True)
    assert words in card and "✓" not in card and "lsn-known" not in card
    assert ("keep the hand-written prompts" in card) == worse == is_worse(job)


def test_the_folds_say_why_a_score_was_chosen() -> None:
    row = {"auroc": 0.9, "fpr95": 0.2, "lead": 0.03, "lead_low": -0.01, "lead_high": 0.07}
    choice = {"score": "neglabel-lsn", "folds": {"neglabel-lsn": row, "mcm": row}, "reason": "It <led>."}
    metrics = {"id_accuracy": 0.9, "zero_shot_id_accuracy": 0.8, "n_id": 200, "choice": choice}
    card = job_card(replace(JOB, state="done", metrics=metrics), None, None, True)
    assert "<b>neglabel-lsn</b>" in card and "It &lt;led&gt;." in card and "<td>+3.0 (−1.0 to +7.0)</td>" in card


def test_photos_to_measure_against_come_loose_or_as_one_archive(examples: Path, tmp_path: Path) -> None:
    photos = [examples / "dog.jpg", examples / "cat.jpg"]
    with together(photos) as folder:
        assert sorted(path.read_bytes() for path in folder.iterdir()) == sorted(path.read_bytes() for path in photos)
    archive = tmp_path / "x.zip"
    with together([archive]) as path:
        assert path == archive
    with pytest.raises(UserError, match="not both"), together([archive, photos[0]]):
        pass
    (tmp_path / "note.jpg").write_text("no picture")
    files = [(str(path), path.name) for path in (*photos, tmp_path / "note.jpg")]
    assert "3 photos" in ood_note(open_others(files)) and "1 cannot be read" in ood_note(open_others(files))


def test_durations_in_words() -> None:
    assert [duration(seconds) for seconds in (7.4, 90, 5400)] == ["7 s", "2 min", "1.5 h"]


def test_a_look_into_a_data_set_counts_classes_and_names_what_cannot_be_read(tmp_path: Path, examples: Path) -> None:
    for name in ("cat", "dog"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "1.jpg").write_bytes((examples / f"{name}.jpg").read_bytes())
    (tmp_path / "dog" / "2.jpg").write_text("no picture")
    found = inspect(tmp_path, "mine", JobLimits())
    assert found.classes == {"cat": 1, "dog": 2} and found.images == found.checked == 3
    assert len(found.unreadable) == 1 and found.unreadable[0].startswith("dog/2.jpg")
    card = contents_card("mine", found, 64, 0.2)
    assert "3 photos of 2 classes." in card and "dog/2.jpg" in card and "needs 19" in card
    with pytest.raises(UserError, match="a job takes at most 2"):
        inspect(tmp_path, "mine", JobLimits(images=2))
    assert "and 88 more classes" in contents_card("x", Inspection({f"c{i}": 9 for i in range(100)}, 0, []), 64, 0.2)


def test_curves_have_a_line_for_each_kind_of_prompt() -> None:
    points = [
        Point(1, "positive", 2.0, 0.5, 0.1),
        Point(2, "positive", 1.0, 0.6, 0.2),
        Point(3, "negative", 3.0, 0.1, 0.3),
    ]
    figure = training_curves(points, 10)
    assert [list(trace.y) for trace in figure.data] == [[2.0, 1.0], [0.5, 0.6], [3.0], [0.1]]
    assert figure.layout.xaxis.range == (0, 10)
    assert training_curves(points, 10, done=True).layout.xaxis.range == (0, 3)


def test_a_visitors_detector_is_known_by_its_label_alone(tiny_backbone: Backbone, tmp_path: Path, monkeypatch) -> None:  # type: ignore[no-untyped-def]
    monkeypatch.setattr("lsn_app.serving.store.load_backbone", lambda name: tiny_backbone)
    Detector.zero_shot(tiny_backbone, ["zebra", "turtle"]).save(tmp_path / "detector.safetensors")
    store = Store("embedded", detectors_dir=tmp_path / "none")
    label = store.register(tmp_path / "detector.safetensors")
    assert store.detector(label)[0].class_names == ("zebra", "turtle") and label not in store.detectors
    with pytest.raises(UserError, match="no detector called"):
        store.detector("private-0123")


@pytest.mark.parametrize("owner", [None, "", "short", 7, ["a" * 20], {"a": 1}])
def test_nobody_passes_for_the_administrator(owner: object) -> None:
    with pytest.raises(UserError, match="keeps no data"):
        _token(owner)


def test_recipes_are_named_by_how_long_the_last_job_took_here() -> None:
    done = replace(JOB, state="done", config={"preset": "fast"}, seconds=190.0)
    others = [replace(done, state="failed", seconds=1.0), done, replace(done, seconds=9.0)]
    titles = dict((name, title) for title, name in recipe_choices(others))
    assert titles["fast"] == "fast (3 min here, for the last job, of 1 class)"
    assert titles["paper"].endswith("(hours)") and recipe_note(others, {}) == ""
    titles = dict((name, title) for title, name in recipe_choices(others, {"fast": 20.0, "paper": 4000.0}))
    assert titles["fast"].startswith("fast (3 min here") and titles["paper"].endswith("(about 1.1 h)")
    assert "10 classes of 64 photos" in recipe_note(others, {"fast": 20.0, "paper": 4000.0})
    assert recipe_note(others, {"fast": 20.0}) == ""


def test_recipes_are_tried_once_and_only_when_somebody_wants_to_know(
    tiny_backbone: Backbone, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lsn_app.serving.store.load_backbone", lambda name: tiny_backbone)
    trial = Trial(Store("embedded"))
    assert not trial.done
    seconds = trial.seconds()
    assert set(seconds) == {"fast", "paper", "reference"} and 0 < seconds["fast"] < seconds["paper"]
    assert trial.done and trial.seconds() is seconds
