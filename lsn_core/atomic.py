"""Files written whole or not at all: what is there already survives a kill and a full disk."""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from lsn_core.errors import UserError

if TYPE_CHECKING:
    from torch import Tensor


def write_safetensors(path: Path, tensors: dict[str, Tensor], metadata: dict[str, str]) -> None:
    """Replaces `path`, as `write_bytes` does.

    Args:
        tensors: by name, any shapes and devices.
        metadata: the file's header entries.
    """
    from safetensors.torch import save  # with torch, which those who write texts do without

    # Copies, as safetensors refuses tensors that share their memory.
    whole = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in tensors.items()}
    write_bytes(path, save(whole, metadata))


def write_bytes(path: Path, data: bytes) -> None:
    """Replaces `path`: a temporary file `.NAME.*` beside it, synced, renamed, and the folder synced."""
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        with open(temporary, "xb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    if hasattr(os, "O_DIRECTORY"):
        descriptor = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def check_writable(path: Path) -> None:
    """Whether a file can be written there, told before the work that it is for.

    Raises:
        UserError: the path is a folder, its folder is missing, or takes no files.
    """
    if path.is_dir():
        raise UserError(f"{path} is a folder. Name a file in it.")
    if not path.parent.is_dir():
        raise UserError(f"{path}: there is no folder {path.parent}. Make it first.")
    probe = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        open(probe, "xb").close()
        probe.unlink()
    except OSError as error:
        raise not_written(path, error) from error


@contextmanager
def written_beside(path: Path) -> Iterator[Path]:
    """Where to write a long file: `.NAME.part` with its ending, which replaces `path` when all of it is there.

    Raises:
        UserError: the path is a folder, its folder is missing, it cannot be written, or another process is writing it.
    """
    check_writable(path)
    temporary = path.with_name(f".{path.stem}.part{path.suffix}")
    release = _alone(temporary, path)
    try:
        yield temporary
        os.replace(temporary, path)
    except BaseException as error:
        with suppress(OSError):
            temporary.unlink()
        # A broken pipe is of standard output, whose reader has gone.
        if not isinstance(error, OSError) or isinstance(error, BrokenPipeError):
            raise
        raise not_written(path, error) from error
    finally:
        release()


def not_written(path: Path, error: OSError) -> UserError:
    """The error about a file that the system does not let be written."""
    return UserError(
        f"{path}: the file cannot be written ({error.strerror or error}). Nothing that was there is lost. "
        "Make room, change the permissions, or name another place."
    )


def _alone(temporary: Path, path: Path) -> Callable[[], object]:
    """Takes a lock on the temporary file, which goes with this process, however it ends; gives what lets go of it."""
    try:
        import fcntl
    except ImportError:  # Windows, where a file that another process has open is not replaced
        return lambda: None
    try:
        descriptor = os.open(temporary, os.O_RDWR | os.O_CREAT, 0o666)
    except OSError as error:
        raise not_written(path, error) from error
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        taken = os.path.samestat(os.fstat(descriptor), os.stat(temporary))
    except (BlockingIOError, FileNotFoundError):  # the second where the other has just ended
        taken = False
    except OSError:  # a file system without locks
        taken = True
    if not taken:
        os.close(descriptor)
        raise UserError(f"{path}: another process is writing this file. Wait until it has ended, or name another file.")
    return lambda: os.close(descriptor)
