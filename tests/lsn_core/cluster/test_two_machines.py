"""On a cluster of two machines everything comes once, in order and as without one, whatever dies on the way."""

from __future__ import annotations

import hashlib
import os
import signal
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from support import until
from support_ray import STUCK, WRONG, Machines, Squaring, two_machines

from lsn_core.backbones.backbone import Backbone
from lsn_core.backbones.loading import load_backbone
from lsn_core.cluster.features import Cluster, cluster_rows
from lsn_core.data.collection import ImageList
from lsn_core.data.feature_cache import DiskFeatureCache
from lsn_core.data.feature_stream import FeatureStream, unopened
from lsn_core.data.photos import open_photos
from lsn_core.errors import UserError


@pytest.fixture(scope="module")
def machines() -> Iterator[Machines]:
    with two_machines() as machines:
        yield machines


def squares(numbers: Iterable[int]) -> list[int]:
    return [number**2 for number in numbers]


def lists(numbers: Sequence[int]) -> list[list[int]]:
    """The numbers, by four, and the last ones in a list that is too long to be sent whole."""
    return [list(numbers[start : start + 4]) for start in range(0, len(numbers) - 8, 4)] + [list(numbers[-8:])]


def test_actors_and_a_machine_die_and_each_result_comes_once_and_in_order(machines: Machines, tmp_path: Path) -> None:
    crew, numbers = Squaring(tmp_path).crew(), range(1000, 1240)
    machines.add()  # room for those who come in the place of others
    results: list[int | str] = []
    for count, found in enumerate(crew.run(lists(numbers))):
        results += found
        if count == 10:
            os.kill(int(next(tmp_path.iterdir()).name), signal.SIGKILL)
        if count == 25:
            machines.lose()
    assert results == squares(numbers)
    assert crew.deaths >= 1


def test_a_deadly_number_is_found_and_the_others_go_on(
    machines: Machines, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    results = [one for found in Squaring(tmp_path).crew().run(lists(range(24))) for one in found]
    assert results == [*squares(range(13)), "13 is deadly", *squares(range(14, 24))]
    assert capsys.readouterr().out == ""  # which is for programs


def test_a_process_that_stands_still_is_ended_and_another_does_its_tasks(machines: Machines, tmp_path: Path) -> None:
    crew, numbers = Squaring(tmp_path).crew(hung_after=1.0), range(STUCK, STUCK + 20)
    assert [one for found in crew.run(lists(numbers)) for one in found] == squares(numbers)
    assert crew.deaths >= 1
    stopped = int((tmp_path / "stuck").read_text())
    until(lambda: not Path(f"/proc/{stopped}").exists())


def test_what_a_task_raises_ends_the_run(machines: Machines, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=f"^{WRONG} is no number"):
        list(Squaring(tmp_path).crew().run([[1], [WRONG]]))


def test_where_no_worker_can_help_the_reason_is_said(machines: Machines, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"^not with these weights"):
        list(Squaring(tmp_path, refused="not with these weights").crew().run([[1]]))


# -- photos -----------------------------------------------------------------------------------------------------------

PHOTOS = 70


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of small pictures, one of which is none, two the same, and one a JPEG without its end."""
    folder = tmp_path_factory.mktemp("photos")
    for index in range(PHOTOS):
        noise = np.random.default_rng(index).integers(0, 256, (40, 50, 3), dtype=np.uint8)
        Image.fromarray(noise).save(folder / f"{index:02}.jpg")
    (folder / "07.jpg").write_text("no picture")
    (folder / "40.jpg").write_bytes((folder / "03.jpg").read_bytes())
    (folder / "50.jpg").write_bytes((folder / "50.jpg").read_bytes()[:-2])
    return folder


@pytest.fixture(scope="module")
def backbone() -> Backbone:
    return load_backbone("embedded", "cpu")


def same(
    found: Sequence[tuple[int, np.ndarray | UserError]], wanted: Sequence[tuple[int, np.ndarray | UserError]]
) -> bool:
    """Whether features are the same but for the last digits, and errors the same sentences."""
    pairs = list(zip(found, wanted, strict=True))
    return all(
        i == j and (str(x) == str(y) if isinstance(y, UserError) else bool(np.abs(x - y).max() < 1e-6))
        for (i, x), (j, y) in pairs
    )


def plain(backbone: Backbone, images: ImageList) -> list[tuple[int, np.ndarray | UserError]]:
    return list(FeatureStream(backbone).run(unopened(images), len(images)))


def test_features_are_those_of_one_machine_though_actor_and_machine_die(
    machines: Machines, photos: Path, backbone: Backbone, caplog: pytest.LogCaptureFixture
) -> None:
    images = open_photos([photos])
    rows = cluster_rows(
        Cluster(machines.address), backbone, images, partial(open_photos, [photos]), most=8, batch_size=8
    )
    found = [next(rows)]
    machines.lose()  # the worker that is to come in the place of its own waits for room, and the other does it all
    found += rows
    assert same(found, plain(backbone, images))
    assert "A worker died, as its machine is no longer there" in caplog.text
    assert [record.message for record in caplog.records if "lacks its end marker" in record.message]


def test_photos_that_machines_do_not_see_are_sent_and_known_features_are_not_computed(
    machines: Machines, photos: Path, backbone: Backbone, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lsn_core.cluster.features._SENT_BYTES", 10_000)
    images, elsewhere = open_photos([photos]), partial(open_photos, [tmp_path])
    wanted, marked = plain(backbone, images), np.eye(1, backbone.dim, dtype=np.float32)[0]
    with closing(DiskFeatureCache(tmp_path, backbone.fingerprint, backbone.dim)) as cache:
        cache.put({hashlib.sha256(images.read(5)).digest(): marked})
        found = list(cluster_rows(Cluster(machines.address, 1), backbone, images, elsewhere, cache))
        assert len(cache.keys()) == PHOTOS - 2
    assert np.array_equal(found[5][1], marked)
    assert same(found[:5] + found[6:], wanted[:5] + wanted[6:])
