"""Reading and writing small binary records: single bytes, and numbers of seven bits to a byte, the lowest first."""

from __future__ import annotations

from wsistore.compress.coding import CodingError

_MOST_VARINT_BYTES = 9


def varint(number: int) -> bytes:
    """Return a number, not negative, as LEB128."""
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)


class Cursor:
    """Reads a record from its start; whatever is not there is a `CodingError`."""

    def __init__(self, data: bytes) -> None:
        self._data, self._at = data, 0

    @property
    def left(self) -> int:
        """Bytes not read yet."""
        return len(self._data) - self._at

    def take(self, length: int) -> bytes:
        """Read `length` bytes."""
        if length > self.left:
            msg = f"ends {length - self.left} bytes too early"
            raise CodingError(msg)
        self._at += length
        return self._data[self._at - length : self._at]

    def rest(self) -> bytes:
        """Read all that is left."""
        return self.take(self.left)

    def byte(self) -> int:
        """Read a byte."""
        return self.take(1)[0]

    def varint(self) -> int:
        """Read a number of at most 63 bits."""
        number = 0
        for place in range(_MOST_VARINT_BYTES):
            byte = self.byte()
            number |= (byte & 0x7F) << 7 * place
            if byte < 0x80:
                return number
        msg = "has a number of more than 63 bits in it"
        raise CodingError(msg)
