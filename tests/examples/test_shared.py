"""Options, progress bars, tables and plots of the examples."""

import pytest
from examples.shared import Progress, make_parser, print_table, save_plot


def parse(*options):
    return make_parser("", num_seeds=3, num_steps=1000).parse_args(options)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--steps", "0"], "argument --steps: must be at least 1, got 0"),
        (
            ["--plot", "curves"],
            "argument --plot: the file name must end in .svg, .pdf or .png, got 'curves'",
        ),
        (["--plot", "missing/curves.svg"], "argument --plot: cannot write 'missing/curves.svg'"),
    ],
)
def test_a_bad_option_is_rejected_before_the_training(options, message, capsys):
    with pytest.raises(SystemExit, match=r"^2$"):
        parse(*options)
    assert capsys.readouterr().err.endswith(f"error: {message}\n")


def test_the_progress_bar_shows_and_keeps_figures(capsys):
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
def test_the_file_name_determines_the_format_of_a_plot(suffix, start, tmp_path):
    path = parse("--plot", f"{tmp_path}/curves.{suffix}").plot

    save_plot(path, [1, 2], {"an arm": [[0.0, 1.0]]})

    assert path.read_bytes().startswith(start)


@pytest.mark.parametrize(
    ("num_seeds", "legend"), [(1, "one seed"), (3, "mean of 3 seeds (thin lines: one seed each)")]
)
def test_a_plot_contains_its_labels_as_text(num_seeds, legend, tmp_path):
    path = tmp_path / "curves.svg"
    curves = {"with": [[0.0, 1.0]] * num_seeds, "without": [[0.0, 0.0]] * num_seeds}

    save_plot(path, [1024, 2048], curves, title="the title", xlabel="steps", ylabel="success")

    svg = path.read_text()
    for text in ("the title", "steps", "success", "with", "without", legend):
        assert f">{text}</text>" in svg
