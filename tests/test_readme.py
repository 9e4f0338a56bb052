"""The pages are correct: their Python blocks run, their excerpts match, and their links work.

The Python blocks of a page run in order, as one program. The output of a block stands in a block
without a language that follows directly, or in comments behind the calls of `print`. Type checkers
read the blocks in `typing`, and `test_recipes.py` runs some of them in two processes. Programs for
RLlib start Ray and run in `examples/test_readme_of_rllib.py`.
"""

import re
from contextlib import redirect_stdout
from io import StringIO
from itertools import pairwise
from pathlib import Path

import pytest
from markdown_it import MarkdownIt

from self_supervised_loss._wrappers import _ATTRIBUTES

PROJECT = Path(__file__).parents[1]
README = PROJECT / "README.md"
EXAMPLES = PROJECT / "tests/examples/README.md"
CONTRIBUTING = PROJECT / ".github/CONTRIBUTING.md"
PAGES = [README, CONTRIBUTING, *sorted((PROJECT / "tests").rglob("*.md"))]

each_page = pytest.mark.parametrize(
    "page", PAGES, ids=[str(page.relative_to(PROJECT)) for page in PAGES]
)


def tokens(page):
    return MarkdownIt().parse(page.read_text())


def blocks(page, language):
    return [token for token in tokens(page) if token.type == "fence" and token.info == language]


def links(token):
    attributes = [part.attrs for part in token.children or ()]
    return [each[name] for each in attributes for name in ("href", "src") if name in each]


def place(page, token):
    return f"{page.relative_to(PROJECT)}:{token.map[0] + 1}"


# Python blocks


def run(block, page, program):
    code = "\n" * (block.map[0] + 1) + block.content  # so an error shows its line of the page
    exec(compile(code, page, "exec"), program)


def run_blocks(page):
    program = {"__name__": "__main__"}
    for block, following in pairwise([*tokens(page), None]):
        if block.info == "python" and "from ray." not in block.content:
            with redirect_stdout(StringIO()) as output:
                run(block, page, program)
            shown, printed = shown_output(block, following), output.getvalue().splitlines()
            is_right = len(shown) == len(printed) and all(map(is_same, shown, printed))
            assert is_right, f"{place(page, block)} shows {shown} and prints {printed}"
    for test in [value for name, value in program.items() if name.startswith("test_")]:
        test()


def shown_output(block, following):
    """Returns the lines that a block prints according to the page."""
    if following is not None and following.type == "fence" and not following.info:
        return following.content.splitlines()
    return re.findall(r"^print\(.*\)  # (.*)", block.content, re.MULTILINE)


def is_same(text, other_text):
    """Returns whether two lines are the same, except that machines round differently."""
    parts, other_parts = (re.split(r"(\d+\.\d+)", line) for line in (text, other_text))
    numbers, other_numbers = ([*map(float, each[1::2])] for each in (parts, other_parts))
    close = pytest.approx(other_numbers, rel=0.1, abs=1e-3)
    return parts[::2] == other_parts[::2] and numbers == close


@pytest.mark.parametrize("page", [README, EXAMPLES], ids=["README", "examples"])
def test_blocks_run_in_order_and_print_the_output_shown(page, process_group, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    run_blocks(page)


def test_without_its_marked_lines_a_program_runs_without_the_library():
    [block] = (block for block in blocks(EXAMPLES, "python") if "  # +\n" in block.content)
    unmarked = re.sub(r".*  # \+\n", "", block.content)
    assert "self_supervised_loss" not in unmarked
    exec(unmarked, {"__name__": "__main__"})


def test_the_readme_begins_with_an_error_that_it_prints_below():
    error, *others = [block.content for block in blocks(README, "")]
    assert error in others


# Excerpts, lists and links


@each_page
def test_excerpts_match_the_programs_they_are_from(page):
    """The paragraph before an excerpt links to its program. `...` stands for omitted lines."""
    for index, excerpt in enumerate(tokens(page)):
        if excerpt.info == "py":
            *_, program = links(tokens(page)[index - 2])
            rest = without_layout((page.parent / program).read_text())
            parts = re.split(r"^ *\.\.\.$|\n\n", excerpt.content, flags=re.MULTILINE)
            for part in filter(None, map(without_layout, parts)):
                _, found, rest = rest.partition(part)
                assert found, f"{place(page, excerpt)} is not in {program}: {part}"


def without_layout(code):
    return re.sub(r",(?=\s*[)}\]])|\s", "", code)


def test_the_readme_lists_the_wrappers_that_learners_look_through():
    [sentence] = re.findall(r"Learners look through (.*), in any nesting", README.read_text())
    class_names = {path.rpartition(".")[2] for path in _ATTRIBUTES}
    public_names = {"OptimizedModule": "torch.compile", "_FabricModule": "Fabric"}
    expected = {public_names.get(name, name) for name in class_names}
    assert {*re.findall(r"`([\w.]+)`", sentence)} == expected, "README.md and _wrappers.py differ"


def test_the_page_on_benchmarks_begins_with_rows_of_its_table():
    opening, _, table = (PROJECT / "tests/benchmarks/README.md").read_text().partition("## All")
    assert {*re.findall(r"^\| .*", opening, re.MULTILINE)} < {*table.splitlines()}


def test_the_contributing_guide_lists_every_source_file():
    source = PROJECT / "src/self_supervised_loss"
    files = {str(path.relative_to(source)) for path in source.rglob("*.py")}
    rows = re.findall(r"^\| `([\w/]+\.py)`", CONTRIBUTING.read_text(), re.MULTILINE)
    assert {*rows} == files


@each_page
def test_relative_links_lead_to_files_and_headings(page):
    local = [link for token in tokens(page) for link in links(token) if "://" not in link]
    assert [link for link in local if not leads_somewhere(page, link)] == []


def leads_somewhere(page, link):
    file, _, anchor = link.partition("#")
    target = page.parent / file if file else page
    return target.exists() and (not anchor or anchor in anchors(target))


def anchors(page):
    """Returns the anchors that GitHub gives the headings of a page."""
    texts = [text for opening, text in pairwise(tokens(page)) if opening.type == "heading_open"]
    return [re.sub(r"[^\w -]", "", text.content).lower().replace(" ", "-") for text in texts]
