"""Which dataset does a folder hold? Tells a script that it was pointed at the folder of another set.

A set is known by files and folders that no other set has, or else by the name of its folder: `signs` and
`folders` of the `Layout` in its script. All scripts beside this file are asked.
"""

import importlib
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # which imports this module
    from layouts import Layout

DEPTH = 3  # as many folders may lie around a set, one in the other


def top_of(root: Path, folders: Sequence[str]) -> Path:
    """The folder in which a set begins: `root`, or one in it that has one of these names."""
    top = root
    for _ in range(DEPTH):
        top = next((top / name for name in folders if (top / name).is_dir()), top)
    return top


def trace(layout: "Layout", root: Path) -> str:
    """What in `root` shows that it holds the set of this layout, in words; empty where nothing does."""
    top = top_of(root, layout.folders)
    found = top if top != root else next((path for sign in layout.signs for path in top.glob(sign)), None)
    if found is None:
        return ""
    return f"holds {found.relative_to(root).as_posix()}{'/' if found.is_dir() else ''}"


def name_of(layout: "Layout", root: Path) -> str:
    """The same for the name of `root` alone, which counts less: folders are renamed."""
    name = root.resolve().name
    return f"is called {name}" if name in (layout.name, *layout.folders) else ""


def another_set(layout: "Layout", root: Path) -> str:
    """One line that says which script fits, where `root` shows traces of other sets and none of this one."""
    others = [other for other in all_layouts() if other.name != layout.name]
    for look in (trace, name_of):
        if look(layout, root):
            return ""
        fitting = {other: look(other, root) for other in others if look(other, root)}
        if fitting:
            titles = " or ".join(other.title for other in fitting)
            scripts = " or ".join(f"data/{other.name}.py" for other in fitting)
            seen = next(iter(fitting.values()))
            return f"{root} {seen}, so it is {titles} and not {layout.title}: run {scripts} on it"
    return ""


def all_layouts() -> "list[Layout]":
    """The layouts of all scripts beside this file, in the order of their names."""
    names = sorted(path.stem for path in Path(__file__).parent.glob("*.py"))
    modules = [importlib.import_module(name) for name in names]
    return [module.LAYOUT for module in modules if hasattr(module, "LAYOUT")]
