"""What the examples share: options, progress bars, tables and plots."""

import re

import pytest
from examples.shared import parse_options, print_table, progress_bar, save_plot


def test_options_left_out_have_the_defaults_of_the_program():
    options = parse_options("", num_seeds=3, num_steps=1000, argv=[])

    assert vars(options) == {"seeds": [0, 1, 2], "steps": 1000, "plot": None}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--steps", "0"], "argument --steps: '0' is not a whole number from 1 to 1000000000"),
        (["--seeds", "0.5"], "argument --seeds: '0.5' is not a whole number from 0 to 4294967295"),
        (
            ["--seeds", "4294967296"],
            "argument --seeds: '4294967296' is not a whole number from 0 to 4294967295",
        ),
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
