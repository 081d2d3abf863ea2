"""Discovery: what is loaded when, and that nothing broken takes the rest down.

Plugins are real distributions: a module and a `.dist-info` folder on the path.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap
import threading
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from numpy.lib.mixins import NDArrayOperatorsMixin

from seqcore.errors import (
    BackendBroken,
    BackendError,
    BackendNotFound,
    BackendNotInstalled,
    DuplicateBackend,
    reason_of,
)
from seqcore.registry import Registry
from seqcore.spi import Generic, HostOps
from seqcore.spi.backend import Backend
from seqcore.spi.registration import BackendSpec, Option
from seqcore.spi.soundness import devices_of, version_of
from seqcore.spi.version import SPI_VERSION, refusal

GROUP = "seqcore.tests"

# A module that registers the backends named in it, and one factory for each.
SOUND = """
from seqcore.spi.registration import BackendSpec, hookimpl

NAMES = {names!r}

@hookimpl
def seqcore_backends():
    return [
        BackendSpec(name=name, factory=f"{{__name__}}:make_{{i}}", spi="1.0")
        for i, name in enumerate(NAMES)
    ]

def _factory(name):
    def make():
        from test_registry_fake import Fake
        return Fake(name)
    return make

for _i, _name in enumerate(NAMES):
    globals()[f"make_{{_i}}"] = _factory(_name)
"""

# A module whose hook has the body that follows.
HOOK = """
from seqcore.spi.registration import BackendSpec, Option, hookimpl

@hookimpl
def seqcore_backends():
    {body}
"""


class Fake(Backend):
    """A backend that can do nothing but be there."""

    def __init__(self, name: Any, **changed: Any) -> None:
        self.name = name
        self.ops = HostOps()
        self.implementations = (Generic(self.ops),)
        for attribute, value in changed.items():
            setattr(self, attribute, value)

    def asarray(self, value: Any, dtype: str, device: str) -> Any:
        raise NotImplementedError

    def to_numpy(self, array: Any) -> Any:
        raise NotImplementedError

    def describe(self, array: Any) -> Any:
        raise NotImplementedError

    def version(self) -> str:
        return "0"

    def devices(self) -> tuple[str, ...]:
        return ("cpu",)


class Named(Generic):
    def __init__(self, name: Any) -> None:
        super().__init__(HostOps())
        self.name = name


def described(name: str = "fake", **changed: Any) -> BackendSpec:
    return BackendSpec(**{"name": name, "factory": "nowhere:make", "spi": SPI_VERSION, **changed})


class Site:
    """A folder on the path, into which distributions are installed."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.modules: list[str] = []

    def install(self, distribution: str, entries: dict[str, str], **modules: str) -> None:
        """Install a distribution: its entries (name to module) and its modules' sources."""
        lines = [f"[{GROUP}]", *(f"{name} = {value}" for name, value in entries.items())]
        self.install_raw(distribution, "\n".join(lines), **modules)

    def install_raw(self, distribution: str, entry_points: str, **modules: str) -> None:
        info = self.folder / f"{distribution.replace('-', '_')}-1.0.dist-info"
        info.mkdir(parents=True)
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {distribution}\nVersion: 1\n")
        (info / "entry_points.txt").write_text(entry_points)
        (info / "RECORD").write_text("")
        for module, source in modules.items():
            (self.folder / f"{module}.py").write_text(textwrap.dedent(source))
            self.modules.append(module)

    def sound(self, distribution: str, entry: str, *names: str) -> str:
        """Install a distribution whose one entry gives these backends; return its module."""
        module = f"plugin_{distribution}".replace("-", "_")
        self.install(distribution, {entry: module}, **{module: SOUND.format(names=names)})
        return module


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    site = Site(tmp_path / "site")
    site.folder.mkdir()
    monkeypatch.syspath_prepend(str(site.folder))
    fake = ModuleType("test_registry_fake")
    fake.Fake = Fake  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "test_registry_fake", fake)
    yield site
    for module in site.modules:
        sys.modules.pop(module, None)


@pytest.fixture
def registry(site: Site) -> Registry:
    return Registry(GROUP)


