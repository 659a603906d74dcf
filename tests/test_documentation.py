"""What README and docs/ name exists: commands, options, targets, settings, files, links."""

from __future__ import annotations

import importlib
import importlib.util
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from likeness.cli import COMMANDS
from likeness.scene.config_files import presets
from tests.documentation import PAGES, ROOT

COMMAND = re.compile(r"(?:^(?:[\w./-]*/)?likeness (\w+)|(fit_subject)\.py)(.*)")
# options of other programs, and of benchmarks, which tests of their own run
OTHER_PROGRAMS = ("torchrun", "http.server", "pip", "benchmarks/", "benchmarks.", "ray ")


def code(text: str) -> list[str]:
    """The lines of fenced blocks of commands, and inline code."""
    blocks = re.findall(r"^```\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    inline = re.findall(r"`([^`\n]+)`", re.sub(r"^```.*?^```", "", text, flags=re.M | re.S))
    return [line for block in blocks for line in block.splitlines()] + inline


def options(command: str) -> set[str]:
    parser = importlib.import_module(f"likeness.cli.{command}").parser()
    return {name for action in parser._actions for name in action.option_strings}


def anchors(page: Path) -> set[str]:
    """As GitHub and mkdocs make them of headings."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(), re.MULTILINE)
    return {
        re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-") for heading in headings
    }


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_commands_and_options_exist(page):
    everywhere = set().union(*map(options, COMMANDS))
    for program in (ROOT / "benchmarks").rglob("*.py"):
        everywhere |= set(re.findall(r'"(--[a-z-]+)"', program.read_text()))
    for line in code(page.read_text()):
        if any(name in line for name in OTHER_PROGRAMS):
            continue
        line = re.sub(r"#.*", "", line)
        if found := COMMAND.search(line):
            command = found[1] or "fit"
            assert command in COMMANDS, line
            known = options(command)
            words = shlex.split(found[3])
        else:
            known, words = everywhere, re.findall(r"(?<![\w-])--[a-z][\w-]*", line)
        for word in words:
            if word.startswith("--"):
                assert word.partition("=")[0] in known, f"{page.name}: {line}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_and_images_resolve(page):
    text = re.sub(r"^```.*?^```", "", page.read_text(), flags=re.MULTILINE | re.DOTALL)
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if re.match(r"\w+:", target):
            continue
        path, _, anchor = target.partition("#")
        file = (page.parent / path).resolve() if path else page
        assert file.exists(), f"{page.name}: {target}"
        assert not anchor or anchor in anchors(file), f"{page.name}: {target}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_targets_presets_and_files_exist(page):
    text = page.read_text()
    phony = re.search(r"^\.PHONY: (.*)$", (ROOT / "Makefile").read_text(), re.MULTILINE)[1].split()
    for line in code(text):
        for target in re.findall(r"^make ([a-z-]+)", line):
            assert target in phony, f"{page.name}: make {target}"
        for name in re.findall(r"--preset ([\w-]+)", line):
            assert name in (*presets(), "large"), f"{page.name}: {line}"
    folders = "|".join(
        path.name for path in ROOT.iterdir() if path.is_dir() and path.name[0] != "."
    )
    if page.name == "extending.md":  # its files are new ones
        return
    for name in re.findall(rf"`((?:{folders})/[\w./-]+\.\w+)`", text):
        if not name.startswith(("runs/", "build/")):
            assert (ROOT / name).exists(), f"{page.name}: {name}"


def test_every_page_is_in_the_navigation():
    navigation = yaml.safe_load((ROOT / "mkdocs.yml").read_text())["nav"]
    pages = [page for entry in navigation for page in entry.values()]
    assert sorted(pages) == sorted(path.name for path in (ROOT / "docs").glob("*.md"))


@pytest.mark.skipif(importlib.util.find_spec("mkdocs") is None, reason="mkdocs is not installed")
def test_the_site_builds_without_a_warning(tmp_path):
    command = [sys.executable, "-m", "mkdocs", "build", "-q", "--strict", "-d", str(tmp_path)]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert result.returncode == 0, result.stderr
