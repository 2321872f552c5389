"""What came on top of an environment is counted, and nothing else."""

from __future__ import annotations

from pathlib import Path

from benchmarks.speed.installed_size import packages, row, sentence


def write(path: Path, size: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"x" * size)


def test_only_what_is_new_or_has_grown_is_counted(tmp_path: Path) -> None:
    site = tmp_path / "lib" / "python3.11" / "site-packages"
    write(site / "old" / "a.py", 1_000_000)
    write(site / "old-1.dist-info" / "RECORD", 10)
    before = packages(tmp_path)
    write(site / "new" / "deep" / "b.so", 2_000_000)
    write(site / "new" / "__pycache__" / "b.pyc", 9_000_000)
    write(site / "new-2.dist-info" / "RECORD", 0)
    write(site / "old" / "more.py", 500_000)
    write(site / "single.cpython-311-x86_64-linux-gnu.so", 100_000)
    found = row("app", "app", before, packages(tmp_path))
    assert found["megabytes"] == 2.6 and found["distributions"] == 1
    assert found["largest"] == {"new": 2.0, "old": 0.5, "single": 0.1}


def test_the_line_of_readme_adds_the_page_to_the_base() -> None:
    rows = [{"extra": "", "what": "base", "megabytes": 1000}, {"extra": "app", "what": "app", "megabytes": 300}]
    assert "takes 1.3 GB with a CPU build of torch, without `[app]` 1.0 GB" in sentence(rows)
