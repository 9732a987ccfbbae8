"""Stand-ins for TensorFlow and Keras, which take seconds to load: `--help` needs the settings only.

The modules that define settings import the two for what they do later. (Sphinx' `autodoc_mock_imports` is for the same
trouble.)
"""

import importlib.abc
import importlib.machinery
import sys
import types
from collections.abc import Sequence
from typing import Any, Self

_PACKAGES = ("tensorflow", "keras")


class _StandIn(types.ModuleType):
    """Passes for a module, and for everything in it: class, decorator, type in an annotation."""

    __path__: Sequence[str] = ()

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return _StandIn(name)

    def __call__(self, *arguments: Any, **options: Any) -> Self:
        return self

    def __getitem__(self, index: Any) -> Self:
        return self

    def __or__(self, other: Any) -> Self:
        return self

    __ror__ = __or__

    def __mro_entries__(self, bases: tuple[Any, ...]) -> tuple[type, ...]:
        # A class derived from it has the other bases only.
        return ()


class _Finder(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    def find_spec(
        self, name: str, path: Any = None, target: types.ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        is_heavy = name.partition(".")[0] in _PACKAGES
        return importlib.machinery.ModuleSpec(name, self, is_package=True) if is_heavy else None

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> types.ModuleType:
        return _StandIn(spec.name)

    def exec_module(self, module: types.ModuleType) -> None:
        pass


def do_without_tensorflow() -> None:
    """From here on, this process imports stand-ins."""
    sys.meta_path.insert(0, _Finder())
