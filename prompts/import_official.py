"""How do the published FiLo program's descriptions become prompt files? Its tables are read, never executed.

    python prompts/import_official.py ../FiLo                  # a checkout of github.com/CASIA-IVA-Lab/FiLo
    python prompts/import_official.py ../FiLo --table train --out my_prompts --dataset mvtec

The program holds one dict per dataset, `<dataset>_anomaly_detail_gpt`: class -> phrases in one string, joined
by commas. It stands twice, with a small difference in capitals. Strings are kept exactly as they are, because
the published numbers depend on them (a capital keeps a phrase from ever matching a box).
"""

import argparse
import ast
import hashlib
import json
import os
import sys
import warnings
from pathlib import Path

HERE = Path(__file__).resolve().parent
# test.py matches boxes against a copy of its own; the model's texts, in training and test, are in FiLo.py
FILES = {"test": Path("test.py"), "train": Path("models", "FiLo.py")}
DATASETS = ("mvtec", "visa")


class ImportFailure(ValueError):
    """Something outside this script is wrong; the message is one line."""


def find_source(path: Path, table: str | None) -> Path:
    """Return the Python file to read: `path` itself, or the file of a checkout that holds the table."""
    if not path.exists():
        raise ImportFailure(f"{path} does not exist; give a checkout of the published program or a .py file")
    if path.is_dir():
        source = path / FILES[table or "test"]
        if not source.is_file():
            raise ImportFailure(f"{path} has no {FILES[table or 'test'].as_posix()}; is it a FiLo checkout?")
        return source
    if path.suffix != ".py":
        raise ImportFailure(f"{path} is neither a folder nor a .py file")
    if table is not None:
        raise ImportFailure(f"--table chooses a file inside a checkout, but {path} is a file; leave it out")
    return path


def parse(source: Path) -> tuple[ast.Module, str]:
    """Return the syntax tree of a Python file and the file's sha256."""
    try:
        content = source.read_bytes()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", SyntaxWarning)
            return ast.parse(content), hashlib.sha256(content).hexdigest()
    except OSError as error:
        raise ImportFailure(f"cannot read {source}: {error.strerror}") from error
    except SyntaxError as error:
        raise ImportFailure(f"{source} line {error.lineno}: not valid Python: {error.msg}") from error
    except (ValueError, RecursionError, MemoryError) as error:
        raise ImportFailure(f"{source} is not readable as Python: {error}") from error


def find_table(tree: ast.Module, variable: str, source: Path) -> dict:
    """Return the literal dict last assigned to `variable` at the top level of the file."""
    values = []
    for node in tree.body:
        targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
        is_assignment = isinstance(node, ast.Assign | ast.AnnAssign) and node.value is not None
        if is_assignment and any(isinstance(t, ast.Name) and t.id == variable for t in targets):
            values.append(node.value)
    if not values:
        usual = " and ".join(file.as_posix() for file in FILES.values())
        raise ImportFailure(
            f"no table in {source}: looked for a top-level '{variable} = {{...}}', which the published "
            f"program has in {usual}; --dataset limits what is looked for"
        )
    try:
        table = ast.literal_eval(values[-1])
    except (ValueError, TypeError, SyntaxError, RecursionError, MemoryError) as error:
        where = f"{source} line {values[-1].lineno}"
        raise ImportFailure(f"{where}: {variable} is not a literal, and nothing is run") from error
    if not isinstance(table, dict):
        raise ImportFailure(f"{source}: {variable} is a {type(table).__name__}, wanted a dict")
    return table


def split_phrases(value: object, where: str) -> list[str]:
    """Split "a,b " into ["a", "b "] as the program does, blanks kept; a list of strings is taken as it is."""
    phrases = value.split(",") if isinstance(value, str) else value
    is_list = isinstance(phrases, list) and len(phrases) > 0
    if not is_list or not all(isinstance(p, str) and p.strip() for p in phrases):
        raise ImportFailure(f"{where}: wanted phrases joined by commas, none of them empty, got {value!r}")
    return phrases