def reasons(registry: Registry) -> dict[tuple[str, str], str]:
    return {(p.name, p.distribution): p.reason for p in registry.problems()}


# ---- what is loaded, and when -------------------------------------------------------------------


def test_entry_named_like_the_backend_is_the_only_one_loaded(
    site: Site, registry: Registry
) -> None:
    wanted = site.sound("acme", "alpha", "alpha")
    neighbour = site.sound("other", "beta", "beta")
    assert registry.get("alpha").name == "alpha"
    assert wanted in sys.modules
    assert neighbour not in sys.modules


def test_describing_a_backend_does_not_call_its_factory(site: Site, registry: Registry) -> None:
    body = 'return [BackendSpec(name="alpha", factory="no_such_module:make", spi="1.0")]'
    site.install("acme", {"alpha": "plug_described"}, plug_described=HOOK.format(body=body))
    assert registry.spec("alpha").factory == "no_such_module:make"
    assert registry.names() == ["alpha"]
    with pytest.raises(BackendBroken, match="no_such_module"):
        registry.get("alpha")


def test_one_module_may_give_several_backends_under_any_entry_name(
    site: Site, registry: Registry
) -> None:
    site.sound("acme", "acme", "acme-fast", "acme-small")
    assert registry.get("acme-small").name == "acme-small"
    assert registry.names() == ["acme-fast", "acme-small"]
    assert registry.distribution("acme-fast") == "acme"
    assert registry.problems() == []


def test_a_backend_is_created_once(site: Site, registry: Registry) -> None:
    site.sound("acme", "alpha", "alpha")
    assert registry.get("alpha") is registry.get("alpha")


def test_two_threads_that_ask_at_once_get_one_instance() -> None:
    registry = Registry(None)
    second_asks = threading.Event()
    made: list[Fake] = []

    def make() -> Fake:
        made.append(Fake("fake"))
        second_asks.wait(10)
        return made[-1]

    registry.register(described(), make)
    got: list[Backend] = []
    first = threading.Thread(target=lambda: got.append(registry.get("fake")))

    def ask() -> None:
        threading.Timer(0.05, second_asks.set).start()
        got.append(registry.get("fake"))

    second = threading.Thread(target=ask)
    first.start()
    second.start()
    first.join()
    second.join()
    assert len(made) == 1
    assert got == [made[0], made[0]]


def test_group_none_discovers_nothing(site: Site) -> None:
    site.sound("acme", "alpha", "alpha")
    assert Registry(None).names() == []


