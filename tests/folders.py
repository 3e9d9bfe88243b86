"""Small dataset folders on disk, and the scripts of data/ run on them."""

import json
import subprocess
import sys
from pathlib import Path

from PIL import Image

import layouts

DATA = Path(__file__).parents[1] / "data"


def picture(path: Path, value: int = 200, size: tuple[int, int] = (6, 4)) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("L", size, value).save(path)
    return path


def text(path: Path, content: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content)
    return path


def run(layout: layouts.Layout, root: Path, *flags: str) -> dict:
    """Run a layout in this process and read what it wrote."""
    args = layouts.arguments("").parse_args(["--root", str(root), *flags])
    layouts.run(layout, args)
    return json.loads(((args.out or root) / "meta.json").read_text())


def command(script: str, *words: object, cwd: Path = DATA) -> subprocess.CompletedProcess:
    line = [sys.executable, DATA / script, *words]
    return subprocess.run([str(word) for word in line], capture_output=True, text=True, cwd=cwd)


def run_folder(root: Path, *flags: str) -> dict:
    done = command("folder.py", "--root", root, *flags)
    assert (done.returncode, done.stderr) == (0, "")
    return json.loads((root / "meta.json").read_text())


def entry(image: str, mask: str, cls: str, specie: str, anomaly: int) -> dict:
    return {"img_path": image, "mask_path": mask, "cls_name": cls, "specie_name": specie, "anomaly": anomaly}


def paths(meta: dict, split: str, cls: str) -> list[tuple[str, str]]:
    return [(entry["img_path"], entry["mask_path"]) for entry in meta[split][cls]]


def tree(root: Path) -> dict[str, bytes]:
    return {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()}
