"""Text of a data set, whatever its Specific Character Set says (PS3.3 C.12.1.1.2, PS3.5 6.1).

Never fails and never calls a decoder that warns: a wrong or unknown character set costs a few
characters and a note, never an image.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from pydicom.charset import CODES_TO_ENCODINGS, handled_encodings, python_encoding

_ESCAPE = b"\x1b"
_FRAGMENTS = re.compile(rb"\x1b[^\x1b]*|[^\x1b]+")
_CONTROLS = re.compile(r"[\x00-\x1f\x7f-\x9f]+")
_DELIMITERS = re.compile(rb"[\\^=\r\n\f\t]")
_LATIN = "latin_1"


@dataclass(frozen=True, slots=True)
class CharacterSet:
    """The Python codecs of one Specific Character Set, the first for text without escapes.

    ``unknown`` is true when a defined term was not one of the standard's; UTF-8, then Latin-1 is
    tried instead.
    """

    codecs: tuple[str, ...] = (_LATIN,)
    unknown: bool = False

    @classmethod
    def of(cls, terms: Sequence[str]) -> "CharacterSet":
        """Read the values of (0008,0005), misspelt ones too (``ISO IR 100``, ``iso-ir 192``)."""
        found = [_codec(term) for term in terms] or [_LATIN]
        known = tuple(codec for codec in found if codec)
        if not found[0]:
            known = ("utf_8", *known)
        return cls(known or ("utf_8",), unknown=None in found)

    def decode(self, value: bytes) -> tuple[str, bool]:
        """Give the text without control characters, and whether every byte was understood."""
        if value.isascii() and _ESCAPE not in value:
            return clean(value.decode("ascii")), True
        try:
            if _ESCAPE in value:
                text = "".join(self._fragment(part) for part in _FRAGMENTS.findall(value))
            else:
                text = value.decode(self.codecs[0])
        except (UnicodeError, LookupError):
            return clean(_fallback(value)), False
        return clean(text), not self.unknown

    def _fragment(self, part: bytes) -> str:
        """Decode up to the next escape; a delimiter goes back to the first character set."""
        if not part.startswith(_ESCAPE):
            return part.decode(self.codecs[0])
        length = 4 if part[1:3] in (b"$(", b"$)") else 3
        codec = CODES_TO_ENCODINGS.get(part[:length])
        if codec is None:
            raise UnicodeError(part[:length])
        if codec in handled_encodings:  # this codec reads its own escapes
            return part.decode(codec)
        delimiter = _DELIMITERS.search(part, length)
        if delimiter is None:
            return part[length:].decode(codec)
        end = delimiter.start()
        return part[length:end].decode(codec) + part[end:].decode(self.codecs[0])


def clean(text: str) -> str:
    """Text without control characters: a database refuses NUL, and a log line must stay one."""
    return _CONTROLS.sub(" ", text).strip() if not text.isprintable() else text.strip()


def _codec(term: str) -> str | None:
    """The Python codec of one defined term, None for an unknown one."""
    wanted = re.sub(r"[\s_-]+", " ", term.strip().upper())
    for name, codec in python_encoding.items():
        if name.replace("_", " ") == wanted:
            return _LATIN if codec == "iso8859" else codec
    return None


def _fallback(value: bytes) -> str:
    plain = value.replace(_ESCAPE, b"")
    try:
        return plain.decode("utf_8")
    except UnicodeError:
        return plain.decode(_LATIN)
