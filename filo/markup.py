"""How text becomes HTML and SVG, so that no name and no description is ever taken for markup."""

import html
from collections.abc import Iterable

VOID = {"img", "input", "meta", "wbr"}  # elements without an end tag


class Markup(str):
    """Text that is HTML already; every other text is escaped where it enters a page."""

    __slots__ = ()


def tag(name: str, /, *children: object, **attributes: object) -> Markup:
    """Make an element.

    `children` are as in `join`. In the names of attributes `_` stands for `-`, and one at the end is
    dropped (`class_`); None and False leave an attribute out, True gives it no value.
    """
    start = "".join([name, *(_attribute(key, value) for key, value in attributes.items())])
    return Markup(f"<{start}>" if name in VOID else f"<{start}>{join(*children)}</{name}>")


def join(*children: object) -> Markup:
    """Put parts one after the other: markup as it is, text escaped, None as nothing, lists part by part."""
    return Markup("".join(map(_part, children)))


def _part(child: object) -> str:
    if child is None:
        return ""
    if isinstance(child, Markup):
        return child
    if isinstance(child, Iterable) and not isinstance(child, str):
        return join(*child)
    return html.escape(_text(child))


def _attribute(key: str, value: object) -> str:
    key = key.removesuffix("_").replace("_", "-")
    if value is None or value is False:
        return ""
    return f" {key}" if value is True else f' {key}="{html.escape(_text(value))}"'


def _text(value: object) -> str:
    text = f"{value:.6g}" if isinstance(value, float) else str(value)
    return text.encode("utf-8", "replace").decode()  # names of files may hold bytes that are no text
