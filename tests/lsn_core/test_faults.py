"""What is kept when a disk is full, a process is killed in the middle, or two programs use one data directory."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

from support import REPO, MadeUpBackbone, unit_vectors, until

from benchmarks.speed.job_kills import crops, short_config, wait_for, worker
from lsn_core import Detector
from lsn_core.data.feature_cache import CACHE_FILE, DiskFeatureCache
from lsn_core.jobs import Jobs
from lsn_core.jobs.storage.audit import audit
from lsn_core.jobs.storage.database import REGISTRY_FILE
from lsn_core.jobs.storage.registry import Registry

# A file can grow to so many bytes and no further, as on a disk that is full by then.
FULL = "import resource, signal\nresource.setrlimit(resource.RLIMIT_FSIZE, ({0}, {0}))\n"


def run(script: str, *arguments: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", f"import sys\nsys.path.insert(0, 'tests')\n{script}", *map(str, arguments)]
    return subprocess.run(command, cwd=REPO, capture_output=True, text=True, timeout=120)


def detector(seed: int) -> Detector:
    positive = unit_vectors(3, seed, 16)
    return Detector(MadeUpBackbone(), ["dog", "cat", "hen"], positive, positive[None], score_name="lsn")  # type: ignore[arg-type]


def test_a_full_disk_leaves_the_detector_that_was_there(tmp_path: Path) -> None:
    path = tmp_path / "d.safetensors"
    detector(0).save(path)
    before = path.read_bytes()
    script = (
        "from pathlib import Path\nimport torch\nfrom lsn_core import UserError\n"
        "from lsn_core.detector.file import write_detector_file\n"
        f"{FULL.format(5000)}"
        "try:\n    write_detector_file(Path(sys.argv[1]), {}, {'positive': torch.zeros(3, 512)})\n"
        "except UserError as error:\n    print(error)"
    )
    done = run(script, path)
    assert done.returncode == 0, done.stderr
    assert "cannot be written" in done.stdout and "Make room" in done.stdout
    assert path.read_bytes() == before and list(tmp_path.iterdir()) == [path]


def test_a_full_disk_leaves_the_features_that_were_kept_and_costs_no_result(tmp_path: Path) -> None:
    kept = {bytes([i]) * 32: unit_vectors(1, i, 16)[0].numpy() for i in range(20)}
    with closing(DiskFeatureCache(tmp_path, "f", 16)) as cache:
        cache.put(kept)
    size = (tmp_path / CACHE_FILE).stat().st_size
    script = (
        "from pathlib import Path\nimport numpy as np\nfrom lsn_core.data.feature_cache import DiskFeatureCache\n"
        f"{FULL.format(size)}"
        "cache = DiskFeatureCache(Path(sys.argv[1]), 'f', 16)\n"
        "cache.put({i.to_bytes(32, 'big'): np.ones(16, np.float32) for i in range(5000)})\n"
        "print(cache.get(bytes(32)))"
    )
    done = run(script, tmp_path)
    assert done.stdout.strip() == "None" and "going on without it" in done.stderr
    with closing(DiskFeatureCache(tmp_path, "f", 16)) as cache:
        for key, row in kept.items():
            found = cache.get(key)
            assert found is not None and found.tolist() == row.tolist()
    assert not list(tmp_path.glob("*damaged*"))


def test_a_migration_that_is_killed_in_the_middle_leaves_the_version_before_it(tmp_path: Path) -> None:
    with closing(Registry(tmp_path)):
        pass
    before = tables(tmp_path)
    migrations = (
        "import os\nfrom pathlib import Path\nfrom lsn_core.jobs.storage import migrations as m\n"
        "from lsn_core.jobs.storage.registry import Registry\n"
        "add = 'ALTER TABLE jobs ADD COLUMN {} TEXT'.format\n"
        "step = m.Migration(2, 'two columns', (add('one'), add('two')))\n"
        "m.MIGRATIONS = (*m.MIGRATIONS, step)\n"
    )
    killing = (
        "take = m._take\n"
        "class Dying:\n"
        "    def __init__(self, connection): self.connection = connection\n"
        "    def execute(self, statement):\n"
        "        if 'two' in statement: os.kill(os.getpid(), 9)\n"
        "        return self.connection.execute(statement)\n"
        "m._take = lambda connection, step: take(Dying(connection), step)\n"
    )
    opening = "print(len(Registry(Path(sys.argv[1])).jobs()))"
    assert run(migrations + killing + opening, tmp_path).returncode == -9
    assert tables(tmp_path) == before
    assert run(migrations + opening, tmp_path).stdout.strip() == "0"
    version, columns = tables(tmp_path)
    assert version == 2 and columns[-2:] == ["one", "two"]


def tables(folder: Path) -> tuple[int, list[str]]:
    with closing(sqlite3.connect(folder / REGISTRY_FILE)) as database:
        version = int(database.execute("PRAGMA user_version").fetchone()[0])
        return version, [row[1] for row in database.execute("PRAGMA table_info(jobs)")]


def test_two_programs_on_one_data_directory_do_each_job_once(tmp_path: Path) -> None:
    """As two apps do: each has a client and starts a worker of the same name."""
    folder = tmp_path / "data"
    photos = crops(tmp_path / "animals", count=4)
    with closing(Jobs(folder)) as one, closing(Jobs(folder)) as other, worker(folder) as first:
        ids = [jobs.submit(photos, owner, short_config(3)).id for jobs, owner in ((one, "ann"), (other, "ben"))]
        with worker(folder) as second:
            until(lambda: first.poll() is not None or second.poll() is not None, 200)
            assert {first.poll(), second.poll()} == {None, 2}  # whoever comes second is told why, and ends
            assert "is running already" in (folder / "worker.log").read_text()
            assert [wait_for(other, job, "done", "failed").state for job in ids] == ["done", "done"]
        assert [len(jobs.list(owner)) for jobs, owner in ((one, "ben"), (other, "ann"))] == [1, 1]
    assert audit(folder) == []
