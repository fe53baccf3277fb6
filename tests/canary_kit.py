"""Slides with a canary in every field that could name somebody, and eyes that find a canary however it is wrapped."""

from __future__ import annotations

import base64
import binascii
import html
import io
import itertools
import os
import re
import shutil
import struct
import subprocess
import urllib.parse
import zlib
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import pyarrow as pa
import pydicom
import pytest
from PIL import Image
from pydicom.dataset import Dataset
from tifffile import TiffFile, imwrite

from tests.site_kit import picture
from tests.tiffs import cut_tiles, jpeg_tiles, set_tag, with_comment, write_tiles
from wsistore.testing.dicom import PATIENT, write_series
from wsistore.testing.ndpi import write_ndpi
from wsistore.testing.pictures import label_image, macro_image, srgb_profile
from wsistore.testing.tiffs import write_ome_tiff, write_svs

SONG = "KANARI"
"""What every canary begins with: who finds this, found one, and the rest says which."""

Planted = dict[str, str]
"""Canary by the field that it sits in."""


# --- making -----------------------------------------------------------------------------------------------------------


class Aviary:
    """Canaries, each of its own: letters and digits, eleven of them, so that the shortest fields take one."""

    def __init__(self) -> None:
        self._numbers = itertools.count(1)
        self.planted: Planted = {}

    def new(self, field: str) -> str:
        """Return a canary for a field."""
        number = next(self._numbers)
        canary = f"{SONG}{number:03}{'BCDFGHJKLM'[number % 10]}{'NPQRSTVWXZ'[number // 10 % 10]}"
        self.planted[field] = canary
        return canary

    def label(self, slide: str) -> np.ndarray:
        """Return a picture of a paper label that a person, and a program, can read."""
        return label_image(f"{self.new(slide + ' label')}\n{SONG} LABEL\n2031-05-14")


def all_slides(folder: Path, aviary: Aviary) -> list[Path]:
    """Write a slide of every format, with a canary wherever that format lets somebody put a name."""
    folder.mkdir(parents=True, exist_ok=True)
    makers = (svs, tiles_with_comments, jpeg2000_tiles, webp_tiles, deflate_tiles, ndpi, ome, dicom, flat)
    return [make(folder, aviary) for make in makers]


def _levels(seed: int) -> list[np.ndarray]:
    first = picture(320, 400, seed)
    return [first, np.ascontiguousarray(first[::4, ::4])]


_APERIO = (
    "ScanScope ID", "Filename", "Title", "User", "BarcodeID", "Barcode", "Patient", "Case", "Slide", "Specimen",
    "Accession", "Name", "Comments", "Operator", "Custom Field of a Laboratory",
)  # fmt: skip


def svs(folder: Path, aviary: Aviary) -> Path:
    """Write Aperio's, with names in the description, the tables, the colour profile, the label and the macro."""
    path = folder / f"{aviary.new('svs file name')}.svs"
    label = aviary.label("svs")
    properties = {field: aviary.new(f"svs {field}") for field in _APERIO}
    icc = profile_named(aviary.new("svs ICC description") + "XX")
    levels = _levels(31)
    macro = macro_image(levels[-1], label=label)
    write_svs(path, levels, tile=128, label=label, macro=macro, properties=properties, icc=icc)
    with TiffFile(path) as tiff:
        tables = bytes(tiff.pages[0].tags[347].value)  # type: ignore[union-attr]
    set_tag(path, 0, 347, with_comment(tables, aviary.new("svs comment in JPEGTables").encode()))
    return path


def profile_named(name: str) -> bytes:
    """Return an ICC profile of which the description, 13 letters long, is `name`."""
    profile, usual = srgb_profile(), "sRGB built-in"
    assert len(name) == len(usual)
    code = "utf-16-be" if usual.encode("utf-16-be") in profile else "ascii"
    assert usual.encode(code) in profile
    return profile.replace(usual.encode(code), name.encode(code))


_TEXT_TAGS = {
    269: "DocumentName", 270: "ImageDescription", 271: "Make", 272: "Model", 285: "PageName", 305: "Software",
    315: "Artist", 316: "HostComputer", 33432: "Copyright", 42016: "ImageUniqueID", 65000: "private",
}  # fmt: skip
_BYTE_TAGS = {700: "XMP", 33723: "IPTC", 34377: "Photoshop", 40092: "XPComment", 50839: "ImageJ"}


