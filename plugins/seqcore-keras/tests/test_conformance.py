"""Which clauses of the specification the suite finds broken, and no other."""

from __future__ import annotations

import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from seqcore.conformance.report.model import BackendResults, read_report

from engines import FRAMEWORKS, environment

BROKEN: dict[str, dict[str, dict[str, list[str]]]] = tomllib.loads(
    Path(__file__).with_name("broken_clauses.toml").read_text("utf-8")
)

# The next tier has more cases under masks; on NumPy it is quick.
RUNS = [*(("smoke", framework) for framework in FRAMEWORKS), ("standard", "numpy")]


@pytest.mark.parametrize("unroll", ["false", "true"])
@pytest.mark.parametrize(("tier", "framework"), RUNS)
def test_the_broken_clauses_are_those_of_the_table(
    tier: str, framework: str, unroll: str, tmp_path: Path
) -> None:
    options = ["--tier", tier, "--option", f"unroll={unroll}"]
    done, backend = conform(f"keras-{framework}", *options, output=tmp_path)
    failed = [row for row in backend.rows if row.status in ("fail", "error")]
    broken = sorted({clause for row in failed for clause in row.clauses})
    expected = BROKEN[tier][f"keras-{framework}"]["unrolled" if unroll == "true" else "rolled"]
    assert broken == expected, done.stdout
    assert done.returncode == (1 if expected else 0)
    # Cases that need what is not declared are not run; most are.
    assert backend.counts()["pass"] > len(backend.rows) / 2


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_nothing_fails_where_the_defects_are_repaired(framework: str, tmp_path: Path) -> None:
    done, backend = conform(f"repaired:on_{framework}", "--tier", "smoke", output=tmp_path)
    assert done.returncode == 0, done.stdout
    assert backend.counts()["pass"] > len(backend.rows) / 2


def conform(
    engine: str, *options: str, output: Path
) -> tuple[subprocess.CompletedProcess[str], BackendResults]:
    """Return how `seqcore conform` ended, and what its report says of the engine."""
    done = subprocess.run(
        [
            *(sys.executable, "-m", "seqcore", "conform", engine, *options),
            *("--timeout", "300", "--output", str(output)),
        ],
        env=environment(),
        cwd=Path(__file__).parent,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (output / "report.json").exists(), done.stderr
    (backend,) = read_report(output / "report.json").backends
    return done, backend
