"""Kinds of files by their names and first bytes: pictures that are read, and others, which are named."""

from __future__ import annotations

from collections.abc import Callable, Sequence

HEIF_SUFFIXES = frozenset({".heic", ".heif", ".hif"})
IMAGE_SUFFIXES = HEIF_SUFFIXES | {
    ".jpg",
    ".jpeg",
    ".jpe",
    ".jfif",
    ".png",
    ".webp",
    ".bmp",
    ".dib",
    ".gif",
    ".tif",
    ".tiff",
    ".avif",
}
"""File name endings (lower case) that count as pictures when a folder or an archive is searched."""

FORMATS_IN_WORDS = "JPEG, PNG, WebP, HEIC, AVIF, BMP, GIF or TIFF"
ARCHIVE_SUFFIXES = frozenset({".zip", ".tar", ".gz", ".tgz", ".bz2", ".xz", ".7z", ".rar", ".parquet"})

_RAW_SUFFIXES = """
.dng .cr2 .cr3 .crw .nef .nrw .arw .srf .sr2 .raf .orf .rw2 .pef .srw .x3f .raw .rwl .3fr .iiq
"""
_RAW = "a camera's raw file", "Export it as JPEG from the camera's program or a photo editor"
_VIDEO = "a video", "Save some of its frames as JPEG"
_JPEG_XL = "JPEG XL", "Save it as JPEG or PNG"
_JPEG_2000 = "JPEG 2000", "Save it as JPEG or PNG"
_PHOTOSHOP = "a Photoshop document", "Export it as JPEG or PNG"
_PDF = "a PDF document", "Export its pages as JPEG or PNG"
_SVG = "an SVG drawing", "Export it as PNG"
_DICOM = "a DICOM file", "Export its pictures as PNG"
_NUMPY = "a NumPy array", "Save it as PNG"
_ICON = "an icon", "Save it as PNG"
_NETPBM = "a Netpbm picture", "Save it as PNG"
_PARQUET = "a Parquet file", "Give it as a data set"
_ZIP = "a zip archive", "Give it as a data set, or unpack it"
_ARCHIVE = "an archive", "Unpack it and give the folder"

