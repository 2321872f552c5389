"""`train` and `evaluate`, run as their users run them: from a folder of photos to a detector file to its figures."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path

import pytest
from support import run_command, run_inside

from benchmarks.speed.job_kills import crops
from lsn_core import Backbone, Detector
from lsn_core.data.images import open_image


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("photos")
    crops(root / "known", ("cat", "elephant", "zebra"), 8)
    crops(root / "other", ("church", "school_bus"), 6)
    return root


@pytest.fixture(scope="module")
def trained(photos: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, object]]:
    out = tmp_path_factory.mktemp("out") / "d.safetensors"
    done = run_command("train", photos / "known", "--out", out, "--preset", "fast", "--shots", "8", "--json")
    assert done.returncode == 0, done.stderr
    return out, json.loads(done.stdout.splitlines()[-1])


def test_train_ends_with_the_contracts_line(trained: tuple[Path, dict[str, object]], embedded: Backbone) -> None:
    out, line = trained
    assert line["detector"] == str(out)
    assert isinstance(line["seconds"], float) and line["seconds"] > 0
    assert isinstance(line["id_accuracy"], float) and 0 <= line["id_accuracy"] <= 1
    detector = Detector.load(out, embedded)
    assert detector.class_names == ("cat", "elephant", "zebra")
    assert detector.negative.shape == (3, 3, embedded.dim)  # K = 3 sets
    assert detector.calibration is not None
    assert line["train_images"] + line["calibration_images"] == 24  # type: ignore[operator]
    choice = detector.fit.choice
    assert choice is not None and line["score"] == choice.score == detector.score_name
    assert line["folds"] == choice.folds and {"zero-shot-mcm", choice.score} <= set(choice.folds)
    assert sorted(choice.hidden) == [("cat",), ("elephant",), ("zebra",)]


def test_a_training_is_as_short_as_it_is_asked_to_be(photos: Path, tmp_path: Path, embedded: Backbone) -> None:
    out = tmp_path / "d.safetensors"
    command = ["train", photos / "known", "--out", out, "--shots", "2", "--score", "lsn"]
    assert run_inside(*command, "--updates", "2").returncode == 0
    config = Detector.load(out, embedded).config
    assert [config[side]["updates"] for side in ("positive", "negative")] == [2, 2]
    refused = run_inside(*command, "--updates", "0")
    assert refused.returncode != 0 and "updates must be 1 or more" in refused.stderr


def test_evaluate_agrees_with_metrics_computed_apart(
    trained: tuple[Path, dict[str, object]], photos: Path, embedded: Backbone
) -> None:
    from sklearn.metrics import roc_auc_score

    out, _ = trained
    zipped = photos / "known.zip"
    with zipfile.ZipFile(zipped, "w") as archive:
        for path in sorted((photos / "known").rglob("*.png")):
            archive.write(path, path.relative_to(photos / "known"))
    done = run_command("evaluate", "--detector", out, "--id", zipped, "--ood", f"other={photos / 'other'}", "--json")
    assert done.returncode == 0, done.stderr
    lines = {line["score"]: line for line in map(json.loads, done.stdout.splitlines())}
    assert set(lines) >= {"lsn", "mcm", "zero-shot-mcm"}
    assert sum(line["default"] for line in lines.values()) == 1
    detector = Detector.load(out, embedded)

    def features(folder: str):
        return embedded.encode_images([open_image(p) for p in sorted((photos / folder).rglob("*.png"))])

    known, other = features("known"), features("other")
    for score, line in lines.items():
        scores = [*detector.score_features(known, score).tolist(), *detector.score_features(other, score).tolist()]
        assert line["auroc"] == pytest.approx(roc_auc_score([1] * 24 + [0] * 12, scores), abs=1e-6)
        assert (line["ood"], line["n_id"], line["n_ood"]) == ("other", 24, 12)
        assert 0 <= line["fpr95"] <= 1 and 0 <= line["aupr"] <= 1
        assert line["id_accuracy"] == pytest.approx(1.0)


def test_evaluate_takes_class_names_and_scores(photos: Path) -> None:
    arguments = ("--id", photos / "known", "--ood", f"other={photos / 'other'}", "--json", "--score", "max-cosine")
    done = run_inside("evaluate", "--classes", "zebra, cat, elephant", *arguments)
    assert done.returncode == 0, done.stderr
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert [(line["score"], line["default"]) for line in lines] == [
        ("neglabel", True),
        ("max-cosine", False),
        ("zero-shot-mcm", False),
    ]
    assert all(line["auroc"] > 0.9 and line["n_id"] == 24 for line in lines)
    refused = run_inside("evaluate", "--classes", "zebra, cat, elephant", *arguments[:-1], "prototypes")
    assert refused.returncode == 2 and "needs mean photos" in refused.stderr


def test_one_folder_makes_a_detector_of_one_class(photos: Path, tmp_path: Path, embedded: Backbone) -> None:
    crops(tmp_path / "data", ("zebra",), 24)
    out = tmp_path / "d.safetensors"
    for score, expected in ((None, "neglabel"), ("knn", "knn")):
        chosen = [] if score is None else ["--score", score]
        done = run_inside("train", tmp_path / "data", "--out", out, "--json", *chosen)
        assert done.returncode == 0, done.stderr
        line = json.loads(done.stdout.splitlines()[-1])
        assert (line["score"], line["folds"], line["train_images"]) == (expected, {}, 19)
        detector = Detector.load(out, embedded)
        verdicts = [p.verdict for p in detector.predict(sorted((photos / "other").rglob("*.png")), tpr=0.8)]
        assert verdicts == ["OOD"] * 12
        assert (detector.fit.photos is None) == (score is None)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--preset", "slow"], "Known presets"),
        (["--score", "largest"], "Known scores"),
        (["--score", "lsn", "--ablation", "no-negative"], "needs negative prompts"),
        (["--ablation", "nothing"], "Known ones"),
        (["--out", "d.pt"], ".safetensors"),
        (["--out", "/no/such/folder/d.safetensors"], "exists"),
        (["--shots", "0"], "shots"),
    ],
)
def test_train_mistakes_are_sentences(photos: Path, tmp_path: Path, arguments: list[str], words: str) -> None:
    out = [] if "--out" in arguments else ["--out", str(tmp_path / "d.safetensors")]
    done = run_inside("train", photos / "known", *out, *arguments)
    assert done.returncode == 2
    assert words in done.stderr and "Traceback" not in done.stderr
    assert not (tmp_path / "d.safetensors").exists()


def test_foreign_classes_are_not_counted_as_known(trained: tuple[Path, dict[str, object]], photos: Path) -> None:
    done = run_inside("evaluate", "--detector", trained[0], "--id", photos / "other", "--ood", f"x={photos / 'known'}")
    assert done.returncode == 2
    assert "church" in done.stderr and "as out-of-distribution images" in done.stderr


def test_unreadable_photos_are_named_and_left_out(tmp_path: Path) -> None:
    crops(tmp_path / "data", ("cat", "zebra"), 4)
    (tmp_path / "data" / "cat" / "broken.jpg").write_text("no picture")
    done = run_command("train", tmp_path / "data", "--out", tmp_path / "d.safetensors", "--json")
    assert done.returncode == 0, done.stderr
    assert "broken.jpg" in done.stderr
    assert json.loads(done.stdout.splitlines()[-1])["left_out"] == 1
