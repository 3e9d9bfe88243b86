"""Where a Grounding DINO's config lies and what it says, without executing it or loading the package."""

import ast
from importlib.util import find_spec
from pathlib import Path

from filo.errors import InputError

PACKAGE_CONFIG = "GroundingDINO_SwinT_OGC.py"


def default_config() -> Path:
    """Give the SwinT-OGC config that comes with groundingdino-py.

    Raises:
        InputError: the package is not installed.
    """
    package = find_spec("groundingdino")
    if package is None:
        raise InputError(
            "groundingdino-py is not installed, which the detector needs: `pip install -r requirements.txt`, "
            "or go without by --detector none"
        )
    return Path(package.submodule_search_locations[0]) / "config" / PACKAGE_CONFIG


def read_config(path: Path) -> dict:
    """Read a config of plain `name = value` lines; nothing in it is executed.

    Raises:
        InputError: it is missing, or holds anything else than values.
    """
    if not path.is_file():
        raise InputError(
            f"{path}: no such Grounding DINO config; leave --groundingdino_config out for SwinT-OGC"
        )
    try:
        lines = ast.parse(path.read_text(encoding="utf-8")).body
        return {line.targets[0].id: ast.literal_eval(line.value) for line in lines}
    except (OSError, ValueError, SyntaxError, AttributeError, RecursionError) as error:
        raise InputError(
            f"{path} is no Grounding DINO config: wanted lines like `hidden_dim = 256` and nothing else "
            f"({type(error).__name__}: {error})"
        ) from error
