"""How do the published FADE program's prompts become ensembles? Its JSON files are read, nothing is run.

    python prompts/import_fade.py ../FADE                      # a checkout of github.com/BMVC-FADE/BMVC-FADE
    python prompts/import_fade.py ../FADE/prompts/winclip_prompt.json

Every file with normal and abnormal prompts becomes `prompts/ensembles/official_<its name>.json`, strings and
order unchanged, since those that stand twice count twice.
"""

import argparse
import sys
from pathlib import Path

sys.path.insert(1, str(Path(__file__).resolve().parents[1]))  # run by path, Python looks for filo only here

from filo import options
from filo.ensembles import FOLDER, KINDS, Ensemble, read_ensemble
from filo.errors import InputError, exit_clearly
from filo.files import sha256_of, write_json


def parse_args() -> argparse.Namespace:
    parser = options.make_parser(__doc__)
    parser.add_argument("path", type=Path, help="checkout of the published program, or one of its files")
    parser.add_argument("--out", type=Path, default=FOLDER, help="folder to write to")
    return parser.parse_args()


def main() -> None:
    args = parse_args()
    for source, ensemble in find_ensembles(args.path).items():
        target = args.out / f"official_{source.stem}.json"
        write_json(target, convert(source, ensemble))
        print(f"wrote {target}: {len(ensemble.normal)} normal, {len(ensemble.abnormal)} abnormal prompts")


def find_ensembles(path: Path) -> dict[Path, Ensemble]:
    """Read `path`, or every file of a checkout's folder `prompts/` that is an ensemble; name the others.

    Raises:
        InputError: there is none.
    """
    if path.is_file():
        return {path: read_ensemble(path)}
    folder = path / "prompts"
    if not folder.is_dir():
        raise InputError(f"{path} has no folder prompts/: give a checkout of FADE, or one of its files")
    found = {}
    for source in sorted(folder.glob("*.json")):
        try:
            found[source] = read_ensemble(source)
        except InputError as error:
            print(f"left out: {error}", file=sys.stderr)
    if not found:
        raise InputError(f"no file of {folder} has normal and abnormal prompts: is it a checkout of FADE?")
    return found


def convert(source: Path, ensemble: Ensemble) -> dict:
    """Give the file of an ensemble; where the checkout lies is not told, so it is the same from anywhere."""
    origin = (
        f"{source.name} of the published FADE program (github.com/BMVC-FADE/BMVC-FADE), strings unchanged. "
        f"sha256 of the file: {sha256_of(source)}"
    )
    lists = {kind: {"source": "official", "prompts": list(getattr(ensemble, kind))} for kind in KINDS}
    return {"ensemble": f"official_{source.stem}", "sources": {"official": origin}} | lists


if __name__ == "__main__":
    exit_clearly(main)
