"""Where the files that ship with the code are: in a clone and an editable install, or inside an installed wheel."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path

from lsn_core.errors import UserError

_INSTALLED = Path(str(files("lsn_core"))) / "_shipped"  # pyproject.toml puts them there in a wheel
_ROOT = _INSTALLED if _INSTALLED.is_dir() else _INSTALLED.parents[1]

EMBEDDED = "embedded"
EMBEDDED_DIR = _ROOT / "checkpoints" / "embedded-clip"
DETECTORS_DIR = _ROOT / "checkpoints" / "detectors"
ASSETS_DIR = _ROOT / "assets"
EXAMPLES_DIR = ASSETS_DIR / "examples"
RESULTS_DIR = _ROOT / "benchmarks" / "results"


def examples() -> dict[str, Path]:
    """The example photos that ship, name -> JPEG file, by name; ATTRIBUTION.csv beside them has their credits.

    Raises:
        UserError: they are not there, as in an installation that lost files.

    Examples:
        >>> from lsn_core import examples
        >>> examples()["dog"].name
        'dog.jpg'
    """
    found = {path.stem: path for path in sorted(EXAMPLES_DIR.glob("*.jpg"))}
    if not found:
        raise UserError(f"There are no example photos in {EXAMPLES_DIR}. Install the package again, or clone it whole.")
    return found
