"""Training with a module whose class is in the main program, and its checkpoint."""

import subprocess
import sys
from pathlib import Path


def test_a_module_of_the_main_program_is_trained_and_restored(tmp_path):
    for program in ("train_in_main.py", "restore_checkpoint.py"):
        path = Path(__file__).with_name(program)
        subprocess.run([sys.executable, path, tmp_path], check=True)