_BY_SUFFIX = {
    **dict.fromkeys(_RAW_SUFFIXES.split(), _RAW),
    **dict.fromkeys([".mp4", ".mov", ".avi", ".mkv", ".webm", ".m4v", ".3gp", ".mts", ".wmv"], _VIDEO),
    **dict.fromkeys([".jp2", ".j2k", ".jpx", ".jpf"], _JPEG_2000),
    **dict.fromkeys([".psd", ".psb"], _PHOTOSHOP),
    **dict.fromkeys([".dcm", ".dicom"], _DICOM),
    **dict.fromkeys([".npy", ".npz"], _NUMPY),
    **dict.fromkeys([".ico", ".icns"], _ICON),
    **dict.fromkeys([".ppm", ".pgm", ".pbm"], _NETPBM),
    ".jxl": _JPEG_XL,
    ".pdf": _PDF,
    ".svg": _SVG,
    ".svgz": _SVG,
    ".eps": ("a PostScript drawing", "Export it as PNG"),
    ".ai": ("an Illustrator drawing", "Export it as PNG"),
    ".exr": ("an OpenEXR picture", "Export it as PNG"),
    ".tga": ("a Targa picture", "Save it as PNG"),
    ".xcf": ("a GIMP project", "Export it as PNG"),
}
_BY_START = (
    (b"%PDF", _PDF),
    (b"8BPS", _PHOTOSHOP),
    (b"\xff\x0a", _JPEG_XL),
    (b"\0\0\0\x0cJXL \r\n", _JPEG_XL),
    (b"\0\0\0\x0cjP  \r\n", _JPEG_2000),
    (b"\xff\x4f\xff\x51", _JPEG_2000),
    (b"\x93NUMPY", _NUMPY),
    (b"PAR1", _PARQUET),
    (b"PK\3\4", _ZIP),
    (b"Rar!", _ARCHIVE),
    (b"7z\xbc\xaf\x27\x1c", _ARCHIVE),
    (b"\x1f\x8b", _ARCHIVE),
    (b"BZh", _ARCHIVE),
    (b"\xfd7zXZ", _ARCHIVE),
    (b"FUJIFILMCCD-RAW", _RAW),
    (b"IIRO", _RAW),
    (b"IIRS", _RAW),
    (b"IIU\0", _RAW),
    (b"FOVb", _RAW),
    (b"\0\0\1\0", _ICON),
    (b"\x1aE\xdf\xa3", _VIDEO),
    (b"%!PS", ("a PostScript drawing", "Export it as PNG")),
)
_HEIF_BRANDS = {b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs"}
_AVIF_BRANDS = {b"avif", b"avis"}
_DNG_VERSION = 0xC612


def suffix(name: str) -> str:
    """The ending of a file's name with its dot, in lower case; empty where there is none."""
    base = name[name.rfind("/") + 1 :]
    at = base.rfind(".")
    return base[at:].lower() if at > 0 else ""


def is_picture(name: str) -> bool:
    """Whether a file counts as a picture by its name."""
    return suffix(name) in IMAGE_SUFFIXES


def is_photo_of_any_kind(name: str) -> bool:
    """Whether a file is a picture, or of a kind that is named as one which is not read, by its name."""
    return is_picture(name) or suffix(name) in _BY_SUFFIX


def not_read(name: str) -> tuple[str, str] | None:
    """What a file is by its name and what to do with it, for pictures that are not read here; None for other files."""
    return _BY_SUFFIX.get(suffix(name))


def describe_others(names: Sequence[str]) -> str:
    """Files that are no pictures, for a sentence: how many, one of them, and what to do with photos among them."""
    photos = [name for name in names if not_read(name)]
    first = (photos or names)[0]
    said = f"{len(names)} other file{'' if len(names) == 1 else 's'} left out, such as {first}"
    if photos:
        kind, way_out = _BY_SUFFIX[suffix(first)]
        said += f" ({kind}, which is not read here. {way_out})"
    return said


def is_heif(data: bytes) -> bool:
    """Whether these are the bytes of an HEIC or HEIF file."""
    brands = _brands(data)
    return bool(brands & _HEIF_BRANDS) or (b"mif1" in brands and not brands & _AVIF_BRANDS)


def is_avif(data: bytes) -> bool:
    """Whether these are the bytes of an AVIF file."""
    return bool(_brands(data) & _AVIF_BRANDS) and not _brands(data) & _HEIF_BRANDS


def raw_kind(data: bytes, name: str, tags: Callable[[], Sequence[int]]) -> tuple[str, str] | None:
    """What a camera raw file is, and what to do: Pillow would take the small preview in it for the picture.

    Args:
        data: the encoded bytes.
        name: of the file, as many makers' raw files differ from TIFF by nothing else.
        tags: numbers of the tags of a TIFF.
    """
    if data[:4] in (b"II*\0", b"MM\0*"):
        if suffix(name) in _RAW_SUFFIXES.split() or data[8:10] == b"CR" or _DNG_VERSION in tags():
            return _RAW
    elif data[4:11] == b"ftypcrx":
        return _RAW
    return None


def kind_of(data: bytes, name: str) -> tuple[str, str] | None:
    """What bytes are that are not read as a picture, and what to do; None where that is not known.

    Args:
        data: the first bytes at least.
        name: of the file, which counts where its bytes say nothing.
    """
    if data[4:8] == b"ftyp":
        return _VIDEO
    if data[:4] == b"RIFF" and data[8:12] == b"AVI ":
        return _VIDEO
    if data[128:132] == b"DICM":
        return _DICOM
    if data[257:262] == b"ustar":
        return _ARCHIVE
    for start, kind in _BY_START:
        if data.startswith(start):
            return kind
    text = data[:1024].lstrip(b"\xef\xbb\xbf \t\r\n")
    if text.startswith(b"<"):
        if b"<svg" in text.lower():
            return "an SVG drawing (HTML, SVG or XML text)", _SVG[1]
        return "HTML, SVG or XML text", "Save the photo itself"
    if data[:2] in (b"P1", b"P2", b"P3", b"P4", b"P5", b"P6") and data[2:3].isspace():
        return _NETPBM
    if not data.strip(b"\0"):
        return "nothing but zero bytes", "Copy or download it again"
    return not_read(name)


def _brands(data: bytes) -> set[bytes]:
    if data[4:8] != b"ftyp":
        return set()
    end = min(int.from_bytes(data[:4], "big"), len(data), 1024)
    return {data[8:12], *(data[at : at + 4] for at in range(16, end - 3, 4))}
