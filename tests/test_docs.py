"""The documentation: links, quoted results and commands are right."""

import collections
import json
import pathlib
import re

import pytest

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
