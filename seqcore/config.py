"""Which backend runs and with which options, and where each value came from.

Strongest first:

1. an argument of the call;
2. the backend of a native array in the call;
3. the innermost `with use_backend(...)` block;
4. the environment: `SEQCORE_BACKEND`, and `SEQCORE_<BACKEND>__<OPTION>` in upper case with `-`
   written as `_`; an empty variable counts as unset;
5. the project's file: `seqcore.toml`, or `[tool.seqcore]` in `pyproject.toml`, nearest upwards
   from the working directory; in one folder `seqcore.toml` wins;
6. the user's file: `config.toml` in the user's configuration folder for `seqcore`;
7. `numpy`, and the options' own defaults.

A file has the key `backend` and one table of options per backend:

    backend = "numpy"

    [numpy]
    matmul_precision = "tf32"

Options are settled one by one, so that a variable may change one option of a table in a file.
Options of an argument or of a block apply to the backend that is chosen there.

Files are read once for each working directory, and the environment is searched for misspelt
variables once for each backend that is used; `reload` forgets both. The variables themselves are
read at every call.
"""

from __future__ import annotations

import functools
import inspect
import os
from collections.abc import Callable, Iterator, Mapping
from contextvars import ContextVar
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, ParamSpec, TypeAlias, TypeVar, cast, final

from seqcore.errors import ArgumentError, ConfigError
from seqcore.registry import COMMON_OPTIONS, Registry, registry
from seqcore.spec.foreign import explain_unknown
from seqcore.spec.layers import LAYER_FIELDS
from seqcore.spec.naming import nearest
from seqcore.spi.registration import BackendSpec, Option

if TYPE_CHECKING:
    from pathlib import Path

Value: TypeAlias = str | int | bool | None
P = ParamSpec("P")
R = TypeVar("R")

