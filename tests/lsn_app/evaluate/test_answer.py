"""What the Evaluate tab finds in files, measures and says, and which benchmark results it shows."""

from __future__ import annotations

import base64
import csv
import io
import json
import re
import zipfile
from collections import Counter
from dataclasses import replace
from pathlib import Path

import gradio as gr
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image
from support import REPO, run_inside

from benchmarks.harness.report import write_table
from lsn_app.evaluate import plots as evaluate_plots
from lsn_app.evaluate import words as evaluate_words
from lsn_app.evaluate.answer import OURS, OWN_MCM, WRITTEN_MCM, Report, check_sets, measure, split_examples
from lsn_app.evaluate.results_browser import BenchmarkBrowser, facts_list, load_results
from lsn_app.serving.encoder import Encoder
from lsn_app.serving.lru import LRU
from lsn_app.serving.requests import Problem
from lsn_app.shared.examples import load_examples
from lsn_app.shared.uploads import open_known, open_others
from lsn_app.shared.words import points
from lsn_core import Backbone, Detector
from lsn_core.data.collection import unreadable

KNOWN = ("cat", "elephant", "zebra")
OTHER = ("church", "guitar", "school_bus", "sailing_boat")


def _zip(path: Path, photos: dict[str, bytes]) -> tuple[str, str]:
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in photos.items():
            archive.writestr(name, content)
    return str(path), path.name


@pytest.fixture(scope="module")
def encoder(embedded: Backbone) -> Encoder:
    return Encoder(embedded, LRU(100), LRU(100))


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory, examples: Path) -> dict[str, tuple[str, str]]:
    """Known photos as a zip of class folders with a bad file, others as a flat zip and as Parquet."""
    folder = tmp_path_factory.mktemp("evaluate")
    known = {}
    for name in KNOWN:
        with Image.open(examples / f"{name}.jpg") as photo:
            for i in range(4):
                crop = io.BytesIO()
                photo.crop((9 * i, 7 * i, photo.width - 5 * i, photo.height - 8 * i)).save(crop, "PNG")
                known[f"{name}/{i}.png"] = crop.getvalue()
    others = [(examples / f"{name}.jpg").read_bytes() for name in OTHER]
    table = pa.table({"image": others, "label": [0, 1, 0, 1]})
    pq.write_table(table, folder / "things.parquet")
    return {
        "known": _zip(folder / "animals.zip", {**known, "cat/broken.jpg": b"no picture"}),
        "others": _zip(folder / "things.zip", {f"{i}.jpg": photo for i, photo in enumerate(others)}),
        "parquet": (str(folder / "things.parquet"), "things.parquet"),
    }


@pytest.fixture(scope="module")
def detector(encoder: Encoder) -> Detector:
    """A detector that counts as trained: hand-written prompts in other words."""
    made = Detector.zero_shot(encoder.backbone, KNOWN, "a picture of a {}", "there is no {}")
    return Detector(encoder.backbone, KNOWN, made.positive, made.negative, config={"method": "coop"})


@pytest.fixture(scope="module")
def report(
    files: dict[str, tuple[str, str]], detector: Detector, encoder: Encoder, tmp_path_factory: pytest.TempPathFactory
) -> Report:
    known, others = open_known([files["known"]]), open_others([files["others"], files["parquet"]])
    assert known is not None
    told: list[tuple[int, int]] = []
    cache = tmp_path_factory.mktemp("cache")
    found = measure(detector, encoder, known, others, cache, lambda done, total: told.append((done, total)))
    assert told == sorted(told) and told[-1] == (21, 21)
    return found


def test_files_become_sets_whatever_they_are(files: dict[str, tuple[str, str]], examples: Path) -> None:
    known = open_known([files["known"]])
    assert known is not None and known.title == "animals"
    assert Counter(known.classes) == {"cat": 5, "elephant": 4, "zebra": 4}
    assert [problem.split(":")[0] for problem in unreadable(known)] == ["cat/broken.jpg"]
    photos = [(str(examples / f"{name}.jpg"), f"{name}.jpg") for name in ("dog", "cat")]
    sets = open_others([files["others"], files["parquet"], *photos])
    assert [(one.title, len(one)) for one in sets] == [("things", 4), ("things (2)", 4), ("photos", 2)]
    assert sets[2].read(1) == (examples / "cat.jpg").read_bytes()
    loose, flat = open_known(photos), open_known([files["others"]])
    assert loose is not None and flat is not None and loose.classes is flat.classes is None
    assert open_known([]) is None and open_others([]) == []