def test_a_distribution_twice_on_the_path_is_one(
    site: Site, registry: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    site.sound("acme", "alpha", "alpha")
    second = Site(tmp_path / "second")
    second.sound("Acme", "alpha", "alpha")
    monkeypatch.setattr(sys, "path", [*sys.path, str(second.folder)])
    assert registry.get("alpha").name == "alpha"
    assert registry.problems() == []


# ---- registrations that fail --------------------------------------------------------------------

BROKEN_MODULES = {
    "raises": ("raise ValueError('no luck')", "ValueError: no luck"),
    "imports what is not there": ("import no_such_thing", "No module named 'no_such_thing'"),
    "is no Python": ("def:", "SyntaxError: invalid syntax"),
    "exits": ("import sys; sys.exit(3)", "SystemExit: 3"),
    "raises what it should not": (
        "class Odd(BaseException): pass\nraise Odd('odd')",
        "Odd: odd",
    ),
    "raises what cannot be shown": (
        "class Mute(Exception):\n    def __str__(self): raise ValueError\nraise Mute",
        "Mute: <exception str() failed>",
    ),
    "answers no hook": ("x = 1", "does not answer the hook seqcore_backends"),
    "misspells the hook": (
        "from seqcore.spi.registration import hookimpl\n@hookimpl\ndef seqcore_bakends(): ...",
        "unknown hook 'seqcore_bakends'",
    ),
    "answers an unknown hook too": (
        SOUND.format(names=["bad"]) + "\n@hookimpl\ndef seqcore_coffee(): ...",
        "unknown hook 'seqcore_coffee'",
    ),
    "wants an argument": (
        "from seqcore.spi.registration import hookimpl\n@hookimpl\ndef seqcore_backends(x): ...",
        "Argument(s) {'x'}",
    ),
    "hook raises": (HOOK.format(body="raise OSError('disk')"), "OSError: disk"),
    "hook exits": (HOOK.format(body="raise SystemExit"), "SystemExit"),
    "returns None": (
        HOOK.format(body="return None"),
        "returned NoneType, expected a list of BackendSpec",
    ),
    "returns a tuple": (
        HOOK.format(body="return ()"),
        "returned tuple, expected a list of BackendSpec",
    ),
    "returns nothing in a list": (
        HOOK.format(body="return []"),
        "returned no BackendSpec, expected at least one",
    ),
    "returns something else in a list": (
        HOOK.format(body="return [{'name': 'bad'}]"),
        "returned a list with dict in it, expected BackendSpec only",
    ),
}


@pytest.mark.parametrize(("source", "reason"), BROKEN_MODULES.values(), ids=list(BROKEN_MODULES))
def test_a_failing_registration_harms_itself_only(
    site: Site, registry: Registry, source: str, reason: str
) -> None:
    site.install("bad-dist", {"bad": "plug_bad"}, plug_bad=source)
    site.sound("acme", "alpha", "alpha")
    assert registry.names() == ["alpha"]
    assert registry.get("alpha").name == "alpha"
    assert list(reasons(registry)) == [("bad", "bad-dist")]
    assert reason in reasons(registry)["bad", "bad-dist"]

    with pytest.raises(BackendBroken) as raised:
        registry.get("bad")
    message = str(raised.value)
    assert message.startswith("backend 'bad': its registration failed (bad-dist: ")
    assert reason in message
    assert message.endswith("repair or uninstall bad-dist")
    assert raised.value.__cause__ is registry.problems()[0].error
    assert raised.value.__cause__ is not None


def test_ctrl_c_during_an_import_is_not_kept_as_a_problem(site: Site, registry: Registry) -> None:
    source = "import os\nif 'PRESSED' not in os.environ:\n    raise KeyboardInterrupt\n"
    site.install("acme", {"alpha": "plug_keys"}, plug_keys=source + SOUND.format(names=["alpha"]))
    with pytest.raises(KeyboardInterrupt):
        registry.names()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PRESSED", "1")
        assert registry.names() == ["alpha"]
    assert registry.problems() == []


def test_what_a_registration_prints_goes_to_standard_error(
    site: Site, registry: Registry, capsys: pytest.CaptureFixture[str]
) -> None:
    source = "print('hello from the plugin')\n" + SOUND.format(names=["alpha"])
    site.install("loud", {"alpha": "plug_loud"}, plug_loud=source)
    assert registry.names() == ["alpha"]
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "hello from the plugin" in captured.err


def test_a_module_that_uses_the_registry_while_it_is_loaded_does_not_recurse(
    site: Site, registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys.modules["test_registry_fake"], "registry", registry, raising=False)
    source = "from test_registry_fake import registry\nregistry.names()\n"
    site.install("acme", {"alpha": "plug_self"}, plug_self=source + SOUND.format(names=["alpha"]))
    assert registry.get("alpha").name == "alpha"


def test_malformed_entry_points_are_a_problem_of_their_distribution_only(
    site: Site, registry: Registry
) -> None:
    site.install_raw("torn", f"[{GROUP}]\nno equals sign")
    site.install_raw("unrelated", "[console_scripts]\nno equals sign")
    site.sound("acme", "alpha", "alpha")
    assert registry.names() == ["alpha"]
    assert list(reasons(registry)) == [("torn", "torn")]
    assert reasons(registry)["torn", "torn"].startswith("its entry points: ")


def test_an_entry_that_names_no_module_is_a_problem(site: Site, registry: Registry) -> None:
    site.install("acme", {"alpha": "plug_absent"})
    assert "No module named 'plug_absent'" in reasons(registry)["alpha", "acme"]


# ---- descriptions that are not sound ------------------------------------------------------------


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"name": "Fake"}, "name 'Fake', expected lower-case letters and digits, a letter first"),
        ({"name": "a_b"}, "name 'a_b', expected lower-case"),
        ({"name": "a--b"}, "name 'a--b', expected lower-case"),
        ({"name": "1a"}, "name '1a', expected lower-case"),
        ({"name": ""}, "name '', expected lower-case"),
        ({"name": 3}, "name 3, expected lower-case"),
        ({"name": "backend"}, "name 'backend', which configuration files need as a key"),
        ({"spi": "2.0"}, f"it needs SPI 2.0 and this seqcore has {SPI_VERSION}; upgrade seqcore"),
        ({"spi": 1.0}, "SPI version 1.0, expected a text such as '1.0'"),
        ({"factory": "module"}, "factory 'module', expected 'module:attribute'"),
        ({"factory": print}, "factory <built-in function print>, expected 'module:attribute'"),
        ({"requires": "torch"}, "requires 'torch', expected a tuple of module names"),
        ({"requires": ("numpy>=2",)}, "requires ('numpy>=2',), expected a tuple of module names"),
        ({"array_roots": ["torch"]}, "array_roots ['torch'], expected a tuple of module names"),
        ({"options": ["device"]}, "options ['device'], expected a mapping"),
        ({"options": {"device": "cpu"}}, "option 'device': received 'cpu', expected an Option"),
        ({"options": {"Device": Option()}}, "option 'Device': expected a name of lower-case"),
        ({"options": {"a__b": Option()}}, "option 'a__b': expected a name of lower-case"),
        (
            {"options": {"matmul_precision": Option()}},
            "option 'matmul_precision': every backend has it; leave it out",
        ),
        (
            {"options": {"n": Option(type="float")}},  # type: ignore[arg-type]
            "option 'n': type 'float', expected one of str, int, bool",
        ),
        (
            {"options": {"n": Option(type="int", choices=("1",))}},
            "option 'n': choices with type 'int', expected type 'str'",
        ),
        (
            {"options": {"n": Option(type="int", default=True)}},
            "option 'n': default True, expected a value of type 'int' or None",
        ),
        (
            {"options": {"n": Option(default="c", choices=("a", "b"))}},
            "option 'n': default 'c', expected one of a, b",
        ),
    ],
)
def test_a_description_that_is_not_sound_is_refused(changed: dict[str, Any], reason: str) -> None:
    registry = Registry(None)
    with pytest.raises(BackendBroken) as raised:
        registry.register(described(**changed))
    assert str(raised.value).startswith(f"backend {changed.get('name', 'fake')!r}: {reason}")
    assert registry.names() == []


