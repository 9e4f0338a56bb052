"""What the examples share: options, progress bars, tables and plots."""

import re

import pytest
from examples.shared import Progress, make_parser, print_table, save_plot


def parse(*options):
    return make_parser("", num_seeds=3, num_steps=1000).parse_args(options)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--steps", "0"], "argument --steps: is at least 1, not 0"),
        (
            ["--plot", "curves"],
            "argument --plot: the name of a plot ends in one of .svg, .pdf, .png, not 'curves'",
        ),
        (["--plot", "missing/curves.svg"], "argument --plot: cannot write 'missing/curves.svg'"),
    ],
)
def test_a_bad_option_is_named(options, message, capsys):
    with pytest.raises(SystemExit) as stopped:
        parse(*options)

    assert stopped.value.code == 2
    assert capsys.readouterr().err.endswith(f"error: {message}\n")


def test_the_figures_come_before_the_bar_where_they_are_never_cut_off(capsys):
    progress = Progress(100, "seed 0 with curiosity")

    progress.show(100, success=0.975, inverse_loss=0.000123)

    *_, last = capsys.readouterr().err.strip().split("\r")
    assert last.startswith("seed 0 with curiosity 100%, success=0.975, inverse_loss=0.000123 |")
    assert progress.history == {"steps": [100], "success": [0.975], "inverse_loss": [0.000123]}


def test_a_table_has_columns_as_wide_as_their_widest_cell(capsys):
    print_table(["", "loss", "rate"], [["seed 0", "0.00012", "5%"]])

    assert capsys.readouterr().out == "\n           loss  rate\nseed 0  0.00012    5%\n"


@pytest.mark.parametrize(
    ("suffix", "start"), [("svg", b"<?xml"), ("pdf", b"%PDF"), ("PNG", b"\x89PNG")]
)
def test_a_plot_has_the_format_that_its_name_ends_in(suffix, start, tmp_path):
    path = parse("--plot", f"{tmp_path}/curves.{suffix}").plot

    save_plot(path, [1, 2], {"an arm": [[0.0, 1.0]]})

    assert path.read_bytes().startswith(start)


def test_a_plot_says_what_its_lines_are_and_draws_them(tmp_path):
    path = tmp_path / "curves.svg"
    curves = {"with": [[0.0, 1.0], [0.5, 1.0], [0.4, 0.7]], "without": [[0.0, 0.0]] * 3}

    save_plot(path, [1024, 2048], curves, title="the title", xlabel="steps", ylabel="success")

    svg = path.read_text()
    legend = ["with", "without", "mean of 3 seeds (thin lines: one seed each)"]
    for text in ["the title", "steps", "success", *legend]:
        assert f"<!-- {text} -->" in svg
    assert svg.count("stroke-opacity: 0.4") == 6
    assert re.search(r'id="patch_1">\s*<path [^>]*style="fill: #ffffff"', svg)  # the background


def test_a_plot_of_one_seed_says_so(tmp_path):
    path = tmp_path / "curves.svg"

    save_plot(path, [1024, 2048], {"with": [[0.0, 1.0]]})

    assert "<!-- one seed -->" in path.read_text()
