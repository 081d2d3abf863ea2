"""The conformance suite through pytest, and its own bookkeeping."""

import datetime
import os
import subprocess
import sys
from importlib.metadata import entry_points
from pathlib import Path

import pytest

from seqcore.conformance import LawCase, Suite, ValueCase, Waiver, run_case
from seqcore.conformance.cases.values import value_cases
from seqcore.conformance.model import Finding, Observed, Verdict
from seqcore.conformance.plugins import collect, manager
from seqcore.conformance.reproduction import script
from seqcore.conformance.runner import Runner, Settings
from seqcore.conformance.suite import check_attributes
from seqcore.conformance.waivers import uses
from seqcore.errors import ArgumentError, SeqcoreError
from seqcore.spec.layers import LSTM
from seqcore.spi import hookimpl

ENGINE = """
import os

from seqcore.conformance.mutants.wrong import WrongBackend
from seqcore.spi import Capabilities


class Mine(WrongBackend):
    name = "mine"

    def __init__(self):
        super().__init__(capabilities=Capabilities(unsupported={"gradients": "not today"}))


class Aborting(Mine):
    def asarray(self, value, dtype, device):
        os.abort()


class Wrong(WrongBackend):
    name = "mine"

    def to_numpy(self, array):
        return array + array.dtype.type(1)
"""
PLUGIN = "seqcore.conformance.pytest_plugin"
CASES = "tanh or a-gate-at-its-kink"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "engines.py").write_text(ENGINE, encoding="utf-8")
    return tmp_path


