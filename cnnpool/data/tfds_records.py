"""Reads the records of a split prepared by TFDS, array_record or tfrecord, without TensorFlow.

A tfrecord file is a sequence of records, each framed as (TensorFlow's record_writer.cc)

    uint64 length; uint32 masked CRC-32C of it; the bytes; uint32 masked CRC-32C of them
"""

from collections.abc import Iterator, Sequence
import os
import struct
from typing import Any, NamedTuple

from jaxtyping import UInt32
import numpy as np

from cnnpool.data.tfds_files import FORMATS

_POLYNOMIAL = 0x82F63B78  # polynomial of CRC-32C, bits reversed
_MASK = 0xA282EAD8
_HEADER = struct.Struct("<QI")
_CHECKED_BYTES = 2**27  # records whose checksums are computed together, after padding


class Records:
    """The records of a split, restricted to some features."""

    def __init__(self, builder: Any, split: str, names: Sequence[str]):
        import tensorflow_datasets as tfds

        known = builder.info.features
        self._features = tfds.features.FeaturesDict({name: known[name] for name in names})
        images = [name for name in names if isinstance(known[name], tfds.features.Image)]
        self._undecoded = {name: tfds.decode.SkipDecoding() for name in images}
        formats = {one.value for one in builder.info.available_file_formats()}
        if FORMATS[0] in formats:
            source = builder.as_data_source(split=split, file_format=FORMATS[0])
            self._source: Any = source.data_source
        else:
            self._source = _TfRecords(builder.info.splits[split].file_instructions)

    def __len__(self) -> int:
        return len(self._source)

    def read(self, rows: Sequence[int]) -> Iterator[dict[str, Any]]:
        """Records by index; images are returned as the bytes of their files."""
        for content in self._source.__getitems__(list(rows)):
            yield self._features.deserialize_example_np(content, decoders=self._undecoded)


class _Place(NamedTuple):
    path: str
    start: int
    length: int


class _TfRecords:
    """The records in tfrecord files, by index."""

    def __init__(self, instructions: Sequence[Any]):
        self._places = [
            place
            for one in instructions
            for place in _places(os.fspath(one.filename), one.examples_in_shard)[
                one.skip : one.skip + one.take
            ]
        ]

    def __len__(self) -> int:
        return len(self._places)

    def __getitems__(self, rows: Sequence[int]) -> list[bytes]:
        places = [self._places[row] for row in rows]
        found = [_framed(place) for place in places]
        most = max((len(content) for content, _ in found), default=1)
        together = max(1, _CHECKED_BYTES // most)
        for start in range(0, len(found), together):
            part = found[start : start + together]
            wrong = masked_crc32c([content for content, _ in part]) != [crc for _, crc in part]
            if wrong.any():
                place = places[start + int(np.argmax(wrong))]
                raise ValueError(f"{place.path}: damaged at byte {place.start}")
        return [content for content, _ in found]


def _places(path: str, count: int) -> list[_Place]:
    """The positions of a file's records.

    Raises:
      ValueError: if the file is truncated or damaged, or has a different number of records.
    """
    places, heads, size, at = [], [], os.path.getsize(path), 0
    with open(path, "rb") as file:
        while at < size:
            head = file.read(_HEADER.size)
            length = _HEADER.unpack(head)[0] if len(head) == _HEADER.size else size
            if at + _HEADER.size + length + 4 > size:
                raise ValueError(f"{path}: truncated or damaged at byte {at}")
            heads.append(head)
            places.append(_Place(path, at + _HEADER.size, length))
            at = file.seek(length + 4, os.SEEK_CUR)
    found = masked_crc32c([head[:8] for head in heads])
    if (found != [_HEADER.unpack(head)[1] for head in heads]).any():
        raise ValueError(f"{path}: damaged between two records")
    if len(places) != count:
        raise ValueError(
            f"{path} has {len(places)} records; expected {count} from dataset_info.json"
        )
    return places


def _framed(place: _Place) -> tuple[bytes, int]:
    """The bytes of a record, and the checksum that follows them."""
    with open(place.path, "rb") as file:
        file.seek(place.start)
        content = file.read(place.length + 4)
    return content[:-4], int.from_bytes(content[-4:], "little")


def _table() -> UInt32[np.ndarray, "256"]:
    table = np.arange(256, dtype=np.uint32)
    for _ in range(8):
        table = np.where(table & 1, (table >> 1) ^ np.uint32(_POLYNOMIAL), table >> 1)
    return table.astype(np.uint32)


_TABLE = _table()


def masked_crc32c(contents: Sequence[bytes]) -> UInt32[np.ndarray, " contents"]:
    """Checksums as in tfrecord files: CRC-32C, rotated by 15 bits, plus a constant.

    Computed byte by byte, for all contents at once.
    """
    lengths = np.array([len(content) for content in contents], np.int64)
    order = np.argsort(
        -lengths, kind="stable"
    )  # the contents that still have bytes are the first ones
    padded = np.zeros((int(lengths.max(initial=0)), len(contents)), np.uint8)
    for column, row in enumerate(order):
        padded[: lengths[row], column] = np.frombuffer(contents[row], np.uint8)
    going_on = np.searchsorted(-lengths[order], -np.arange(1, len(padded) + 1), side="right")
    crc = np.full(len(contents), 0xFFFFFFFF, np.uint32)
    for values, count in zip(padded, going_on, strict=True):
        part = crc[:count]
        crc[:count] = _TABLE[(part ^ values[:count]) & 0xFF] ^ (part >> 8)
    crc = ~crc
    masked = ((crc >> 15) | (crc << 17)) + np.uint32(_MASK)
    return masked[np.argsort(order, kind="stable")]
