"""A folder of results as the report sees it: its items, and where their numbers come from."""

import dataclasses
from functools import cached_property
import json
from pathlib import Path
import re

from cnnpool.figures.report_items import Item, read_items
from cnnpool.figures.report_provenance import Record, read_records, record_of
from cnnpool.files import results

PROVENANCE = "provenance.toml"
LOSSY = "JPEG copies"  # what data_source says of images that are not the originals


@dataclasses.dataclass(frozen=True)
class ResultsFolder:
    """Items, and records of where files come from.

    Attributes:
      items_file: items.toml; provenance.toml lies beside it.
    """

    items_file: Path

    @property
    def root(self) -> Path:
        """The folder itself; names of files are relative to it."""
        return self.items_file.parent

    @cached_property
    def items(self) -> list[Item]:
        """In the order of the pages."""
        return read_items(self.items_file)

    @cached_property
    def records(self) -> list[Record]:
        """The provenance records of all files."""
        return read_records(self.root / PROVENANCE)

    def commands(self, item: Item) -> tuple[str, ...]:
        """That make the item.

        Raises:
          ValueError: if it is not exactly one record that names what was made.
        """
        if not item.made:
            return (item.command,)
        return record_of(item.made, self.records).commands_of(item.made)

    def inputs(self, item: Item) -> list[str]:
        """The result files and packed networks that an item is made from."""
        name = re.escape(self.root.resolve().name)
        read = re.findall(rf"(?<![\w/]){name}/(\S+\.nc)", " ".join(self.commands(item)))
        shown = [file for file in item.files if file.endswith((".nc", "summary.json"))]
        return [file for file in dict.fromkeys([*read, *shown]) if (self.root / file).is_file()]

    def is_of_lossy_images(self, item: Item) -> bool:
        """Whether some of its networks were trained on JPEG copies of their images."""
        return not self._lossy_files.isdisjoint(self.inputs(item))

    @cached_property
    def _lossy_files(self) -> set[str]:
        files = {file for item in self.items for file in self.inputs(item)}
        return {file for file in files if any(LOSSY in one for one in self._sources(file))}

    def _sources(self, file: str) -> list[str]:
        if file.endswith(".json"):
            return [json.loads((self.root / file).read_text("utf-8"))["data_source"]]
        networks = results.read_attributes(self.root / file)
        return [str(one.get("data_source", "")) for one in networks]
