"""The header of one DICOM file: pydicom's data set, and where the parts lie that must not be loaded."""

from __future__ import annotations

import io
import threading
import warnings
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, BinaryIO, cast

from pydicom import config
from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset
from pydicom.filereader import read_dataset
from pydicom.multival import MultiValue
from pydicom.sequence import Sequence as PydicomSequence
from pydicom.uid import UID

from wsistore.errors import BrokenError, InputError, Kind, UnsupportedError
from wsistore.slides.dicom.raw import (
    ITEM_BYTES,
    ITEM_BYTES_BIG,
    Element,
    Encoding,
    Raw,
    broken,
    count_headers,
    element_at,
    end_of,
    implausible,
)
from wsistore.units import MIB

PREAMBLE_BYTES = 132
MAGIC = b"DICM"

IMPLICIT = "1.2.840.10008.1.2"
DEFLATED = "1.2.840.10008.1.2.1.99"
BIG_ENDIAN = "1.2.840.10008.1.2.2"

MAX_HEADER_BYTES = 32 * MIB
"""All that is read of one file's header; several hundred times what scanners write."""
MAX_VALUE_BYTES = 8 * MIB
"""Longer values are passed over."""
MAX_READS = 100_000
"""Every element costs at least one: a header of nothing but empty elements would take minutes."""

_PER_FRAME = 0x52009230
_EXTENDED_OFFSETS = 0x7FE00001
_EXTENDED_LENGTHS = 0x7FE00002
_PIXEL_DATA = 0x7FE00010

_QUIET = threading.Lock()
_INSIDE = threading.local()