def test_a_description_that_is_not_sound_leaves_the_module_s_others(
    site: Site, registry: Registry
) -> None:
    body = (
        'return [BackendSpec(name=n, factory="m:f", spi=s) '
        'for n, s in [("good", "1.0"), ("next", "1.9"), ("Bad", "1.0")]]'
    )
    site.install("acme", {"acme": "plug_mixed"}, plug_mixed=HOOK.format(body=body))
    assert registry.names() == ["good"]
    assert sorted(reasons(registry)) == [("Bad", "acme"), ("next", "acme")]
    with pytest.raises(BackendBroken, match=r"needs SPI 1\.9 .*upgrade seqcore\); .*acme"):
        registry.spec("next")


def test_a_newer_spi_is_the_reason_even_where_its_hooks_are_unknown(
    site: Site, registry: Registry
) -> None:
    body = 'return [BackendSpec(name="alpha", factory="m:f", spi="9.0")]'
    source = HOOK.format(body=body) + "\n@hookimpl\ndef seqcore_of_tomorrow(): ...\n"
    site.install("acme", {"alpha": "plug_tomorrow"}, plug_tomorrow=source)
    assert reasons(registry)["alpha", "acme"].startswith("it needs SPI 9.0")


@pytest.mark.parametrize(
    ("spi", "reason"),
    [
        (SPI_VERSION, None),
        ("1.1", "upgrade seqcore"),
        ("2.0", "upgrade seqcore"),
        ("0.9", "upgrade it"),
        ("1", "expected 'major.minor'"),
        ("1.0.0", "expected 'major.minor'"),
        ("one", "expected 'major.minor'"),
    ],
)
def test_spi_versions(spi: str, reason: str | None) -> None:
    refused = refusal(spi)
    assert refused is None if reason is None else reason in str(refused)


