"""Find a model's source without importing it, so that a launcher without torch can check it.

MODEL is a zoo name, `path/to/file.py:Class` or `package.module:Class`; Theano-MPI's names of its
models stand for the zoo's. The class must stand in that file (defined or imported there); its
`defaults`, the settings it brings along, are read as a literal from the class or from its bases in
the same file.
"""

from __future__ import annotations

import ast
import importlib
import importlib.util
import sys
import threading
from dataclasses import dataclass, field
from importlib.machinery import PathFinder
from pathlib import Path
from typing import Any

from arignote.config import theano_mpi
from arignote.errors import UserError, unknown
from arignote.registry import MODELS

_PARSING = threading.Lock()
"""CPython 3.11 counts the depth of a tree for all threads together, and raises a SystemError in one
of two that parse at the same time."""


@dataclass(frozen=True)
class ModelSource:
    """Where a model's class stands, and the settings it brings along."""

    path: Path
    class_name: str
    module: str
    """Dotted name to import; empty: load the file by its path."""
    defaults: dict[str, Any] = field(default_factory=dict)

    def load(self) -> Any:
        """Import the file and return the class (in a worker: this may import torch)."""
        if self.module:
            return getattr(importlib.import_module(self.module), self.class_name)
        # A name of its own: a user's types.py must not take the place of Python's.
        name = f"arignote_model_{self.path.stem}"
        spec = importlib.util.spec_from_file_location(name, self.path)
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        # Registered and on the path, so that the file can import its neighbours, and
        # dataclasses and the like find the module they stand in.
        sys.modules[name] = module
        sys.path.insert(0, str(self.path.parent))
        spec.loader.exec_module(module)
        return getattr(module, self.class_name)


def find_model(name: str) -> ModelSource:
    """Locate MODEL, check that its class is there, read its `defaults`.

    Raises:
        UserError: nothing of that name; the message names the nearest that exists.
    """
    if not name:
        raise UserError(
            "no model given: arignote train MODEL; known: "
            + ", ".join(entry.name for entry in MODELS)
        )
    if name.startswith(theano_mpi.PACKAGE):
        if name not in theano_mpi.MODELS:
            raise UserError(unknown("model of Theano-MPI", name, theano_mpi.MODELS))
        name = theano_mpi.MODELS[name]
    place, colon, class_name = name.rpartition(":")
    if not colon:
        if name.endswith(".py"):
            raise UserError(f"model {name!r} names no class: write {name}:Class")
        module, _, class_name = MODELS.entry(name).target.partition(":")
        return _read(_module_path(module), class_name, module)
    if place.endswith(".py"):
        return _read(Path(place).resolve(), class_name, module="")
    return _read(_module_path(place), class_name, place)


def _module_path(module: str) -> Path:
    """The file of a dotted module, found without running its parents."""
    search: list[str] = ["", *sys.path]
    origin: str | None = None
    parts = module.split(".")
    for depth, part in enumerate(parts):
        # By its last part alone: with the whole name, a folder without __init__.py would look
        # for its parent among the imported modules.
        found = PathFinder.find_spec(part, search)
        if found is None:
            raise UserError(
                f"no module {module!r} for the model: {'.'.join(parts[: depth + 1])!r} is neither "
                "in this folder nor installed; write a zoo name, FILE.py:Class or MODULE:Class"
            )
        origin = found.origin
        search = list(found.submodule_search_locations or [])
    if origin is None or not origin.endswith(".py"):
        raise UserError(f"module {module!r} for the model is not a Python file")
    return Path(origin)


def _read(path: Path, class_name: str, module: str) -> ModelSource:
    if not path.is_file():
        raise UserError(f"no file {str(path)!r} for the model: check the path before ':'")
    try:
        text = path.read_text(encoding="utf-8")
        with _PARSING:
            tree = ast.parse(text, filename=str(path))
    except OSError as error:
        raise UserError(f"model file {path} cannot be read: {error.strerror}") from None
    except (SyntaxError, ValueError) as error:
        raise UserError(f"{path} is not valid Python: {error}") from None
    classes = {node.name: node for node in tree.body if isinstance(node, ast.ClassDef)}
    imported = {
        alias.asname or alias.name
        for node in tree.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    if class_name not in classes and class_name not in imported:
        raise UserError(f"{path}: {unknown('class', class_name, classes or imported)}")
    return ModelSource(path, class_name, module, _defaults(class_name, classes, path))


def _defaults(class_name: str, classes: dict[str, ast.ClassDef], path: Path) -> dict[str, Any]:
    node = classes.get(class_name)
    if node is None:
        return {}
    merged: dict[str, Any] = {}
    for base in reversed(node.bases):
        if isinstance(base, ast.Name) and base.id != class_name:
            merged |= _defaults(base.id, classes, path)
    for statement in node.body:
        if isinstance(statement, ast.AnnAssign):
            target: ast.expr = statement.target
        elif isinstance(statement, ast.Assign) and len(statement.targets) == 1:
            target = statement.targets[0]
        else:
            continue
        if isinstance(target, ast.Name) and target.id == "defaults" and statement.value:
            merged |= _literal(statement.value, class_name, path)
    return merged


def _literal(value: ast.expr, class_name: str, path: Path) -> dict[str, Any]:
    try:
        read = ast.literal_eval(value)
    except (ValueError, TypeError):
        read = None
    if not isinstance(read, dict) or not all(isinstance(key, str) for key in read):
        raise UserError(
            f"{path}: {class_name}.defaults must be a plain dictionary such as "
            '{"train.epochs": 5}: it is read without running the file'
        )
    return read
