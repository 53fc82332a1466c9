"""README and docs: generated blocks are fresh, and what they name is there."""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

from hftransfer import catalog, cli

ROOT = Path(__file__).parents[2]
README = ROOT / "README.md"
PAGES = [README, *sorted((ROOT / "docs").rglob("*.md"))]
EMITTED = re.compile(
    r'\b(?:_?event\(|(?:say|last_word)\((?:setup\.)?run,|say\((?="\w+", (?:\w+=|\*\*)))\s*"(\w+)"[,)]'
)


@pytest.fixture(scope="module")
def generate() -> ModuleType:
    """Load docs/generate.py, which is no part of the package."""
    spec = importlib.util.spec_from_file_location("generate", ROOT / "docs" / "generate.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _read(path: Path) -> str:
    return path.read_text(encoding="utf-8")


def _links() -> Iterator[tuple[Path, str]]:
    for page in PAGES:
        for target in re.findall(r"\]\(([^)\s]+)\)", _read(page)):
            if not re.match(r"https?:", target):
                yield page, target


def _anchors(page: Path) -> set[str]:
    headings = re.findall(r"^#+ (.*)$", _read(page), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_no_generated_block_is_stale(generate: ModuleType, capsys: pytest.CaptureFixture[str]) -> None:
    assert generate.main(["--check"]) == 0, capsys.readouterr().out
    assert {name for page in PAGES for name in re.findall(r"<!-- generated: ([\w-]+)", _read(page))} == set(
        generate.BLOCKS
    )


def test_a_stale_block_is_found(
    generate: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    page = tmp_path / "page.md"
    page.write_text("a\n<!-- generated: commands -->\nold\n<!-- /generated -->\nb\n")
    monkeypatch.setattr(generate, "pages", lambda: [page])
    monkeypatch.setattr(generate, "ROOT", tmp_path)
    assert generate.main(["--check"]) == 1 and "page.md is stale" in capsys.readouterr().out
    assert "old" in page.read_text()
    assert generate.main([]) == 0
    assert generate.main(["--check"]) == 0
    assert "hftransfer train CONFIG" in page.read_text() and page.read_text().startswith("a\n")


@pytest.mark.parametrize(
    "text", ["<!-- generated: commands -->\nnever closed", "x\n<!-- /generated -->", "<!-- generated: -->\n"]
)
def test_a_broken_block_is_refused(generate: ModuleType, text: str) -> None:
    with pytest.raises(ValueError, match="a block is"):
        generate.fill(text)


@pytest.mark.parametrize(("page", "target"), [*_links()], ids=lambda value: str(value).removeprefix(str(ROOT)))
def test_links_lead_somewhere(page: Path, target: str) -> None:
    path, _, anchor = target.partition("#")
    found = (page.parent / path).resolve() if path else page
    assert found.exists() and found.is_relative_to(ROOT)
    assert not anchor or anchor in _anchors(found)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_a_page_names_only_what_exists(page: Path) -> None:
    text = _read(page)
    for path in re.findall(r"\b(?:configs|tests|hftransfer)/[\w./-]+\.(?:yaml|py|md)\b", text):
        assert (ROOT / path).exists(), path
    for command in re.findall(r"(?:^|`|bin/)hftransfer ([a-z][\w-]*)", text, re.MULTILINE):
        with pytest.raises(SystemExit) as stop:
            cli.main([command, "--help"])
        assert stop.value.code == 0, command
    for target in re.findall(r"(?:^|`)make (\w+)", text, re.MULTILINE):
        assert f"\n{target}:" in _read(ROOT / "Makefile"), target


def test_architecture_lists_every_module_once_and_readme_every_folder() -> None:
    page = _read(ROOT / "docs" / "architecture.md")
    tree = page.partition("<!-- generated: modules -->")[2].partition("<!-- /generated -->")[0]
    listed = sorted(word for word in re.findall(r"^ +(\S+\.py) ", tree, re.MULTILINE))
    modules = [path.name for path in (ROOT / "hftransfer").rglob("*.py") if path.name != "__init__.py"]
    assert listed == sorted(modules)
    assert all(re.fullmatch(r" *\S+  +\S.*", line) for line in tree.splitlines() if line[:1] == " ")
    folders = _read(README).partition("<!-- generated: tree -->")[2].partition("<!-- /generated -->")[0]
    wanted = sorted(path.parent.name for path in (ROOT / "hftransfer").glob("*/__init__.py"))
    assert sorted(re.findall(r"^  (\w+)/  ", folders, re.MULTILINE)) == wanted


def test_every_task_has_a_page_and_every_event_a_row() -> None:
    assert {path.stem for path in (ROOT / "docs" / "tasks").glob("*.md")} == set(catalog.tasks())
    emitted = {name for path in (ROOT / "hftransfer").rglob("*.py") for name in EMITTED.findall(_read(path))}
    table = _read(ROOT / "docs" / "runs.md").partition("## Events")[2].partition("## ")[0]
    assert {"created", "phase", "step", "done"} < emitted
    assert emitted == set(re.findall(r"^\| `(\w+)` \|", table, re.MULTILINE))


def test_pages_name_no_place_of_one_machine() -> None:
    for page in [*PAGES, ROOT / "docs" / "generate.py"]:
        assert not re.search(r"/home/|/root/|/tmp/", _read(page)), page
