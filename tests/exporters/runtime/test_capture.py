from __future__ import annotations

import os
import subprocess
import sys

import pytest

from visiongraft.errors import one_line
from visiongraft.exporters.runtime.capture import captured_output


def test_output_of_python_native_code_and_children_is_captured(
    capfd: pytest.CaptureFixture[str],
) -> None:
    with captured_output() as output:
        print("from print")
        print("from stderr", file=sys.stderr)
        os.write(2, b"\x1b[31mfrom native code\x1b[0m\n")
        subprocess.run(["echo", "from a child"], check=True)
    assert capfd.readouterr() == ("", "")
    assert {"from print", "from stderr", "from native code", "from a child"} == set(
        output().splitlines()
    )


def test_output_works_again_afterwards_also_after_an_error(
    capfd: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(ValueError, match="inside"), captured_output() as output:
        print("hidden")
        raise ValueError("inside")
    print("seen")
    os.write(2, b"too")
    assert capfd.readouterr() == ("seen\n", "too")
    assert output() == "hidden\n"


def test_long_messages_are_cut_to_one_line() -> None:
    assert one_line("a\nb " + "x" * 500) == "a b " + "x" * 293 + "..."