def tiles_with_comments(folder: Path, aviary: Aviary) -> Path:
    """Write a TIFF of nobody in particular, with names in its tags and within and behind its tiles' bitstreams."""
    path = folder / f"{aviary.new('tiff file name')}.tiff"
    tiles = jpeg_tiles(picture(256, 384, 32), (128, 128))
    marks = {0xFE: "COM", 0xE1: "APP1 Exif", 0xE2: "APP2", 0xED: "APP13", 0xE5: "APP5", 0xEF: "APP15"}
    for number, (code, name) in enumerate(marks.items()):
        text = aviary.new(f"tiff tile's {name}").encode()
        before = {0xE1: b"Exif\0\0II*\0", 0xE2: b"ICC_PROFILE\0\1\1", 0xED: b"Photoshop 3.0\0"}.get(code, b"")
        at = number % len(tiles)
        tiles[at] = with_comment(tiles[at], before + text, code)
    tiles[-1] += aviary.new("behind a tiff tile").encode()
    tags = [(code, "s", 0, aviary.new(f"tiff {name}"), True) for code, name in _TEXT_TAGS.items() if code != 270]
    for code, name in _BYTE_TAGS.items():
        data = aviary.new(f"tiff {name}").encode()
        tags.append((code, "B", len(data), data, True))  # type: ignore[arg-type]
    return write_tiles(
        path, tiles, (256, 384, 3), (128, 128), 7, description=aviary.new("tiff ImageDescription"), software=False,
        photometric="ycbcr", subsampling=(1, 1), extratags=tags, datetime="2031:05:14 10:11:12",
    )  # fmt: skip


def jpeg2000_tiles(folder: Path, aviary: Aviary) -> Path:
    """Write a TIFF of JPEG 2000 tiles with comments in their codestreams, and bytes behind them."""
    path = folder / f"{aviary.new('j2k file name')}.tiff"
    image = picture(256, 256, 33)
    tiles: list[bytes] = []
    for y, x in itertools.product((0, 128), repeat=2):
        stream = bytes(imagecodecs.jpeg2k_encode(image[y : y + 128, x : x + 128], level=0, codecformat="j2k"))
        text = aviary.new(f"j2k comment {len(tiles)}").encode()
        at = stream.index(b"\xff\x90")  # before the first tile-part: the end of the main header
        comment = b"\xff\x64" + struct.pack(">HH", len(text) + 4, 1) + text
        tiles.append(stream[:at] + comment + stream[at:])
    tiles[1] += aviary.new("behind a j2k tile").encode()
    return write_tiles(path, tiles, (256, 256, 3), (128, 128), 34712, software=False)


def webp_tiles(folder: Path, aviary: Aviary) -> Path:
    """Write a TIFF of WebP tiles that carry Exif and XMP of their own."""
    path = folder / f"{aviary.new('webp file name')}.tiff"
    image = picture(256, 256, 38)
    tiles: list[bytes] = []
    for y, x in itertools.product((0, 128), repeat=2):
        stream = io.BytesIO()
        exif, xmp = aviary.new(f"webp Exif {len(tiles)}").encode(), aviary.new(f"webp XMP {len(tiles)}").encode()
        Image.fromarray(image[y : y + 128, x : x + 128]).save(stream, "WEBP", exif=b"Exif\0\0" + exif, xmp=xmp)
        tiles.append(stream.getvalue())
    return write_tiles(path, tiles, (256, 256, 3), (128, 128), 50001, software=False)


def deflate_tiles(folder: Path, aviary: Aviary) -> Path:
    """Write a TIFF of deflated tiles with something behind the end of one."""
    path = folder / f"{aviary.new('deflate file name')}.tiff"
    tiles = [zlib.compress(one.tobytes()) for one in cut_tiles(picture(256, 256, 39), (128, 128))]
    tiles[1] += aviary.new("behind a deflated tile").encode()
    return write_tiles(path, tiles, (256, 256, 3), (128, 128), 8, software=False)


def ndpi(folder: Path, aviary: Aviary) -> Path:
    """Write Hamamatsu's, with names in its tags and its JPEGs' comments."""
    path = folder / f"{aviary.new('ndpi file name')}.ndpi"
    levels = [picture(256, 512, 34), picture(64, 128, 34)]
    macro = macro_image(levels[-1], label=aviary.label("ndpi"))
    reference, serial = aviary.new("ndpi Reference"), aviary.new("ndpi NDP.S/N")
    write_ndpi(path, levels, macro=macro, reference=reference, serial=serial)
    usual = b"Hamamatsu NanoZoomer Digital Pathology\0"
    data = path.read_bytes()
    assert usual in data
    path.write_bytes(data.replace(usual, aviary.new("ndpi JPEG comment").encode().ljust(len(usual), b" ")))
    return path


