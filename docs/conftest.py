"""Runs the code of the pages, each page as one program, in a temporary folder.

Code that needs an optional package is enclosed in `<!-- skip: start if(absent("torch"),
reason=...) -->` and `<!-- skip: end -->`.
"""

import importlib.util
import os
from pathlib import Path
import tempfile

from sybil import Sybil
from sybil.parsers.markdown import PythonCodeBlockParser, SkipParser

from tests.xla_flags import fast_compiling

os.environ.setdefault("XLA_FLAGS", fast_compiling(devices=1))

ROOT = Path(__file__).resolve().parents[1]


def setup(namespace):
    folder = tempfile.TemporaryDirectory()
    (Path(folder.name) / "results").symlink_to(ROOT / "results")
    namespace |= {"_folder": folder, "_before": Path.cwd()}
    namespace["absent"] = lambda package: importlib.util.find_spec(package) is None
    os.chdir(folder.name)


def teardown(namespace):
    os.chdir(namespace["_before"])
    namespace["_folder"].cleanup()


pytest_collect_file = Sybil(
    parsers=[PythonCodeBlockParser(), SkipParser()],
    patterns=["*.md"],
    setup=setup,
    teardown=teardown,
).pytest()
