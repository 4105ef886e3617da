"""`data.cnnpool` is there wherever both are imported, in whichever order.

xarray takes a second to import, so that `import cnnpool` leaves it alone: the accessor is
registered now where xarray is there already, or else when somebody imports it.
"""

import importlib
import importlib.abc
import importlib.machinery
import importlib.util
import sys
from types import ModuleType
from typing import Any

_XARRAY = "xarray"


def register() -> None:
    """Registers the accessor, now or when xarray is imported."""
    if _XARRAY in sys.modules:
        _import_accessor()
    elif not any(isinstance(finder, _Finder) for finder in sys.meta_path):
        sys.meta_path.insert(0, _Finder())


def _import_accessor() -> None:
    importlib.import_module("cnnpool.figures.accessor")


class _Finder(importlib.abc.MetaPathFinder):
    """Finds xarray once, as others do, and lets the accessor be imported behind it."""

    def find_spec(
        self, fullname: str, path: Any, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if fullname != _XARRAY:
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(fullname)
        if spec is not None and spec.loader is not None:
            spec.loader = _Loader(spec.loader)
        return spec


class _Loader(importlib.abc.Loader):
    """Another loader, and the import of the accessor when it is done."""

    def __init__(self, loader: importlib.abc.Loader):
        self._loader = loader

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> ModuleType | None:
        return self._loader.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        if module.__spec__ is not None:
            module.__spec__.loader = self._loader
        module.__loader__ = self._loader
        self._loader.exec_module(module)
        _import_accessor()