# ---- one name, several distributions ------------------------------------------------------------


def test_two_entries_of_one_name_are_an_error_that_names_both(
    site: Site, registry: Registry
) -> None:
    site.sound("first", "alpha", "alpha")
    site.sound("second", "alpha", "alpha")
    site.sound("acme", "beta", "beta")
    assert registry.get("beta").name == "beta"
    assert registry.names() == ["beta"]
    for ask in (registry.get, registry.spec):
        with pytest.raises(DuplicateBackend) as raised:
            ask("alpha")
        message = str(raised.value)
        assert message.startswith("backend 'alpha': registered by ")
        assert "first" in message
        assert "second" in message
        assert message.endswith("uninstall all but one")
    found = reasons(registry)
    assert sorted(found) == [("alpha", "first"), ("alpha", "second")]
    assert all("first" in reason and "second" in reason for reason in found.values())


def test_two_modules_of_other_names_that_give_one_backend(site: Site, registry: Registry) -> None:
    site.sound("first", "one", "alpha", "only-first")
    site.sound("second", "two", "alpha")
    with pytest.raises(DuplicateBackend, match=r"first and second|second and first"):
        registry.get("alpha")
    assert registry.get("only-first").name == "only-first"
    assert sorted(reasons(registry)) == [("alpha", "first"), ("alpha", "second")]


def test_no_module_can_take_the_name_that_an_entry_claims(site: Site, registry: Registry) -> None:
    site.sound("owner", "alpha", "alpha")
    site.sound("hijacker", "aaa", "alpha", "mine")
    assert registry.names() == ["alpha", "mine"]  # both modules are loaded
    assert registry.distribution("alpha") == "owner"
    assert reasons(registry) == {("alpha", "hijacker"): "the name belongs to an entry of owner"}


def test_a_broken_entry_keeps_its_name(site: Site, registry: Registry) -> None:
    site.install("owner", {"alpha": "plug_broken"}, plug_broken="raise ValueError('no luck')")
    site.sound("hijacker", "aaa", "alpha")
    with pytest.raises(BackendBroken, match="no luck"):
        registry.get("alpha")
    assert registry.names() == []
    assert sorted(reasons(registry)) == [("alpha", "hijacker"), ("alpha", "owner")]


def test_a_broken_entry_does_not_stop_a_sound_one_of_its_name(
    site: Site, registry: Registry
) -> None:
    site.install("bad-dist", {"alpha": "plug_bad2"}, plug_bad2="raise ValueError('no luck')")
    site.sound("acme", "alpha", "alpha")
    assert registry.get("alpha").name == "alpha"
    assert list(reasons(registry)) == [("alpha", "bad-dist")]


# ---- asking -------------------------------------------------------------------------------------


def test_an_unknown_name_lists_the_known_and_suggests(site: Site, registry: Registry) -> None:
    site.sound("acme", "alpha", "alpha", "beta")
    site.install("bad-dist", {"bad": "plug_bad3"}, plug_bad3="raise ValueError('no luck')")
    with pytest.raises(BackendNotFound) as raised:
        registry.get("alhpa")
    assert str(raised.value) == (
        "backend 'alhpa': not registered (did you mean 'alpha'?); expected one of alpha, beta; "
        "these registrations failed: bad of bad-dist: ValueError: no luck"
    )


def test_an_unknown_name_where_nothing_is_registered() -> None:
    with pytest.raises(BackendNotFound, match=r"expected one of \(none is registered\)$"):
        Registry(None).get("alpha")


def test_known_names(site: Site, registry: Registry) -> None:
    site.sound("acme", "acme", "alpha")
    neighbour = site.sound("other", "beta", "beta")
    body = 'return [BackendSpec(name="next", factory="m:f", spi="9.0")]'
    assert registry.knows("beta")
    assert neighbour not in sys.modules
    assert registry.knows("alpha")
    assert not registry.knows("gamma")
    site.install("newer", {"newer": "plug_newer"}, plug_newer=HOOK.format(body=body))
    assert Registry(GROUP).knows("next")


