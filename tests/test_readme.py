"""The README files do what they say."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

PROJECT = Path(__file__).parents[1]
README = (PROJECT / "README.md").read_text()
PATHS = [PROJECT / "README.md", *sorted((PROJECT / "tests").rglob("README.md"))]


def found(pattern, path):
    """What the pattern finds in a README, with an ID that names the file and the line."""
    text = path.read_text()
    for match in re.finditer(pattern, text, re.DOTALL | re.MULTILINE):
        if match.lastindex:
            line = text[: match.start(match.lastindex)].count("\n") + 1
            yield pytest.param(path, *match.groups(), id=f"{path.relative_to(PROJECT)}:{line}")


BLOCKS = [block for path in PATHS for block in found(r"^```python\n(.*?)^```$", path)]
EXCERPTS = [excerpt for path in PATHS for excerpt in found(r"([\w/]+\.py)\W+\n\n```py\n(.*?)^```$", path)]
LINKS = [link for path in PATHS for link in found(r"^```.*?^```$|\]\((?!https?://)([^)]+)\)", path)]  # not in code


def printed_according_to(block):
    """What the comments behind the print calls say."""
    return re.findall(r"^print\(.*\)  # (.*)$", block, re.MULTILINE)


@pytest.mark.filterwarnings("ignore::DeprecationWarning:ray.data.context")
@pytest.mark.filterwarnings(r"ignore:os.fork\(\) was called:RuntimeWarning")  # by JAX, when Ray starts a process
@pytest.mark.parametrize(("path", "block"), BLOCKS)
def test_each_python_block_runs_and_prints_what_it_says(path, block, capsys):
    exec(compile(block, path, "exec"), {"__name__": "__main__"})
    assert capsys.readouterr().out.splitlines() == printed_according_to(block)


@pytest.mark.parametrize(("path", "block"), [block for block in BLOCKS if "  # +\n" in block.values[1]])
def test_a_block_runs_without_its_marked_lines_too_and_the_text_counts_them(path, block):
    lines = block.splitlines()
    unmarked = [line for line in lines if not line.endswith("  # +")]
    exec(compile("\n".join(unmarked), path, "exec"), {"__name__": "__main__"})
    assert "self_supervised_loss" not in "\n".join(unmarked)
    assert f"The {len(lines) - len(unmarked)} lines marked `# +`" in path.read_text()


def test_the_first_example_needs_nothing_but_this_package():
    block = BLOCKS[0].values[1]
    imported = "\nimport sys; print(*(name for name in sys.modules if '.' not in name))"
    process = subprocess.run([sys.executable, "-c", block + imported], capture_output=True, text=True, check=True)
    *printed, modules = process.stdout.splitlines()
    assert printed == printed_according_to(block)
    before = subprocess.run([sys.executable, "-c", imported], capture_output=True, text=True, check=True)
    third_party = {*modules.split()} - {*before.stdout.split()} - {*sys.stdlib_module_names}
    assert third_party == {"self_supervised_loss", "typing_extensions"}


@pytest.mark.parametrize(("path", "program", "excerpt"), EXCERPTS)
def test_each_excerpt_stands_line_by_line_in_the_program_that_it_is_from(path, program, excerpt):
    lines = (line.strip() for line in (path.parent / program).read_text().splitlines())
    for line in map(str.strip, excerpt.splitlines()):
        assert line in ("", "...") or line in lines  # an iterator, which goes on behind the line before


def test_each_excerpt_names_the_program_that_it_is_from():
    assert len(EXCERPTS) == sum(path.read_text().count("```py\n") for path in PATHS) > 0


@pytest.mark.parametrize(("path", "link"), LINKS)
def test_each_relative_link_leads_somewhere(path, link):
    file, _, heading = link.partition("#")
    target = path.parent / file if file else path
    assert target.exists()
    if heading:
        headings = re.findall(r"^#+ (.*)$", target.read_text(), re.MULTILINE)
        assert heading in [re.sub(r"[^\w -]", "", name).lower().replace(" ", "-") for name in headings]


@pytest.mark.parametrize("path", sorted((PROJECT / "tests").rglob("*.svg")), ids=lambda path: path.name)
def test_each_picture_is_small_and_on_white(path):
    assert path.stat().st_size <= 80_000
    assert re.search(r'<g id="patch_1">\s*<path [^>]*style="fill: #ffffff"', path.read_text())


def test_it_holds_the_two_commands_that_a_newcomer_runs():
    assert "pip install -e '.[examples]' && python tests/examples/ppo_curiosity.py" in README.splitlines()
    assert "pip install -e '.[dev]' && pytest" in README.splitlines()
