"""How the values of a method's config, a frozen dataclass, are checked, and how a file's are read back."""

from dataclasses import fields
from typing import Literal, get_args, get_origin

from filo.errors import InputError


def check_values(config: object) -> None:
    """Raise `InputError` if a field has another type than its default, or is none of its choices."""
    for field in fields(config):
        value, is_choice = getattr(config, field.name), get_origin(field.type) is Literal
        if is_choice and value not in get_args(field.type):
            wanted = " or ".join(repr(choice) for choice in get_args(field.type))
            raise InputError(f"{field.name} {value!r}: wanted {wanted}")
        if not is_choice and type(value) is not type(field.default):
            raise InputError(f"{field.name} {value!r}: wanted {type(field.default).__name__}")


def require_fields(values: object, kind: type) -> dict:
    """Give a config's values as a checkpoint holds them, if they have the names of this version.

    Raises:
        InputError: one is missing or unknown, or they are no object of names and values.
    """
    if not isinstance(values, dict):
        raise InputError(f"the config is a {type(values).__name__}, wanted an object of names and values")
    if odd := {field.name for field in fields(kind)} ^ values.keys():
        raise InputError(f"the checkpoint's config and this version's differ in: {', '.join(sorted(odd))}")
    return values
