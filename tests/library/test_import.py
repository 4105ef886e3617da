"""`import cnnpool` costs nothing, and has what people need."""

import subprocess
import sys

import pytest

import cnnpool


def test_importing_imports_nothing_heavy():
    program = (
        "import sys; before = set(sys.modules); import cnnpool; dir(cnnpool); "
        "new = {n.partition('.')[0] for n in set(sys.modules) - before}; "
        "print(*sorted(new - set(sys.stdlib_module_names)))"
    )
    found = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert found.stdout.split() == ["cnnpool"]


FRAMEWORKS = {"equinox", "keras", "onnx", "torch"}  # each with a package of its own


@pytest.mark.parametrize("name", sorted(set(cnnpool.__all__) - FRAMEWORKS))
def test_every_name_is_there(name):
    assert name in dir(cnnpool)
    assert getattr(cnnpool, name) is not None


def test_other_names_are_an_attribute_error():
    with pytest.raises(AttributeError, match="no attribute 'mesure'"):
        cnnpool.mesure  # noqa: B018


@pytest.mark.parametrize("name", sorted(FRAMEWORKS))
def test_an_absent_framework_says_what_to_install(name, monkeypatch):
    monkeypatch.setitem(sys.modules, name, None)
    monkeypatch.delitem(sys.modules, f"cnnpool.{name}", raising=False)
    monkeypatch.delitem(vars(cnnpool), name, raising=False)
    with pytest.raises(ModuleNotFoundError) as caught:
        getattr(cnnpool, name)
    assert f"pip install 'cnnpool[{name}]'" in str(caught.value)


def test_commands_are_not_shadowed():
    from cnnpool import eval as evaluation

    assert callable(evaluation.main)