def test_what_is_required_is_looked_for_before_the_factory_is_imported() -> None:
    registry = Registry(None)

    def make() -> Fake:
        raise AssertionError("called")

    hint = 'pip install "seqcore[fake]"'
    registry.register(
        described(requires=("json", "no_such_thing", "no.such"), install_hint=hint), make
    )
    assert registry.names() == ["fake"]
    assert registry.missing("fake") == ("no_such_thing", "no.such")
    with pytest.raises(BackendNotInstalled) as raised:
        registry.get("fake")
    assert str(raised.value) == (
        "backend 'fake': it requires no_such_thing, no.such, which is not installed; "
        f"install it: {hint}"
    )


def test_a_required_module_that_exists_in_memory_only_is_installed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "in_memory", ModuleType("in_memory"))
    registry = Registry(None)
    registry.register(described(requires=("in_memory",)), lambda: Fake("fake"))
    assert registry.get("fake").name == "fake"


def fails(error: BaseException) -> Callable[[], Any]:
    def make() -> Any:
        raise error

    return make


@pytest.mark.parametrize("error", [ImportError("libfake.so"), SystemExit(1), ValueError("x")])
def test_a_factory_that_fails_is_broken_and_may_be_asked_again(error: BaseException) -> None:
    registry = Registry(None)
    makers = [fails(error), lambda: Fake("fake")]
    registry.register(described(), lambda: makers.pop(0)())
    with pytest.raises(BackendBroken) as raised:
        registry.get("fake")
    assert raised.value.__cause__ is error
    assert f"its factory nowhere:make of this process failed ({type(error).__name__}: " in str(
        raised.value
    )
    assert registry.get("fake").name == "fake"


def test_a_factory_may_say_itself_what_is_wrong() -> None:
    registry = Registry(None)
    registry.register(described(), fails(BackendError("the chip is in use; free it")))
    with pytest.raises(BackendError, match=r"^the chip is in use; free it$"):
        registry.get("fake")


def test_ctrl_c_in_a_factory_propagates() -> None:
    registry = Registry(None)
    registry.register(described(), fails(KeyboardInterrupt()))
    with pytest.raises(KeyboardInterrupt):
        registry.get("fake")


@pytest.mark.parametrize(
    ("made", "reason"),
    [
        (object(), "returned object, expected a seqcore.spi.Backend"),
        (Fake, "returned ABCMeta, expected a seqcore.spi.Backend"),
        (Fake("other"), "returned a backend named 'other', expected 'fake'"),
    ],
)
def test_a_factory_must_return_the_backend(made: Any, reason: str) -> None:
    registry = Registry(None)
    registry.register(described(), lambda: made)
    with pytest.raises(BackendBroken) as raised:
        registry.get("fake")
    assert str(raised.value).endswith(reason)


class Nameless(Fake):
    def __init__(self) -> None:
        super().__init__("")
        del self.name


@pytest.mark.parametrize(
    ("made", "reason"),
    [
        (Nameless(), "it has no name, expected that of its BackendSpec"),
        (Fake(3), "its name is 3, expected that of its BackendSpec"),
        (Fake("fake", ops=None), "its ops is None, expected a seqcore.spi.Ops"),
        (Fake("fake", capabilities={}), "its capabilities is {}, expected"),
        (Fake("fake", transforms=3), "its transforms is 3, expected"),
        (Fake("fake", implementations=()), "its implementations are (), expected a tuple"),
        (Fake("fake", implementations=(3,)), "its implementations hold 3, expected"),
        (Fake("fake", implementations=(Named(None),)), "the name of its Named is None, expected"),
        (Fake("fake", implementations=(Named("a"),) * 2), "2 of its implementations are named 'a'"),
    ],
)
def test_a_backend_that_is_not_what_the_spi_says_is_broken(made: Any, reason: str) -> None:
    registry = Registry(None)
    registry.register(described(), lambda: made)
    with pytest.raises(BackendBroken) as raised:
        registry.get("fake")
    assert f"returned an unsound backend: {reason}" in str(raised.value)


