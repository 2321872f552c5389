"""Starting the app: what the environment has wrong is one sentence, said before anything large is loaded."""

from __future__ import annotations

import json
import os
import random
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from gradio_client import Client, handle_file
from support import REPO, serving

from lsn_app.server import settings_of
from lsn_app.startup import check_folder, check_port, check_startup, read_environment
from lsn_core import UserError

# Variable and value -> words of the sentence. An empty value is none.
WRONG = [
    ("GRADIO_SERVER_PORT", "auto", ["whole number from 1 to 65535", "'auto'"]),
    ("GRADIO_SERVER_PORT", "eighty", ["whole number"]),
    ("GRADIO_SERVER_PORT", "80.5", ["whole number"]),
    ("GRADIO_SERVER_PORT", "0", ["from 1 to 65535"]),
    ("GRADIO_SERVER_PORT", "-1", ["from 1 to 65535"]),
    ("GRADIO_SERVER_PORT", "65536", ["from 1 to 65535"]),
    ("GRADIO_SERVER_PORT", "9" * 5000, ["from 1 to 65535"]),
    ("GRADIO_SERVER_PORT", "7860,7861", ["whole number"]),
    ("GRADIO_SERVER_NAME", "http://127.0.0.1", ["alone"]),
    ("GRADIO_SERVER_NAME", "127.0.0.1:7860", ["GRADIO_SERVER_PORT"]),
    ("LSN_PUBLIC", "maybe", ["1 (yes) or 0 (no)", "'maybe'"]),
    ("LSN_RESUME", "2", ["1 (yes) or 0 (no)"]),
    ("LSN_MCP", "y e s", ["1 (yes) or 0 (no)"]),
    ("LSN_PROXIED", "-1", ["1 (yes) or 0 (no)"]),
    ("LSN_METRICS", "prometheus", ["1 (yes) or 0 (no)"]),
    ("LSN_JOB_THREADS", "all", ["whole number"]),
    ("LSN_JOB_THREADS", "0", ["from 1"]),
    ("LSN_JOB_THREADS", "2.5", ["whole number"]),
    ("LSN_JOB_MEMORY_GIB", "8GB", ["number above 0"]),
    ("LSN_JOB_MEMORY_GIB", "nan", ["number above 0"]),
    ("LSN_JOB_MEMORY_GIB", "inf", ["number above 0"]),
    ("LSN_JOB_MEMORY_GIB", "-3", ["number above 0"]),
    ("LSN_SLICE_SECONDS", "0", ["number above 0"]),
    ("LSN_SLICE_SECONDS", "40s", ["number above 0"]),
    ("LSN_QUEUE", "localhost:6379", ["redis://HOST:PORT/DB"]),
    ("LSN_QUEUE", "http://localhost", ["redis://HOST:PORT/DB"]),
    ("LSN_QUEUE", "redis://", ["redis://HOST:PORT/DB"]),
    ("LSN_QUEUE", "redis://localhost:port/0", ["redis://HOST:PORT/DB"]),
    ("LSN_QUEUE", "redis://localhost:99999/0", ["redis://HOST:PORT/DB"]),
    ("LSN_QUEUE", "redis://[::1/0", ["redis://HOST:PORT/DB"]),
    ("LSN_CLUSTER", "http://head:8265", ["auto (the cluster", "HOST:PORT", "'http://head:8265'"]),
    ("LSN_CLUSTER", "local", ["auto (the cluster", "to train on this machine"]),
    ("LSN_CLUSTER_JOBS", "0", ["from 1"]),
    ("LSN_HOSTS", "https://example.org", ["names alone"]),
    ("LSN_HOSTS", "example.org, example.com:80", ["names alone", "example.com:80"]),
    ("LSN_HOSTS", "*.example.org", ["names alone"]),
    ("LSN_DATA", "s3://bucket/data", ["folder of this machine"]),
    ("LSN_DATA", "~nobody-of-this-name/data", ["whole path"]),
]


@pytest.mark.parametrize(("name", "value", "words"), WRONG, ids=lambda value: str(value)[:30])
def test_a_value_that_cannot_be_meant_is_one_sentence(name: str, value: str, words: list[str]) -> None:
    with pytest.raises(UserError) as caught:
        read_environment({name: value})
    message = str(caught.value)
    assert name in message and "\n" not in message and len(message) < 400
    assert all(word in message for word in words), message


