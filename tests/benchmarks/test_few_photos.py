"""Five classes and one class of few photos: what is known, what is not, and the rows that come out."""

from __future__ import annotations

from pathlib import Path

from support import fewer_updates

from benchmarks.few_photos import FIVE, ONE, five_classes, run, single_classes
from benchmarks.harness.options import Bench
from benchmarks.harness.protocols import Split
from benchmarks.methods.registry import DEFAULT, MCM
from lsn_core import get_preset
from lsn_core.backbones.backbone import Backbone

FAR = {"iNaturalist (flowers)", "SUN (9 scenes)", "Places (MiniPlaces, 128 px)", "Textures (10 of 47)"}


def test_each_draw_has_five_classes_and_the_others_are_unknown(shared_data: Path) -> None:
    draws = [five_classes(shared_data, seed) for seed in (0, 1)]
    for split in draws:
        others = split.ood["other classes"].class_names
        assert len(split.train.class_names) == len(others) == 5
        assert not set(split.train.class_names) & set(others)
        assert split.id_test.class_names == split.train.class_names
        assert set(split.ood) == {"other classes", *FAR}
    assert draws[0].train.class_names != draws[1].train.class_names


def test_each_class_is_alone_once(shared_data: Path) -> None:
    splits = single_classes(shared_data)
    assert len({split.train.class_names for split in splits}) == 10
    for split in splits:
        assert len(split.train.class_names) == 1
        assert set(split.train.class_names).isdisjoint(split.ood["other classes"].class_names)


def test_rows_lead_over_mcm_but_with_one_class(embedded: Backbone, shared_data: Path, tmp_path: Path) -> None:
    config = fewer_updates(get_preset("fast", shots=4), 3, 3)
    bench = Bench(embedded, config, (0, 1), tmp_path, None, 10)
    five = small(five_classes(shared_data, 0))
    rows = run(bench, five, (0,), FIVE)
    assert [row["method"] for row in rows] == list(FIVE)
    assert all(row["auroc_lead"] is not None for row in rows) and rows[0]["method"] == MCM
    one = run(bench, small(single_classes(shared_data)[0]), bench.seeds, ONE)
    assert [(row["method"], row["seed"]) for row in one] == [
        *((name, 0 if name == DEFAULT else None) for name in ONE),
        (DEFAULT, 1),
    ]
    assert all(row["auroc_lead"] is None and row["auroc"] > 0.9 for row in one)


def small(split: Split) -> Split:
    """Few test images, and one OOD set of them."""
    few = {name: images.subset(range(20)) for name, images in split.ood.items() if name == "other classes"}
    return Split(split.protocol, split.name, split.train, split.id_test.subset(range(20)), few)
