"""What README and the other pages point at is there."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PAGES = [
    ROOT / name for name in ("README.md", "data/README.md", "prompts/README.md", "checkpoints/README.md")
]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_every_link_leads_somewhere(page):
    links = re.findall(r"\]\(([^)#]+)\)", page.read_text(encoding="utf-8"))
    assert [link for link in links if "://" not in link and not (page.parent / link).exists()] == []


def test_every_module_that_the_readme_names_exists():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    named = {name for name in re.findall(r"`((?:filo|data|prompts|tests)/[\w/.]*)`", text)}
    assert len(named) > 20
    assert {name for name in named if "." in name and not (ROOT / name).exists()} == set()
    commands = set(re.findall(r"python -m (filo[\w.]*)", text))
    modules = {name.replace(".", "/") for name in commands}
    assert {m for m in modules if not any((ROOT / m).with_suffix(s).exists() for s in ("", ".py"))} == set()