def ome(folder: Path, aviary: Aviary) -> Path:
    """Write an OME-TIFF, with names in its XML."""
    path = folder / f"{aviary.new('ome file name')}.ome.tiff"
    levels = [picture(256, 256, 35), picture(64, 64, 35)]
    write_ome_tiff(path, levels, codec="jpeg", tile=(128, 128), name=aviary.new("ome Name"))
    with TiffFile(path) as tiff:
        xml = str(tiff.pages[0].tags[270].value)  # type: ignore[union-attr]
    people = (
        f'<Experimenter ID="Experimenter:0" UserName="{aviary.new("ome UserName")}" '
        f'LastName="{aviary.new("ome LastName")}" Email="{aviary.new("ome Email")}"/>'
        f'<Instrument ID="Instrument:0"><Microscope SerialNumber="{aviary.new("ome SerialNumber")}"/></Instrument>'
    )
    at = xml.index("<Image ")
    inside = xml.index("<Pixels")
    said = f"<AcquisitionDate>2031-05-14T10:11:12</AcquisitionDate><Description>{aviary.new('ome Description')}"
    said += "</Description>"
    set_tag(path, 0, 270, (xml[:at] + people + xml[at:inside] + said + xml[inside:]).encode())
    return path


_DICOM = (
    "PatientName", "PatientID", "OtherPatientIDs", "PatientAddress", "PatientMotherBirthName", "PatientComments",
    "AccessionNumber", "StudyID", "StudyDescription", "SeriesDescription", "ProtocolName", "ImageComments",
    "ReferringPhysicianName", "PerformingPhysicianName", "OperatorsName", "InstitutionName", "InstitutionAddress",
    "InstitutionalDepartmentName", "StationName", "DeviceSerialNumber", "ContainerIdentifier", "BarcodeValue",
    "AdmissionID", "RequestedProcedureDescription", "EthnicGroup", "Occupation", "AdditionalPatientHistory",
    "ClinicalTrialSubjectID", "LabelText", "IssuerOfPatientID", "RequestingPhysician", "ManufacturerModelName",
)  # fmt: skip


def dicom(folder: Path, aviary: Aviary) -> Path:
    """Write a DICOM series, with names in attributes, sequences, private tags and its label."""
    path = folder / aviary.new("dicom folder name")
    named: dict[str, Any] = dict(PATIENT) | {field: aviary.new(f"dicom {field}") for field in _DICOM}
    specimen = Dataset()
    specimen.SpecimenIdentifier = aviary.new("dicom SpecimenIdentifier")
    specimen.SpecimenUID = "1.2.826.0.1.3680043.8.498.31415926535"
    specimen.SpecimenShortDescription = aviary.new("dicom SpecimenShortDescription")
    specimen.SpecimenPreparationSequence = []
    named["SpecimenDescriptionSequence"] = [specimen]
    levels = [picture(256, 384, 36), picture(64, 96, 36)]
    label = aviary.label("dicom")
    icc = profile_named(aviary.new("dicom ICC description") + "XX")
    written = write_series(
        path, levels, tile=(128, 128), label=label, macro=macro_image(levels[-1], label=label), patient=named,
        seed=3141, icc=icc,
    )  # fmt: skip
    private = aviary.new("dicom private element")
    for one in written:
        instance = pydicom.dcmread(one)
        instance.private_block(0x0009, "MADE-UP SCANNERS", create=True).add_new(1, "LO", private)
        instance.save_as(one)
        one.rename(one.with_name(f"{aviary.new('dicom file name')}.dcm"))
    return path


def flat(folder: Path, aviary: Aviary) -> Path:
    """Write a TIFF in strips: a slide that is kept whole."""
    path = folder / f"{aviary.new('flat file name')}.tiff"
    imwrite(
        path, picture(256, 320, 37), photometric="rgb", compression="lzw", rowsperstrip=16, software=False,
        description=aviary.new("flat ImageDescription"), metadata=None,
        extratags=[(315, "s", 0, aviary.new("flat Artist"), True)],
    )  # fmt: skip
    return path


# --- finding ----------------------------------------------------------------------------------------------------------


_READABLE = 700
"""Pixels along a picture's longer side, at least: the program wants letters of some twenty."""
_ENCODED = tuple(
    form.lower()
    for text in (SONG, SONG[::-1])
    for form in (text.encode(), text.encode("utf-16-le")[:-1], text.encode().hex().encode())
)
_BASE64 = re.compile(rb"[A-Za-z0-9+/_-]{12,}")
_MAGIC: tuple[tuple[bytes, Callable[[bytes], bytes]], ...] = (
    (b"\x1f\x8b\x08", lambda data: zlib.decompressobj(31).decompress(data, 1 << 24)),
    (b"\x28\xb5\x2f\xfd", lambda data: bytes(imagecodecs.zstd_decode(data))),
    (b"\x04\x22\x4d\x18", lambda data: bytes(imagecodecs.lz4f_decode(data))),
    (b"\0\0\0\x0cJXL ", lambda data: bytes(imagecodecs.jpegxl_decode_jpeg(data, numthreads=1))),
    (b"\x78\x01", lambda data: zlib.decompressobj().decompress(data, 1 << 24)),
    (b"\x78\x5e", lambda data: zlib.decompressobj().decompress(data, 1 << 24)),
    (b"\x78\x9c", lambda data: zlib.decompressobj().decompress(data, 1 << 24)),
    (b"\x78\xda", lambda data: zlib.decompressobj().decompress(data, 1 << 24)),
)


