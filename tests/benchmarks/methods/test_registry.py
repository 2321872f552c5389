"""The methods that the tables compare: formulas by hand, and that each tells easy cases apart."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from pytorch_ood.detector import MCM as TheirMCM

from benchmarks.harness.images import Images
from benchmarks.harness.protocols import FILES, Split
from benchmarks.harness.setting import Setting
from benchmarks.methods import neglabel as noun_methods
from benchmarks.methods.clipn import agreeing_to_differ, competing_to_win
from benchmarks.methods.dualcoop import asymmetric_loss
from benchmarks.methods.neglabel import LABEL_GROUPS, NEGATIVE_LABELS, noun_features
from benchmarks.methods.prompts import with_shots
from benchmarks.methods.registry import METHODS, combine
from lsn_core import get_preset
from lsn_core.backbones.backbone import Backbone
from lsn_core.data.labelled import load_data
from lsn_core.metrics import auroc

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
    # A list of nouns that is quick to encode stands for the long one.
    folder = tmp_path_factory.mktemp("bench")
    nouns = (FILES / "nouns.txt").read_text().splitlines()
    (folder / "nouns.txt").write_text("\n".join(nouns[:3] + nouns[3::40]))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(noun_methods, "FILES", folder)
        yield Setting(embedded, split, get_preset("fast", shots=SHOTS), folder)


@pytest.fixture(scope="module")
def sides(setting: Setting) -> tuple[Images, Images]:
    (ood,) = setting.split.ood.values()
    return setting.images(setting.split.id_test), setting.images(ood)


# CLIPN's scores on written prompts are near chance with this model (benchmarks/README.md).
@pytest.mark.parametrize("name", [name for name in METHODS if "written" not in name])
def test_every_method_tells_easy_cases_apart(setting: Setting, sides: tuple[Images, Images], name: str) -> None:
    scorer = METHODS[name].fit(setting)
    known, unknown = (scorer(images) for images in sides)
    assert known.shape == (len(sides[0]),)
    assert auroc(known.detach(), unknown.detach()) > 0.75
    method = METHODS[name]
    classify = method.predict and method.predict(setting)
    if classify is not None:
        assert (classify(sides[0]) == sides[0].labels).float().mean() > 0.9


def test_mcm_equals_pytorch_oods(setting: Setting, sides: tuple[Images, Images]) -> None:
    theirs = TheirMCM(None, setting.zero_shot.positive).predict_features(sides[0].embedding)
    torch.testing.assert_close(METHODS["MCM"].fit(setting)(sides[0]), -theirs, atol=1e-6, rtol=0)


def test_clipn_scores_by_hand() -> None:
    yes, no = torch.tensor([[0.7, 0.3]]), torch.tensor([[0.4, 0.9]])
    assert competing_to_win(yes, no).item() == pytest.approx(0.6)
    assert agreeing_to_differ(yes, no).item() == pytest.approx(0.7 * 0.6 + 0.3 * 0.1)


def test_neg_label_by_hand(setting: Setting, sides: tuple[Images, Images]) -> None:
    nouns, known = noun_features(setting.backbone, setting.folder).numpy(), setting.zero_shot.positive.numpy()
    near = np.percentile(nouns @ known.T, 95, axis=1)
    kept = nouns[np.argsort(near, kind="stable")[: int(NEGATIVE_LABELS * len(nouns))]]
    assert len(kept) < LABEL_GROUPS  # so each group is one label, and their order does not matter
    x = sides[1].embedding.double().numpy() / setting.backbone.temperature
    inside = np.exp(x @ known.T).sum(axis=1, keepdims=True)
    share = (inside / (inside + np.exp(x @ kept.T))).mean(axis=1)
    np.testing.assert_allclose(METHODS["NegLabel"].fit(setting)(sides[1]).numpy(), share, atol=1e-5)


def test_nouns_as_outliers_lie_where_images_do(setting: Setting, sides: tuple[Images, Images]) -> None:
    odds = METHODS["nouns as outliers"].fit(setting)
    known, unknown = (odds(images) for images in sides)
    assert known.median() > 0 > unknown.median()


def test_asymmetric_loss_by_hand() -> None:
    p = torch.tensor([[0.8, 0.25, 0.01]])
    wanted = -(0.2 * np.log(0.8) + 0.2**2 * np.log(0.8) + 0.0)  # 0.25 - 0.05 = 0.2; 0.01 is below the margin
    assert asymmetric_loss(p, torch.tensor([0])).item() == pytest.approx(wanted, rel=1e-5)


def test_a_combination_is_the_sum_in_units_of_known_spread(setting: Setting, sides: tuple[Images, Images]) -> None:
    names = ("MCM", "KNN")
    wanted = torch.zeros(len(sides[1]), dtype=torch.double)
    for name in names:
        scorer = METHODS[name].fit(setting)
        known = scorer(setting.held_out).double()
        wanted += (scorer(sides[1]).double() - known.mean()) / known.std()
    torch.testing.assert_close(combine(names, setting)(sides[1]), wanted)


def test_other_methods_learn_from_what_prompts_learn_from(setting: Setting) -> None:
    detector = setting.detector()
    assert detector.metrics["train_images"] == len(setting.learned)
    assert detector.metrics["calibration_images"] == len(setting.held_out)
    assert detector.calibration is not None
    held_out = detector.score_features(setting.held_out.embedding).double().sort().values
    torch.testing.assert_close(torch.from_numpy(np.sort(detector.calibration.scores)).double(), held_out)


def test_a_detector_is_trained_once(setting: Setting) -> None:
    again = Setting(setting.backbone, setting.split, setting.config, setting.folder)
    first = setting.detector()
    files = {path: path.stat().st_mtime_ns for path in (setting.folder / "detectors").iterdir()}
    torch.testing.assert_close(again.detector().negative, first.negative, rtol=0, atol=0)
    assert {path: path.stat().st_mtime_ns for path in (setting.folder / "detectors").iterdir()} == files


def test_fewer_shots_get_as_many_updates(setting: Setting) -> None:
    few = with_shots(setting, 2)
    assert len(few.drawn) == 2 * KNOWN
    for kind in ("positive", "negative"):
        ours, theirs = getattr(few.config, kind), getattr(setting.config, kind)
        updates = ours.epochs * -(-2 * KNOWN // ours.batch_size)
        assert updates == theirs.epochs * -(-SHOTS * KNOWN // theirs.batch_size)


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