def test_mistakes_are_told_of_at_the_input_they_belong_to(
    files: dict[str, tuple[str, str]], detector: Detector, tmp_path: Path
) -> None:
    with pytest.raises(Problem, match="one zip or Parquet file") as caught:
        open_known([files["known"], files["others"]])
    assert caught.value.place == "known"
    (tmp_path / "x").write_bytes(b"PK\x03\x04 and then nothing")
    with pytest.raises(Problem, match=r"^my\.zip: the zip archive is damaged") as caught:
        open_others([(str(tmp_path / "x"), "my.zip")])
    assert caught.value.place == "others" and str(tmp_path) not in str(caught.value)
    with pytest.raises(Problem, match="no image files"):
        open_others([_zip(tmp_path / "empty.zip", {"a.txt": b""})])
    with pytest.raises(Problem, match="at most 8"):
        open_others([files["others"]] * 9)
    known = open_known([files["known"]])
    assert known is not None
    strange = replace(known, classes=("gas pump",) * len(known))
    with pytest.raises(Problem, match="gas pump"):
        check_sets(strange, [], detector)
    with pytest.raises(Problem, match="at most 20,000"):
        check_sets(replace(known, names=("x.jpg",) * 20_001), [], detector)


def test_the_tab_and_the_command_give_the_same_numbers(
    report: Report, detector: Detector, files: dict[str, tuple[str, str]], tmp_path: Path
) -> None:
    detector.save(tmp_path / "d.safetensors")
    done = run_inside(
        "evaluate",
        "--detector",
        tmp_path / "d.safetensors",
        "--id",
        files["known"][0],
        "--ood",
        f"things={files['parquet'][0]}",
        "--json",
    )
    assert done.returncode == 0, done.stderr
    lines = {line["score"]: line for line in map(json.loads, done.stdout.splitlines())}
    assert lines["lsn"].pop("default") and not lines["mcm"].pop("default")
    rows = {row.method: row for row in report.evaluation.rows if row.ood == "things"}
    assert rows[OURS].as_dict() == pytest.approx(lines["lsn"])
    assert rows[OWN_MCM].as_dict() == pytest.approx(lines["mcm"])
    assert (rows[OURS].n_id, rows[OURS].n_ood) == (12, 4)  # without the broken one


def test_mcm_is_that_of_hand_written_prompts_and_of_the_detectors_own(
    report: Report, detector: Detector, encoder: Encoder, files: dict[str, tuple[str, str]], tmp_path: Path
) -> None:
    assert list(report.evaluation.known) == [OURS, OWN_MCM, WRITTEN_MCM]
    images = [report.known.images.read(i) for i in report.known.kept]
    written = Detector.zero_shot(encoder.backbone, KNOWN).with_score("mcm")
    np.testing.assert_allclose(report.evaluation.known[WRITTEN_MCM], written.score(images), atol=1e-5)
    np.testing.assert_allclose(report.evaluation.known[OWN_MCM], detector.with_score("mcm").score(images), atol=1e-5)
    known, others = split_examples(load_examples(), ["Zebra", "cat"])
    assert known is not None and sorted(known.names) == ["cat.jpg", "zebra.jpg"] and len(others[0]) == 14
    shown = measure(encoder.zero_shot(("zebra", "cat")), encoder, known, others, tmp_path, lambda done, total: None)
    assert list(shown.evaluation.known) == [OURS, WRITTEN_MCM]  # no learned prompts, so none of their own
    assert shown.evaluation.averages[0].metrics.fpr95 == 0
    assert "None of the others passed here, yet up to 19 % could" in evaluate_words.result_card(shown, "x")
    assert split_examples(load_examples(), ["gas pump", "golf ball"])[0] is None