@pytest.mark.parametrize("devices", [(), "cpu", (1,), None, ("",)])
def test_devices_are_a_tuple_of_names(devices: Any) -> None:
    made = Fake("fake", devices=lambda: devices)
    with pytest.raises(BackendBroken, match=r"backend 'fake': devices\(\) returned"):
        devices_of(made)
    assert devices_of(Fake("fake", devices=lambda: ["chip:0", "cpu"])) == ("chip:0", "cpu")


class Unlicensed(Fake):
    @property
    def capabilities(self) -> Any:  # type: ignore[override]
        raise RuntimeError("licence lost")


def test_an_attribute_that_fails_is_the_backend_s() -> None:
    registry = Registry(None)
    registry.register(described(), lambda: Unlicensed("fake"))
    with pytest.raises(BackendBroken, match="unsound backend: RuntimeError: licence lost"):
        registry.get("fake")


def test_a_note_does_not_hide_an_error() -> None:
    error = RuntimeError("the reason")
    error.add_note("see the manual")
    assert reason_of(error) == "RuntimeError: the reason"
    assert reason_of(BackendBroken("ours")) == "ours"


@pytest.mark.parametrize("version", [None, 3, ""])
def test_a_version_is_a_text(version: Any) -> None:
    with pytest.raises(BackendBroken, match=r"backend 'fake': version\(\) returned"):
        version_of(Fake("fake", version=lambda: version))


def test_a_module_that_cannot_be_parsed_is_named_with_its_line(
    site: Site, registry: Registry
) -> None:
    site.install("acme", {"alpha": "plug_unparsed"}, plug_unparsed="x = 1\ndef broken(:\n")
    reason = reasons(registry)["alpha", "acme"]
    assert reason.startswith("SyntaxError: invalid syntax (")
    assert reason.endswith("plug_unparsed.py, line 2)")


def test_a_factory_without_its_attribute_is_broken(site: Site, registry: Registry) -> None:
    body = 'return [BackendSpec(name="alpha", factory=__name__ + ":gone", spi="1.0")]'
    site.install("acme", {"alpha": "plug_gone"}, plug_gone=HOOK.format(body=body))
    with pytest.raises(BackendBroken, match="has no attribute 'gone'"):
        registry.get("alpha")


# ---- in this process ----------------------------------------------------------------------------


def test_a_name_that_is_taken_cannot_be_registered(site: Site, registry: Registry) -> None:
    module = site.sound("acme", "alpha", "alpha")
    with pytest.raises(DuplicateBackend, match="'alpha': already registered by acme; choose"):
        registry.register(described("alpha"))
    assert module not in sys.modules
    registry.register(described("fake"))
    with pytest.raises(DuplicateBackend, match="'fake': already registered by this process"):
        registry.register(described("fake"))


def test_a_temporary_backend_is_gone_after_the_block() -> None:
    registry = Registry(None)
    array = array_of("fakelib")
    assert registry.for_array(array) is None
    for _ in range(2):
        with registry.temporarily(described(array_roots=("fakelib",)), lambda: Fake("fake")):
            kept = registry.get("fake")
            assert registry.get("fake") is kept
            assert registry.for_array(array) == "fake"
        assert registry.names() == []
        assert registry.for_array(array) is None
        with pytest.raises(BackendNotFound):
            registry.get("fake")
    with (
        registry.temporarily(described(), lambda: Fake("fake")),
        pytest.raises(BackendNotFound, match="nobody"),
    ):
        registry.get("nobody")
    with pytest.raises(ZeroDivisionError), registry.temporarily(described()):
        raise ZeroDivisionError
    assert registry.names() == []


# ---- whose array --------------------------------------------------------------------------------


def array_of(module: str, *bases: type) -> Any:
    return type("Array", bases, {"__module__": module})()


