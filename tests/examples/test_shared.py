"""What the examples share, and what each of their command lines does: help, bad options, packages
that are missing."""

import ast
import re
import runpy
import sys
from pathlib import Path

import pytest
from examples.shared import parse_options, print_table, progress_bar, save_plot

# TorchRL's collectors use a class of TorchRL's that is to go.
pytestmark = pytest.mark.filterwarnings(
    "ignore:.* inherits from WeightUpdaterBase is deprecated:DeprecationWarning"
)

PROGRAMS = {  # the extra of each, and a package that is in no other
    "jax_world_model": ("jax", "flax"),
    "ppo_curiosity": ("examples", "gymnasium"),
    "rsl_rl_rnd": ("rsl_rl", "rsl_rl.env"),
    "stable_baselines3_rnd": ("sb3", "stable_baselines3"),
    "tianshou_curiosity": ("tianshou", "tianshou.algorithm"),
    "torchrl_self_prediction": ("torchrl", "tensordict"),
}


@pytest.fixture
def run(monkeypatch):
    """Runs a program until it ends of itself, and returns with what."""

    def run(program, *options):
        monkeypatch.setattr(sys, "argv", [program, *options])
        monkeypatch.setattr(sys, "path", [*sys.path])
        with pytest.raises(SystemExit) as stopped:
            runpy.run_path(str(Path(__file__).with_name(f"{program}.py")), run_name="__main__")
        return stopped.value.code

    return run


def docstring_of(program):
    return ast.get_docstring(ast.parse(Path(__file__).with_name(f"{program}.py").read_text()))


@pytest.mark.parametrize("program", PROGRAMS)
def test_help_explains_the_program_and_its_options(program, run, capsys):
    assert run(program, "--help") == 0
    description, options = capsys.readouterr().out.split("\noptions:\n")
    assert docstring_of(program) in description
    assert {*re.findall(r"--\w+", options)} == {"--help", "--seeds", "--steps", "--plot"}


@pytest.mark.parametrize("program", PROGRAMS)
def test_a_missing_package_is_named_with_what_to_install(program, run, monkeypatch):
    extra, package = PROGRAMS[program]
    remedy = f"This example needs the extra {extra}: pip install -e '.[{extra}]'"
    assert remedy in docstring_of(program)
    for missing in ("tqdm", "matplotlib.figure", "self_supervised_loss", package):
        with monkeypatch.context() as without:
            without.setitem(sys.modules, missing, None)
            without.delitem(sys.modules, "examples.shared")
            assert run(program) == f"The package {missing} is missing. {remedy}"


def test_options_left_out_have_the_defaults_of_the_program():
    options = parse_options("", num_seeds=3, num_steps=1000, argv=[])

    assert vars(options) == {"seeds": [0, 1, 2], "steps": 1000, "plot": None}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--steps", "0"], "argument --steps: '0' is not a whole number from 1 to 1000000000"),
        (
            ["--steps", "many"],
            "argument --steps: 'many' is not a whole number from 1 to 1000000000",
        ),
        (["--seeds", "0.5"], "argument --seeds: '0.5' is not a whole number from 0 to 4294967295"),
        (
            ["--seeds", "0", "-1"],
            "argument --seeds: '-1' is not a whole number from 0 to 4294967295",
        ),
        (
            ["--seeds", "4294967296"],
            "argument --seeds: '4294967296' is not a whole number from 0 to 4294967295",
        ),
        (["--seeds"], "argument --seeds: expected at least one argument"),
        (["--sedes", "1"], "unrecognized arguments: --sedes 1"),
        (
            ["--plot", "curves"],
            "argument --plot: the name of a plot ends in one of .svg, .pdf, .png, not 'curves'",
        ),
        (["--plot", "missing/curves.svg"], "argument --plot: cannot write 'missing/curves.svg'"),
    ],
)
def test_a_bad_option_is_named(options, message, capsys):
    with pytest.raises(SystemExit) as stopped:
        parse_options("", num_seeds=3, num_steps=1000, argv=options)

    assert stopped.value.code == 2
    assert capsys.readouterr().err.endswith(f"error: {message}\n")


@pytest.mark.parametrize("seed", [0, 4294967295])
def test_at_80_columns_the_progress_bar_shows_its_figures(seed):
    with progress_bar(100, f"seed {seed} with curiosity") as bar:
        bar.ncols = 79  # what tqdm takes of 80
        bar.set_postfix_str("success 100%, inverse loss 0.00012", refresh=False)
        bar.update(100)

        assert str(bar).startswith(
            f"seed {seed} with curiosity 100%, success 100%, inverse loss 0.00012 |"
        )
        assert len(str(bar)) <= 79


def test_a_table_has_columns_as_wide_as_their_widest_cell(capsys):
    print_table(["", "loss", "rate"], [["seed 0", "0.00012", "5%"], ["seed 1", "1"]])

    assert (
        capsys.readouterr().out
        == "\n           loss  rate\nseed 0  0.00012    5%\nseed 1        1\n"
    )


@pytest.mark.parametrize(
    ("suffix", "start"), [("svg", b"<?xml"), ("pdf", b"%PDF"), ("PNG", b"\x89PNG")]
)
def test_a_plot_has_the_format_that_its_name_ends_in(suffix, start, tmp_path):
    path = parse_options(
        "", num_seeds=1, num_steps=1, argv=["--plot", f"{tmp_path}/curves.{suffix}"]
    ).plot

    save_plot(path, [1, 2], {"an arm": [[0.0, 1.0]]})

    assert path.read_bytes().startswith(start)


def test_a_plot_says_what_its_lines_are_and_draws_them(tmp_path):
    curves = {"with": [[0.0, 1.0], [0.5, 1.0], [0.4, 0.7]], "without": [[0.0, 0.0]] * 3}

    svg = plotted(
        tmp_path / "curves.svg", curves, title="the title", xlabel="steps", ylabel="success"
    )

    for text in (
        "the title",
        "steps",
        "success",
        "with",
        "without",
        "mean of 3 seeds (thin lines: one seed each)",
    ):
        assert f"<!-- {text} -->" in svg
    assert svg.count("stroke-opacity: 0.4") == 6
    assert re.search(r'id="patch_1">\s*<path [^>]*style="fill: #ffffff"', svg)  # the background


def test_a_plot_of_one_seed_says_so(tmp_path):
    assert "<!-- one seed -->" in plotted(tmp_path / "curves.svg", {"with": [[0.0, 1.0]]})


def plotted(path, curves, **axes):
    save_plot(path, [1024, 2048], curves, **axes)
    return path.read_text()
