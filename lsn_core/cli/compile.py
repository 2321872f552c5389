"""The command `compile`."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lsn_core.cli.options import BackboneOption, JsonOption
from lsn_core.cli.output import echo_json
from lsn_core.errors import UserError

if TYPE_CHECKING:
    from lsn_core.backbones.backbone import Backbone

_ROUNDS = 5
_PICTURES = 32


def compile(
    backbone: BackboneOption = None,
    measure: Annotated[bool, typer.Option(help="Measure how fast it is beside PyTorch; takes some seconds.")] = True,
    as_json: JsonOption = False,
) -> None:
    """Make a backbone's image tower ready to run fast on this CPU, once; long runs and the page do it by themselves.

    The compiled tower is kept in torch's cache folder and taken from there from then on. It needs OpenVINO.
    """
    from lsn_core.backbones.compiled import is_installed
    from lsn_core.backbones.loading import EMBEDDED, load_backbone

    if not is_installed():
        raise UserError("Compiling needs a package that is not installed: pip install openvino")
    found = load_backbone(backbone or EMBEDDED, "cpu")
    eager = _images_per_second(found) if measure else None
    begun = time.perf_counter()
    if not found.runtime.compile():
        raise UserError(f"The image tower of {found.name} could not be compiled; PyTorch runs it, as before.")
    seconds = round(time.perf_counter() - begun, 2)
    line: dict[str, Any] = {"backbone": found.name, "runtime": found.runtime.name, "seconds": seconds}
    if eager is not None:
        line |= {"images_per_second": round(_images_per_second(found), 1), "eager_images_per_second": round(eager, 1)}
    if as_json:
        echo_json(line)
        return
    typer.echo(f"The image tower of {found.name} is ready for this CPU ({seconds} s).")
    if eager is not None:
        typer.echo(
            f"{line['images_per_second']} images/s from memory, against {line['eager_images_per_second']} before."
        )


def _images_per_second(backbone: Backbone) -> float:
    """The best of some rounds, from crops in memory."""
    import torch
    from PIL import Image

    crops = torch.stack([backbone.crop(Image.new("RGB", (256, 256), (i, 90, 30))) for i in range(_PICTURES)])
    times = []
    for _ in range(_ROUNDS):
        begun = time.perf_counter()
        backbone.encode_crops(crops)
        times.append(time.perf_counter() - begun)
    return _PICTURES / min(times)
