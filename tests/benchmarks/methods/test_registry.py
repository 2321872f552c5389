"""The methods that the tables compare: formulas by hand, and that each tells easy cases apart."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from support import fewer_updates

from benchmarks.harness.images import Images
from benchmarks.harness.measure import DRAWS, Meter
from benchmarks.harness.options import Bench
from benchmarks.harness.protocols import Split
from benchmarks.harness.setting import Setting
from benchmarks.methods import prompts
from benchmarks.methods.dualcoop import asymmetric_loss, dual_coop
from benchmarks.methods.prompts import ablation, less_negatives
from benchmarks.methods.registry import DEFAULT, MCM, METHODS, NAMES_ALONE
from benchmarks.methods.run import measure, run_methods
from lsn_core import Detector, UserError, get_preset
from lsn_core.backbones.backbone import Backbone
from lsn_core.data.labelled import load_data
from lsn_core.metrics import auroc, bootstrap_metrics, fpr_at_tpr
from lsn_core.scores.lsn import lsn
from lsn_core.scores.registry import BASELINE, NEGATIVES, SCORES
from lsn_core.training.choice import CANDIDATES

KNOWN, SHOTS = 4, 16


@pytest.fixture(scope="module")
def setting(embedded: Backbone, shared_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Setting]:
    """Four Imagenette classes, sixteen photos of each, against six others: easy for every method that works."""
    train = load_data(shared_data / "imagenette" / "train.parquet")
    test = load_data(shared_data / "imagenette" / "val.parquet").subset(range(80))
    names = train.class_names
    split = Split(
        "easy",
        "easy",
        train.select_classes(names[:KNOWN]),
        test.select_classes(names[:KNOWN]),
        {"other classes": test.select_classes(names[KNOWN:])},
    )
    config = fewer_updates(get_preset("fast", shots=SHOTS), 25, 40)
    with pytest.MonkeyPatch.context() as patch:
        # CoCoOp's own schedule takes minutes.
        patch.setattr(prompts, "get_preset", lambda *args, **changes: fewer_updates(get_preset(*args, **changes), 8, 8))
        yield Setting(embedded, split, config, tmp_path_factory.mktemp("bench"), cocoop_images=20)


@pytest.fixture(scope="module")
def sides(setting: Setting) -> tuple[Images, Images]:
    (ood,) = setting.split.ood.values()
    return setting.images(setting.split.id_test), setting.images(ood)


# CLIPN's scores on written prompts are near chance with this model (benchmarks/README.md).
@pytest.mark.parametrize("name", [name for name in METHODS if "written)" not in name])
def test_every_method_tells_easy_cases_apart(setting: Setting, sides: tuple[Images, Images], name: str) -> None:
    method = METHODS[name]
    if method.per_image:
        sides = sides[0].sample(20), sides[1].sample(20)
    scorer = method.fit(setting)
    known, unknown = (scorer(images) for images in sides)
    assert known.shape == (len(sides[0]),)
    assert auroc(known.detach(), unknown.detach()) > 0.75
    classify = method.predict and method.predict(setting)
    if classify is not None:
        assert (classify(sides[0]) == sides[0].labels).float().mean() >= 0.9


def test_dual_coop_tells_easy_cases_apart(setting: Setting, sides: tuple[Images, Images]) -> None:
    known, unknown = map(dual_coop(setting), sides)
    assert auroc(known, unknown) > 0.75


def test_mcm_by_hand(setting: Setting, sides: tuple[Images, Images]) -> None:
    names = ("a tench", "an English Springer Spaniel", "a cassette player", "a chainsaw")
    texts = setting.backbone.encode_texts([f"a photo of {name}" for name in names]).numpy()
    # τ = 1 with CLIP, whose own temperature is 0.01.
    mass = np.exp(sides[0].embedding.double().numpy() @ texts.T / (100 * setting.backbone.temperature))
    wanted = (mass / mass.sum(axis=1, keepdims=True)).max(axis=1)
    np.testing.assert_allclose(METHODS[MCM].fit(setting)(sides[0]).numpy(), wanted, atol=1e-6)


def test_rows_of_the_library_are_its_own_scores(setting: Setting, sides: tuple[Images, Images]) -> None:
    x = sides[1].embedding
    names_alone = Detector.zero_shot(setting.backbone, setting.class_names)
    torch.testing.assert_close(METHODS[NAMES_ALONE].fit(setting)(sides[1]), names_alone.score_features(x))
    torch.testing.assert_close(METHODS[DEFAULT].fit(setting)(sides[1]), setting.detector().score_features(x))
    assert setting.detector().fit.choice is not None


@pytest.mark.parametrize("name", CANDIDATES)
def test_without_negatives_is_a_score_that_needs_none(name: str) -> None:
    rest = less_negatives(name)
    assert NEGATIVES not in SCORES[rest].needs
    if SCORES[name].sum_of:
        terms = [term for term in SCORES[name].sum_of if NEGATIVES not in SCORES[term].needs]
        assert list(SCORES[rest].sum_of or (rest,)) == terms
    if NEGATIVES not in SCORES[name].needs:
        assert rest == name


def test_without_positive_prompts_table_4_keeps_written_ones(setting: Setting, sides: tuple[Images, Images]) -> None:
    x, detector = sides[1].embedding, setting.detector()
    positive, negative = x @ setting.zero_shot.positive.T, torch.einsum("nd,kcd->nkc", x, detector.negative)
    unit = setting.backbone.temperature
    found = ablation("no-positive")(setting)(sides[1])
    torch.testing.assert_close(found, lsn(positive, negative, 100 * unit, 500 * unit))
    assert not torch.allclose(found, ablation("neg-specific-name")(setting)(sides[1]))


def test_a_lead_is_measured_on_the_same_draws_of_the_same_images(setting: Setting) -> None:
    meter = Meter(setting, 50)
    (row,) = measure(meter, "KNN")
    (other,) = meter.unknown.values()
    written = METHODS[MCM].fit(setting)
    ours, theirs = ([METHODS[name].fit(setting)(x) for x in (meter.known, other)] for name in ("KNN", MCM))
    assert row["auroc_lead"] == pytest.approx(auroc(*ours) - auroc(*theirs))
    assert row["fpr95_lead"] == pytest.approx(fpr_at_tpr(*ours) - fpr_at_tpr(*theirs))
    assert row[DRAWS].shape == (50, 2)
    # A score against itself has no lead in any draw; against another, the mean of the draws is near the lead.
    (same,) = meter.measure("same", written)
    assert same["auroc_lead"] == 0 and not same[DRAWS].any()
    draws = np.subtract(*(bootstrap_metrics(known, [ood], 50, 0)[:, 0, 0] for known, ood in (ours, theirs)))
    assert abs(row[DRAWS][:, 0].mean() - draws.mean()) < 4 * (draws.std() + 1e-3) / 50**0.5


def test_what_learns_from_no_image_is_measured_once_and_mcm_always(setting: Setting) -> None:
    bench = Bench(setting.backbone, setting.config, (0, 1), setting.folder, None, 10)
    rows = run_methods(bench, [setting.split], ["KNN"])
    assert [(row["method"], row["seed"]) for row in rows] == [(MCM, None), ("KNN", 0), ("KNN", 1)]
    with pytest.raises(UserError, match="no method 'nonsense'"):
        run_methods(bench, [setting.split], ["nonsense"])


def test_a_row_of_fewer_images_says_so_and_meets_mcm_on_the_same(setting: Setting) -> None:
    meter = Meter(setting, 10)
    (row,) = measure(meter, "CoCoOp")
    assert row["sampled"] and (row["n_id"], row["n_ood"]) == (20, 20)
    (other,) = meter.unknown.values()
    theirs = auroc(*(setting.zero_shot.score_features(x.sample(20).embedding, BASELINE) for x in (meter.known, other)))
    assert row["auroc_lead"] == pytest.approx(row["auroc"] - theirs)
    assert not measure(meter, "KNN")[0]["sampled"]


def test_asymmetric_loss_by_hand() -> None:
    p = torch.tensor([[0.8, 0.25, 0.01]])
    wanted = -(0.2 * np.log(0.8) + 0.2**2 * np.log(0.8) + 0.0)  # 0.25 - 0.05 = 0.2; 0.01 is below the margin
    assert asymmetric_loss(p, torch.tensor([0])).item() == pytest.approx(wanted, rel=1e-5)


def test_other_methods_learn_from_what_prompts_learn_from(setting: Setting) -> None:
    detector = setting.detector()
    assert detector.metrics["train_images"] == len(setting.learned)
    assert detector.metrics["calibration_images"] == len(setting.held_out)
    assert detector.calibration is not None
    held_out = detector.score_features(setting.held_out.embedding).double().sort().values
    calibration = torch.from_numpy(np.sort(detector.calibration.scores)).double()
    torch.testing.assert_close(calibration, held_out, atol=1e-5, rtol=1e-5)


def test_a_detector_is_trained_once(setting: Setting) -> None:
    again = replace(setting, _detectors={})
    first = setting.detector()
    files = {path: path.stat().st_mtime_ns for path in (setting.folder / "detectors").iterdir()}
    torch.testing.assert_close(again.detector().negative, first.negative, rtol=0, atol=0)
    assert {path: path.stat().st_mtime_ns for path in (setting.folder / "detectors").iterdir()} == files


def test_features_before_the_projection_lead_to_the_embedding(
    tiny_backbone: Backbone, embedded: Backbone, examples: Path, tmp_path: Path
) -> None:
    for place in ("class one", "class two"):
        (tmp_path / "photos" / place).mkdir(parents=True)
    for i, path in enumerate(sorted(examples.glob("*.jpg"))[:4]):
        (tmp_path / "photos" / ("class one", "class two")[i % 2] / path.name).write_bytes(path.read_bytes())
    data = load_data(tmp_path / "photos")
    for backbone in (tiny_backbone, embedded):
        images, visual = Images(backbone, data, tmp_path / "cache"), backbone.model.visual
        head = visual.head if hasattr(visual, "head") else lambda x, visual=visual: x @ visual.proj
        with torch.no_grad():
            projected = F.normalize(head(images.penultimate), dim=-1)
        torch.testing.assert_close(projected, images.embedding, atol=1e-5, rtol=1e-4)
        assert images.local.shape[0] == len(data)
        torch.testing.assert_close(images.local.norm(dim=-1), torch.ones(images.local.shape[:2]))
