"""How many workers machines have room for."""

from __future__ import annotations

import pytest

from lsn_core.cluster.room import Room, find_room
from lsn_core.errors import UserError


def nodes(*sizes: tuple[int, int], lost: int = 0) -> list[dict[str, object]]:
    """Machines of so many CPUs and GPUs, the last of which are lost."""
    alive = len(sizes) - lost
    return [{"Alive": i < alive, "Resources": {"CPU": float(c), "GPU": float(g)}} for i, (c, g) in enumerate(sizes)]


@pytest.mark.parametrize(
    ("sizes", "workers", "room"),
    [
        ([(2, 0)], None, Room(1, 2)),
        ([(2, 0)], 2, Room(2, 1)),
        ([(0, 0), (16, 0), (16, 0)], None, Room(4, 8)),
        ([(4, 0), (16, 0)], None, Room(5, 4)),
        ([(16, 0), (16, 0)], 3, Room(3, 8)),
        ([(16, 0), (16, 0)], 5, Room(5, 5)),
        ([(32, 4), (8, 0)], None, Room(4, 8, 1)),
        ([(64, 2)], 1, Room(1, 8, 1)),
    ],
)
def test_workers_are_one_a_gpu_or_one_for_each_8_cpus(
    sizes: list[tuple[int, int]], workers: int | None, room: Room
) -> None:
    assert find_room(nodes(*sizes), "auto", workers) == room


def test_gpus_are_left_alone_where_cpus_are_asked_for_and_lost_machines_do_not_count() -> None:
    assert find_room(nodes((16, 4)), "cpu") == Room(2, 8)
    assert find_room(nodes((8, 0), (8, 1), lost=1)) == Room(1, 8)


@pytest.mark.parametrize(
    ("device", "workers", "sentence"),
    [
        ("cuda", None, "has no GPU"),
        ("mps", None, "cannot be asked of a cluster"),
        ("auto", 0, "at least 1, not 0"),
        ("auto", 9, "has 8 CPUs, too few for 9 workers"),
    ],
)
def test_what_there_is_no_room_for_is_said(device: str, workers: int | None, sentence: str) -> None:
    with pytest.raises(UserError, match=sentence):
        find_room(nodes((8, 0)), device, workers)


def test_gpus_are_not_shared() -> None:
    with pytest.raises(UserError, match="has 2 GPUs, and each worker takes one: 3 are too many"):
        find_room(nodes((8, 2)), "auto", 3)
