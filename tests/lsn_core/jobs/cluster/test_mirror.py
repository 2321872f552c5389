"""What of a job's folder on a node is not yet on the other side."""

from __future__ import annotations

from pathlib import Path

from lsn_core.atomic import write_bytes
from lsn_core.jobs.cluster.mirror import Mirror

FEATURES, CHECKPOINT, RESULT = "features.safetensors", "training.safetensors", "detector.safetensors"


def test_each_version_of_a_file_goes_over_once_and_what_was_given_does_not(tmp_path: Path) -> None:
    write_bytes(tmp_path / FEATURES, b"given")
    mirror = Mirror(tmp_path)
    assert mirror.changes() == {}
    write_bytes(tmp_path / CHECKPOINT, b"one")
    write_bytes(tmp_path / "notes.txt", b"nobody's business")
    assert mirror.changes() == {CHECKPOINT: b"one"}
    assert mirror.changes() == {}
    write_bytes(tmp_path / CHECKPOINT, b"two")  # as long as the one before, and perhaps at the same moment
    write_bytes(tmp_path / RESULT, b"done")
    assert mirror.changes() == {CHECKPOINT: b"two", RESULT: b"done"}


def test_a_checkpoint_of_other_features_is_gone_before_the_new_ones_come(tmp_path: Path) -> None:
    write_bytes(tmp_path / FEATURES, b"of another model")
    write_bytes(tmp_path / CHECKPOINT, b"trained on them")
    mirror = Mirror(tmp_path)
    (tmp_path / CHECKPOINT).unlink()
    write_bytes(tmp_path / FEATURES, b"of this one")
    assert list(mirror.changes().items()) == [(CHECKPOINT, None), (FEATURES, b"of this one")]
    write_bytes(tmp_path / CHECKPOINT, b"trained on these")
    assert mirror.changes() == {CHECKPOINT: b"trained on these"}
