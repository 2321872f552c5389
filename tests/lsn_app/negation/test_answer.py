"""What the tab on "not" answers and says, without a browser."""

from __future__ import annotations

import base64
import csv
import io
import re
import zipfile
from pathlib import Path

import pytest

from lsn_app.negation.answer import count_photos, open_prompts, probe_line
from lsn_app.negation.paper_figures import PRESETS, Claim, Preset, Round, play
from lsn_app.negation.plots import not_bars
from lsn_app.negation.words import counts_link, marked_for, ranked_table, rounds_card, row_mark, tally_table
from lsn_app.serving.photos import read_photo
from lsn_app.serving.requests import ZERO_SHOT, DetectorRequest, Problem
from lsn_app.serving.store import Store
from lsn_app.shared.csv_links import csv_text, download_link
from lsn_app.shared.uploads import open_photos
from lsn_core import Backbone
from lsn_core.data.images import open_image
from lsn_core.negation import NotCount, choose, count_not, negation_table, written_prompts


@pytest.fixture
def store(tiny_backbone: Backbone, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    monkeypatch.setattr("lsn_app.serving.store.load_backbone", lambda name: tiny_backbone)
    return Store("embedded", detectors_dir=tmp_path)


def zipped(path: Path, files: dict[str, bytes]) -> tuple[str, str]:
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return str(path), path.name


def test_claims_are_texts_that_are_true_or_not() -> None:
    assert Claim("elephant").text == "a photo of an elephant"
    assert Claim("elephant", True).text == "not a photo of an elephant"
    assert [Claim("dog", negated).holds(truth) for negated in (False, True) for truth in ("dog", "cat")] == [
        True,
        False,
        False,
        True,
    ]


def test_presets_use_photos_that_ship(examples: Path) -> None:
    assert [preset.figure for preset in PRESETS] == [3, 4, 8]
    assert all((examples / preset.photo).is_file() for preset in PRESETS)


@pytest.mark.parametrize("preset", PRESETS, ids=lambda preset: f"figure {preset.figure}")
def test_a_presets_rounds_are_the_librarys_choices_judged_by_what_is_true(
    store: Store, embedded: Backbone, examples: Path, preset: Preset, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lsn_app.serving.store.load_backbone", lambda name: embedded)
    encoder = store.encoder("embedded")
    feature = embedded.encode_images([open_image(examples / preset.photo)])
    rounds = play(preset, encoder, feature)
    for item in rounds:
        assert item.choice.chosen == choose(feature, item.choice.texts, embedded).chosen
        true = [t for t in item.choice.texts if t.startswith("not ") != t.endswith(f" {preset.truth}")]
        assert item.right == (item.choice.chosen in true if len(true) == 1 else None)
    for item, expected in zip(rounds, preset.paper, strict=True):
        same = None if expected is None else item.choice.chosen == item.choice.texts[expected]
        assert ("chooses the same" in item.why, "chooses the other one" in item.why) == (same is True, same is False)
    if preset.figure == 4:
        before, after = (item.choice.texts for item in rounds)
        loser = next(text for text in before if text != rounds[0].choice.chosen)
        assert set(after) == {rounds[0].choice.chosen, f"not {loser}"}


def test_the_endpoints_line_equals_the_library(store: Store, tiny_backbone: Backbone, examples: Path) -> None:
    texts = ["a photo of a dog", "not a photo of a dog", "grass"]
    line = probe_line(store, str(examples / "dog.jpg"), "dog.jpg", texts)
    expected = choose(tiny_backbone.encode_images([open_image(examples / "dog.jpg")]), texts, tiny_backbone)
    assert line["error"] is None and line["chosen"] == expected.chosen and list(line["texts"]) == texts
    assert line["probabilities"] == pytest.approx(expected.probabilities, abs=1e-6)
    wrong = probe_line(store, str(examples / "gone.jpg"), "gone.jpg", texts)
    assert wrong["chosen"] is None and wrong["error"].startswith("gone.jpg") and str(examples) not in wrong["error"]
    assert "Two texts" in probe_line(store, str(examples / "dog.jpg"), "dog.jpg", ["dog"])["error"]


def test_many_photos_and_a_zip_are_counted_as_by_the_library(
    store: Store, tiny_backbone: Backbone, examples: Path, tmp_path: Path
) -> None:
    photos = {name: (examples / f"{name}.jpg").read_bytes() for name in ("dog", "cat", "zebra")}
    file = zipped(tmp_path / "set.zip", {f"{name}/1.jpg": data for name, data in photos.items()} | {"cat/2.jpg": b"no"})
    images = open_photos([file])
    assert images.classes == ("cat", "cat", "dog", "zebra")
    written, learned, encoder = open_prompts(store, DetectorRequest("dog, cat", backbone="embedded"))
    counts = count_photos(encoder, written, learned, images)
    assert counts.photos == 3 and len(counts.errors) == 1 and "cat/2.jpg" in counts.errors[0] and not counts.learned
    features = tiny_backbone.encode_images([open_image(photos[name]) for name in ("cat", "dog", "zebra")])
    expected = count_not(written_prompts(tiny_backbone, ["dog", "cat"]), features, ["cat", "dog", "zebra"])
    assert counts.written == expected
    loose = open_photos([(str(examples / f"{name}.jpg"), f"{name}.jpg") for name in photos])
    assert loose.classes is None
    assert count_photos(encoder, written, None, loose).written[0].images_of_class is None


def test_unusable_files_are_told_by_the_files(store: Store, examples: Path, tmp_path: Path) -> None:
    dog = (str(examples / "dog.jpg"), "dog.jpg")
    flat = zipped(tmp_path / "flat.zip", {"1.jpg": b"no"})
    (tmp_path / "broken.zip").write_bytes(b"PK no zip")
    for files, words in (
        ([flat, dog], "one zip"),
        ([flat], "class folder"),
        ([(str(tmp_path / "broken.zip"), "broken.zip")], "broken.zip"),
        ([dog] * 1001, "at most 1,000"),
    ):
        with pytest.raises(Problem, match=words) as caught:
            open_photos(files)
        assert caught.value.place == "files" and str(tmp_path) not in str(caught.value)
    written, _, encoder = open_prompts(store, DetectorRequest("dog, cat", backbone="embedded"))
    (tmp_path / "note.jpg").write_text("no picture")
    with pytest.raises(Problem, match="None of the photos"):
        count_photos(encoder, written, None, open_photos([(str(tmp_path / "note.jpg"), "note.jpg")]))


def test_mistakes_belong_to_their_inputs(store: Store) -> None:
    for place, arguments in {"classes": ("dog", ZERO_SHOT), "model": ("dog, cat", "no such detector")}.items():
        with pytest.raises(Problem) as caught:
            open_prompts(store, DetectorRequest(*arguments, "embedded"))
        assert caught.value.place == place


def test_marks_say_in_words_what_is_wrong(tiny_backbone: Backbone) -> None:
    feature = tiny_backbone.encode_texts(["not a photo of a dog"])  # nearest to the false text
    table = negation_table(written_prompts(tiny_backbone, ["dog", "cat"]), feature, "dog")
    worst = table.rows[0]
    assert worst.text == "not a photo of a dog" and not worst.holds and worst.wrong
    assert f"wrong: beats {worst.wrong} of {worst.compared} true texts" in row_mark(worst)
    first = table.tallies[0]
    assert f"{2 - first.opposites_wrong} of 2 right" in tally_table(table.tallies, "x")
    assert "for a photo of: dog." in marked_for(table)
    assert "best guess" in marked_for(negation_table(written_prompts(tiny_backbone, ["dog", "cat"]), feature))
    elsewhere = negation_table(written_prompts(tiny_backbone, ["dog", "cat"]), feature, "guitar")
    assert "every “not” is true" in marked_for(elsewhere)


def test_texts_from_visitors_are_escaped(store: Store, examples: Path, tiny_backbone: Backbone) -> None:
    bad = "<img src=x onerror=alert(1)>"
    photo = read_photo(str(examples / "dog.jpg"), "dog.jpg")
    feature = store.encoder("embedded").encode_photo(photo)
    assert "<img" not in rounds_card([Round(choose(feature, [bad, "a dog"], tiny_backbone))])
    table = negation_table(written_prompts(tiny_backbone, [bad, "dog"]), feature, bad)
    assert "<img" not in ranked_table(table, "x") + marked_for(table)


def test_csv_cells_cannot_start_a_formula() -> None:
    text = csv_text(("name", "n"), [("=1+1", -0.5), ("@x", None), ("-dog", 1), ("plain, with comma", 2)])
    assert list(csv.reader(io.StringIO(text)))[1:] == [
        ["'=1+1", "-0.5"],
        ["'@x", ""],
        ["'-dog", "1"],
        ["plain, with comma", "2"],
    ]
    link = download_link("ä\n", '"><script>', "Get it")
    assert "<script>" not in link
    assert base64.b64decode(re.search('base64,([^"]+)', link)[1]).decode("utf-8-sig") == "ä\n"  # type: ignore[index]


def test_bars_show_the_share_that_chose_not() -> None:
    counts = [
        NotCount("dog", "learned 1", 10, 6, 4, 1),
        NotCount("cat", "learned 1", 10, 0, 0, 0),
        NotCount("dog", "learned 2", 10, 8, 4, 3),
        NotCount("cat", "learned 2", 10, 10, 0, 0),
    ]
    own, others = not_bars(counts).data
    assert list(own.x) == [0.5, None] and list(others.x) == [10 / 12, 0.5]
    (alone,) = not_bars([NotCount("dog", "w", 10, 6), NotCount("cat", "w", 10, 1)]).data
    assert list(alone.x) == [0.6, 0.1]


def test_the_csv_of_counts_holds_every_wording(store: Store, examples: Path) -> None:
    written, _, encoder = open_prompts(store, DetectorRequest("=dog, cat", backbone="embedded"))
    counts = count_photos(encoder, written, None, open_photos([(str(examples / "dog.jpg"), "dog.jpg")]))
    data = base64.b64decode(re.search('base64,([^"]+)', counts_link(counts))[1]).decode("utf-8-sig")  # type: ignore[index]
    rows = list(csv.DictReader(io.StringIO(data)))
    assert len(rows) == 4 * 2 and {row["class"] for row in rows} == {"'=dog", "cat"}
    assert {row["photos"] for row in rows} == {"1"} and {row["wrong"] for row in rows} == {""}