def convert(tree: ast.Module, dataset: str, source: Path, sha256: str, shown_as: str) -> dict:
    """Build one dataset's prompt file; class keys and spoken names are those of prompts/<dataset>.json."""
    variable = f"{dataset}_anomaly_detail_gpt"
    table = find_table(tree, variable, source)
    ours = json.loads((HERE / f"{dataset}.json").read_text(encoding="utf-8"))["classes"]
    # the table's own key first ("macaroni1", "metal nut"), then a name that classes may share ("pcb")
    keys = {c: [k for k in (c, c.replace("_", " "), e["name"]) if k in table] for c, e in ours.items()}
    missing = [c for c, found in keys.items() if not found]
    if missing:
        names = ", ".join(missing)
        raise ImportFailure(f"{variable} in {source} lacks {len(missing)} of {len(ours)} classes: {names}")
    unused = [str(k) for k in table if not any(k in found for found in keys.values())]
    if unused:
        print(f"note: {variable} has classes that {dataset}.json lacks, left out: {', '.join(unused)}")
    classes = {}
    for c, entry in ours.items():
        phrases = split_phrases(table[keys[c][0]], f"{source}: {variable}[{keys[c][0]!r}]")
        classes[c] = {**entry, "descriptions": [{"text": p, "source": "official"} for p in phrases]}
    origin = (
        f"{variable} in {shown_as} of the published FiLo program (github.com/CASIA-IVA-Lab/FiLo), phrases by "
        f"its authors' language model, strings unchanged. sha256 of the file: {sha256}"
    )
    return {"dataset": dataset, "sources": {"official": origin}, "classes": classes}


def to_text(prompts: dict) -> str:
    """Format a prompt file: JSON indented by two, each description on one line."""
    compact = [d for entry in prompts["classes"].values() for d in entry["descriptions"]]
    text = json.dumps(prompts, ensure_ascii=False, indent=2)
    for description in compact:
        spread = json.dumps(description, ensure_ascii=False, indent=2).replace("\n", "\n" + " " * 8)
        text = text.replace(spread, json.dumps(description, ensure_ascii=False), 1)
    return text + "\n"


def write(path: Path, text: str) -> None:
    """Put `text` at `path` in one step; a failure leaves the old file whole and nothing beside it."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            temporary.write_text(text, encoding="utf-8", newline="\n")
            os.replace(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)
    except OSError as error:
        raise ImportFailure(f"cannot write {path}: {error.strerror}") from error
    except UnicodeEncodeError as error:
        raise ImportFailure(f"cannot write {path}: a phrase is not valid Unicode") from error


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Import the descriptions of the published FiLo program.")
    parser.add_argument("path", type=Path, help="checkout of the published program, or one of its .py files")
    parser.add_argument("--out", type=Path, default=HERE, help="folder to write to (default: prompts/)")
    parser.add_argument("--dataset", nargs="+", choices=DATASETS, default=DATASETS, help="tables to import")
    parser.add_argument(
        "--table",
        choices=tuple(FILES),
        help="which copy in a checkout: test (default) is that of test.py, train that of models/FiLo.py",
    )
    return parser.parse_args()


def main() -> int:
    args = parse_arguments()
    try:
        source = find_source(args.path, args.table)
        tree, sha256 = parse(source)
        # never the whole path: the same file must give the same bytes wherever the checkout lies
        shown_as = source.relative_to(args.path).as_posix() if args.path.is_dir() else source.name
        converted = {d: convert(tree, d, source, sha256, shown_as) for d in args.dataset}
        for dataset, prompts in converted.items():
            target = args.out / f"official_{dataset}.json"
            write(target, to_text(prompts))
            count = sum(len(entry["descriptions"]) for entry in prompts["classes"].values())
            print(f"wrote {target}: {len(prompts['classes'])} classes, {count} descriptions")
    except ImportFailure as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