DEFAULT_BACKEND = "numpy"
_PREFIX = "SEQCORE_"
_BACKEND_VARIABLE = "SEQCORE_BACKEND"
_DEFAULT = "default"
_ARGUMENT = "argument"
_NATIVE = "the input array"
_BOOLS = {
    "true": True, "1": True, "yes": True, "on": True,
    "false": False, "0": False, "no": False, "off": False,
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Resolved:
    """What one call runs on.

    Attributes:
        backend: The backend's name.
        backend_origin: Where that came from.
        options: The value of every option of the backend, common ones included.
        origins: Where each of them came from.
    """

    backend: str
    backend_origin: str
    options: Mapping[str, Value]
    origins: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Setting:
    """One effective value.

    Attributes:
        key: `backend`, or `<backend>.<option>`.
        value: The value.
        origin: Where it came from.
    """

    key: str
    value: Value
    origin: str


@dataclass(frozen=True, slots=True)
class _File:
    """The parsed content of a file; `prefix` is where in it our keys begin."""

    path: Path
    prefix: str
    content: Mapping[str, Any]

    def place(self, *keys: str) -> str:
        return f"{self.path}: {self.prefix}{'.'.join(keys)}"


@dataclass(frozen=True, slots=True)
class _Frame:
    """A `use_backend` block that was entered, and the one around it."""

    block: Block
    backend: str
    options: Mapping[str, Value]
    outer: _Frame | None


@dataclass(frozen=True, slots=True)
class _Base:
    """What holds for a backend in a working directory before the call itself is looked at."""

    spec: BackendSpec
    declared: Mapping[str, Option]
    variables: tuple[tuple[str, str], ...]  # option, the variable that sets it
    values: Mapping[str, Value]
    origins: Mapping[str, str]


# The innermost block. A context variable, so that threads and tasks don't mix; it is the module's
# and not a configuration's, because contexts keep the variables in them alive.
_frame: ContextVar[_Frame | None] = ContextVar("seqcore_use_backend", default=None)


class Configuration:
    """The configuration, as far as the backends of one registry go.

    Args:
        backends: The registry.
    """

    def __init__(self, backends: Registry) -> None:
        self._registry = backends
        self._files: dict[str, tuple[_File, ...]] = {}
        self._bases: dict[tuple[str, str], _Base] = {}
        self._reads_files = True

    def resolve(
        self,
        backend: str | None = None,
        options: Mapping[str, Any] | None = None,
        native: str | None = None,
    ) -> Resolved:
        """Return the backend and the options for one call.

        Args:
            backend: The backend that the caller named, if any.
            options: Options that the caller gave, for the backend that is chosen. None is a value
                only of options that have it as their default: the backend decides.
            native: The backend whose own array is among the inputs (see `Registry.for_array`). It
                outranks everything but an argument, and an argument that contradicts it is an
                error. A backend that takes such arrays, too, does not contradict it: see
                `Registry.takes_arrays_of`.

        Raises:
            ArgumentError: if an argument is not taken.
            ConfigError: if a variable or a file is wrong.
            BackendError: if the backend's registration cannot be used.
        """
        folder = _working_directory()
        name, origin = self._choose(folder, backend)
        if native is not None and not self._registry.takes_arrays_of(name, native):
            if backend is not None:
                raise ArgumentError(
                    f"backend: received {backend!r} with an array of {native!r}, expected "
                    f"{native!r} or none; convert the array to NumPy to run it elsewhere"
                )
            name, origin = native, _NATIVE
        base = self._base(folder, name)
        values, origins = _overlaid(base, _frame.get())
        if options:
            given = _checked_options(base.spec, base.declared, options)
            values = {**values, **given}
            origins = {**origins, **dict.fromkeys(given, _ARGUMENT)}
        return Resolved(name, origin, MappingProxyType(values), MappingProxyType(origins))

    def use_backend(self, name: str, /, **options: Any) -> Block:
        """Choose a backend and options for a `with` block or a decorated function.

        The choice holds in the current thread and the current asyncio task (and in tasks that it
        starts). Blocks nest: an inner block for the same backend changes the options that it names
        and keeps the others; one for another backend starts from nothing.

            with use_backend("jax", device="cpu"):
                y = layer.apply(weights, x)

        Args:
            name: The backend's name.
            **options: Its options.

        Raises:
            ArgumentError: on entry, if an option is not taken.
            BackendError: on entry, if the backend's registration cannot be used.
        """
        return Block(self, name, options)

    def effective(self) -> list[Setting]:
        """Return every value that now holds, for every backend, with where it came from.

        Everything there is gets checked: all tables of all files, all `SEQCORE_` variables.

        Raises:
            ConfigError: if a variable or a file is wrong.
        """
        folder = _working_directory()
        name, origin = self._choose(folder, None)
        settings = [Setting("backend", name, origin)]
        for backend in self._registry.names():
            base = self._build(folder, self._registry.spec(backend))
            values, origins = _overlaid(base, _frame.get())
            settings += [Setting(f"{backend}.{key}", values[key], origins[key]) for key in values]
        return settings

    def reload(self) -> None:
        """Forget what was read from files and found in the environment."""
        self._files.clear()
        self._bases.clear()

    def ignore_files(self) -> None:
        """Read no files from now on: what a folder says must not change what is tested."""
        self._reads_files = False
        self.reload()

    def _choose(self, folder: str, backend: str | None) -> tuple[str, str]:
        """Return the backend's name, native arrays aside, and where it came from."""
        if backend is not None:
            if not isinstance(backend, str):
                raise ArgumentError(
                    f"backend: received {type(backend).__name__}, expected the name of a backend"
                )
            return backend, _ARGUMENT
        frame = _frame.get()
        if frame is not None:
            return frame.backend, _block_origin(frame)
        name = os.environ.get(_BACKEND_VARIABLE)
        if name:
            origin = f"environment variable {_BACKEND_VARIABLE}"
            self._check_name(origin, name)
            return name, origin
        for file in self._read(folder):
            name = file.content.get("backend")
            if name is not None:
                return name, file.place("backend")
        return DEFAULT_BACKEND, _DEFAULT

    def _base(self, folder: str, name: str) -> _Base:
        spec = self._registry.spec(name)
        base = self._bases.get((folder, name))
        if base is None or base.spec is not spec:
            base = self._bases[folder, name] = self._build(folder, spec)
        return base

    def _build(self, folder: str, spec: BackendSpec) -> _Base:
        declared = {**COMMON_OPTIONS, **spec.options}
        self._check_variables(spec.name, declared)
        values: dict[str, Value] = {key: option.default for key, option in declared.items()}
        origins = dict.fromkeys(declared, _DEFAULT)
        for file in reversed(self._read(folder)):  # the user's first, the project's over it
            table = file.content.get(spec.name, {})
            for key, value in table.items():
                if key not in declared:
                    raise ConfigError(explain_unknown(file.place(spec.name), key, declared))
                try:
                    values[key] = _checked(declared[key], value)
                except ValueError as error:
                    raise ConfigError(f"{file.place(spec.name, key)}: {error}") from None
                origins[key] = file.place(spec.name, key)
        variables = tuple((key, _variable(spec.name, key)) for key in declared)
        return _Base(spec, declared, variables, values, origins)

    def _check_variables(self, backend: str, declared: Mapping[str, Option]) -> None:
        """Refuse variables that set nothing: a misspelt one must not pass for an unset one."""
        for variable in os.environ:
            if not variable.startswith(_PREFIX) or variable == _BACKEND_VARIABLE:
                continue
            owner, separator, _ = variable.removeprefix(_PREFIX).partition("__")
            name = owner.lower().replace("_", "-")
            if name == backend and separator:
                known = [_variable(name, key) for key in declared]
            elif separator and self._registry.knows(name):
                continue  # judged when that backend is used
            else:
                known = [_BACKEND_VARIABLE]
                for other in self._registry.names():
                    options = {**COMMON_OPTIONS, **self._registry.spec(other).options}
                    known += [_variable(other, key) for key in options]
            if variable not in known:
                raise ConfigError(
                    explain_unknown("environment", variable, known) + "; unset or rename it"
                )

    def _read(self, folder: str) -> tuple[_File, ...]:
        """Return the files that count in a working directory, the strongest first."""
        files = self._files.get(folder)
        if files is None:
            files = tuple(_find(folder)) if self._reads_files else ()
            for file in files:
                self._check_top(file)
            self._files[folder] = files
        return files

    def _check_name(self, origin: str, name: str) -> None:
        if not self._registry.knows(name):
            names = self._registry.names()
            raise ConfigError(
                f"{origin}: received {name!r}{nearest(name, names)}, "
                f"expected one of {', '.join(names)}"
            )

    def _check_top(self, file: _File) -> None:
        for key, value in file.content.items():
            if key == "backend":
                if not isinstance(value, str):
                    raise ConfigError(
                        f"{file.place(key)}: received {_shown(value)}, expected a backend's name"
                    )
                self._check_name(file.place(key), value)
            elif not self._registry.knows(key):
                names = self._registry.names()
                raise ConfigError(
                    f"{file.place(key)}: unknown key{nearest(key, ['backend', *names])}, expected "
                    f"'backend' or a table of options for one of {', '.join(names)}"
                )
            elif not isinstance(value, dict):
                raise ConfigError(
                    f"{file.place(key)}: received {_shown(value)}, expected a table of options"
                )


@final
class Block:
    """What `use_backend` returns: a context manager and a decorator.

    It keeps no state of its own, so that one object may be entered again, nested, and shared by
    threads.
    """

    def __init__(self, configuration: Configuration, name: str, options: Mapping[str, Any]) -> None:
        self._configuration = configuration
        self._name = name
        self._options = options

    def __enter__(self) -> None:
        if not isinstance(self._name, str):
            raise ArgumentError(
                f"use_backend: received {self._name!r}, expected the name of a backend"
            )
        spec = self._configuration._registry.spec(self._name)
        declared = {**COMMON_OPTIONS, **spec.options}
        options = _checked_options(spec, declared, self._options)
        outer = _frame.get()
        if outer is not None and outer.backend == self._name:
            options = {**outer.options, **options}
        _frame.set(_Frame(self, self._name, options, outer))

    def __exit__(self, *_: object) -> None:
        _frame.set(_without(_frame.get(), self))

    def __call__(self, function: Callable[P, R]) -> Callable[P, R]:
        """Return `function` as it runs inside the block, validated at each call.

        Raises:
            ArgumentError: if it is a generator function: its body runs outside any block around
                the call.
        """
        if inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
            raise ArgumentError(
                f"use_backend: received the generator function {function.__qualname__}, whose "
                "body runs in its caller's context; put a with block around the consuming loop"
            )
        if inspect.iscoroutinefunction(function):

            @functools.wraps(function)
            async def run_async(*args: P.args, **kwargs: P.kwargs) -> Any:
                with self:
                    return await function(*args, **kwargs)

            return cast("Callable[P, R]", run_async)

        @functools.wraps(function)
        def run(*args: P.args, **kwargs: P.kwargs) -> R:
            with self:
                return function(*args, **kwargs)

        return run


def _without(frame: _Frame | None, block: Block) -> _Frame | None:
    """Return the blocks without the innermost entry of one: generators may leave out of order."""
    if frame is None or frame.block is block:
        return frame and frame.outer
    return replace(frame, outer=_without(frame.outer, block))


def _overlaid(base: _Base, frame: _Frame | None) -> tuple[Mapping[str, Value], Mapping[str, str]]:
    """Return values and origins with the environment, and over it the block, laid over the base."""
    values, origins = base.values, base.origins
    for key, variable in base.variables:
        text = os.environ.get(variable)
        if text:
            value = _parsed(variable, base.declared[key], text)
            values = {**values, key: value}
            origins = {**origins, key: f"environment variable {variable}"}
    if frame is not None and frame.backend == base.spec.name and frame.options:
        values = {**values, **frame.options}
        origins = {**origins, **dict.fromkeys(frame.options, _block_origin(frame))}
    return values, origins


def _block_origin(frame: _Frame) -> str:
    return f"use_backend({frame.backend!r}) block"


def _variable(backend: str, option: str) -> str:
    return f"{_PREFIX}{backend.replace('-', '_')}__{option}".upper()


def _checked_options(
    spec: BackendSpec, declared: Mapping[str, Option], options: Mapping[str, Any]
) -> dict[str, Value]:
    """Return options that a caller gave, checked.

    Raises:
        ArgumentError: if one is unknown or has a value that it does not take.
    """
    checked: dict[str, Value] = {}
    for key, value in options.items():
        if key not in declared:
            if key in LAYER_FIELDS:
                raise ArgumentError(
                    f"backend {spec.name!r}: {key!r} is not taken: it belongs to the layer; "
                    f"layer.replace({key}=...) gives one that has it"
                )
            if key == "device":  # which some backends have
                raise ArgumentError(
                    f"backend {spec.name!r}: 'device' is not taken: it has one device; expected "
                    f"one of {', '.join(declared)}"
                )
            raise ArgumentError(explain_unknown(f"backend {spec.name!r}", key, declared))
        try:
            checked[key] = _checked(declared[key], value)
        except ValueError as error:
            raise ArgumentError(f"backend {spec.name!r}: option {key!r}: {error}") from None
    return checked


def _checked(option: Option, value: object) -> Value:
    """Return the value if the option takes it; None is taken where it is the default.

    Raises:
        ValueError: otherwise, with what was received and what is expected.
    """
    if value is None and option.default is None:
        return None
    kind = {"str": str, "int": int, "bool": bool}[option.type]
    fits = isinstance(value, kind) and not (kind is int and isinstance(value, bool))
    if not fits or (option.choices and value not in option.choices):
        hint = nearest(value, option.choices) if isinstance(value, str) else ""
        raise ValueError(f"received {_shown(value)}{hint}, expected {_expected(option)}")
    return cast(Value, value)


def _parsed(variable: str, option: Option, text: str) -> Value:
    """Return the value that an environment variable's text stands for."""
    value: object = text
    if option.type == "bool":
        value = _BOOLS.get(text.lower(), text)
    elif option.type == "int":
        try:
            value = int(text)
        except ValueError:
            value = text
    try:
        return _checked(option, value)
    except ValueError as error:
        raise ConfigError(f"environment variable {variable}: {error}") from None


def _expected(option: Option) -> str:
    if option.choices:
        return f"one of {', '.join(option.choices)}"
    return {"str": "a string", "int": "an integer", "bool": "true or false"}[option.type]


def _shown(value: object) -> str:
    """Return a value for a message, with its type where it might mislead."""
    return repr(value) if isinstance(value, str) else f"{value!r:.40} ({type(value).__name__})"


def _working_directory() -> str:
    try:
        return os.getcwd()  # noqa: PTH109 - every call pays for it
    except FileNotFoundError:  # the folder was removed under us: there is no project's file
        return ""


def _find(folder: str) -> Iterator[_File]:
    """Yield the project's file, if there is one, and the user's."""
    from pathlib import Path

    from platformdirs import user_config_path

    for parent in (Path(folder), *Path(folder).parents) if folder else ():
        own, shared = parent / "seqcore.toml", parent / "pyproject.toml"
        file = _load(own) or _load(shared, "tool.seqcore")
        if file is not None:
            yield file
            break
    file = _load(user_config_path("seqcore", appauthor=False) / "config.toml")
    if file is not None:
        yield file


def _load(path: Path, table: str = "") -> _File | None:
    """Return the file's content, or None where there is no file or nothing for us in it."""
    import tomllib

    if not os.path.isfile(path):  # noqa: PTH113 - False, too, where we may not look
        return None
    try:
        data = path.read_bytes()
        # A shared file that does not name us is not ours to judge, be it valid or not.
        if table and b"seqcore" not in data:
            return None
        content: Any = tomllib.loads(data.decode())
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: not UTF-8 text: {error.reason}") from error
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise ConfigError(f"{path}: not valid TOML: {error}") from error
    prefix = ""
    for key in table.split(".") if table else ():
        prefix += key
        content = content.get(key)
        if content is None:
            return None
        if not isinstance(content, dict):
            raise ConfigError(f"{path}: {prefix}: received {_shown(content)}, expected a table")
        prefix += "."
    return _File(path, prefix, content)


configuration = Configuration(registry)
"""The process's own configuration."""

resolve = configuration.resolve
use_backend = configuration.use_backend
effective = configuration.effective
reload = configuration.reload
