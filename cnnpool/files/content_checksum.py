"""A checksum behind the content of an HDF5 file.

The first bytes of such a file say where it ends; no reader of HDF5 looks at anything after that,
and a program that changes the file cuts it off. HDF5's own checksums (fletcher32) cover only chunks
of arrays, not names, shapes, attributes and addresses; a changed address can make the library
search for ever. They are also sums modulo 65535, which cannot distinguish two bytes of zeros from
two bytes of ones.
"""

import hashlib

_MARK = b"\ncnnpool sha256 "
LENGTH = len(_MARK) + hashlib.sha256().digest_size * 2


def with_checksum(content: bytes) -> bytes:
    """The content of a file, and its SHA-256 behind it."""
    return content + _MARK + hashlib.sha256(content).hexdigest().encode()


def is_unchanged(content: bytes) -> bool | None:
    """Whether the content is what `with_checksum` got; None if there is no checksum behind it."""
    inner, behind = content[:-LENGTH], content[-LENGTH:]
    return with_checksum(inner) == content if behind.startswith(_MARK) else None