@contextmanager
def quiet() -> Iterator[None]:
    """Keep pydicom's warnings about odd values from users, and the values, which may identify, from logs.

    One thread at a time: the settings are global. Within itself it costs next to nothing.
    """
    if getattr(_INSIDE, "yes", False):
        yield
        return
    with _QUIET, config.disable_value_validation(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        _INSIDE.yes = True
        try:
            yield
        finally:
            _INSIDE.yes = False


@dataclass(frozen=True, slots=True)
class Header:
    """What one file says before and behind its pixels."""

    dataset: Dataset
    meta: Dataset
    syntax: str
    """Transfer syntax UID."""
    encoding: Encoding
    pixels: Element | None
    """Pixel Data; None if there is none or if the data set is deflated."""
    per_frame: Element | None
    """Per-frame functional groups, which can be longer than all else and are not loaded."""
    extended: tuple[Element, Element] | None
    """Extended Offset Table and its lengths."""


class _Bounded:
    """The file as pydicom sees it: never more than there is, never more than `MAX_HEADER_BYTES` in all."""

    def __init__(self, raw: Raw) -> None:
        self._raw = raw
        self._offset = 0
        self._left_bytes = MAX_HEADER_BYTES
        self._left_reads = MAX_READS
        self.failure: InputError | None = None
        self.name = raw.name

    def read(self, length_bytes: int = -1) -> bytes:
        left = max(0, self._raw.size_bytes - self._offset)
        wanted = left if length_bytes < 0 else min(length_bytes, left)
        self._left_bytes -= wanted
        self._left_reads -= 1
        if self._left_bytes < 0 or self._left_reads < 0:
            most = f"{MAX_HEADER_BYTES // MIB} MiB" if self._left_bytes < 0 else f"{MAX_READS} elements"
            # Kept, because pydicom turns what is raised here into errors of its own.
            self.failure = implausible(self.name, f"its header has more than {most}")
            raise self.failure
        try:
            data = self._raw.peek(self._offset, wanted)
        except InputError as error:
            self.failure = error
            raise
        self._offset += len(data)
        return data

    def seek(self, offset: int, whence: int = 0) -> int:
        base = (0, self._offset, self._raw.size_bytes)[whence]
        self._offset = max(0, base + offset)
        return self._offset

    def tell(self) -> int:
        return self._offset


Stop = Callable[[int], bool]


class _Parser:
    """Reads runs of one file's elements through pydicom, from one offset to the first tag that stops it."""

    def __init__(self, raw: Raw) -> None:
        self.raw = raw
        self._stream = _Bounded(raw)

    def run(self, offset: int, encoding: Encoding, stop: Stop, only: list[int] | None = None) -> tuple[Dataset, int]:
        self._stream.seek(offset)
        try:
            with quiet():
                dataset = read_dataset(
                    cast("BinaryIO", self._stream),
                    encoding.implicit,
                    not encoding.big_endian,
                    stop_when=lambda tag, _vr, _length: stop(int(tag)),
                    defer_size=MAX_VALUE_BYTES,
                    specific_tags=cast("Any", only),
                )
        except Exception as error:
            # pydicom raises whatever a damaged value makes Python raise: no shorter list is complete.
            if self._stream.failure is not None:
                raise self._stream.failure from error
            raise broken(self.raw.name, "its header cannot be read") from error
        if self._stream.failure is not None:
            raise self._stream.failure
        self._check_sequences(dataset, encoding)
        return dataset, self._stream.tell()

    def join(self, dataset: Dataset, more: Dataset) -> None:
        """Add the elements of `more`."""
        try:
            with quiet():
                dataset.update(more)
        except Exception as error:
            # As in `run`.
            raise broken(self.raw.name, "its header cannot be read") from error

    def _check_sequences(self, dataset: Dataset, encoding: Encoding) -> None:
        """Raise if the sequences, which pydicom takes apart only when they are used, have elements beyond reason."""
        left = MAX_READS
        for element in dataset.values():
            data = element.value if isinstance(element, RawDataElement) else None
            if isinstance(data, bytes) and data[:4] in {ITEM_BYTES, ITEM_BYTES_BIG}:
                left -= count_headers(data, encoding, left)
                if left <= 0:
                    raise implausible(self.raw.name, f"its header has more than {MAX_READS} elements")


def _start(raw: Raw) -> tuple[_Parser, Dataset, str, int]:
    """Return a parser, the file meta information, the transfer syntax and the offset of the data set."""
    head = raw.read(0, PREAMBLE_BYTES)
    if not head:
        msg = f"{raw.name} is empty."
        raise BrokenError(msg, kind=Kind.SOURCE_EMPTY, remedy="Copy the file again from where it came.")
    if head[128:] != MAGIC:
        msg = f"{raw.name} is not a DICOM file."
        raise UnsupportedError(msg, remedy="Name a DICOM file, or the folder of a series.")
    parser = _Parser(raw)
    meta, offset = parser.run(PREAMBLE_BYTES, Encoding(implicit=False), lambda tag: tag >> 16 != 2)
    return parser, meta, text(meta, "TransferSyntaxUID"), offset


def _inflate(raw: Raw, offset: int) -> Raw:
    """Return the beginning of a deflated data set, as far as a header may reach."""
    engine = zlib.decompressobj(-zlib.MAX_WBITS)
    data = bytearray()
    try:
        while len(data) < MAX_HEADER_BYTES and not engine.eof:
            block = engine.unconsumed_tail or raw.read(offset, MIB)
            if not block:
                break
            if not engine.unconsumed_tail:
                offset += len(block)
            data += engine.decompress(block, MAX_HEADER_BYTES - len(data))
    except zlib.error as error:
        raise broken(raw.name, "its deflated data set cannot be inflated") from error
    return Raw(io.BytesIO(bytes(data)), raw.name)


def read_header(file: BinaryIO, name: str) -> Header:
    """Read a DICOM file's header, leaving out pixel data and per-frame functional groups.

    Parameters
    ----------
    file
        Seekable and binary; not closed here.
    name
        For messages.

    Raises
    ------
    InputError
        If it is empty, not DICOM, damaged, or cannot be read.

    """
    raw = Raw(file, name)
    parser, meta, syntax, offset = _start(raw)
    if not syntax:
        raise broken(name, "it does not say its transfer syntax")
    encoding = Encoding(implicit=syntax == IMPLICIT, big_endian=syntax == BIG_ENDIAN)
    if syntax == DEFLATED:
        dataset, _ = _Parser(_inflate(raw, offset)).run(0, encoding, lambda tag: tag >= _PER_FRAME)
        return Header(dataset, meta, syntax, encoding, None, None, None)
    dataset, offset = parser.run(offset, encoding, lambda tag: tag >= _PER_FRAME)
    found, behind = _large_elements(parser, dataset, offset, encoding)
    if behind is not None:
        parser.join(dataset, parser.run(behind, encoding, lambda tag: tag == _PIXEL_DATA)[0])
    extended = (found.get(_EXTENDED_OFFSETS), found.get(_EXTENDED_LENGTHS))
    return Header(
        dataset,
        meta,
        syntax,
        encoding,
        found.get(_PIXEL_DATA),
        found.get(_PER_FRAME),
        cast("tuple[Element, Element]", extended) if all(extended) else None,
    )


def _large_elements(
    parser: _Parser, dataset: Dataset, offset: int, encoding: Encoding
) -> tuple[dict[int, Element], int | None]:
    """Return the elements that are not loaded by tag, and the offset behind native pixels; others join `dataset`."""
    found: dict[int, Element] = {}
    large = {_PER_FRAME, _EXTENDED_OFFSETS, _EXTENDED_LENGTHS, _PIXEL_DATA}
    while (element := element_at(parser.raw, offset, encoding)) is not None:
        if element.tag not in large:
            more, behind = parser.run(offset, encoding, large.__contains__)
            parser.join(dataset, more)
            if behind <= offset:
                raise broken(parser.raw.name, f"element {element.tag:08X} cannot be read")
            offset = behind
            continue
        if element.tag in found:
            raise broken(parser.raw.name, f"element {element.tag:08X} is there twice")
        found[element.tag] = element
        if element.tag == _PIXEL_DATA:
            end = element.start + element.length_bytes
            return found, end if not element.undefined and end < parser.raw.size_bytes else None
        offset = end_of(parser.raw, element, encoding)
    return found, None


def read_trailer(raw: Raw, header: Header, offset: int) -> Dataset:
    """Return the elements behind compressed pixel data, which end at `offset`.

    Raises
    ------
    InputError
        If they are damaged or cannot be read.

    """
    return _Parser(raw).run(offset, header.encoding, lambda tag: tag == _PIXEL_DATA)[0]


@dataclass(frozen=True, slots=True)
class Identity:
    """The UIDs that say what a file is and where it belongs; empty where it does not tell."""

    sop_class: str
    sop_instance: str
    series: str


def peek_identity(file: BinaryIO, name: str) -> Identity:
    """Read no more of a DICOM file than what says which instance of which series it is.

    Raises
    ------
    InputError
        As `read_header`.

    """
    raw = Raw(file, name)
    parser, meta, syntax, offset = _start(raw)
    source = parser
    if syntax == DEFLATED:
        source, offset = _Parser(_inflate(raw, offset)), 0
    encoding = Encoding(implicit=syntax == IMPLICIT, big_endian=syntax == BIG_ENDIAN)
    wanted = [0x00080016, 0x00080018, 0x0020000E]
    dataset, _ = source.run(offset, encoding, lambda tag: tag > wanted[-1], wanted)
    return Identity(
        text(dataset, "SOPClassUID") or text(meta, "MediaStorageSOPClassUID"),
        text(dataset, "SOPInstanceUID"),
        text(dataset, "SeriesInstanceUID"),
    )


def value(dataset: Dataset, keyword: str) -> Any:
    """Return an element's value, or None if it is absent, empty or cannot be converted."""
    try:
        with quiet():
            found = dataset.get(keyword)
    except Exception:
        # As in `_Parser.run`: values are converted only when asked for.
        return None
    return None if found == "" else found


def values(dataset: Dataset, keyword: str) -> list[Any]:
    """Return the values of an element that may have several."""
    return as_list(value(dataset, keyword))


def as_list(found: Any) -> list[Any]:
    """Return an element's value as a list; one value as a list of one."""
    if found is None:
        return []
    return list(found) if isinstance(found, (MultiValue, PydicomSequence, list, tuple)) else [found]


def text(dataset: Dataset, keyword: str) -> str:
    """Return an element's first value as text, empty if there is none."""
    found = values(dataset, keyword)
    return str(found[0]).strip(" \0") if found else ""


def integer(dataset: Dataset, keyword: str) -> int | None:
    """Return an element's first value as a whole number, or None."""
    found = values(dataset, keyword)
    try:
        return int(found[0]) if found else None
    except (TypeError, ValueError, OverflowError):
        return None


def numbers(dataset: Dataset, keyword: str) -> list[float]:
    """Return an element's values as numbers; empty if one of them is none."""
    try:
        return [float(number) for number in values(dataset, keyword)]
    except (TypeError, ValueError, OverflowError):
        return []


def items(dataset: Dataset, keyword: str) -> list[Dataset]:
    """Return the items of a sequence; empty if it is absent or no sequence."""
    return [item for item in values(dataset, keyword) if isinstance(item, Dataset)]


def uid_name(uid: str) -> str:
    """Return the standard's name of a UID, or the UID itself where it has none."""
    try:
        return UID(uid, validation_mode=config.IGNORE).name or uid
    except ValueError:
        return uid
