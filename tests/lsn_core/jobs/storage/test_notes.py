"""Why workers begin no jobs just now: said by the living alone, and only where none of them can."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

from lsn_core.jobs.storage.locks import Slots
from lsn_core.jobs.storage.notes import current_hindrance, note_hindrance


def test_a_hindrance_counts_while_its_worker_lives_and_no_other_can_begin_jobs(tmp_path: Path) -> None:
    slots = Slots(tmp_path)
    with closing(slots.take("cluster")), closing(slots.take("cluster@1")):
        assert current_hindrance(tmp_path, slots) == ""
        note_hindrance(tmp_path, "cluster", "It is away.")
        assert current_hindrance(tmp_path, slots) == "It is away."
        with closing(slots.take("cpu")):
            assert current_hindrance(tmp_path, slots) == ""
        assert current_hindrance(tmp_path, slots) == "It is away."
        note_hindrance(tmp_path, "cluster", "")
        assert current_hindrance(tmp_path, slots) == ""
        note_hindrance(tmp_path, "cluster", "It is away.")
    assert current_hindrance(tmp_path, slots) == ""
