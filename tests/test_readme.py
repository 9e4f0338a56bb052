"""The README files do what they say. Type checkers read them in `typing`."""

import copy
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
EXAMPLES = PROJECT / "tests/examples/README.md"
RLLIB = PROJECT / "tests/rllib/README.md"
PATHS = [README, *sorted((PROJECT / "tests").rglob("README.md"))]
NUMBER = r"\d+\.\d+"


def found(pattern, path):
    """What the groups of a pattern match in a README, with an ID that names file and line."""
    text = path.read_text()
    for match in re.finditer(pattern, text, re.DOTALL | re.MULTILINE):
        if match.lastindex:
            line = text[: match.start(match.lastindex)].count("\n") + 1
            yield pytest.param(path, *match.groups(), id=f"{path.relative_to(PROJECT)}:{line}")


def python_blocks(path):
    """The Python blocks of a README, each after as many empty lines as let an error show its line
    in the README."""
    text = path.read_text()
    for match in re.finditer(r"^```python\n(.*?)^```$", text, re.DOTALL | re.MULTILINE):
        yield "\n" * text[: match.start(1)].count("\n") + match[1]


def output_according_to(path, block):
    """The text in the block that follows or, if there is none, the comments behind the prints."""
    code = block.lstrip("\n")
    shown = re.escape(f"```python\n{code}```\n\n```\n") + r"(.*?)^```$"
    if match := re.search(shown, path.read_text(), re.DOTALL | re.MULTILINE):
        return match[1]
    return "".join(f"{line}\n" for line in re.findall(r"^print\(.*\)  # (.*)$", code, re.MULTILINE))


def numbers(text):
    return [float(number) for number in re.findall(NUMBER, text)]


@pytest.fixture
def process_group():
    distributed.init_process_group("gloo", store=distributed.HashStore(), rank=0, world_size=1)
    yield
    distributed.destroy_process_group()


def run_blocks(path, capsys):
    namespace = {"__name__": "__main__"}
    for block in python_blocks(path):
        exec(compile(block, path, "exec"), namespace)
        printed, expected = capsys.readouterr().out, output_according_to(path, block)
        assert re.sub(NUMBER, "", printed) == re.sub(NUMBER, "", expected)
        # machines round differently
        assert numbers(printed) == pytest.approx(numbers(expected), rel=0.1, abs=1e-3)


# That of RLlib starts Ray: examples/test_readme_of_rllib.py runs it.
@pytest.mark.parametrize("path", [README, EXAMPLES], ids=["README", "examples"])
def test_the_python_blocks_run_one_after_the_other_and_print_what_is_shown(
    path, process_group, monkeypatch, tmp_path, capsys
):
    monkeypatch.chdir(tmp_path)
    run_blocks(path, capsys)


def test_both_versions_of_the_loop_at_the_top_end_with_the_same_weights():
    [diff] = re.findall(r"^```diff\n(.*?)^```$", README.read_text(), re.DOTALL | re.MULTILINE)
    example = {"__name__": "__main__"}
    exec(next(python_blocks(README)), example)
    weights, logs = [], []
    for other_version in "+-":
        lines = [line[2:] for line in diff.splitlines() if not line.startswith(other_version)]
        modules = copy.deepcopy(example["modules"])
        namespace = example | dict(modules) | {"modules": modules, "log": logs.append}
        namespace["learner"] = learner = example["PolicyGradient"](module=modules)
        namespace["optimizer"] = torch.optim.Adam(modules.parameters())
        namespace["compute_policy_loss"] = lambda fwd_out, batch, learner=learner: (
            learner.compute_loss_for_module(module_id="policy", batch=batch, fwd_out=fwd_out)
        )
        torch.manual_seed(0)
        namespace["minibatches"] = [example["collect"](modules) for _ in range(3)]
        exec("\n".join(lines), namespace)
        weights.append(modules.state_dict())
    torch.testing.assert_close(*weights, rtol=0, atol=0)
    assert not torch.equal(
        weights[0]["rnd.predictor.0.bias"], example["modules"]["rnd"].predictor[0].bias
    )
    *by_hand, through_the_learner = logs
    for name in by_hand[0]:
        mean = sum(logged[name] for logged in by_hand) / len(by_hand)
        assert through_the_learner[name].item() == pytest.approx(mean)


def test_two_processes_that_log_in_different_orders_have_the_same_means_by_name(tmp_path):
    [recipe] = (block for block in python_blocks(README) if "DistributedDataParallel" in block)
    _, averaging = recipe.split("\nlogged =")
    script = f"""
import sys
from statistics import fmean
from torch import distributed
from self_supervised_loss import Learner

rank = int(sys.argv[1])
rendezvous = "file://{tmp_path}/rendezvous"
distributed.init_process_group("gloo", rendezvous, rank=rank, world_size=2)
learner = Learner(module={{}})
for name, mean in [("one", 1), ("hundred", 100)][:: 1 if rank else -1]:
    learner.metrics.log_value(name, mean + rank - 0.5)
learner.metrics.log_value(f"only in {{rank}}", rank)
logged ={averaging}
assert means == {{"one": 1, "hundred": 100, "only in 0": 0, "only in 1": 1}}, means
distributed.destroy_process_group()
"""
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    processes = [
        subprocess.Popen([sys.executable, "-c", script, str(rank)], env=environment)
        for rank in range(2)
    ]
    try:
        assert [process.wait() for process in processes] == [0, 0]
    finally:
        for process in processes:
            process.kill()
            process.wait()


def test_without_its_marked_lines_a_program_does_without_the_library():
    [block] = (block for block in python_blocks(EXAMPLES) if "  # +\n" in block)
    unmarked = re.sub(r".*  # \+\n", "", block)
    assert "self_supervised_loss" not in unmarked
    exec(unmarked, {"__name__": "__main__"})


EXCERPTS = [
    excerpt for path in PATHS for excerpt in found(r"([\w/]+\.py)\W+\n\n```py\n(.*?)^```$", path)
]


@pytest.mark.parametrize(("path", "program", "excerpt"), EXCERPTS)
def test_each_part_of_an_excerpt_stands_in_the_program_that_it_is_from(path, program, excerpt):
    rest = without_layout((path.parent / program).read_text())
    for part in map(without_layout, re.split(r"^ *\.\.\.$|\n\n", excerpt, flags=re.MULTILINE)):
        assert part in rest
        rest = rest[rest.index(part) + len(part) :]


def without_layout(code):
    return re.sub(r",(?=\s*[)}\]])|\s", "", code)


def test_each_excerpt_names_the_program_that_it_is_from():
    assert len(EXCERPTS) == sum(path.read_text().count("```py\n") for path in PATHS) > 0


LINKS = [
    link for path in PATHS for link in found(r"^```.*?^```$|\]\((?!https?://)([^)]+)\)", path)
]  # not in code


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