def test_a_stop_is_heard_while_photos_are_read(
    files: dict[str, tuple[str, str]], detector: Detector, encoder: Encoder, tmp_path: Path
) -> None:
    known, others = open_known([files["known"]]), open_others([files["others"]])
    assert known is not None

    def stop(done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        measure(detector, encoder, known, others, tmp_path, stop)


def test_what_is_said_names_the_lead_and_how_unsure_few_photos_are(report: Report) -> None:
    card = evaluate_words.result_card(report, "my <detector>")
    average = report.evaluation.averages[0].metrics
    assert f"in {100 * average.auroc:.3g} % of all pairs" in card and "On average over 2 sets" in card
    lead, low, high = (points(100 * value) for value in report.evaluation.lead["auroc"])
    assert "<h2>my &lt;detector&gt;: " in card and lead.lstrip("+−") in card and f"({low} to {high})" in card
    assert "4 photos are too few for firm numbers" in card
    table = evaluate_words.table(report)
    assert table.count("<tr>") == 1 + 3 + 6 and "cat/broken.jpg" in table
    found = evaluate_words.contents(replace(report.known.images, title="<b>"), [])
    assert "&lt;b&gt;" in found and "13 photos" in found and "cat (5)" in found and "still missing" in found
    assert "1 of 13 that were opened cannot be read" in found


def test_downloads_hold_the_table_and_a_line_for_each_photo(report: Report) -> None:
    texts = [
        base64.b64decode(data).decode("utf-8-sig")
        for data in re.findall(r"base64,([\w+/=]+)", evaluate_words.links(report))
    ]
    table, images = (list(csv.DictReader(io.StringIO(text))) for text in texts)
    assert [row["method"] for row in table if row["ood"] == "average"] == [OURS, OWN_MCM, WRITTEN_MCM]
    assert float(table[0]["auroc"]) == report.evaluation.rows[0].metrics.auroc
    assert float(table[0]["auroc_low"]) <= float(table[0]["auroc"]) <= float(table[0]["auroc_high"])
    assert len(images) == 12 + 4 + 4 and {row["side"] for row in images} == {"ID", "OOD"}
    assert images[0]["image"] == "cat/0.png" and images[0]["class"] == "cat" and images[0]["predicted"] == "cat"
    scores = [float(row[f"score: {OURS}"]) for row in images[:12]]
    assert scores == pytest.approx(report.evaluation.known[OURS].tolist())


def test_figures_have_a_row_for_each_set(report: Report) -> None:
    evaluation = report.evaluation
    scores = {name: found[OURS] for name, found in evaluation.others.items()}
    figure = evaluate_plots.score_histograms(evaluation.known[OURS], scores, {"γ": 0.02, "own": 0.03}, "score")
    bars = [trace for trace in figure.data if trace.type == "bar"]
    assert [sum(trace.customdata) for trace in bars] == [12, 4, 12, 4]
    assert all(sum(trace.y) == pytest.approx(1) for trace in bars)
    lines = [trace for trace in figure.data if trace.type == "scatter"]
    assert [list(trace.x) for trace in lines] == [[0.02] * 2, [0.03] * 2] * 2
    curves = evaluate_plots.roc_curves(evaluation.known, evaluation.others)
    assert [trace.name for trace in curves.data] == ["chance", OURS, OWN_MCM, WRITTEN_MCM] * 2
    assert (curves.data[1].x[0], curves.data[1].y[0], curves.data[1].x[-1], curves.data[1].y[-1]) == (0, 0, 1, 1)


def test_every_committed_result_is_shown_with_what_made_it() -> None:
    tables = load_results()
    stems = {path.stem for path in (REPO / "benchmarks" / "results").glob("*.json")}
    assert len(tables) >= len(stems) and all(table.rows and table.header for table in tables)
    assert all(len(row) == len(table.header) for table in tables for row in table.rows)
    assert any(table.rows and table.facts.get("seed") == "0" for table in tables)


def test_results_come_as_pairs_as_lists_or_not_at_all(tmp_path: Path, tiny_backbone: Backbone) -> None:
    assert load_results(tmp_path / "none") == []
    rows = [{"method": "MCM", "auroc": 50.5, "auroc_std": None}, {"method": "ours", "auroc": 99, "auroc_std": 0.1}]
    write_table(
        "table3",
        "Table 3: <splits>",
        "python -m x --y <z>",
        rows,
        seeds=(7,),
        facts={"weights_hash": tiny_backbone.weights_hash},
        seconds={"all": 1.5},
        details=[{"split": 0}],
        folder=tmp_path,
    )
    Image.new("RGB", (8, 8)).save(tmp_path / "table3.png")
    (tmp_path / "bad.json").write_text("{")
    (tmp_path / "lists.json").write_text(json.dumps({"cost": [{"a": 1, "b": [1.5]}], "sides": {"x": {"n": 2}}}))
    tables = load_results(tmp_path)
    assert [table.title for table in tables] == ["Table 3: <splits>", "Lists: cost", "Lists: sides"]
    assert tables[0].header == ["method", "auroc", "auroc_std"] and tables[0].picture == tmp_path / "table3.png"
    assert tables[0].rows == [["MCM", 50.5, ""], ["ours", 99, 0.1]]
    assert tables[1].rows == [[1, "1.5"]] and tables[2].rows == [["x", 2]]
    facts = facts_list(tables[0])
    for fact in ("python -m x --y &lt;z&gt;", ">7<", "torch ", "all 1.5", tiny_backbone.weights_hash):
        assert fact in facts
    with gr.Blocks():
        browser = BenchmarkBrowser(tmp_path)
        assert len(browser.tables) == 1  # what has no title is not for visitors
        shown = browser.show(0)
        assert shown[browser.table]["datatype"] == ["str", "number", "number"]  # an empty cell is no text
        assert shown[browser.picture]["visible"]
        BenchmarkBrowser(tmp_path / "none")  # as in an installed package: a note, no error
