"""What the command-line options of the examples take."""

import argparse
from collections.abc import Callable


def whole_number(minimum: int, maximum: int) -> Callable[[str], int]:
    """Makes a `type` for `ArgumentParser.add_argument` that takes whole numbers in a range, its bounds included."""

    def parse(text: str) -> int:
        if not text.isdecimal() or not minimum <= int(text) <= maximum:
            raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from {minimum} to {maximum}")
        return int(text)

    return parse
