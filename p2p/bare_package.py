"""Import parts of a package without running its `__init__`: a node needs little of libp2p and hivemind, and all of them
costs a second of CPU at its start."""

from __future__ import annotations

import sys
from importlib.util import find_spec, module_from_spec
from types import ModuleType


def bare_package(name: str) -> ModuleType:
    """Make the package `name` a mere folder of modules, unless it is imported already.

    The rest is not lost: `module.__spec__.loader.exec_module(module)` runs the `__init__` after all.
    """
    if name in sys.modules:
        return sys.modules[name]
    spec = find_spec(name)
    if spec is None:
        raise ModuleNotFoundError(f"No module named {name!r}", name=name)
    module = sys.modules[name] = module_from_spec(spec)
    return module