def test_neutral_values_load_nothing(site: Site, registry: Registry) -> None:
    module = site.sound("acme", "alpha", "alpha")

    class Mine(np.ndarray):
        pass

    for value in ([1.0], (1.0,), 1.0, None, np.zeros(3), np.zeros(3).view(Mine), np.float32(1)):
        assert registry.for_array(value) is None
    assert module not in sys.modules


def test_an_array_is_recognised_by_the_modules_of_its_type_and_its_bases() -> None:
    registry = Registry(None)
    registry.register(described("alpha", array_roots=("alphalib", "alphacore")))
    registry.register(described("beta", array_roots=("betalib",)))
    assert registry.for_array(array_of("alphalib")) == "alpha"
    assert registry.for_array(array_of("alphacore._impl.array")) == "alpha"
    assert registry.for_array(array_of("betalib")) == "beta"
    base = type(array_of("betalib.nn"))
    assert registry.for_array(array_of("users.own", base)) == "beta"
    assert registry.for_array(array_of("alphalibrary")) is None
    assert registry.for_array(array_of("unheard.of")) is None


def test_an_array_with_numpy_s_operators_is_not_numpy_s() -> None:
    registry = Registry(None)
    registry.register(described("alpha", array_roots=("alphalib",)))
    assert registry.for_array(array_of("alphalib", NDArrayOperatorsMixin)) == "alpha"


def test_the_entry_named_like_the_framework_is_asked_first_and_alone(
    site: Site, registry: Registry
) -> None:
    body = 'return [BackendSpec(name="{0}", factory="m:f", spi="1.0", array_roots=("zlib2",))]'
    for name in ("aaa", "zlib2"):
        module = f"plug_roots_{name}"
        site.install(
            f"dist-{name}", {name: module}, **{module: HOOK.format(body=body.format(name))}
        )
    assert registry.for_array(array_of("zlib2.nn")) == "zlib2"
    assert "plug_roots_aaa" not in sys.modules


def test_the_first_by_name_owns_an_array_that_several_declare() -> None:
    registry = Registry(None)
    registry.register(described("beta", array_roots=("lib",)))
    registry.register(described("alpha", array_roots=("lib",)))
    assert registry.for_array(array_of("lib")) == "alpha"


def test_an_array_whose_backend_is_broken_says_so(site: Site, registry: Registry) -> None:
    site.install("bad-dist", {"badlib": "plug_bad4"}, plug_bad4="raise ValueError('no luck')")
    with pytest.raises(BackendBroken, match="no luck"):
        registry.for_array(array_of("badlib"))


def test_an_entry_of_the_framework_s_name_may_give_backends_of_others(
    site: Site, registry: Registry
) -> None:
    body = 'return [BackendSpec(name="acme-x", factory="m:f", spi="1.0", array_roots=("acme",))]'
    site.install("acme-dist", {"acme": "plug_acme"}, plug_acme=HOOK.format(body=body))
    assert registry.for_array(array_of("acme")) == "acme-x"


# ---- the whole, in a process of its own ---------------------------------------------------------


def test_the_process_s_registry_survives_a_hostile_neighbourhood(tmp_path: Path) -> None:
    site = Site(tmp_path)
    sources = {
        "sound_one": SOUND.format(names=["sound-one"]),
        "exits": "print('bye'); raise SystemExit(0)",
        "raises": "raise RuntimeError('no luck')",
        "silent": "",
    }
    for name, source in sources.items():
        entry = f"[seqcore.backends]\n{name.replace('_', '-')} = hostile_{name}"
        site.install_raw(f"dist-{name}", entry, **{f"hostile_{name}": source})
    program = """
        import json, sys
        from seqcore.registry import registry
        json.dump([registry.names(), [(p.name, p.reason) for p in registry.problems()]], sys.stdout)
    """
    root = Path(__file__).parents[1]
    path = [str(tmp_path), str(root), str(root / "backends"), *filter(None, sys.path)]
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(path)},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )
    names, problems = json.loads(done.stdout)
    assert "sound-one" in names
    found = dict(problems)
    assert found["exits"] == "SystemExit: 0"
    assert found["raises"] == "RuntimeError: no luck"
    assert "does not answer the hook" in found["silent"]
    assert "bye" in done.stderr