def run_pytest(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    known = {entry.value for entry in entry_points(group="pytest11")}
    # The installation of a checkout may be older than the entry point that loads the options.
    options = [] if PLUGIN in known else ["-p", PLUGIN]
    return subprocess.run(
        [
            sys.executable,
            "-P",
            "-m",
            "pytest",
            "-p",
            "no:cacheprovider",
            "-rs",
            *options,
            *arguments,
        ],
        cwd=folder,
        env={**os.environ, "PYTEST_ADDOPTS": ""},
        capture_output=True,
        text=True,
        check=False,
        timeout=240,
    )


def test_pytest_runs_the_installed_suite_on_a_backend(folder: Path) -> None:
    package = ("--pyargs", "seqcore.conformance", "-k", CASES)
    done = run_pytest(folder, *package, "--seqcore-backend", "engines:Mine")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "unsupported: gradients: not today" in done.stdout
    for given, message in {
        (): "--seqcore-backend: missing",
        ("--seqcore-backend", "numpyy"): "backend 'numpyy': not registered (did you mean 'numpy'?)",
        ("--seqcore-backend", "engines:"): "engine 'engines:': expected module:factory",
    }.items():
        refused = run_pytest(folder, *package, *given)
        assert refused.returncode != 0
        assert message in refused.stdout
        assert "1 error" in refused.stdout
        assert "Traceback" not in refused.stdout


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("backend", "", "backend: received '', expected a name, or module:factory"),
        ("tier", "smok", "tier: received 'smok', expected one of smoke, standard, full"),
        ("seed", -1, "seed: received -1, expected an integer of 0 or more"),
        ("timeout", float("nan"), "timeout: received nan, expected seconds above 0"),
        ("memory", 0, "memory: received 0, expected bytes above 0"),
        ("options", {"threads": 2}, "options: received {'threads': 2}, expected texts by name"),
        ("waivers", "absent.toml", "absent.toml: cannot be read"),
    ],
)
def test_the_attributes_of_a_suite_are_checked(
    name: str, value: object, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    suite = type("TestMine", (Suite,), {"backend": "numpy", name: value})
    with pytest.raises(pytest.Collector.CollectError) as raised:
        check_attributes(suite)
    assert str(raised.value).startswith("TestMine: ")
    assert message in str(raised.value)


def test_a_suite_may_have_attributes_of_its_own_and_one_misspelt_is_warned_of(folder: Path) -> None:
    (folder / "test_mine.py").write_text(
        "import pytest\nfrom seqcore.conformance import Suite\n\n"
        "class TestMine(Suite):\n    backend = 'engines:Mine'\n    teir = 'smoke'\n"
        "    tier = 'smoke'\n\n"
        "    @pytest.fixture(autouse=True)\n    def seeded(self): pass\n\n"
        "    def test_options(self): assert self.options == {}\n\n"
        "@pytest.mark.skipif(True, reason='not here')\n"
        "class TestAbsent(Suite):\n    backend = 'absent'\n    tier = 'smoke'\n",
        encoding="utf-8",
    )
    done = run_pytest(folder, "test_mine.py", "-k", f"options or {CASES}")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "TestMine: the suite has no attribute 'teir' (did you mean 'tier'?)" in done.stdout
    assert "1 warning" in done.stdout


def test_a_backend_that_cannot_be_made_is_explained_once(folder: Path) -> None:
    (folder / "test_mine.py").write_text(
        "from seqcore.conformance import Suite\n\n"
        "class TestMine(Suite):\n    backend = 'engines:Absent'\n",
        encoding="utf-8",
    )
    done = run_pytest(folder, "test_mine.py", "-k", CASES)
    assert done.returncode == 1
    assert done.stdout.count("Traceback") == 2  # the error and what it was raised from
    assert "During handling" not in done.stdout
    assert done.stdout.count("backend 'engines:Absent': engine 'engines:Absent': cannot be") > 2


def test_a_class_of_one_line_is_a_test_of_each_case(folder: Path) -> None:
    (folder / "test_mine.py").write_text(
        "from seqcore.conformance import Suite\n\n"
        "class TestMine(Suite):\n    backend = 'engines:Mine'\n    tier = 'smoke'\n\n"
        "class TestAborting(Suite):\n    backend = 'engines:Aborting'\n",
        encoding="utf-8",
    )
    name = "test_case[ACT-1/an-activation-is-its-formula/tanh]"
    done = run_pytest(folder, "-v", f"test_mine.py::TestAborting::{name}", "test_mine.py::TestMine")
    assert done.returncode == 1
    assert f"TestAborting::{name} FAILED" in done.stdout
    assert "SIGABRT" in done.stdout
    assert "ACT-1 · Functions" in done.stdout
    assert "TestMine::test_waivers_hold PASSED" in done.stdout


def test_an_extra_that_is_missing_is_named_with_its_install_line(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("seqcore.conformance.plugins.find_spec", lambda name: None)
    collect.cache_clear()
    with pytest.raises(SeqcoreError, match=r"requires hypothesis.*pip install pytest hypothesis"):
        collect()


def test_plugins_add_cases() -> None:
    class Plugin:
        @hookimpl
        def seqcore_conformance_cases(self) -> list[LawCase]:
            return [LawCase(id="PURE-1/of-a-plugin", clauses=("PURE-1",), check=print)]

    collect.cache_clear()
    own = len(collect())
    plugin = Plugin()
    manager().register(plugin)
    collect.cache_clear()
    try:
        assert [case.id for case in collect()[own:]] == ["PURE-1/of-a-plugin"]
    finally:
        manager().unregister(plugin)
        collect.cache_clear()


def test_a_case_that_uses_what_is_not_supported_is_not_run(
    folder: Path,
) -> None:
    runner = Runner("engines:Mine", Settings(folder=str(folder)))
    try:
        case = LawCase(id="x", clauses=("GRAD-1",), needs=("gradients",), check=print)
        verdict = runner.run(case)
        assert isinstance(verdict, Verdict)
        assert (verdict.status, verdict.findings[0].message) == (
            "unsupported",
            "gradients: not today",
        )
    finally:
        runner.close()


def test_a_waiver_is_stale_only_where_all_that_it_covers_was_run() -> None:
    one, other = (
        ValueCase(id=name, clauses=("LSTM-1",), layer=LSTM(2)) for name in ("v/one", "v/other")
    )
    waiver = Waiver(
        backend="mine",
        clause="LSTM-1",
        reason="known",
        link="https://example.org/1",
        expires=datetime.date(2030, 1, 1),
    )

    def state(verdicts: dict[str, Verdict], day: int = 1) -> str:
        today = datetime.date(2030, 1, day)
        (use,) = uses([waiver], [one, other], {"mine": verdicts}, today)
        return use.state

    passed, failed = Verdict(status="pass"), Verdict(status="fail", findings=[Finding(message="")])
    assert state({"v/one": passed, "v/other": passed}) == "stale"
    assert state({"v/one": passed, "v/other": failed}) == "used"
    assert state({"v/one": passed}) == "untried"
    assert state({"v/one": failed, "v/other": failed}, day=2) == "expired"


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_the_script_of_a_value_case_stands_alone(folder: Path, dtype: str) -> None:
    case = next(
        one for one in value_cases() if one.dtype == dtype and one.state and one.mask == "holes"
    )
    path = folder / "case.py"
    path.write_text(script(case, path.name, 5, {}), encoding="utf-8")
    for engine, code in (("numpy", 0), ("engines:Wrong", 1)):
        done = subprocess.run(
            [sys.executable, path, engine], cwd=folder, capture_output=True, text=True, check=False
        )
        assert done.returncode == code, done.stdout + done.stderr
    assert f"{case.id}: FAILS" in done.stdout
    assert "eps" in done.stdout


def test_one_case_runs_in_this_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("seqcore.conformance.engines.ignore_configuration", lambda: None)
    assert run_case("numpy", "ACT-1/an-activation-is-its-formula/tanh").status == "pass"
    with pytest.raises(ArgumentError, match="no case is called"):
        run_case("numpy", "ACT-1/nothing")


def test_an_answer_that_cannot_be_judged_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    from seqcore.conformance.session import judged

    def broken(*_: object) -> Verdict:
        raise KeyError("y")

    monkeypatch.setattr("seqcore.conformance.judge.judge", broken)
    case = ValueCase(id="v", clauses=("LSTM-1",), layer=LSTM(2))
    verdict = judged(case, Observed([]), 0)
    assert verdict.status == "error"
    assert "cannot be judged: KeyError" in verdict.findings[0].message


def test_the_public_names_can_be_had() -> None:
    import seqcore.conformance

    for name in seqcore.conformance.__all__:
        assert getattr(seqcore.conformance, name)
    assert Suite.tier == "standard"


@pytest.mark.skipif(sys.platform != "linux", reason="memory is watched on Linux only")
def test_what_many_cases_leave_in_memory_is_no_failure(folder: Path) -> None:
    code = (
        ENGINE
        + "\n\nHELD = []\n\n\nclass Keeping(Wrong):\n    def to_numpy(self, array):\n"
        + "        HELD.append(bytearray(b'x' * 2**25))\n        return array\n"
    )
    (folder / "engines.py").write_text(code, encoding="utf-8")
    cases = [case for case in collect() if case.id.startswith("ACT-1/an-activation")]
    runner = Runner("engines:Keeping", Settings(folder=str(folder), memory=2**27))
    try:
        verdicts = [runner.run(case) for case in cases]
    finally:
        runner.close()
    assert len(verdicts) * 2**25 > 2**27
    assert [one.status for one in verdicts if isinstance(one, Verdict)] == ["pass"] * len(cases)
