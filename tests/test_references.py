"""What docstrings refer to exists."""

import ast
import inspect
import pkgutil
import re
from importlib import import_module

import pytest

import sfusion
import studies

ROLE = re.compile(r":(?:func|class|meth|attr|mod|data|exc):`~?([\w.]+)`")
MODULES = [
    found.name
    for package in (sfusion, studies)
    for found in pkgutil.walk_packages(package.__path__, f"{package.__name__}.")
    if not found.name.endswith("__main__")
]


def _is_in(home, parts):
    """Follow a dotted name from an object; fields without a default count."""
    for part in parts:
        if part in getattr(home, "__annotations__", {}):
            return True
        if not hasattr(home, part):
            return False
        home = getattr(home, part)
    return True


def _homes(module):
    """List where a short name may be from: the module, its classes, its imports."""
    yield module
    for _, one in inspect.getmembers(module, inspect.isclass):
        yield one
    for node in ast.walk(ast.parse(inspect.getsource(module))):
        if isinstance(node, ast.ImportFrom) and node.module.startswith("sfusion"):
            yield import_module(node.module)  # also what only types need


def _resolves(name, module):
    parts = name.split(".")
    if any(_is_in(home, parts) for home in _homes(module)):
        return True
    for count in range(len(parts) - 1, 0, -1):
        try:
            home = import_module(".".join(parts[:count]))
        except ImportError:
            continue
        return _is_in(home, parts[count:])
    return False


@pytest.mark.parametrize("name", MODULES)
def test_what_a_docstring_refers_to_exists(name):
    module = import_module(name)
    found = ROLE.findall(inspect.getsource(module))
    assert not [reference for reference in found if not _resolves(reference, module)]
