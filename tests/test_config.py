"""The configuration: what outranks what, where a value came from, and what is refused."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import platformdirs
import pytest

import seqcore.config
from seqcore.config import Configuration, Resolved, Setting
from seqcore.errors import ArgumentError, BackendBroken, BackendNotFound, ConfigError
from seqcore.registry import COMMON_OPTIONS, Registry
from seqcore.spec.foreign import FOREIGN_ARGUMENTS, explain_unknown
from seqcore.spec.layers import GRU, LSTM, Bidirectional, SimpleRNN, Stack
from seqcore.spi.registration import BackendSpec, Option

ALPHA_OPTIONS = {
    "device": Option(choices=("cpu", "gpu"), default="cpu"),
    "threads": Option(type="int"),
    "fast": Option(type="bool", default=False),
}


def described(name: str, **changed: Any) -> BackendSpec:
    return BackendSpec(name=name, factory="nowhere:make", spi="1.0", **changed)


@pytest.fixture
def registry() -> Registry:
    registry = Registry(None)
    registry.register(described("numpy"))
    registry.register(described("alpha", options=ALPHA_OPTIONS, array_roots=("alphalib",)))
    registry.register(
        described("beta-two", options={"level": Option(type="int", default=1)}, array_roots=("b",))
    )
    return registry


@pytest.fixture
def user_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The path of the user's file: nothing of the machine's own configuration is read."""
    home = tmp_path / "home"
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(home / "config"))
    folder = platformdirs.user_config_path("seqcore", appauthor=False)
    if not folder.is_relative_to(home):
        pytest.skip("the user's configuration folder cannot be moved on this system")
    folder.mkdir(parents=True)
    return folder / "config.toml"


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working directory."""
    folder = tmp_path / "project" / "inner"
    folder.mkdir(parents=True)
    monkeypatch.chdir(folder)
    return folder


@pytest.fixture
def configuration(
    registry: Registry, project: Path, user_file: Path, monkeypatch: pytest.MonkeyPatch
) -> Configuration:
    for variable in [name for name in os.environ if name.startswith("SEQCORE_")]:
        monkeypatch.delenv(variable)
    return Configuration(registry)


def chosen(resolved: Resolved) -> tuple[str, str]:
    return resolved.backend, resolved.backend_origin


def option(resolved: Resolved, key: str) -> tuple[Any, str]:
    return resolved.options[key], resolved.origins[key]


def settings(configuration: Configuration) -> dict[str, Setting]:
    return {setting.key: setting for setting in configuration.effective()}


# ---- precedence ---------------------------------------------------------------------------------


def test_nothing_configured(configuration: Configuration) -> None:
    resolved = configuration.resolve()
    assert chosen(resolved) == ("numpy", "default")
    assert dict(resolved.options) == {"matmul_precision": "highest", "implementation": None}
    assert set(resolved.origins.values()) == {"default"}


def test_each_source_of_the_backend_outranks_the_ones_below(
    configuration: Configuration, project: Path, user_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    user_file.write_text('backend = "alpha"')
    assert chosen(configuration.resolve()) == ("alpha", f"{user_file}: backend")

    file = project / "seqcore.toml"
    file.write_text('backend = "beta-two"')
    configuration.reload()
    assert chosen(configuration.resolve()) == ("beta-two", f"{file}: backend")

    monkeypatch.setenv("SEQCORE_BACKEND", "alpha")
    assert chosen(configuration.resolve()) == ("alpha", "environment variable SEQCORE_BACKEND")

    with configuration.use_backend("numpy"):
        assert chosen(configuration.resolve()) == ("numpy", "use_backend('numpy') block")
        native = configuration.resolve(native="beta-two")
        assert chosen(native) == ("beta-two", "the input array")
        assert chosen(configuration.resolve("alpha")) == ("alpha", "argument")
        with_array = configuration.resolve("beta-two", native="beta-two")
        assert chosen(with_array) == ("beta-two", "argument")
    assert chosen(configuration.resolve()) == ("alpha", "environment variable SEQCORE_BACKEND")


def test_each_source_of_an_option_outranks_the_ones_below(
    configuration: Configuration, project: Path, user_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert option(configuration.resolve("alpha"), "threads") == (None, "default")

    user_file.write_text("[alpha]\nthreads = 1")
    configuration.reload()
    origin = f"{user_file}: alpha.threads"
    assert option(configuration.resolve("alpha"), "threads") == (1, origin)

    file = project / "seqcore.toml"
    file.write_text("[alpha]\nthreads = 2")
    configuration.reload()
    assert option(configuration.resolve("alpha"), "threads") == (2, f"{file}: alpha.threads")

    monkeypatch.setenv("SEQCORE_ALPHA__THREADS", "3")
    origin = "environment variable SEQCORE_ALPHA__THREADS"
    assert option(configuration.resolve("alpha"), "threads") == (3, origin)

    with configuration.use_backend("alpha", threads=4):
        origin = "use_backend('alpha') block"
        assert option(configuration.resolve(), "threads") == (4, origin)
        given = configuration.resolve(options={"threads": 5})
        assert option(given, "threads") == (5, "argument")
    assert option(configuration.resolve("alpha"), "threads")[0] == 3


def test_options_are_settled_one_by_one(
    configuration: Configuration, project: Path, user_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    user_file.write_text('[alpha]\ndevice = "gpu"\nthreads = 1\n')
    (project / "seqcore.toml").write_text("[alpha]\nthreads = 2\nfast = true")
    monkeypatch.setenv("SEQCORE_ALPHA__MATMUL_PRECISION", "tf32")
    resolved = configuration.resolve("alpha", {"fast": False})
    assert dict(resolved.options) == {
        "matmul_precision": "tf32",
        "implementation": None,
        "device": "gpu",
        "threads": 2,
        "fast": False,
    }


def test_tables_and_blocks_of_another_backend_do_not_apply(
    configuration: Configuration, project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (project / "seqcore.toml").write_text('[beta-two]\nmatmul_precision = "tf32"')
    monkeypatch.setenv("SEQCORE_BETA_TWO__IMPLEMENTATION", "slow")
    with configuration.use_backend("beta-two", matmul_precision="bfloat16"):
        for resolved in (configuration.resolve("alpha"), configuration.resolve(native="alpha")):
            assert option(resolved, "matmul_precision") == ("highest", "default")
            assert option(resolved, "implementation") == (None, "default")
        assert option(configuration.resolve(), "implementation")[0] == "slow"


def test_an_empty_variable_counts_as_unset(
    configuration: Configuration, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SEQCORE_BACKEND", "")
    monkeypatch.setenv("SEQCORE_NUMPY__MATMUL_PRECISION", "")
    resolved = configuration.resolve()
    assert chosen(resolved) == ("numpy", "default")
    assert option(resolved, "matmul_precision") == ("highest", "default")


def test_none_gives_an_option_back_to_the_backend(configuration: Configuration) -> None:
    with configuration.use_backend("alpha", threads=4, implementation="fused"):
        resolved = configuration.resolve(options={"threads": None, "implementation": None})
        assert option(resolved, "threads") == (None, "argument")
        assert option(resolved, "implementation") == (None, "argument")
        with pytest.raises(ArgumentError, match="received None"):
            configuration.resolve(options={"device": None})


# ---- native arrays ------------------------------------------------------------------------------


def test_an_argument_that_contradicts_the_array(configuration: Configuration) -> None:
    with pytest.raises(ArgumentError) as raised:
        configuration.resolve("numpy", native="alpha")
    assert str(raised.value) == (
        "backend: received 'numpy' with an array of 'alpha', expected 'alpha' or none; "
        "convert the array to NumPy to run it elsewhere"
    )


def test_a_backend_that_declares_the_array_does_not_contradict_it(
    configuration: Configuration, registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    registry.register(described("alpha-turbo", array_roots=("alphalib",)))
    assert chosen(configuration.resolve("alpha-turbo", native="alpha"))[0] == "alpha-turbo"
    with configuration.use_backend("alpha-turbo"):
        assert chosen(configuration.resolve(native="alpha"))[0] == "alpha-turbo"
        assert chosen(configuration.resolve(native="beta-two"))[0] == "beta-two"
    monkeypatch.setenv("SEQCORE_BACKEND", "alpha-turbo")
    assert chosen(configuration.resolve(native="alpha"))[0] == "alpha-turbo"


# ---- files --------------------------------------------------------------------------------------


def test_the_nearest_folder_wins_and_seqcore_toml_within_it(
    configuration: Configuration, project: Path
) -> None:
    far, near = project.parent / "seqcore.toml", project / "pyproject.toml"
    far.write_text("[alpha]\nthreads = 1\nfast = true")
    near.write_text("[tool.other]\nseqcore = 1")
    assert option(configuration.resolve("alpha"), "threads") == (1, f"{far}: alpha.threads")

    near.write_text('[tool.seqcore]\nbackend = "alpha"\n[tool.seqcore.alpha]\nthreads = 2')
    configuration.reload()
    resolved = configuration.resolve()
    assert chosen(resolved) == ("alpha", f"{near}: tool.seqcore.backend")
    assert option(resolved, "threads") == (2, f"{near}: tool.seqcore.alpha.threads")
    assert option(resolved, "fast") == (False, "default")  # the farther file counts no more

    own = project / "seqcore.toml"
    own.write_text("[alpha]\nthreads = 3")
    configuration.reload()
    assert option(configuration.resolve("alpha"), "threads") == (3, f"{own}: alpha.threads")
    assert chosen(configuration.resolve()) == ("numpy", "default")


def test_another_working_directory_has_its_own_files(
    configuration: Configuration, project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (project / "seqcore.toml").write_text('backend = "alpha"\n[alpha]\nthreads = 2')
    for folder, backend, threads in [
        (project, "alpha", 2),
        (project.parent, "numpy", None),
        (project, "alpha", 2),
    ]:
        monkeypatch.chdir(folder)
        assert configuration.resolve().backend == backend
        assert configuration.resolve("alpha").options["threads"] == threads


def test_files_are_kept_until_reload(configuration: Configuration, project: Path) -> None:
    assert configuration.resolve().backend == "numpy"
    (project / "seqcore.toml").write_text('backend = "alpha"')
    assert configuration.resolve().backend == "numpy"
    configuration.reload()
    assert configuration.resolve().backend == "alpha"


def test_a_working_directory_that_is_gone(
    configuration: Configuration, user_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def gone() -> str:
        raise FileNotFoundError

    user_file.write_text('backend = "alpha"')
    monkeypatch.setattr("os.getcwd", gone)
    assert configuration.resolve().backend == "alpha"


def test_a_pyproject_that_does_not_name_us_may_be_anything(
    configuration: Configuration, project: Path
) -> None:
    (project / "pyproject.toml").write_bytes(b"][ \xff")
    (project / "seqcore.toml").mkdir()
    assert configuration.resolve().backend == "numpy"


FILE_ERRORS = {
    "no TOML": ("a = 1\nb =", "not valid TOML: Invalid value (at end of document)"),
    "no TOML, line": ("a = 1\nb = =\n", "not valid TOML: Invalid value (at line 2, column 5)"),
    "backend misspelt": (
        'backend = "alhpa"',
        "backend: received 'alhpa' (did you mean 'alpha'?), expected one of alpha, beta-two, numpy",
    ),
    "backend no name": ("backend = 3", "backend: received 3 (int), expected a backend's name"),
    "unknown key": (
        'bakend = "numpy"',
        "bakend: unknown key (did you mean 'backend'?), expected 'backend' or a table of options "
        "for one of alpha, beta-two, numpy",
    ),
    "unknown table": (
        "[alpah]\nthreads = 1",
        "alpah: unknown key (did you mean 'alpha'?), expected",
    ),
    "no table": ("alpha = true", "alpha: received True (bool), expected a table of options"),
    "unknown option": (
        "[alpha]\nthraeds = 1",
        "alpha: 'thraeds' is not taken (did you mean 'threads'?); expected one of "
        "matmul_precision, implementation, device, threads, fast",
    ),
    "foreign option": (
        "[alpha]\nunroll = true",
        "alpha: 'unroll' is not taken: how the loop over time runs is the engine's decision",
    ),
    "no choice": (
        '[alpha]\ndevice = "gpuu"',
        "alpha.device: received 'gpuu' (did you mean 'gpu'?), expected one of cpu, gpu",
    ),
    "no int": ('[alpha]\nthreads = "2"', "alpha.threads: received '2', expected an integer"),
    "bool for int": (
        "[alpha]\nthreads = true",
        "alpha.threads: received True (bool), expected an integer",
    ),
    "no bool": ("[alpha]\nfast = 1", "alpha.fast: received 1 (int), expected true or false"),
    "no string": (
        "[alpha]\nimplementation = 1",
        "alpha.implementation: received 1 (int), expected a string",
    ),
}


@pytest.mark.parametrize(("text", "message"), FILE_ERRORS.values(), ids=list(FILE_ERRORS))
def test_a_wrong_file_is_named_with_the_place_in_it(
    configuration: Configuration, project: Path, text: str, message: str
) -> None:
    file = project / "seqcore.toml"
    file.write_text(text)
    for ask in (lambda: configuration.resolve("alpha"), configuration.effective):
        for _ in range(2):  # an error is never cached away
            with pytest.raises(ConfigError) as raised:
                ask()
            assert str(raised.value).startswith(f"{file}: {message}")


def test_a_wrong_pyproject_is_named_with_the_whole_key(
    configuration: Configuration, project: Path
) -> None:
    file = project / "pyproject.toml"
    file.write_text("[tool.seqcore.alpha]\nthreads = 1.5")
    with pytest.raises(ConfigError) as raised:
        configuration.resolve("alpha")
    assert str(raised.value) == (
        f"{file}: tool.seqcore.alpha.threads: received 1.5 (float), expected an integer"
    )
    file.write_text('[tool]\nseqcore = "alpha"')
    configuration.reload()
    with pytest.raises(ConfigError) as raised:
        configuration.resolve("alpha")
    assert str(raised.value) == f"{file}: tool.seqcore: received 'alpha', expected a table"


def test_the_user_s_file_is_checked_too(configuration: Configuration, user_file: Path) -> None:
    user_file.write_text("[alpha]\nthraeds = 1")
    with pytest.raises(ConfigError) as raised:
        configuration.resolve("alpha")
    assert str(raised.value).startswith(f"{user_file}: alpha: 'thraeds' is not taken")


def test_a_file_that_is_no_text(configuration: Configuration, project: Path) -> None:
    (project / "seqcore.toml").write_bytes(b"\xff\xfe")
    with pytest.raises(ConfigError, match=r"seqcore\.toml: not UTF-8 text: invalid start byte"):
        configuration.resolve()


def test_a_file_that_cannot_be_read(
    configuration: Configuration, project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: Any, **__: Any) -> str:
        raise PermissionError(13, "Permission denied")

    (project / "seqcore.toml").write_text("")
    monkeypatch.setattr(Path, "read_bytes", refuse)
    with pytest.raises(ConfigError, match=r"seqcore\.toml: cannot be read: Permission denied"):
        configuration.resolve()


def test_the_options_of_other_backends_are_checked_when_they_are_listed(
    configuration: Configuration, project: Path
) -> None:
    (project / "seqcore.toml").write_text("[beta-two]\nlevle = 1")
    assert configuration.resolve("alpha").backend == "alpha"
    for ask in (lambda: configuration.resolve("beta-two"), configuration.effective):
        with pytest.raises(ConfigError, match="did you mean 'level'"):
            ask()


# ---- the environment ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("option_name", "text", "value"),
    [
        ("THREADS", "8", 8),
        ("DEVICE", "gpu", "gpu"),
        ("IMPLEMENTATION", "generic", "generic"),
        *[("FAST", text, True) for text in ("1", "true", "True", "yes", "ON")],
        *[("FAST", text, False) for text in ("0", "false", "FALSE", "no", "off")],
    ],
)
def test_variables_are_read_as_the_option_s_type(
    configuration: Configuration,
    monkeypatch: pytest.MonkeyPatch,
    option_name: str,
    text: str,
    value: Any,
) -> None:
    monkeypatch.setenv(f"SEQCORE_ALPHA__{option_name}", text)
    got = configuration.resolve("alpha").options[option_name.lower()]
    assert got == value
    assert type(got) is type(value)


ENVIRONMENT_ERRORS = {
    "unknown backend": (
        ("SEQCORE_BACKEND", "alhpa"),
        "environment variable SEQCORE_BACKEND: received 'alhpa' (did you mean 'alpha'?), "
        "expected one of alpha, beta-two, numpy",
    ),
    "misspelt": (
        ("SEQCORE_BAKEND", "alpha"),
        "environment: 'SEQCORE_BAKEND' is not taken (did you mean 'SEQCORE_BACKEND'?); ",
    ),
    "one underscore": (
        ("SEQCORE_ALPHA_THREADS", "1"),
        "environment: 'SEQCORE_ALPHA_THREADS' is not taken "
        "(did you mean 'SEQCORE_ALPHA__THREADS'?); ",
    ),
    "misspelt backend": (
        ("SEQCORE_BETATWO__LEVEL", "1"),
        "environment: 'SEQCORE_BETATWO__LEVEL' is not taken "
        "(did you mean 'SEQCORE_BETA_TWO__LEVEL'?); ",
    ),
    "misspelt option": (
        ("SEQCORE_ALPHA__THRAEDS", "1"),
        "environment: 'SEQCORE_ALPHA__THRAEDS' is not taken "
        "(did you mean 'SEQCORE_ALPHA__THREADS'?); expected one of "
        "SEQCORE_ALPHA__MATMUL_PRECISION, SEQCORE_ALPHA__IMPLEMENTATION, "
        "SEQCORE_ALPHA__DEVICE, SEQCORE_ALPHA__THREADS, SEQCORE_ALPHA__FAST; unset or rename it",
    ),
    "no int": (
        ("SEQCORE_ALPHA__THREADS", "two"),
        "environment variable SEQCORE_ALPHA__THREADS: received 'two', expected an integer",
    ),
    "no bool": (
        ("SEQCORE_ALPHA__FAST", "2"),
        "environment variable SEQCORE_ALPHA__FAST: received '2', expected true or false",
    ),
    "no choice": (
        ("SEQCORE_ALPHA__MATMUL_PRECISION", "high"),
        "environment variable SEQCORE_ALPHA__MATMUL_PRECISION: received 'high' "
        "(did you mean 'highest'?), expected one of highest, tf32, bfloat16",
    ),
}


@pytest.mark.parametrize(
    ("setting", "message"), ENVIRONMENT_ERRORS.values(), ids=list(ENVIRONMENT_ERRORS)
)
def test_a_wrong_variable_is_named(
    configuration: Configuration,
    monkeypatch: pytest.MonkeyPatch,
    setting: tuple[str, str],
    message: str,
) -> None:
    monkeypatch.setenv(*setting)

    def resolve() -> Any:
        with monkeypatch.context() as patch:
            if setting[0] != "SEQCORE_BACKEND":
                patch.setenv("SEQCORE_BACKEND", "alpha")
            return configuration.resolve()

    for ask in (resolve, configuration.effective):
        for _ in range(2):  # an error is never cached away
            with pytest.raises(ConfigError) as raised:
                ask()
            assert str(raised.value).startswith(message)


def test_the_variables_of_another_backend_are_judged_when_it_is_used(
    configuration: Configuration, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SEQCORE_BETA_TWO__LEVLE", "1")
    assert configuration.resolve("alpha").backend == "alpha"
    for ask in (lambda: configuration.resolve("beta-two"), configuration.effective):
        with pytest.raises(ConfigError, match="did you mean 'SEQCORE_BETA_TWO__LEVEL'"):
            ask()


def test_a_variable_of_a_backend_that_cannot_be_had_now_is_tolerated(
    configuration: Configuration, registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    registry.register(described("absent", requires=("no_such_thing",)))
    monkeypatch.setenv("SEQCORE_ABSENT__IMPLEMENTATION", "fused")
    assert configuration.resolve().backend == "numpy"


def test_variables_are_read_at_every_call(
    configuration: Configuration, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert configuration.resolve("alpha").options["threads"] is None
    monkeypatch.setenv("SEQCORE_ALPHA__THREADS", "2")
    assert configuration.resolve("alpha").options["threads"] == 2
    monkeypatch.setenv("SEQCORE_BACKEND", "alpha")
    assert configuration.resolve().backend == "alpha"


# ---- arguments ----------------------------------------------------------------------------------

ARGUMENT_ERRORS: dict[str, tuple[dict[str, Any], str]] = {
    "unknown": (
        {"thraeds": 1},
        "backend 'alpha': 'thraeds' is not taken (did you mean 'threads'?); expected one of "
        "matmul_precision, implementation, device, threads, fast",
    ),
    "foreign": (
        {"stateful": True},
        "backend 'alpha': 'stateful' is not taken: layers keep no state; feed the returned state "
        "back as initial_state",
    ),
    "type": (
        {"threads": "2"},
        "backend 'alpha': option 'threads': received '2', expected an integer",
    ),
    "bool for int": (
        {"threads": True},
        "backend 'alpha': option 'threads': received True (bool), expected an integer",
    ),
    "choice": (
        {"matmul_precision": "tf23"},
        "backend 'alpha': option 'matmul_precision': received 'tf23' (did you mean 'tf32'?), "
        "expected one of highest, tf32, bfloat16",
    ),
}


@pytest.mark.parametrize(
    ("options", "message"), ARGUMENT_ERRORS.values(), ids=list(ARGUMENT_ERRORS)
)
def test_a_wrong_option_is_refused_by_call_and_block(
    configuration: Configuration, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(ArgumentError) as raised:
        configuration.resolve("alpha", options)
    assert str(raised.value) == message
    with (
        pytest.raises(ArgumentError) as raised,
        configuration.use_backend("alpha", **options),
    ):
        raise AssertionError("entered")
    assert str(raised.value) == message
    assert configuration.resolve().backend == "numpy"


def test_a_wrong_backend_is_refused_by_call_and_block(
    configuration: Configuration, registry: Registry
) -> None:
    with pytest.raises(BackendNotFound, match=r"'alhpa': not registered .*'alpha'"):
        configuration.resolve("alhpa")
    with pytest.raises(BackendNotFound), configuration.use_backend("alhpa"):
        raise AssertionError("entered")
    with pytest.raises(ArgumentError, match="backend: received Registry, expected the name"):
        configuration.resolve(registry)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "name", sorted(FOREIGN_ARGUMENTS.keys() - COMMON_OPTIONS.keys() - {"device"})
)
def test_no_foreign_argument_passes_as_an_option(configuration: Configuration, name: str) -> None:
    with pytest.raises(ArgumentError) as raised:
        configuration.resolve("alpha", {name: 1})
    assert str(raised.value).endswith(FOREIGN_ARGUMENTS[name])


def test_foreign_arguments_are_not_ours() -> None:
    fields = {
        field
        for layer in (SimpleRNN, LSTM, GRU, Bidirectional, Stack)
        for field in layer.__struct_fields__
    }
    assert "units" in fields
    assert fields.isdisjoint(FOREIGN_ARGUMENTS)


def test_the_explanation_of_what_is_not_taken() -> None:
    assert explain_unknown("LSTM", "unit", ["units", "activation"]) == (
        "LSTM: 'unit' is not taken (did you mean 'units'?); expected one of units, activation"
    )
    assert explain_unknown("LSTM", "xyz", []) == "LSTM: 'xyz' is not taken; expected nothing"
    assert explain_unknown("LSTM", "dropout", ["units"]) == (
        f"LSTM: 'dropout' is not taken: {FOREIGN_ARGUMENTS['dropout']}"
    )


# ---- blocks -------------------------------------------------------------------------------------


def test_an_inner_block_of_the_same_backend_changes_what_it_names(
    configuration: Configuration,
) -> None:
    with configuration.use_backend("alpha", threads=1, device="gpu"):
        with configuration.use_backend("alpha", threads=2):
            resolved = configuration.resolve()
            assert (resolved.options["threads"], resolved.options["device"]) == (2, "gpu")
        assert configuration.resolve().options["threads"] == 1


def test_an_inner_block_of_another_backend_starts_from_nothing(
    configuration: Configuration,
) -> None:
    with configuration.use_backend("alpha", threads=1):
        with configuration.use_backend("numpy"), configuration.use_backend("alpha"):
            assert configuration.resolve().options["threads"] is None
        assert configuration.resolve().options["threads"] == 1


def test_a_block_ends_with_an_exception(configuration: Configuration) -> None:
    with pytest.raises(ZeroDivisionError), configuration.use_backend("alpha"):
        raise ZeroDivisionError
    assert configuration.resolve().backend == "numpy"


def test_one_block_may_be_entered_again_and_nested(configuration: Configuration) -> None:
    block = configuration.use_backend("alpha")
    with block:
        with configuration.use_backend("numpy"), block:
            assert configuration.resolve().backend == "alpha"
        assert configuration.resolve().backend == "alpha"
    assert configuration.resolve().backend == "numpy"
    with block:
        assert configuration.resolve().backend == "alpha"


def test_blocks_may_be_left_in_another_order(configuration: Configuration) -> None:
    def steps() -> Iterator[str]:
        with configuration.use_backend("alpha"):
            yield configuration.resolve().backend

    generator = steps()
    assert next(generator) == "alpha"
    with configuration.use_backend("beta-two", level=3):
        assert list(generator) == []  # leaves the outer block first
        assert configuration.resolve().backend == "beta-two"
        assert configuration.resolve().options["level"] == 3
    assert configuration.resolve().backend == "numpy"


def test_a_decorated_function_runs_in_the_block(configuration: Configuration) -> None:
    @configuration.use_backend("alpha", threads=3)
    def run(x: int, *, y: int) -> tuple[int, Any]:
        """Documented."""
        return x + y, configuration.resolve().options["threads"]

    assert run(1, y=2) == (3, 3)
    assert (run.__name__, run.__doc__) == ("run", "Documented.")
    assert configuration.resolve().backend == "numpy"


def test_a_decorated_coroutine_runs_in_the_block(configuration: Configuration) -> None:
    @configuration.use_backend("alpha")
    async def run() -> str:
        await asyncio.sleep(0)
        return configuration.resolve().backend

    assert asyncio.run(run()) == "alpha"


def test_a_generator_cannot_be_decorated(configuration: Configuration) -> None:
    def steps() -> Iterator[int]:
        yield 1

    async def async_steps() -> AsyncIterator[int]:
        yield 1

    for function in (steps, async_steps):
        with pytest.raises(ArgumentError, match="use_backend: received the generator function"):
            configuration.use_backend("alpha")(function)


def test_a_block_is_validated_on_entry_not_before(
    configuration: Configuration, registry: Registry
) -> None:
    block = configuration.use_backend("later")
    with registry.temporarily(described("later")), block:
        assert configuration.resolve().backend == "later"


def test_threads_do_not_mix(configuration: Configuration) -> None:
    meet = threading.Barrier(2, timeout=10)
    seen: dict[str, list[tuple[str, Any]]] = {"alpha": [], "beta-two": []}
    key = {"alpha": "threads", "beta-two": "level"}

    def work(name: str) -> None:
        with configuration.use_backend(name, **{key[name]: 7}):
            for _ in range(50):
                meet.wait()  # both threads are inside their blocks
                resolved = configuration.resolve()
                seen[name].append((resolved.backend, resolved.options.get(key[name])))

    threads = [threading.Thread(target=work, args=[name]) for name in seen]
    with configuration.use_backend("numpy"):  # not inherited by the threads, nor changed by them
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert configuration.resolve().backend == "numpy"
    for name, found in seen.items():
        assert found == [(name, 7)] * 50


def test_a_new_thread_starts_outside_every_block(configuration: Configuration) -> None:
    found: list[str] = []
    with configuration.use_backend("alpha"):
        thread = threading.Thread(target=lambda: found.append(configuration.resolve().backend))
        thread.start()
        thread.join()
    assert found == ["numpy"]


def test_tasks_do_not_mix(configuration: Configuration) -> None:
    async def child() -> str:
        return configuration.resolve().backend

    async def work(name: str, turns: list[asyncio.Event], mine: int) -> list[str]:
        found = []
        with configuration.use_backend(name):
            for _ in range(3):
                await turns[mine].wait()
                turns[mine].clear()
                found.append(configuration.resolve().backend)
                turns[1 - mine].set()  # the other one runs while this block is open
            found.append(await asyncio.create_task(child()))
        return found

    async def main() -> list[list[str]]:
        turns = [asyncio.Event(), asyncio.Event()]
        turns[0].set()
        names = ["alpha", "beta-two"]
        return await asyncio.gather(*(work(name, turns, i) for i, name in enumerate(names)))

    assert asyncio.run(main()) == [["alpha"] * 4, ["beta-two"] * 4]
    assert configuration.resolve().backend == "numpy"


# ---- the listing --------------------------------------------------------------------------------


def test_every_effective_value_with_its_origin(
    configuration: Configuration, project: Path, user_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    user_file.write_text('[numpy]\nmatmul_precision = "tf32"')
    file = project / "seqcore.toml"
    file.write_text('backend = "beta-two"\n[alpha]\nthreads = 2')
    monkeypatch.setenv("SEQCORE_BETA_TWO__LEVEL", "5")
    with configuration.use_backend("alpha", fast=True):
        found = configuration.effective()
    block, default = "use_backend('alpha') block", "default"
    assert found == [
        Setting("backend", "alpha", block),
        Setting("alpha.matmul_precision", "highest", default),
        Setting("alpha.implementation", None, default),
        Setting("alpha.device", "cpu", default),
        Setting("alpha.threads", 2, f"{file}: alpha.threads"),
        Setting("alpha.fast", True, block),
        Setting("beta-two.matmul_precision", "highest", default),
        Setting("beta-two.implementation", None, default),
        Setting("beta-two.level", 5, "environment variable SEQCORE_BETA_TWO__LEVEL"),
        Setting("numpy.matmul_precision", "tf32", f"{user_file}: numpy.matmul_precision"),
        Setting("numpy.implementation", None, default),
    ]
    assert settings(configuration)["backend"] == Setting("backend", "beta-two", f"{file}: backend")


def test_resolved_values_cannot_be_changed(configuration: Configuration) -> None:
    resolved = configuration.resolve("alpha")
    with pytest.raises(TypeError):
        resolved.options["threads"] = 3  # type: ignore[index]
    with pytest.raises(AttributeError):
        resolved.backend = "numpy"  # type: ignore[misc]


def test_a_backend_that_changes_its_description_is_read_anew(
    configuration: Configuration, registry: Registry
) -> None:
    for default in ("one", "two"):
        options = {"size": Option(default=default)}
        with registry.temporarily(described("later", options=options)):
            assert configuration.resolve("later").options["size"] == default


def test_errors_of_the_registry_pass_through(
    configuration: Configuration, registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(_: str) -> BackendSpec:
        raise BackendBroken("backend 'alpha': its registration failed")

    monkeypatch.setenv("SEQCORE_BACKEND", "alpha")
    monkeypatch.setattr(registry, "spec", broken)
    with pytest.raises(BackendBroken):
        configuration.resolve()
    with pytest.raises(BackendBroken), configuration.use_backend("alpha"):
        raise AssertionError("entered")


def test_the_process_s_own_configuration_uses_the_process_s_registry(
    configuration: Configuration,
) -> None:
    from seqcore.registry import registry

    with (
        registry.temporarily(described("ours-for-now")),
        seqcore.config.use_backend("ours-for-now", matmul_precision="tf32"),
    ):
        resolved = seqcore.config.resolve()
    assert chosen(resolved) == ("ours-for-now", "use_backend('ours-for-now') block")
    assert resolved.options["matmul_precision"] == "tf32"
