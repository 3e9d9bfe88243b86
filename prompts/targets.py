"""Which classes are to be described? From their spoken names, or from a dataset's meta.json: key -> name.

The key is the class name in meta.json, the name is how it is spoken in a sentence.
"""

import json
import re
from pathlib import Path

from filo.errors import InputError
from filo.prompts import spoken

SPOKEN = re.compile("[a-z0-9]+([ '-][a-z0-9]+)*")


def from_names(text: str) -> dict[str, str]:
    """Read names as they are spoken, joined by commas; "metal bracket" gets the key metal_bracket.

    Raises:
        InputError: there is none, or one is no plain English name.
    """
    names = [spoken(part).lower() for part in text.split(",")]
    names = [name for name in names if name]
    if not names:
        raise InputError('no class given: name some by --classes "metal bracket, glass vial", or use --meta')
    for name in names:
        if not SPOKEN.fullmatch(name):
            raise InputError(f"--classes: {name!r} is no name CLIP knows; wanted English words, with commas")
    return {re.sub("[^a-z0-9]", "_", name): name for name in names}


def from_meta(path: Path) -> dict[str, str]:
    """Read the classes of a meta.json, or of the folder that holds one, in the file's order.

    Images are not looked for, and need not be there.

    Raises:
        InputError: the file is missing, another one, or names no class.
    """
    file = path / "meta.json" if path.is_dir() else path
    try:
        splits = json.loads(file.read_text(encoding="utf-8")).values()
        keys = [key for split in splits for key in dict(split.items())]
    except FileNotFoundError as error:
        raise InputError(f"{file} does not exist: make it by `python data/folder.py --root ROOT`") from error
    except (OSError, ValueError, AttributeError, RecursionError) as error:
        raise InputError(
            f"{file} is no meta.json ({type(error).__name__}): wanted split -> class -> entries; "
            "data/README.md shows it"
        ) from error
    if not keys:
        raise InputError(f"{file} names no class: make it anew by the dataset's script")
    if strange := [key for key in keys if not key.isprintable() or not spoken(key)]:
        raise InputError(f"{file}: the class {strange[0]!r} cannot be spoken: rename its folder")
    return {key: spoken(key) for key in keys}
