"""Image features on disk, by the content of the image and the fingerprint of the backbone."""

import hashlib
import logging
import os
import re
import sqlite3
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Protocol

import numpy as np

logger = logging.getLogger(__name__)

CACHE_FILE = "features-v1.sqlite"
"""Name of the cache inside its folder; the number changes with the table's layout."""

_BUSY_SECONDS = 30.0
_CACHE_ERRORS = (sqlite3.Error, OSError, ValueError, OverflowError)  # sqlite3 lets UnicodeDecodeError through


_WITH_EARLIER = re.compile(r"([0-9a-f]{64})\.[0-9a-f]{16}(:.*)?")


def earlier_fingerprint(fingerprint: str) -> str | None:
    """What earlier versions called the same function, which named it by weights and preprocessing alone; None for none.

    Args:
        fingerprint: see `Backbone.fingerprint`; a ":" and what kind of features it is may follow.
    """
    found = _WITH_EARLIER.fullmatch(fingerprint)
    return found[1] + (found[2] or "") if found else None


class FeatureCache(Protocol):
    """Features of one backbone's images by the SHA-256 of their bytes, 32 bytes long."""

    def get(self, key: bytes) -> np.ndarray | None:
        """The feature, float32, shape (D,); None where it is not kept."""

    def put(self, rows: Mapping[bytes, np.ndarray]) -> None:
        """Keeps features, each float32 of shape (D,)."""


class DiskFeatureCache:
    """Features in one SQLite file: commits survive a kill, locks serve several processes, each row has a checksum."""

    def __init__(self, folder: Path, fingerprint: str, dim: int) -> None:
        """Opens the folder's cache, which is made where it is missing.

        Args:
            fingerprint: of the backbone, see `Backbone.fingerprint`.
            dim: D, size of its features.
        """
        self._names = tuple(filter(None, (fingerprint, earlier_fingerprint(fingerprint))))
        self._dim = dim
        self._path = folder / CACHE_FILE
        self._connection: sqlite3.Connection | None = None
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._connect()
        except _CACHE_ERRORS as error:
            self._give_up(error)

    def _connect(self) -> None:
        self._connection = sqlite3.connect(self._path, timeout=_BUSY_SECONDS)
        # The default rollback journal, not WAL: WAL needs shared memory, which network file systems lack.
        with self._connection:
            self._connection.execute(
                "CREATE TABLE IF NOT EXISTS features (fingerprint TEXT NOT NULL, image BLOB NOT NULL,"
                " feature BLOB NOT NULL, checksum BLOB NOT NULL, PRIMARY KEY (fingerprint, image))"
            )

    def get(self, key: bytes) -> np.ndarray | None:
        """The feature, float32, shape (D,); None where it is not kept, is damaged or cannot be read."""
        for name in self._names:
            if self._connection is None:
                return None
            try:
                row = self._connection.execute(
                    "SELECT feature, checksum FROM features WHERE fingerprint = ? AND image = ?", (name, key)
                ).fetchone()
            except _CACHE_ERRORS as error:
                self._give_up(error)
                return None
            if row is None:
                continue
            feature, checksum = row
            fine = isinstance(feature, bytes) and len(feature) == 4 * self._dim
            if not fine or self._checksum(name, key, feature) != checksum:
                logger.warning("%s: a damaged entry was ignored and will be computed again.", self._path)
                return None
            return np.frombuffer(feature, dtype="<f4").astype(np.float32)
        return None

    def keys(self) -> np.ndarray:
        """Content keys of all features that are kept, sorted, dtype S32; none where the cache cannot be read."""
        found: list[bytes] = []
        try:
            for name in self._names:
                if self._connection is None:
                    break
                rows = self._connection.execute("SELECT image FROM features WHERE fingerprint = ?", (name,))
                found += [image for (image,) in rows if isinstance(image, bytes) and len(image) == 32]
        except _CACHE_ERRORS as error:
            self._give_up(error)
        return np.unique(np.array(found, "S32"))

    def put(self, rows: Mapping[bytes, np.ndarray]) -> None:
        """Keeps features, each float32 of shape (D,); where that fails, goes on without."""
        if self._connection is None or not rows:
            return
        blobs = {key: row.astype("<f4").tobytes() for key, row in rows.items()}
        own = self._names[0]
        entries = [(own, key, blob, self._checksum(own, key, blob)) for key, blob in blobs.items()]
        try:
            with self._connection:
                self._connection.executemany("INSERT OR REPLACE INTO features VALUES (?, ?, ?, ?)", entries)
        except _CACHE_ERRORS as error:
            self._give_up(error)

    def close(self) -> None:
        """Closes the file."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    @staticmethod
    def _checksum(name: str, key: bytes, feature: bytes) -> bytes:
        return hashlib.sha256(b"\0".join((name.encode(), key, feature))).digest()[:8]

    def _give_up(self, error: Exception) -> None:
        """Go on without a cache; one that is damaged is moved out of the way and begun anew."""
        self.close()
        if isinstance(error, sqlite3.OperationalError | OSError):  # locked, read-only, disk full: not damaged
            logger.warning("%s: the feature cache cannot be used (%s); going on without it.", self._path, error)
            return
        aside = self._path.with_name(f"{self._path.name}.damaged-{uuid.uuid4().hex[:8]}")
        logger.warning("%s: the feature cache is damaged (%s); it is set aside as %s.", self._path, error, aside.name)
        try:
            journal = Path(f"{self._path}-journal")
            os.replace(self._path, aside)
            if journal.exists():  # it belongs to the damaged file and would be replayed into the new one
                os.replace(journal, f"{aside}-journal")
            self._connect()
        except _CACHE_ERRORS as again:
            self.close()
            logger.warning("%s: no new feature cache could be begun (%s); going on without.", self._path, again)
