"""Whether a shell command is one that this project's own parsers take, without running it."""

import argparse
import copy
import importlib
import re
import shlex
import sys
import warnings

from absl import flags
from ml_collections import config_flags
import pytest

from cnnpool import train
from tests.paths import ROOT

VARIABLE = re.compile(r"[A-Z_]+=")


class _ParsedError(Exception):
    """Raised where a command would start its work."""


def check(command):
    """Raises ValueError that names the command and what its parser says."""
    words = shlex.split(command)
    while words and VARIABLE.match(words[0]):
        words = words[1:]
    try:
        if words[:2] != ["python", "-m"]:
            _check_present(words[0])
        elif words[2] == "pytest":
            _check_present(*words[3:])
        elif words[2] == "cnnpool.train":
            _train(words[3:])
        else:
            _argparse(words[2], words[3:])
    except (ValueError, IndexError, ImportError) as error:
        raise ValueError(f"{command}\n{error}") from error


def _check_present(*paths):
    for path in paths:
        if not (ROOT / path).is_file():
            raise ValueError(f"no file {path}")


def _argparse(module, words):
    main = importlib.import_module(f"{module}.__main__" if module == "cnnpool.figures" else module)

    def parse(parser, argv):
        found, unknown = parser.parse_known_args(argv)
        if unknown:
            raise ValueError(f"unknown {unknown}")
        raise _ParsedError(found)

    def error(_, message):
        raise ValueError(message)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(argparse.ArgumentParser, "parse_args", parse)
        patch.setattr(argparse.ArgumentParser, "error", error)
        try:
            main.main(words)
        except _ParsedError:
            return
    raise ValueError(f"{module} parsed nothing")


def _train(words):
    values = flags.FlagValues()
    for flag in flags.FLAGS.get_key_flags_for_module(train.__name__):
        if flag.name == "config":
            config_flags.DEFINE_config_file("config", None, flag.help, flag_values=values)
        elif not flag.name.startswith("config."):
            flags.DEFINE_flag(copy.deepcopy(flag), flag_values=values)
    argv = ["cnnpool.train", *words]
    with pytest.MonkeyPatch.context() as patch, warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*load_module", category=DeprecationWarning)
        patch.setattr(sys, "argv", argv)  # where config_flags looks for --config.FIELD
        patch.chdir(ROOT)
        try:
            rest = values(argv)
            if values["config"].value is not None:
                values["config"].value.to_dict()  # an absent file fails only here
        except (flags.Error, AttributeError, KeyError, OSError) as error:
            raise ValueError(str(error)) from error
    missing = [name for name in ("config", "workdir") if values[name].value is None]
    if rest[1:] or missing:
        raise ValueError(f"unexpected {rest[1:]}, missing {missing}")