def found_in(data: bytes, also: tuple[bytes, ...] = ()) -> str | None:
    """Return a piece of `data` around a canary, or around one of `also`; None if there is none in any wrapping."""
    for form in unwrapped(data):
        lower = form.lower()
        for wanted in (*_ENCODED, *(one.lower() for one in also)):
            at = lower.find(wanted)
            if at >= 0:
                return repr(form[max(0, at - 60) : at + 80])
    return None


def unwrapped(data: bytes, depth: int = 3) -> Iterator[bytes]:
    """Return `data` and whatever can be had from it by unpacking, decoding and unescaping, to some depth."""
    yield data
    if not depth:
        return
    for inner in _within(data):
        if inner and inner != data:
            yield from unwrapped(inner, depth - 1)


def _within(data: bytes) -> Iterator[bytes]:
    for magic, unpack in _MAGIC:
        at = data.find(magic)
        while at >= 0:
            with suppress(Exception):
                yield unpack(data[at:])
            at = data.find(magic, at + 1)
    if data.startswith(b"ARROW1") or b"ARROW:" in data or data[:4] == b"\xff\xff\xff\xff":
        yield str(_arrow(data)).encode()
    if data.isascii() or _is_text(data):
        yield from _texts(data)


def _arrow(data: bytes) -> list[Any]:
    with suppress(pa.ArrowInvalid):
        table = pa.ipc.open_file(io.BytesIO(data)).read_all()
        return [table.to_pylist(), table.schema.metadata, table.schema.names]
    with suppress(pa.ArrowInvalid):
        table = pa.ipc.open_stream(io.BytesIO(data)).read_all()
        return [table.to_pylist(), table.schema.metadata, table.schema.names]
    return []


def _is_text(data: bytes) -> bool:
    with suppress(UnicodeDecodeError):
        data.decode()
        return True
    return False


def _texts(data: bytes) -> Iterator[bytes]:
    text = data.decode()
    yield html.unescape(text).encode("utf-8", "replace")
    yield urllib.parse.unquote_to_bytes(data)
    if "\\u" in text:
        yield re.sub(r"\\u([0-9a-fA-F]{4})", lambda m: chr(int(m[1], 16)), text).encode("utf-8", "replace")
    for run in _BASE64.findall(data):
        plain = run.translate(bytes.maketrans(b"-_", b"+/"))
        for skip in range(4):
            piece = plain[skip:]
            with suppress(binascii.Error):
                yield base64.b64decode(piece[: len(piece) // 4 * 4])


def read_by_ocr(*images: np.ndarray) -> str:
    """Return what a program reads on pictures, (y, x, 3) or (y, x) each, as capitals without spaces."""
    if shutil.which("tesseract") is None:
        pytest.skip("needs Debian's package tesseract-ocr: run scripts/install-test-packages")
    shown = [Image.fromarray(np.ascontiguousarray(image)).convert("RGB") for image in images]
    for number, one in enumerate(shown):
        if max(one.size) < _READABLE:
            factor = -(-_READABLE // max(one.size))
            shown[number] = one.resize((one.width * factor, one.height * factor), Image.Resampling.BICUBIC)
    # All on one sheet: starting the program takes longer than reading.
    sheet = Image.new("RGB", (max(one.width for one in shown), sum(one.height + 20 for one in shown)), "white")
    top = 0
    for one in shown:
        sheet.paste(one, (0, top))
        top += one.height + 20
    stream = io.BytesIO()
    sheet.save(stream, "PNG", compress_level=1)
    said = subprocess.run(
        ["tesseract", "-", "-", "--psm", "11"], input=stream.getvalue(), capture_output=True, check=True, timeout=240,
        env=dict(os.environ) | {"OMP_THREAD_LIMIT": "1"},
    ).stdout  # fmt: skip
    return re.sub(rb"[^A-Z0-9]", b"", said.upper()).decode()


def sings(text: str) -> bool:
    """Say whether a text that was read from a picture has a canary in it, with a letter misread or two."""
    plain = text.translate(str.maketrans("104|", "IOAI"))
    return any(part in plain for part in ("KANAR", "ANARI", "LABEL"))
