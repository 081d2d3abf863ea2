"""What `seqcore conform` refuses before any work: no argument is taken and ignored."""

from __future__ import annotations

import pytest

from seqcore.cli import main


def test_an_empty_path_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["conform", "numpy", "--output", ""]) == 2
    assert "--output: received an empty text, expected a path" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "refused"),
    [
        (["--list", "--tier", "smoke"], "--list: takes no --tier"),
        (["--list", "numpy"], "--list: takes no NAME"),
        (["--self-test", "numpy"], "--self-test: takes no NAME"),
        (["--self-test", "--resume"], "--self-test: takes no --resume"),
        (["diff", "old.json", "new.json", "--seed", "3"], "diff: takes no --seed"),
        (["--self-test", "--clause", "MUSK-*"], "--clause: received 'MUSK-*'"),
        (["nowhere_at_all:Engine"], "no module is called 'nowhere_at_all'"),
        (["numpy", "--option", "matmul_precision=tf32"], "is set by each case of the suite"),
    ],
)
def test_a_mode_refuses_what_it_does_not_take(
    arguments: list[str], refused: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["conform", *arguments]) == 1
    assert refused in capsys.readouterr().err
