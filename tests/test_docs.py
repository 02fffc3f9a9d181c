"""The documentation: links, quoted results and commands are right."""

import collections
import functools
import importlib
import json
import pathlib
import re
import shlex
import sys

import pytest

from jaxvsr import cli
from jaxvsr.config import load_config

ROOT = pathlib.Path(__file__).parents[1]
PAGES = sorted(
    [
        *ROOT.glob("*.md"),
        *ROOT.glob("docs/*.md"),
        *ROOT.glob("benchmarks/results/*.md"),
        *ROOT.glob("tfds_builders/*/README.md"),
    ]
)
LINK = re.compile(r"\]\(([^()\s]+)\)|^\[[^\]]+\]: (\S+)", re.M)

# The module whose function `command` describes `python -m jaxvsr.NAME`.
MODULES = {"main": "jaxvsr.main"} | cli.COMMANDS
EXAMPLES = ("configs/nearest.py", "mine.py")  # files that a reader is to write

every_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))


def anchors(page):
    """The anchors that GitHub gives a page's headings."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(), re.M)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@every_page
def test_relative_links_and_anchors_exist(page):
    for link in filter(None, (a or b for a, b in LINK.findall(page.read_text()))):
        if "://" in link:
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), link
        assert not anchor or anchor in anchors(target), link


@every_page
def test_quoted_paths_exist(page):
    """`tests/...`, `jaxvsr/...` and the like in running text, but for those of an example."""
    folders = "tests|jaxvsr|configs|benchmarks|docs"
    for path in re.findall(rf"`((?:{folders})/[\w/.]+)`", page.read_text()):
        assert "nearest" in path or (ROOT / path).exists(), path


def rows(page, columns):
    """{first cell without its link: last cell} of a page's tables with that many columns."""
    table = {}
    for line in page.read_text().splitlines():
        cells = [cell.strip() for cell in line.strip().split("|")[1:-1]]
        if len(cells) == columns:
            table[re.sub(r"\[([^\]]+)\]\([^)]*\)", r"\1", cells[0])] = cells[-1]
    return table


def test_quoted_errors_are_the_measured_ones():
    errors = json.loads((ROOT / "benchmarks/results/parity.json").read_text())["errors"]
    largest = collections.defaultdict(float)
    for error in errors:
        largest[error["model"]] = max(largest[error["model"]], error["error"])
    readme, models = rows(ROOT / "README.md", 5), rows(ROOT / "docs/models.md", 8)
    for model, error in largest.items():
        if model == "MVSR_10":  # one of the 57 networks of the log, which share a row
            continue
        assert readme[model] == f"{error:.1e}"
        (quoted,) = (
            cell for name, cell in models.items() if re.fullmatch(rf"{re.escape(model)} `.*", name)
        )
        assert quoted == f"{error:.1e}"
    values = [error["error"] for error in errors]
    assert f"{min(values):.1e} to {max(values):.1e}" in (ROOT / "README.md").read_text()


def command_lines(text):
    """The command lines of a page's code, without comments, optional brackets and "..."."""
    text = text.replace("\\\n", " ")
    for line in re.findall(r"^(?: {4,}|!)(.+)$", text, re.M) + re.findall(r"`([^`\n]+)`", text):
        if re.match(r"(jaxvsr|make) \w|python -m (jaxvsr|benchmarks)\.", line):
            words = shlex.split(re.sub(r"[\[\]]| #.*", "", line))
            if not any("&&" in word or "|" in word for word in words):
                yield [word for word in words if "..." not in word and "…" not in word]


def assert_command_parses(name, words):
    command = importlib.import_module(MODULES[name]).command(name)
    overrides, rest = cli.split_overrides(words)
    arguments = command.flags(["jaxvsr", *rest])[1:]
    assert command.open_ended or len(arguments) <= len(command.arguments), arguments
    config = command.flags["config"].value
    if config and "{" not in config and config not in EXAMPLES:
        load_config(config, overrides)


@functools.cache
def benchmark_help(name):
    """The help of a benchmark."""
    module = importlib.import_module(f"benchmarks.{name}")
    with pytest.MonkeyPatch.context() as patch, pytest.raises(SystemExit):
        text = []
        patch.setattr(sys, "argv", [name, "--help"])
        patch.setattr(sys, "stdout", type("Out", (), {"write": text.append, "flush": print}))
        module.main()
    return "".join(text)


@pytest.mark.parametrize(
    "page",
    [*PAGES, *ROOT.glob("notebooks/*.ipynb")],
    ids=lambda page: str(page.relative_to(ROOT)),
)
def test_commands_exist_and_take_their_flags(page):
    text = page.read_text()
    if page.suffix == ".ipynb":
        text = "\n".join("".join(cell["source"]) for cell in json.loads(text)["cells"])
        for name, value in {"CONFIG": "configs/miavsr.py", "STEPS": "7", "FIELDS": ""}.items():
            text = text.replace(f"{{{name}}}", value)
    for words in command_lines(text):
        if words[0] == "make":
            assert re.search(rf"^{words[1]}:", (ROOT / "Makefile").read_text(), re.M), words
        elif words[0] == "jaxvsr":
            assert_command_parses(words[1], words[2:])
        elif words[2].startswith("jaxvsr."):
            assert_command_parses(words[2].removeprefix("jaxvsr."), words[3:])
        else:
            name = words[2].removeprefix("benchmarks.")
            if name == "mobile_log":
                pytest.importorskip("matplotlib")
            if name != "NAME":
                known = benchmark_help(name)
                for flag in re.findall(r"--\w+", " ".join(words)):
                    assert flag in known, (words, flag)


def test_the_sample_of_profile_is_its_output(capsys):
    page = (ROOT / "docs/profile.md").read_text()
    line = "jaxvsr profile --config=configs/basicvsr.py --rounds=0"
    sample = page.split(f"    {line}\n")[1].split("\n| flag |")[0]
    command = importlib.import_module(MODULES["profile"]).command("profile")
    assert cli.run_command(command, line.split()[2:]) == 0
    shown = [row for row in capsys.readouterr().out.splitlines() if row]
    expected = [row.strip() for row in sample.splitlines() if row.strip()]
    assert shown[-len(expected) :] == expected


def test_flags_in_running_text_exist():
    known = {"--help", "--version"}
    for name, module in MODULES.items():
        known |= {f"--{flag}" for flag in importlib.import_module(module).command(name).flags}
    for page in (ROOT / "README.md", *ROOT.glob("docs/*.md")):
        for code in re.findall(r"`((?:--|jaxvsr )[^`\n]+)`", page.read_text()):
            unknown = set(re.findall(r"(?<!\S)--\w+(?![\w.])", code)) - known
            assert not unknown, (page.name, code)
