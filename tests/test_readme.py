"""The README does what it says."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

PROJECT = Path(__file__).parents[1]
README = (PROJECT / "README.md").read_text()
BLOCKS = re.findall(r"^```python\n(.*?)^```$", README, re.DOTALL | re.MULTILINE)
EXCERPTS = re.findall(r"\(`(tests/examples/\w+\.py)`\):\n\n```py\n(.*?)^```$", README, re.DOTALL | re.MULTILINE)


def printed_according_to(block):
    """What the comments behind the print calls say."""
    return re.findall(r"^print\(.*\)  # (.*)$", block, re.MULTILINE)


@pytest.mark.parametrize("block", BLOCKS, ids=lambda block: f"line {README[: README.index(block)].count(chr(10)) + 1}")
def test_each_python_block_runs_and_prints_what_it_says(block, capsys):
    exec(compile(block, "README.md", "exec"), {"__name__": "__main__"})
    assert capsys.readouterr().out.splitlines() == printed_according_to(block)


def test_the_first_example_needs_nothing_but_this_package():
    imported = "\nimport sys; print(*(name for name in sys.modules if '.' not in name))"
    process = subprocess.run([sys.executable, "-c", BLOCKS[0] + imported], capture_output=True, text=True, check=True)
    *printed, modules = process.stdout.splitlines()
    assert printed == printed_according_to(BLOCKS[0])
    before = subprocess.run([sys.executable, "-c", imported], capture_output=True, text=True, check=True)
    third_party = {*modules.split()} - {*before.stdout.split()} - {*sys.stdlib_module_names}
    assert third_party == {"self_supervised_loss", "typing_extensions"}


@pytest.mark.parametrize(("program", "excerpt"), EXCERPTS, ids=[program for program, _ in EXCERPTS])
def test_each_excerpt_stands_line_by_line_in_the_program_that_it_is_from(program, excerpt):
    lines = (line.strip() for line in (PROJECT / program).read_text().splitlines())
    for line in map(str.strip, excerpt.splitlines()):
        assert line in ("", "...") or line in lines  # an iterator, which goes on behind the line before


def test_each_excerpt_names_the_program_that_it_is_from():
    assert len(EXCERPTS) == README.count("```py\n") > 0


def test_it_holds_the_two_commands_that_a_newcomer_runs():
    assert "pip install -e '.[examples]' && python tests/examples/ppo_curiosity.py" in README.splitlines()
    assert "pip install -e '.[dev]' && pytest" in README.splitlines()