def test_values_that_are_meant_are_read_however_they_are_written() -> None:
    empty = read_environment({})
    assert (empty.host, empty.port, empty.backbone, empty.public) == ("127.0.0.1", 7860, "embedded", False)
    assert empty == read_environment({name: " " for name, _, _ in WRONG})
    given = read_environment(
        {
            "GRADIO_SERVER_NAME": "0.0.0.0",
            "GRADIO_SERVER_PORT": " 8000 ",
            "LSN_RESUME": "Off",
            "LSN_MCP": "TRUE",
            "LSN_JOB_THREADS": "3",
            "LSN_JOB_MEMORY_GIB": "1.5",
            "LSN_SLICE_SECONDS": "20",
            "LSN_QUEUE": "unix:///run/redis.sock",
            "LSN_CLUSTER": "ray://head:10001",
            "LSN_CLUSTER_JOBS": "8",
            "LSN_HOSTS": "example.org, ::1",
            "LSN_DATA": "~/some where",
        }
    )
    assert (given.port, given.public, given.resume, given.mcp) == (8000, True, False, True)
    assert (given.threads, given.memory_gib, given.slice_seconds) == (3, 1.5, 20.0)
    assert (given.cluster, given.cluster_jobs) == ("ray://head:10001", 8)
    assert given.hosts == ("example.org", "::1") and given.data == Path.home() / "some where"


@pytest.mark.parametrize(("host", "public"), [("127.0.0.1", False), ("localhost", False), ("0.0.0.0", True)])
def test_who_listens_to_all_is_public_unless_told(host: str, public: bool) -> None:
    assert read_environment({"GRADIO_SERVER_NAME": host}).public is public
    assert read_environment({"GRADIO_SERVER_NAME": host, "LSN_PUBLIC": "0"}).public is False


def test_a_space_says_where_it_is() -> None:
    start = read_environment({"SPACE_HOST": "a-b.hf.space", "SPACE_ID": "a/b", "GRADIO_SERVER_NAME": "0.0.0.0"})
    settings = settings_of(start, [])
    assert settings.address == "https://a-b.hf.space" and settings.source.endswith("/spaces/a/b") and settings.proxied
    assert settings.hosts is not None and "a-b.hf.space" in settings.hosts


# -- the port ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def taken() -> Iterator[int]:
    """A port that somebody listens at."""
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()
        yield server.getsockname()[1]


def test_a_port_that_is_taken_is_said_with_one_that_is_free(taken: int) -> None:
    with pytest.raises(UserError, match=f"Port {taken} of 127.0.0.1 is taken") as caught:
        check_port("127.0.0.1", taken)
    free = int(str(caught.value).partition("such as ")[2].rstrip("."))
    check_port("127.0.0.1", free)


def test_addresses_that_are_not_this_machines() -> None:
    with pytest.raises(UserError, match="no address of this machine"):
        check_port("203.0.113.1", 7860)
    with pytest.raises(UserError, match="no machine is called"):
        check_port("no such name.invalid", 7860)
    with pytest.raises(UserError, match="no machine is called"):
        check_port("x" * 300, 7860)


