"""The one CLIP: open_clip's weights, configs and tokenizer behind towers of our own walking.

Where transformers is installed (Grounding DINO wants it), open_clip imports it for text towers of another
kind, which are refused here; that is a third of the time in which a command starts. So it is kept out of
open_clip's sight while that is imported, and out of nobody else's.
"""

import sys


def _import_open_clip() -> None:
    hidden = "transformers" not in sys.modules
    if hidden:
        sys.modules["transformers"] = None  # an import of it raises ImportError, which open_clip expects
    try:
        import open_clip  # noqa: F401
    finally:
        if hidden:
            del sys.modules["transformers"]


_import_open_clip()
