"""The options --ray and --ray-workers: what they take for an address, and what the commands have done elsewhere.

That a cluster gives the features of one machine is tested beside it; here its place is taken by this machine.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from support import run_inside

from lsn_core.backbones.backbone import Backbone
from lsn_core.cluster.features import Cluster
from lsn_core.data.collection import ImageCollection
from lsn_core.data.feature_stream import FeatureStream, unopened

DETECTOR = ("--classes", "dog,cat,elephant")


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Cluster, list[str]]]:
    """The clusters that were asked for, and the names of the images that were to be encoded there."""
    calls = []

    def elsewhere(
        cluster: Cluster, backbone: Backbone, images: ImageCollection, reopen: Any, cache: Any
    ) -> Iterator[tuple[int, Any]]:
        again = reopen()  # what workers open
        assert list(again.names) == list(images.names) and again.read(0) == images.read(0)
        calls.append((cluster, list(images.names)))
        yield from FeatureStream(backbone, cache).run(unopened(again), len(again))

    monkeypatch.setattr("lsn_core.cluster.features.cluster_rows", elsewhere)
    return calls


@pytest.fixture
def photos(examples: Path, tmp_path: Path) -> Path:
    """A folder of three photos and a file that is none."""
    (tmp_path / "photos").mkdir()
    for name in ("cat", "church", "dog"):
        (tmp_path / "photos" / f"{name}.jpg").write_bytes((examples / f"{name}.jpg").read_bytes())
    (tmp_path / "photos" / "broken.jpg").write_text("no photo")
    return tmp_path / "photos"


@pytest.mark.parametrize(
    ("options", "cluster"),
    [
        (["--ray"], Cluster()),
        (["--ray", "auto"], Cluster("auto")),
        (["--ray", "ray://head:10001", "--ray-workers", "3"], Cluster("ray://head:10001", 3)),
        (["--ray=10.0.0.1:6379", "--device", "cpu"], Cluster("10.0.0.1:6379", None, "cpu")),
    ],
)
def test_score_writes_the_same_lines_wherever_images_are_encoded(
    options: list[str], cluster: Cluster, photos: Path, tmp_path: Path, asked: list[Any]
) -> None:
    files = {}
    for name, more in (("here", []), ("there", options)):
        files[name] = tmp_path / f"{name}.csv"
        done = run_inside("score", *more, photos, *DETECTOR, "--out", files[name])
        assert done.returncode == 1, done.stderr  # one is no photo
    assert files["here"].read_bytes() == files["there"].read_bytes()
    assert asked == [(cluster, [str(photos / f"{name}.jpg") for name in ("broken", "cat", "church", "dog")])]


def test_evaluate_measures_the_same_wherever_images_are_encoded(photos: Path, examples: Path, asked: list[Any]) -> None:
    known = photos.parent / "known"
    for name in ("dog", "cat", "elephant"):
        (known / name).mkdir(parents=True)
        (known / name / "1.jpg").write_bytes((examples / f"{name}.jpg").read_bytes())
    lines = []
    for more in ([], ["--ray", "auto"]):
        sets = ["--id", known, "--ood", f"photos={photos}", "--ood", f"church={photos / 'church.jpg'}"]
        done = run_inside("evaluate", *more, *DETECTOR, *sets, "--json")
        assert done.returncode == 0, done.stderr
        lines.append([json.loads(line) for line in done.stdout.splitlines()])
    assert lines[0] == lines[1]
    counts = dict.fromkeys((line["ood"], line["n_id"], line["n_ood"]) for line in lines[1])
    assert list(counts) == [("photos", 3, 3), ("church", 3, 1)]
    assert len(asked) == 1 and len(asked[0][1]) == 3 + 4 + 1  # all at once, as workers take seconds to start


def test_features_are_written_with_what_they_depend_on(
    photos: Path, tmp_path: Path, embedded: Backbone, asked: list[Any]
) -> None:
    names = [str(photos / f"{name}.jpg") for name in ("cat", "church", "dog")]
    wanted = np.stack([row for _, row in FeatureStream(embedded).run(unopened(names))])
    for ending in ("npz", "safetensors", "parquet"):
        done = run_inside(
            "features", *(["--ray"] if ending == "parquet" else []), photos, "--out", tmp_path / f"f.{ending}"
        )
        assert done.returncode == 1 and "features of 3 images" in done.stdout, done.stderr
        assert "broken.jpg: this is not an image" in done.stderr
    found = np.load(tmp_path / "f.npz")
    assert np.abs(found["features"] - wanted).max() < 1e-6
    assert list(found["files"]) == names and list(found["error_files"]) == [str(photos / "broken.jpg")]
    assert "this is not an image" in found["errors"][0] and found["fingerprint"] == embedded.fingerprint

    from safetensors import safe_open

    with safe_open(tmp_path / "f.safetensors", "np") as file:
        assert np.abs(file.get_tensor("features") - wanted).max() < 1e-6
        facts = file.metadata()
    assert json.loads(facts["files"]) == names and list(json.loads(facts["errors"])) == [str(photos / "broken.jpg")]
    assert facts["backbone"] == "embedded" and facts["weights_hash"] == embedded.weights_hash

    table = pq.read_table(tmp_path / "f.parquet")
    rows = table.to_pylist()
    assert [row["file"] for row in rows] == [str(photos / "broken.jpg"), *names]
    assert rows[0]["feature"] is None and "this is not an image" in rows[0]["error"]
    assert np.abs(np.array([row["feature"] for row in rows[1:]]) - wanted).max() < 1e-6
    assert table.schema.metadata[b"fingerprint"].decode() == embedded.fingerprint
    assert len(asked) == 1


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--ray-workers", "2"], "--ray-workers says how many workers --ray has: give that, too."),
        (["--ray=http://head:8265"], "The address of the cluster is 'http://head:8265', which is none."),
        (["--ray", "127.0.0.1:1"], "127.0.0.1:1: nothing answers there"),
    ],
)
def test_what_is_no_cluster_is_said(arguments: list[str], sentence: str, photos: Path, tmp_path: Path) -> None:
    done = run_inside("features", *arguments, photos, "--out", tmp_path / "f.npz")
    assert done.returncode == 2 and sentence in " ".join(done.stderr.split())
    assert not (tmp_path / "f.npz").exists()


def test_without_ray_it_is_said_how_to_get_it(photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    done = run_inside("score", "--ray", photos, *DETECTOR)
    assert done.returncode == 2 and 'pip install "lsn-core[ray]"' in done.stderr


@pytest.mark.parametrize("name", ["f.csv", "nowhere/f.npz"])
def test_where_features_cannot_be_written_is_said_first(name: str, photos: Path, tmp_path: Path) -> None:
    done = run_inside("features", photos, "--out", tmp_path / name)
    assert done.returncode == 2 and str(tmp_path / name) in done.stderr
