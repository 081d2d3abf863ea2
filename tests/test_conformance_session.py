"""Runs of the conformance suite in real processes: backends that end badly, Ctrl-C, waivers."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from seqcore.conformance.cases.values import value_cases
from seqcore.conformance.clauses import clauses
from seqcore.conformance.plugins import collect

ENGINES = """
import os
import time

import numpy as np

from seqcore.conformance.mutants.wrong import WrongBackend


class Honest(WrongBackend):
    name = "mine"


class Slow(Honest):
    def asarray(self, value, dtype, device):
        time.sleep(0.02)
        return super().asarray(value, dtype, device)


class Wrong(Honest):
    def to_numpy(self, array):
        found = super().to_numpy(array)
        return found + 1 if found.dtype.kind == "f" else found


class Aborting(Honest):
    def asarray(self, value, dtype, device):
        print("about to abort", flush=True)
        os.abort()


class Hanging(Honest):
    def asarray(self, value, dtype, device):
        time.sleep(600)


class Counted(Honest):
    def __init__(self):
        super().__init__()
        open(f"process-{os.getpid()}", "w").close()


class DyingHelper(Honest):
    def __init__(self):
        super().__init__()
        self.first = not os.path.exists("started")
        open("started", "w").close()

    def asarray(self, value, dtype, device):
        if not self.first:
            os.abort()
        return super().asarray(value, dtype, device)


class Greedy(Honest):
    def asarray(self, value, dtype, device):
        held = []
        while True:
            held.append(np.ones(2**22))


class Endless(Honest):
    def __init__(self):
        held = []
        while True:
            held.append(np.ones(2**22))


class Renamed(Honest):
    def asarray(self, value, dtype, device):
        self.implementations[0].name = None
        return super().asarray(value, dtype, device)


def refusing():
    raise RuntimeError("no licence")


def nothing():
    return 3
