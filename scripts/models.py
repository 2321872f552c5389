"""Writes what `lsn_core.backbones.catalogue` knows of open_clip's architectures: python -m scripts.models."""

from __future__ import annotations

from pathlib import Path

from lsn_core.backbones import catalogue


def main() -> None:
    """Lays out each architecture without memory, and writes the table beside the code."""
    path = Path(catalogue.__file__).with_name(catalogue.TABLE)
    path.write_text(catalogue.table_text(), encoding="utf-8")


if __name__ == "__main__":
    main()
