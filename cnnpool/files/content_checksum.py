"""A checksum appended to the content of an HDF5 file.

The header of an HDF5 file contains its length. Readers ignore anything after that, and programs
that modify the file truncate it there. HDF5's own checksums (fletcher32) cover only chunks of
arrays, not names, shapes, attributes and addresses, and a corrupted address can put the library
into an infinite loop. They are also sums modulo 65535, which cannot distinguish two zero bytes
from two bytes of 255.
"""

import hashlib

_MARK = b"\ncnnpool sha256 "
LENGTH = len(_MARK) + hashlib.sha256().digest_size * 2


def with_checksum(content: bytes) -> bytes:
    """The content of a file, followed by its SHA-256."""
    return content + _MARK + hashlib.sha256(content).hexdigest().encode()


def is_unchanged(content: bytes) -> bool | None:
    """Whether content matches its appended checksum; None if it has no checksum."""
    inner, behind = content[:-LENGTH], content[-LENGTH:]
    return with_checksum(inner) == content if behind.startswith(_MARK) else None
