"""The documents name what is there: links and their headings, files, and the flags of commands."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
DOCUMENTS = [ROOT / "README.md", ROOT / "BUILD.md", *sorted((ROOT / "docs").glob("*.md"))]
FOLDERS = ("causerec_tf", "pipelines", "export", "benchmarks")
CODE = "\n".join(
    path.read_text(encoding="utf-8") for folder in FOLDERS for path in sorted((ROOT / folder).rglob("*.py"))
)
# Flags of Beam's own stand in the value of one of ours.
VALUES = re.compile(r"='[^']*'")


def named(path):
    return str(path.relative_to(ROOT))


def anchors(document):
    headings = re.findall(r"^#+ (.*)$", document.read_text(encoding="utf-8"), re.M)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("document", DOCUMENTS, ids=named)
def test_links_lead_somewhere(document):
    text = document.read_text(encoding="utf-8")
    for target, anchor in re.findall(r"\]\(([^)#\s]*)(?:#([^)\s]*))?\)", text):
        if target.startswith("http"):
            continue
        there = document.parent / target if target else document
        assert there.exists(), target
        assert not anchor or anchor in anchors(there), f"{target}#{anchor}"


@pytest.mark.parametrize("document", DOCUMENTS, ids=named)
def test_files_that_are_named_are_there(document):
    text = document.read_text(encoding="utf-8")
    # A path from the root; the map of the paper shortens those of tests and has a test of its own.
    folders = "|".join((*FOLDERS, "configs", "tests", "docs"))
    for path in re.findall(rf"(?<![\w/.-])((?:{folders})/[\w./*{{}},-]*\w)(?![\w*{{<])", text):
        if document.name != "paper_map.md" and not set("*{") & set(path):
            assert (ROOT / path).exists(), path


@pytest.mark.parametrize("document", DOCUMENTS, ids=named)
def test_the_flags_of_commands_exist(document):
    text = document.read_text(encoding="utf-8").replace("\\\n", " ")
    for script, flags in re.findall(r"python ((?:pipelines|export|benchmarks)/\w+\.py)([^`\n]*)", text):
        assert (ROOT / script).is_file(), script
        for flag in re.findall(r"--(\w+)", VALUES.sub("", flags)):
            names = {flag, flag.removeprefix("no")}
            assert any(re.search(rf'"(--)?{name}"|^    {name}: ', CODE, re.M) for name in names), flag