def test_a_port_for_administrators_only(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(socket.socket, "bind", refuse)
    with pytest.raises(UserError, match="from 1024 on"):
        check_port("127.0.0.1", 80)


# -- the data directory -----------------------------------------------------------------------------------------------


def test_a_data_directory_that_cannot_serve(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "file"
    file.write_text("kept")
    with pytest.raises(UserError, match="is a file, and a folder is needed"):
        check_folder(file)
    with pytest.raises(UserError, match="cannot be written to"):
        check_folder(file / "below")
    with pytest.raises(UserError, match="cannot be written to"):
        check_folder(Path("/proc/nowhere"))
    for name in ("jobs", "datasets", "workers", "tmp", "huggingface"):
        (tmp_path / name).write_text("kept")
        with pytest.raises(UserError, match=f"{name} is a file"):
            check_folder(tmp_path)
        (tmp_path / name).unlink()
    dangling = tmp_path / "dangling"
    dangling.symlink_to(tmp_path / "gone" / "far")
    with pytest.raises(UserError, match="dangling"):
        check_folder(dangling)
    assert file.read_text() == "kept"
    check_folder(tmp_path / "new" / "deep")
    assert (tmp_path / "new" / "deep").is_dir() and not list((tmp_path / "new" / "deep").iterdir())

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("lsn_app.startup.tempfile.TemporaryFile", full)
    with pytest.raises(UserError, match="No space left"):
        check_folder(tmp_path / "new")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_without_permission(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(UserError, match="Permission denied"):
        check_folder(tmp_path)
    tmp_path.chmod(0o700)


LIMITS = {
    "no JSON": "{queue: 3",
    "empty": "",
    "bytes": b"\xff\xfe\x00",
    "a list": "[1, 2]",
    "a number": "3",
    "too deep": "[" * 100_000,
    "an unknown limit": '{"queues": 3}',
    "below zero": '{"queue": -1}',
    "a text": '{"queue": "many"}',
    "a fraction": '{"images": 2.5}',
    "not a number": '{"seconds": NaN}',
    "infinite": '{"kept_days": Infinity}',
    "yes": '{"crashes": true}',
    "null": '{"per_owner": null}',
}


@pytest.mark.parametrize("kind", LIMITS)
def test_limits_that_cannot_be_meant(kind: str, tmp_path: Path) -> None:
    content = LIMITS[kind]
    (tmp_path / "limits.json").write_bytes(content if isinstance(content, bytes) else content.encode())
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with pytest.raises(UserError) as caught:
        check_startup(read_environment({"LSN_DATA": str(tmp_path), "GRADIO_SERVER_PORT": str(port)}))
    message = str(caught.value)
    assert str(tmp_path / "limits.json") in message and "\n" not in message and len(message) < 700
    assert [path.name for path in tmp_path.iterdir()] == ["limits.json"]


def test_limits_that_are_a_folder(tmp_path: Path) -> None:
    from lsn_core.jobs import JobLimits

    (tmp_path / "limits.json").mkdir()
    with pytest.raises(UserError, match=r"limits\.json cannot be read"):
        JobLimits.read(tmp_path)


# -- as it is started -------------------------------------------------------------------------------------------------


def start(**variables: str) -> subprocess.CompletedProcess[str]:
    """`python app.py` with these variables and no heavy imports: whoever imports torch or Gradio fails."""
    guard = (
        "import sys, runpy\n"
        "class No:\n"
        "    def find_spec(self, name, *_):\n"
        "        if name in ('torch', 'gradio', 'open_clip'): raise SystemExit('it was imported: ' + name)\n"
        "sys.meta_path.insert(0, No())\n"
        "runpy.run_path('app.py', run_name='__main__')"
    )
    return subprocess.run(
        [sys.executable, "-c", guard], cwd=REPO, env=os.environ | variables, capture_output=True, text=True, timeout=120
    )


def test_nothing_is_loaded_before_what_is_wrong_is_said(tmp_path: Path, taken: int) -> None:
    (tmp_path / "file").write_text("x")
    (tmp_path / "limits.json").write_text(json.dumps({"queue": -1}))
    for variables, words in (
        ({"GRADIO_SERVER_PORT": "auto"}, "GRADIO_SERVER_PORT"),
        ({"GRADIO_SERVER_PORT": str(taken)}, "is taken"),
        ({"LSN_DATA": str(tmp_path / "file"), "GRADIO_SERVER_PORT": "27861"}, "is a file"),
        ({"LSN_DATA": str(tmp_path), "GRADIO_SERVER_PORT": "27861"}, "limits.json"),
        ({"LSN_DATA": str(tmp_path / "n"), "GRADIO_SERVER_PORT": "27861", "TMPDIR": "/proc/x"}, "TMPDIR"),
    ):
        done = start(**variables)
        lines = done.stderr.strip().splitlines()
        assert done.returncode == 2 and len(lines) == 1 and lines[0].startswith("Error: ") and words in lines[0], done


def test_detect_works_where_only_jobs_are_damaged(tmp_path: Path, examples: Path) -> None:
    data = tmp_path / "data"
    shutil.copytree(REPO / "tests" / "fixtures" / "version_0.1" / "data", data)
    (data / "jobs.sqlite").write_bytes(random.Random(1).randbytes(5000))
    environment = os.environ | {"LSN_DATA": str(data), "LSN_BACKBONE": "embedded", "LSN_JOB_THREADS": "1"}
    log = tmp_path / "log.txt"
    with serving([sys.executable, "app.py"], environment, log) as address:
        client = Client(address, verbose=False)
        found = client.predict(handle_file(str(examples / "dog.jpg")), "dog, cat", api_name="/score")
        assert found["predicted_class"] == "dog"
        assert "was damaged" in json.dumps(client.config)  # it stands above the page
    (kept,) = data.glob("jobs.sqlite.damaged-*")
    assert kept.read_bytes() == random.Random(1).randbytes(5000) and kept.name in log.read_text()
    assert len(list(next(data.glob("jobs.damaged-*")).iterdir())) == 2
