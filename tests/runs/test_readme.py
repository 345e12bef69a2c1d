"""The README's files and commands work as they stand there, and the documents are true."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

from PIL import Image

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()
EXAMPLE = "examples/plain_loop.py"


def blocks(mark: str) -> list[tuple[str, str]]:
    """(what the mark says, the code below it) for each `<!-- mark ... -->`."""
    pattern = rf"<!-- {mark}:? ?([^>]*?) ?-->\n```\w+\n(.*?)```"
    return re.findall(pattern, README, flags=re.DOTALL)


def test_files_and_commands(cli: Any) -> None:
    files, runs = blocks("file"), blocks("run")
    assert len(files) == 2
    assert len(runs) == 4
    Image.new("L", (8, 8)).save(cli.folder / "digit.png")
    for name, code in files:
        (cli.folder / name).write_text(code)
    (cli.folder / "examples").symlink_to(ROOT / "examples")
    printed = {}
    for _, commands in runs:
        for command in commands.strip().splitlines():
            dollar, arignote, *arguments = shlex.split(command, comments=True)
            assert (dollar, arignote) == ("$", "arignote")
            printed[command] = cli(*arguments).out
    assert (cli.folder / "runs/mine/plot.png").exists()
    assert (cli.folder / "mine.safetensors").exists()
    check_example(cli, printed[f"$ arignote run -n 2 {EXAMPLE}"])


def check_example(cli: Any, of_two: str) -> None:
    """Four changed lines, as the README says; two workers do what one does."""
    assert (ROOT / EXAMPLE).read_text().count("(arignote)") - 1 <= 4
    accuracies = []
    for workers, out in (("2", of_two), ("1", cli("run", "-n", "1", EXAMPLE).out)):
        match = re.search(rf"n = {workers}: accuracy (\S+),", out)
        assert match, out
        accuracies.append(float(match.group(1)))
    assert min(accuracies) > 0.97
    assert abs(accuracies[0] - accuracies[1]) < 0.01


def test_own_model_is_short() -> None:
    name, code = blocks("file")[0]
    assert name == "my_model.py"
    assert len(code.strip().splitlines()) <= 12


def test_every_option_that_the_readme_names_exists(cli: Any) -> None:
    help_text = cli("train", "--help").out + cli("run", "--help").out
    help_text += cli("bench", "exchange", "--help").out
    help_text += "".join(
        cli(verb, "--help").out for verb in ("evaluate", "infer", "export", "submit")
    )
    for option in set(re.findall(r"(?<![\w-])--[a-z]+[a-z-]*", README)):
        assert option in help_text, option


def test_files_that_the_documents_name_exist() -> None:
    for document in ("README.md", "ARCHITECTURE.md", "CONTRIBUTING.md"):
        text = (ROOT / document).read_text()
        for target in re.findall(r"\]\(([^)#:]+)(?:#[\w-]+)?\)", text):
            assert (ROOT / target).exists(), f"{document} links to {target}"
        for path in re.findall(r"`((?:[a-z_]+/)+[a-z_]*(?:\.py)?)`", text):
            candidates = [ROOT / path, ROOT / "src/arignote" / path]
            assert any(candidate.exists() for candidate in candidates), f"{document}: {path}"


def test_settings_page_is_fresh() -> None:
    script = ROOT / "scripts/write-settings"
    done = subprocess.run([sys.executable, str(script), "--check"], check=False)
    assert done.returncode == 0


def test_changelog_has_the_version() -> None:
    import arignote

    assert f"## {arignote.__version__}" in (ROOT / "CHANGELOG.md").read_text()
