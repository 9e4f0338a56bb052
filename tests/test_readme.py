"""The README files do what they say. `typing/test_blocks_of_readmes.py` has type checkers read
them."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import distributed

PROJECT = Path(__file__).parents[1]
README = PROJECT / "README.md"
PATHS = [README, *sorted((PROJECT / "tests").rglob("README.md"))]
EXAMPLES = PROJECT / "tests/examples/README.md"
NUMBER = r"\d+\.\d+"


def found(pattern, path):
    """What the pattern finds in a README, with an ID that names the file and the line."""
    text = path.read_text()
    for match in re.finditer(pattern, text, re.DOTALL | re.MULTILINE):
        if match.lastindex:
            line = text[: match.start(match.lastindex)].count("\n") + 1
            yield pytest.param(path, *match.groups(), id=f"{path.relative_to(PROJECT)}:{line}")


EXCERPTS = [
    excerpt for path in PATHS for excerpt in found(r"([\w/]+\.py)\W+\n\n```py\n(.*?)^```$", path)
]
LINKS = [
    link for path in PATHS for link in found(r"^```.*?^```$|\]\((?!https?://)([^)]+)\)", path)
]  # not in code


def python_blocks(path):
    """The Python blocks of a README, each after as many empty lines as let an error show its line
    in the README."""
    text = path.read_text()
    for match in re.finditer(r"^```python\n(.*?)^```$", text, re.DOTALL | re.MULTILINE):
        yield "\n" * text[: match.start(1)].count("\n") + match[1]


def output_according_to(path, block):
    """The text in the block that follows or, where there is none, the comments behind the prints."""
    code = block.lstrip("\n")
    shown = re.search(
        re.escape(f"```python\n{code}```\n\n```\n") + r"(.*?)^```$",
        path.read_text(),
        re.DOTALL | re.M,
    )
    return (
        shown[1]
        if shown
        else "".join(f"{line}\n" for line in re.findall(r"^print\(.*\)  # (.*)$", code, re.M))
    )


def program(*blocks):
    return "\n".join(block.lstrip("\n") for block in blocks)


@pytest.mark.filterwarnings("ignore::DeprecationWarning:ray.data.context")
@pytest.mark.filterwarnings(
    r"ignore:os.fork\(\) was called:RuntimeWarning"
)  # by JAX, when Ray starts a process
@pytest.mark.parametrize(
    "path",
    [path for path in PATHS if [*python_blocks(path)]],
    ids=lambda path: str(path.relative_to(PROJECT)),
)
def test_the_python_blocks_run_one_after_the_other_and_print_what_is_shown(
    path, monkeypatch, tmp_path, capsys
):
    monkeypatch.chdir(tmp_path)
    distributed.init_process_group("gloo", store=distributed.HashStore(), rank=0, world_size=1)
    try:
        namespace = {"__name__": "__main__"}
        for block in python_blocks(path):
            exec(compile(block, path, "exec"), namespace)
            printed, expected = capsys.readouterr().out, output_according_to(path, block)
            assert re.sub(NUMBER, "", printed) == re.sub(NUMBER, "", expected)
            numbers, expected_numbers = (
                list(map(float, re.findall(NUMBER, text))) for text in (printed, expected)
            )
            assert numbers == pytest.approx(
                expected_numbers, rel=0.1, abs=1e-3
            )  # machines round differently
    finally:
        distributed.destroy_process_group()


def test_the_first_example_learns():
    example = next(python_blocks(README))
    lines = output_according_to(README, example).splitlines()
    rewards, losses = zip(*(map(float, re.findall(NUMBER, line)) for line in lines), strict=True)
    assert len(lines) == 5
    assert rewards[0] < 0.7 < 0.85 < rewards[-1]
    assert losses[0] > 0.1 > 0.001 > losses[-1]


def test_two_processes_that_run_the_recipe_for_ddp_have_the_same_metrics(tmp_path):
    example, *_ = blocks = [*python_blocks(README)]
    [recipe] = (block for block in blocks if "DistributedDataParallel" in block)
    script = program(
        "import sys\nfrom torch import distributed\nrank = int(sys.argv[1])",
        f"distributed.init_process_group('gloo', 'file://{tmp_path}/rendezvous', rank=rank, world_size=2)",
        example,
        "torch.manual_seed(rank)\nbatch = dict.fromkeys(modules, collect(modules['policy']))",
        "print('local', batch['policy']['rewards'].mean().item())",
        recipe,
        "print(metrics, [parameter.grad.norm().item() for parameter in modules.parameters()])",
        "distributed.destroy_process_group()",
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", script, str(rank)],
            env=environment,
            stdout=subprocess.PIPE,
            text=True,
        )
        for rank in range(2)
    ]
    try:
        first, second = (process.communicate(timeout=120)[0].splitlines() for process in processes)
    finally:
        for process in processes:
            process.kill()
            process.wait()
    assert first[-2].startswith("local") and first[-2] != second[-2]
    assert first[-1].startswith("{'policy/reward':") and first[-1] == second[-1]


def test_without_its_marked_lines_a_program_runs_and_the_text_counts_them():
    [block] = (block for block in python_blocks(EXAMPLES) if "  # +\n" in block)
    lines = block.splitlines()
    unmarked = [line for line in lines if not line.endswith("  # +")]
    exec("\n".join(unmarked), {"__name__": "__main__"})
    assert "self_supervised_loss" not in "\n".join(unmarked)
    assert f"The {len(lines) - len(unmarked)} lines marked `# +`" in EXAMPLES.read_text()


def test_the_same_by_hand_takes_as_many_lines_fewer_as_the_readme_says():
    [block] = (block for block in python_blocks(EXAMPLES) if "  # +\n" in block)
    by_hand = re.sub(r".*(learner|transitions =|import Learner).*\n", "", block)
    for line, line_by_hand in {
        'fwd_out = {"rnd": rnd(transitions)}': 'novelty = rnd({"new_obs": new_obs})["intrinsic_rewards"]',
        'rewards = rewards + fwd_out["rnd"]["intrinsic_rewards"].detach()': "rewards = rewards + novelty.detach()",
        'loss = loss + losses["rnd"]': "loss = loss + novelty.mean()",
    }.items():
        assert line in by_hand
        by_hand = by_hand.replace(line, line_by_hand)
    weights = []
    for code in (block, by_hand):
        torch.manual_seed(0)
        namespace = {"__name__": "__main__"}
        exec(code, namespace)
        weights.append(
            [
                parameter.tolist()
                for name in ("policy", "rnd")
                for parameter in namespace[name].parameters()
            ]
        )
    through_the_library, by_hand = (code.count("  # +\n") for code in (block, by_hand))
    assert weights[0] == weights[1]
    assert re.search(
        rf"\[{through_the_library} lines .*\]\(.*\), {through_the_library - by_hand} more than by hand",
        README.read_text(),
    )


@pytest.mark.parametrize(("path", "program", "excerpt"), EXCERPTS)
def test_each_excerpt_stands_line_by_line_in_the_program_that_it_is_from(path, program, excerpt):
    lines = (line.strip() for line in (path.parent / program).read_text().splitlines())
    for line in map(str.strip, excerpt.splitlines()):
        assert (
            line in ("", "...") or line in lines
        )  # an iterator, which goes on behind the line before


def test_each_excerpt_names_the_program_that_it_is_from():
    assert len(EXCERPTS) == sum(path.read_text().count("```py\n") for path in PATHS) > 0


@pytest.mark.parametrize(("path", "link"), LINKS)
def test_each_relative_link_leads_somewhere(path, link):
    file, _, heading = link.partition("#")
    target = path.parent / file if file else path
    assert target.exists()
    if heading:
        headings = re.findall(r"^#+ (.*)$", target.read_text(), re.MULTILINE)
        assert heading in [
            re.sub(r"[^\w -]", "", name).lower().replace(" ", "-") for name in headings
        ]


@pytest.mark.parametrize(
    "path", sorted((PROJECT / "tests").rglob("*.svg")), ids=lambda path: path.name
)
def test_each_picture_is_small_and_on_white(path):
    assert path.stat().st_size <= 80_000
    assert re.search(r'<g id="patch_1">\s*<path [^>]*style="fill: #ffffff"', path.read_text())


def test_the_readme_is_short_enough_to_be_read():
    assert len(README.read_text().splitlines()) <= 280


def test_the_readme_holds_the_two_commands_that_a_newcomer_runs():
    assert (
        "pip install -e '.[examples]' && python tests/examples/ppo_curiosity.py"
        in README.read_text().splitlines()
    )
    assert "pip install -e '.[dev]' && pytest" in README.read_text().splitlines()


def test_the_map_of_the_tests_names_every_file_of_tests():
    contributing = (PROJECT / "tests/README.md").read_text()
    for folder in ("unit", "frameworks", "rllib", "typing"):
        for path in (PROJECT / "tests" / folder).glob("test_*.py"):
            assert f"({folder}/{path.name})" in contributing
