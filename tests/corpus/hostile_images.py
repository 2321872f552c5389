"""Picture files that are damaged, or made to harm; the makers are called by `images.image_cases`."""

from __future__ import annotations

import io
import json
import pickle
import struct
import time
import zipfile
import zlib
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import numpy as np
from PIL import Image, PngImagePlugin

from tests.corpus import pictures
from tests.corpus.case import Case, Right
from tests.corpus.costly_images import costly_cases
from tests.corpus.images import FORMATS, LOSSY, SUFFIX, Pixels, honest_cases, image_case
from tests.corpus.pictures import chunk, encoded, noise, png, smooth


def image_cases() -> list[Case]:
    """All cases of pictures, honest ones first."""
    hostile = (
        _truncated,
        _flipped,
        _thin,
        _vast,
        _bombs,
        _slow,
        costly_cases,
        _metadata,
        _polyglots,
        _others,
        _rubbish,
    )
    return [*honest_cases(), *(case for maker in hostile for case in maker())]


def _samples() -> dict[str, bytes]:
    values = noise(17, 40, 30)
    made = {kind: encoded(Image.fromarray(values), kind) for kind in FORMATS}
    made["JPEG progressive"] = encoded(Image.fromarray(values), "JPEG", progressive=True)
    made["TIFF LZW"] = encoded(Image.fromarray(values), "TIFF", compression="tiff_lzw")
    made["CMYK"] = encoded(Image.fromarray(values).convert("CMYK"), "JPEG")
    return made