"""
CASES = [
    f"ACT-1/an-activation-is-its-formula/{name}"
    for name in ("tanh", "sigmoid", "relu", "linear", "hard_sigmoid")
]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """An empty folder with nothing but engines in it."""
    (tmp_path / "engines.py").write_text(ENGINES, encoding="utf-8")
    return tmp_path


def command(*arguments: object) -> list[str]:
    return [sys.executable, "-P", "-m", "seqcore", "conform", *map(str, arguments)]


def conform(
    folder: Path, *arguments: object, environment: dict[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command(*arguments),
        cwd=folder,
        env={**os.environ, **(environment or {})},
        capture_output=True,
        text=True,
        check=False,
        timeout=240,
    )


def rows(folder: Path, backend: str = "mine") -> dict[str, dict[str, Any]]:
    report = json.loads((folder / "conformance" / "report.json").read_text(encoding="utf-8"))
    (found,) = [one for one in report["backends"] if one["name"] == backend]
    return {row["case"]: row for row in found["rows"]}


def messages(folder: Path) -> list[str]:
    return [finding["message"] for row in rows(folder).values() for finding in row["findings"]]


def test_an_engine_given_by_its_factory_passes_and_all_files_are_written(folder: Path) -> None:
    done = conform(folder, "engines:Honest", "--case", *CASES[:2])
    assert done.returncode == 0, done.stdout + done.stderr
    assert {row["status"] for row in rows(folder).values()} == {"pass"}
    names = {path.name for path in (folder / "conformance").iterdir()}
    assert names == {
        "report.json",
        "report.html",
        "junit.xml",
        "summary.md",
        "journal.jsonl",
        "reproduce",
    }


@pytest.mark.parametrize("values", [False, True])
def test_a_failure_shows_its_clause_and_a_script_that_reproduces_it(
    folder: Path, values: bool
) -> None:
    case = CASES[0]
    if values:
        case = next(one.id for one in value_cases() if one.layer.return_sequences)
    done = conform(folder, "engines:Wrong", "--case", case)
    assert done.returncode == 1
    clause = next(one for one in collect() if one.id == case).clauses[0]
    assert f"{clause} · {clauses()[clause].title}" in done.stdout
    assert clauses()[clause].text.splitlines()[0] in done.stdout
    assert "expected: float" in done.stdout.replace(":\n    ", ": ")
    assert "error: " in done.stdout
    assert not values or "first bad step: 0" in done.stdout
    (script,) = (folder / "conformance" / "reproduce").iterdir()
    assert script.name in done.stdout
    for engine, code in (("engines:Wrong", 1), ("numpy", 0)):
        again = subprocess.run(
            [sys.executable, script, engine],
            cwd=folder,
            capture_output=True,
            text=True,
            check=False,
        )
        assert again.returncode == code, again.stdout + again.stderr
    assert "pass" in again.stdout


def test_an_abort_is_the_result_of_its_case_and_the_others_go_on(folder: Path) -> None:
    done = conform(folder, "engines:Aborting", "numpy", "--case", *CASES[:2], "--jobs", "1")
    assert done.returncode == 1
    assert "about to abort" not in done.stdout + done.stderr
    found = rows(folder)
    assert [row["status"] for row in found.values()] == ["error"] * 2
    assert all("SIGABRT" in message for message in messages(folder))
    assert "asarray" in found[CASES[0]]["findings"][0]["traceback"]
    assert {row["status"] for row in rows(folder, "numpy").values()} == {"pass"}


def test_after_five_ends_the_rest_is_not_run(folder: Path) -> None:
    cases = [*CASES, "LSTM-4/*", "GRU-4/*"]
    done = conform(folder, "engines:Aborting", "--case", *cases)
    assert done.returncode == 1
    found = messages(folder)
    assert len(found) > 6
    assert sum("SIGABRT" in message for message in found) == 5
    assert sum("not run" in message for message in found) == len(found) - 5
    assert "mine: 5 cases raised an error" in done.stdout
    assert f"mine: {len(found) - 5} cases not run" in done.stdout
    assert len([*(folder / "conformance" / "reproduce").iterdir()]) == 5


MANY = ("--clause", "ERR-*", "NAME-*", "ACT-*", "INIT-*", "DESC-*")


@pytest.mark.parametrize(("jobs", "processes"), [(1, 1), (2, 2)])
def test_a_process_that_no_backend_waits_for_helps(folder: Path, jobs: int, processes: int) -> None:
    done = conform(folder, "engines:Counted", *MANY, "--jobs", jobs)
    assert done.returncode == 0, done.stdout + done.stderr
    found = rows(folder)
    assert len(found) > 200
    assert list(found) == [case.id for case in collect() if case.id in found]
    assert len([*folder.glob("process-*")]) == processes


def test_a_helper_that_ends_leaves_the_rest_to_the_first_process(folder: Path) -> None:
    done = conform(folder, "engines:DyingHelper", *MANY)
    assert done.returncode == 1
    ended = [row for row in rows(folder).values() if row["status"] == "error"]
    assert len(ended) == 1, done.stdout
    assert "SIGABRT" in ended[0]["findings"][0]["message"]


def test_a_hang_is_ended_at_its_time(folder: Path) -> None:
    start = time.monotonic()
    done = conform(folder, "engines:Hanging", "--case", CASES[0], "--timeout", "0.5")
    assert done.returncode == 1
    assert time.monotonic() - start < 60
    assert "no answer within 1 s" in messages(folder)[0]  # a first case has twice the time


@pytest.mark.skipif(sys.platform != "linux", reason="memory is watched on Linux only")
def test_memory_without_end_is_ended_at_its_limit(folder: Path) -> None:
    done = conform(folder, "engines:Greedy", "--case", CASES[0], "--memory", "0.25")
    assert done.returncode == 1
    assert "0.25 GiB of memory" in messages(folder)[0]


@pytest.mark.skipif(sys.platform != "linux", reason="memory is watched on Linux only")
def test_memory_without_end_is_ended_while_a_backend_is_made(folder: Path) -> None:
    done = conform(folder, "engines:Endless", "numpy", "--case", CASES[0], "--memory", "0.25")
    assert done.returncode == 1
    assert "more than 4 GiB of memory above its start" in done.stdout
    assert rows(folder, "numpy")[CASES[0]]["status"] == "pass"


def test_an_answer_that_cannot_be_read_is_the_result_of_its_case(folder: Path) -> None:
    case = next(one.id for one in value_cases() if one.everywhere)
    done = conform(folder, "engines:Renamed", "numpy", "--case", case)
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert rows(folder)[case]["status"] == "error"
    assert rows(folder, "numpy")[case]["status"] == "pass"


def test_only_scripts_of_a_run_before_are_replaced(folder: Path) -> None:
    scripts = folder / "conformance" / "reproduce"
    conform(folder, "engines:Wrong", "--case", CASES[0])
    assert len(list(scripts.iterdir())) == 1
    (scripts / "mine.py").write_text("print('mine')\n", encoding="utf-8")
    done = conform(folder, "engines:Honest", "--case", CASES[0])
    assert done.returncode == 0, done.stdout
    assert [path.name for path in scripts.iterdir()] == ["mine.py"]


def test_a_journal_that_is_no_text_is_refused(folder: Path) -> None:
    (folder / "conformance").mkdir()
    (folder / "conformance" / "journal.jsonl").write_bytes(b"\xff\xfe\x00")
    done = conform(folder, "engines:Honest", "--case", CASES[0], "--resume")
    assert done.returncode == 1
    assert "journal.jsonl: cannot be resumed: not UTF-8 text" in done.stderr


@pytest.mark.parametrize(
    "line", ['{"x": 1}', "[]", "3", '{"backend": "a", "case": "b", "verdict": 3}']
)
def test_a_journal_with_another_line_is_refused(folder: Path, line: str) -> None:
    conform(folder, "engines:Honest", "--case", CASES[0])
    with (folder / "conformance" / "journal.jsonl").open("a", encoding="utf-8") as file:
        file.write(f"{line}\n")
    done = conform(folder, "engines:Honest", "--case", CASES[0], "--resume")
    assert done.returncode == 1
    assert "line 4: not what a run writes; run without --resume" in done.stderr


def test_what_was_not_run_is_tried_when_a_run_goes_on(folder: Path) -> None:
    arguments = ("engines:Aborting", "--case", *CASES, "LSTM-4/*", "GRU-4/*")
    count = len(re.findall("not run: 5 processes", conform(folder, *arguments).stdout))
    assert count == 2  # of one case, the first: expected and received
    before = rows(folder)
    conform(folder, *arguments, "--resume")
    after = rows(folder)
    tried = [name for name, row in after.items() if row.get("tried", True)]
    assert len(tried) == len([row for row in before.values() if row.get("tried", True)]) + 5


def test_a_limit_beyond_all_memory_is_none(folder: Path) -> None:
    done = conform(folder, "engines:Honest", "--case", CASES[0], "--memory", "1e300")
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("engine", "message"),
    [
        ("engines:refusing", "its factory failed: RuntimeError: no licence"),
        ("engines:nothing", "its factory returned int"),
        ("engines:Absent", "cannot be imported"),
    ],
)
def test_a_backend_that_cannot_be_made_fails_alone(folder: Path, engine: str, message: str) -> None:
    done = conform(folder, engine, "numpy", "--case", CASES[0])
    assert done.returncode == 1
    assert message in done.stdout
    assert f"{engine}: 1 case not run" in done.stdout
    assert not any((folder / "conformance" / "reproduce").iterdir())
    assert rows(folder, engine)[CASES[0]]["status"] == "error"
    assert rows(folder, "numpy")[CASES[0]]["status"] == "pass"


# A job in the background of a script inherits that SIGINT is ignored.
HEARING = """
import os, signal, sys
signal.signal(signal.SIGINT, signal.SIG_DFL)
os.execv(sys.argv[1], sys.argv[1:])
"""


def test_an_interrupted_run_is_reported_and_resumed(folder: Path) -> None:
    arguments = ("engines:Slow", "--case", "ACT-*", "LSTM-*", "GRU-*", "--seed", "3")
    with subprocess.Popen(
        [sys.executable, "-c", HEARING, *command(*arguments)],
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        journal = folder / "conformance" / "journal.jsonl"
        deadline = time.monotonic() + 60
        while not (journal.is_file() and journal.read_text(encoding="utf-8").count("\n") > 3):
            assert process.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.02)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=60)
    assert process.returncode == 130, out + err
    assert "Traceback" not in err
    report = json.loads((folder / "conformance" / "report.json").read_text(encoding="utf-8"))
    assert report["interrupted"] is True
    before = rows(folder)
    assert {row["status"] for row in before.values()} == {"pass"}

    refused = conform(folder, *arguments[:-1], "4", "--resume")
    assert refused.returncode == 1
    assert "seed was 3 then and is 4 now" in refused.stderr

    other = conform(folder, "engines:Wrong", *arguments[1:], "--resume")
    assert other.returncode == 1
    assert "'mine' was engines:Slow" in other.stderr
    assert "and is engines:Wrong" in other.stderr

    code = (folder / "engines.py").read_text(encoding="utf-8")
    (folder / "engines.py").write_text(code + "# changed\n", encoding="utf-8")
    changed = conform(folder, *arguments, "--resume")
    assert changed.returncode == 1
    assert "or its code or what it declares has changed" in changed.stderr
    (folder / "engines.py").write_text(code, encoding="utf-8")

    with journal.open("a", encoding="utf-8") as file:
        file.write('{"backend": "mine", "ca')  # as a crash of the machine leaves it
    done = conform(folder, *arguments, "--resume")
    assert done.returncode == 0, done.stdout + done.stderr
    after = rows(folder)
    assert len(after) > len(before)
    assert {case: after[case] for case in before} == before


def test_waivers_are_shown_and_strict(folder: Path) -> None:
    def run(engine: str, *, expires: str = "2999-12-31", what: str = "") -> Any:
        what = what or f'case = "{CASES[0]}"'
        (folder / "waivers.toml").write_text(
            f'[[waiver]]\nbackend = "mine"\n{what}\nreason = "known"\n'
            f'link = "https://example.org/1"\nexpires = {expires}\n',
            encoding="utf-8",
        )
        return conform(folder, engine, "--case", CASES[0], "--waivers", "waivers.toml")

    used = run("engines:Wrong")
    assert used.returncode == 0, used.stdout + used.stderr
    assert "known (https://example.org/1)" in used.stdout
    row = rows(folder)[CASES[0]]
    assert (row["status"], row["waiver"]) == ("waived", "known")

    stale = run("engines:Honest")
    assert stale.returncode == 1
    assert "is stale" in stale.stdout

    expired = run("engines:Wrong", expires="2020-01-01")
    assert expired.returncode == 1
    assert "is expired" in expired.stdout
    assert rows(folder)[CASES[0]]["status"] == "fail"

    # Other cases of the clause were not run, so it cannot be said to be stale.
    assert run("engines:Honest", what='clause = "ACT-1"').returncode == 0

    for what in ('case = "ACT-1/no-such"', 'clause = "ACT-99"', 'clause = "ACT-1"\ncolour = 1'):
        refused = run("engines:Honest", what=what)
        assert refused.returncode == 1
        assert refused.stderr.startswith("seqcore: error: waivers.toml")


def test_configuration_does_not_change_what_is_tested(folder: Path) -> None:
    (folder / "seqcore.toml").write_text("[numpy]\nimplementation = 'none-such'\n")
    environment = {"SEQCORE_NUMPY__IMPLEMENTATION": "none-such", "SEQCORE_NONSENSE": "1"}
    done = conform(folder, "numpy", "--case", CASES[0], environment=environment)
    assert done.returncode == 0, done.stdout + done.stderr
    chosen = conform(
        folder, "numpy", "--case", CASES[0], "--option", "implementation=none-such"
    )  # fmt: skip
    assert chosen.returncode == 1
    assert "none-such" in rows(folder, "numpy")[CASES[0]]["findings"][0]["message"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("nunpy", "did you mean 'numpy'"),
        ("numpy --clause MASC-4", "expected a clause"),
        ("numpy --case no-such-case", "which no case matches"),
        ("numpy --option colour=red", "'colour'"),
        ("engines:", "expected module:factory, such as"),
        ("engines:Honest:x", "expected module:factory, such as"),
        ("diff one.json", "expected two reports"),
        ("numpy --waivers absent.toml", "absent.toml: cannot be read"),
    ],
)
def test_a_wrong_request_is_refused_before_any_work(
    folder: Path, arguments: str, message: str
) -> None:
    done = conform(folder, *arguments.split())
    assert done.returncode == 1
    assert message in done.stderr
    assert not (folder / "conformance").exists()