def _truncated() -> Iterator[Case]:
    for kind, data in _samples().items():
        for hundredths in (1, 5, 10, 20, 30, 50, 70, 90):
            cut = max(1, len(data) * hundredths // 100)
            yield image_case("truncated", f"{kind} at {hundredths} %", data[:cut], Right.SENTENCE, ".png")
    yield image_case("truncated", "nothing", b"", Right.SENTENCE)


def _flipped() -> Iterator[Case]:
    for kind, valid in _samples().items():
        for seed in range(12):
            rng = np.random.default_rng(seed)
            data = bytearray(valid)
            for place in rng.integers(0, len(data) if seed % 2 else min(64, len(data)), 1 + seed // 2):
                data[place] ^= 1 << int(rng.integers(0, 8))
            yield image_case("bit flips", f"{kind} {seed}", bytes(data), Right.EITHER)


def _thin() -> Iterator[Case]:
    for long in (1000, 20_000, 60_000, 200_000):
        for width, height in ((1, long), (long, 1), (3, long)):
            right = Pixels(np.zeros((height, width, 3), np.uint8)) if long < 10**5 else Right.EITHER
            yield image_case("thin", f"PNG {width} x {height}", partial(png, width, height, 8, 2), right)
    for width, height in ((1, 65_000), (65_000, 1)):
        image = partial(lambda size: encoded(Image.new("RGB", size), "JPEG"), (width, height))
        right = Pixels(np.zeros((height, width, 3), np.uint8), LOSSY)
        yield image_case("thin", f"JPEG {width} x {height}", image, right, ".jpg")


def _vast() -> Iterator[Case]:
    claim = zlib.compress(b"\0" * 99)
    for width, height in ((60_000, 60_000), (2**31 - 1, 1), (1, 2**31 - 1), (2**31 - 1, 2**31 - 1), (8000, 8000)):
        made = partial(png, width, height, 8, 2, pixels=claim)
        yield image_case("vast", f"PNG that claims {width} x {height}", made, Right.SENTENCE)
    small = encoded(Image.fromarray(noise(18)), "BMP")
    for width, height in ((40_000, 40_000), (2**31 - 1, -(2**31) + 1), (-5, 5)):
        data = small[:18] + struct.pack("<ii", width, height) + small[26:]
        yield image_case("vast", f"BMP that claims {width} x {height}", data, Right.SENTENCE, ".bmp")
    gif = encoded(Image.new("P", (8, 8)), "GIF")
    yield image_case("vast", "GIF that claims 65,535", gif[:6] + b"\xff" * 4 + gif[10:], Right.SENTENCE, ".gif")
    jpeg = bytearray(encoded(Image.new("RGB", (8, 8)), "JPEG"))
    at = jpeg.index(b"\xff\xc0") + 5
    jpeg[at : at + 4] = struct.pack(">HH", 65_000, 65_000)
    yield image_case("vast", "JPEG that claims 65,000", bytes(jpeg), Right.SENTENCE, ".jpg")
    canvas = b"VP8X" + struct.pack("<I", 10) + b"\0\0\0\0" + (16_382).to_bytes(3, "little") * 2
    webp = b"RIFF" + struct.pack("<I", len(canvas) + 4) + b"WEBP" + canvas
    yield image_case("vast", "WebP that claims 16,383", webp, Right.SENTENCE, ".webp")
    for width, height, depth, colour in ((1, 49_999_999, 8, 0), (9000, 9000, 8, 0), (7000, 7000, 16, 6)):
        made = partial(png, width, height, depth, colour)
        yield image_case("vast", f"PNG of {width} x {height}, {depth} bits", made, Right.EITHER)
    for kind in ("JPEG", "WEBP", "GIF", "TIFF"):
        options: dict[str, Any] = {"JPEG": {"progressive": True}, "WEBP": {"method": 0}}.get(kind, {})
        made = partial(lambda k, o: encoded(Image.new("RGB", (7000, 7000)), k, **o), kind, options)
        yield image_case("vast", f"{kind} of 7000 x 7000", made, Right.EITHER, SUFFIX[kind])
    tags = [(256, 4, 1, 64), (257, 4, 1, 64), (258, 4, 1, 8), (259, 4, 1, 8), (262, 4, 1, 1), (277, 4, 1, 1)]
    tags += [(322, 4, 1, 30_000), (323, 4, 1, 30_000), (324, 4, 1, 134), (325, 4, 1, 4)]
    yield image_case("vast", "TIFF of a vast tile", pictures.tiff(tags, b"\0" * 4), Right.SENTENCE, ".tif")
    for size in ((0, 1), (1, 0), (0, 0)):
        made = png(*size, 8, 2, pixels=zlib.compress(b""))
        yield image_case("vast", f"PNG of {size[0]} x {size[1]}", made, Right.SENTENCE)


def _bombs() -> Iterator[Case]:
    """PNG chunks that open to far more than they hold."""
    values = smooth(19, 30, 20)
    plain = encoded(Image.fromarray(values), "PNG")
    for megabytes in (1, 100, 400):
        packed = partial(pictures.bomb, megabytes)
        chunks: dict[str, Callable[[bytes], bytes]] = {
            "iCCP": lambda data: chunk(b"iCCP", b"x\0\0" + data),
            "zTXt": lambda data: chunk(b"zTXt", b"x\0\0" + data),
            "iTXt": lambda data: chunk(b"iTXt", b"x\0\1\0\0\0" + data),
        }
        for name, wrap in chunks.items():
            made = partial(lambda p, w: plain[:33] + w(p()) + plain[33:], packed, wrap)
            yield image_case("PNG bombs", f"{name} of {megabytes} MB", made, Right.EITHER)
        made = partial(lambda p: png(8, 8, 8, 2, pixels=p()), packed)
        yield image_case("PNG bombs", f"IDAT of {megabytes} MB", made, Right.EITHER)


def _slow() -> Iterator[Case]:
    jpeg = encoded(Image.new("RGB", (8, 8)), "JPEG")
    gif = encoded(Image.new("P", (8, 8)), "GIF")
    at = gif.index(b"\x2c")
    many = 500_000
    made: dict[str, Callable[[], bytes]] = {
        "JPEG of 2,000 scans": partial(pictures.with_scans, 2000),
        "JPEG of 101 scans": partial(pictures.with_scans, 101),
        "JPEG of 99 scans, 4000 x 4000": partial(pictures.with_scans, 99, (4000, 4000)),
        "JPEG of many segments": lambda: pictures.with_segments(jpeg, 0xFE, b"", many),
        "PNG of many chunks": lambda: png(8, 8, 8, 2, chunk(b"teSt", b"") * many),
        "PNG of many empty parts": lambda: png(8, 8, 8, 2, chunk(b"IDAT", b"") * many),
        "GIF of many extensions": lambda: gif[:at] + b"\x21\xfe\1a\0" * many + gif[at:],
        "GIF of a long comment": lambda: gif[:at] + b"\x21\xfe" + (b"\xff" + b"a" * 255) * 60_000 + b"\0" + gif[at:],
    }
    for name, make in made.items():
        yield image_case("slow", name, make, Right.SENTENCE)
    right = Pixels(np.broadcast_to(np.uint8([90, 160, 30]), (400, 400, 3)), LOSSY)
    yield image_case("slow", "JPEG of 60 scans", partial(pictures.with_scans, 60), right)


def _metadata() -> Iterator[Case]:
    values = smooth(20, 30, 20)
    jpeg = encoded(Image.fromarray(values), "JPEG", quality=95)
    blocks = {
        "shared by 20,000 tags": pictures.shared_tags(20_000, 260_000),
        "that points to itself": pictures.tiff([(0x8769, 4, 1, 8)]),
        "cut": b"II*\0\x08\0\0\0\xff\xff" + b"\xff" * 40,
        "of nothing": b"",
        "that points outside": b"MM\0*\xff\xff\xff\xff",
    }
    for name, block in blocks.items():
        made = png(30, 20, 8, 2, chunk(b"eXIf", block))
        yield image_case("metadata", f"PNG, EXIF {name}", made, Pixels(np.zeros((20, 30, 3), np.uint8)))
        segment = b"Exif\0\0" + block[:60_000]
        right = Pixels(values, LOSSY) if "shared" not in name else Right.EITHER
        yield image_case("metadata", f"JPEG, EXIF {name}", pictures.with_segments(jpeg, 0xE1, segment), right, ".jpg")
    for count in (10, 100, 4000):
        made = partial(pictures.with_segments, jpeg, 0xE1, b"Exif\0\0II*\0\x08\0\0\0" + b"\0" * 150, count)
        yield image_case("metadata", f"JPEG of {count} EXIF segments", made, Right.EITHER, ".jpg")
    entity = '<!DOCTYPE x [<!ENTITY a "ha"><!ENTITY b "&a;&a;">]><x:xmpmeta>&b;</x:xmpmeta>'
    for name, xmp in (("entities", entity), ("a number", 'tiff:Orientation="99"'), ("2 MB", "x" * 2_000_000)):
        info = PngImagePlugin.PngInfo()
        info.add_itxt("XML:com.adobe.xmp", xmp)
        image = Image.fromarray(values)
        right = Right.EITHER if name == "2 MB" else Pixels(values)
        yield image_case("metadata", f"PNG, XMP of {name}", partial(encoded, image, "PNG", pnginfo=info), right)


def _polyglots() -> Iterator[Case]:
    """What begins as something else is nothing that is looked for a picture in."""
    picture = encoded(Image.fromarray(noise(21)), "JPEG")
    stored = io.BytesIO()
    with zipfile.ZipFile(stored, "w") as file:
        file.writestr(zipfile.ZipInfo("a.jpg"), picture)  # ZipInfo: the same bytes at any time of day
    made = {
        "PDF": b"%PDF-1.4\n" + picture,
        "zip of a picture": stored.getvalue(),
        "HTML": b"<html><img src='data:image/jpeg;base64,'>" + picture,
        "SVG": b"<svg xmlns='http://www.w3.org/2000/svg'><script>alert(1)</script></svg>",
        "SVG of a file": b"<?xml version='1.0'?><!DOCTYPE s [<!ENTITY x SYSTEM 'file:///etc/passwd'>]><s>&x;</s>",
        "PostScript": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n(/etc/passwd) (r) file\n",
        "pickle": pickle.dumps({"weights": [1.0, 2.0]}),
        "JSON": json.dumps({"image": "data:,"}).encode(),
        "shell": b"#!/bin/sh\nid\n" + picture,
        "ELF": b"\x7fELF\2\1\1" + bytes(200),
        "a list of files": b"push graphic-context\nimage over 0,0 0,0 'ephemeral:/tmp/x'\n",
    }
    for name, data in made.items():
        # The command line takes a set of photos, too, whatever its file is called.
        right = Right.EITHER if name == "zip of a picture" else Right.SENTENCE
        yield image_case("polyglots", name, data, right, ".jpg")


def _others() -> Iterator[Case]:
    image = Image.fromarray(noise(22))
    for kind in ("PPM", "ICO", "EPS", "PCX", "TGA", "SGI", "PDF", "DDS", "JPEG2000", "ICNS", "IM", "MSP", "SPIDER"):
        made = {"MSP": image.convert("1"), "SPIDER": image.convert("F")}.get(kind, image)
        # Without dates of its own a PDF holds the hour at which it was written.
        dates = {"creationDate": time.gmtime(0), "modDate": time.gmtime(0)} if kind == "PDF" else {}
        yield image_case("other formats", kind, partial(encoded, made, kind, **dates), Right.SENTENCE)


def _rubbish() -> Iterator[Case]:
    heads = {
        "nothing": b"",
        "PNG": b"\x89PNG\r\n\x1a\n",
        "JPEG": b"\xff\xd8\xff\xe0",
        "GIF": b"GIF89a",
        "TIFF": b"II*\0",
    }
    for name, head in heads.items():
        for size in (1, 30, 5000):
            data = head + np.random.default_rng(size).bytes(size)
            right = Right.EITHER if name == "GIF" else Right.SENTENCE
            yield image_case("rubbish", f"{size} bytes after {name}", data, right)
