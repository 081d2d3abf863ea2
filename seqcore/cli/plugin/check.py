"""`seqcore plugin check`: whether a plugin keeps to its contract, and what to do next.

No module of a plugin is imported here, for that may do anything: it is loaded in a process of its
own (`probe`), and the conformance suite gives its backend one, too.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from pathlib import Path

from seqcore.cli.plugin import entries
from seqcore.cli.plugin.probe import (
    Announced,
    Collect,
    Collected,
    Failed,
    Load,
    Loaded,
    Made,
    Make,
    Prober,
)
from seqcore.cli.plugin.smoke import ShowProgress, outcome, run_smoke_tier
from seqcore.cli.plugin.steps import Step, Steps, Stopped
from seqcore.errors import FileError, SeqcoreError
from seqcore.registry import SLOW_SECONDS, Source
from seqcore.spi.version import SPI_VERSION

_REPAIR = "repair the module; it imports seqcore.spi.registration, and does no work"
_BELONGS = "import it in the module that the factory names"


def check(
    target: str, timeout: float, tell: Callable[[Step], None], show_progress: ShowProgress
) -> list[Step]:
    """Check a plugin.

    Args:
        target: A folder with a `pyproject.toml`, or a backend's name.
        timeout: Seconds that an import, a factory and a case of the suite may take.
        tell: Told each step as soon as it is known.
        show_progress: Shows how far the suite is.

    Returns:
        All steps.

    Raises:
        ArgumentError: if nothing installed registers the name.
        FileError: if the folder holds no project that can be read.
    """
    folder = Path(target)
    steps = Steps(tell)
    if (folder / entries.PROJECT_FILE).is_file():
        only = None
        try:
            sources = entries.of_project(folder, steps)
        except Stopped:
            return steps.all
    elif folder.is_dir() or folder.name != target:
        raise FileError(
            f"{folder}: there is no {entries.PROJECT_FILE} in it, expected the folder of a plugin, "
            "or the name of an installed backend"
        )
    else:
        only = target
        sources = entries.of_backend(only, timeout)
    for source in entries.one_a_module(sources):
        with contextlib.suppress(Stopped):
            _Check(source, only, timeout, steps, show_progress).run()
    return steps.all


class _Check:
    """The steps for one entry point.

    Args:
        source: The entry point.
        only: The only backend to check, or None for all that it gives.
        timeout: As in `check`.
        steps: Where the steps go.
        show_progress: As in `check`.
    """

    def __init__(
        self,
        source: Source,
        only: str | None,
        timeout: float,
        steps: Steps,
        show_progress: ShowProgress,
    ) -> None:
        self._source = source
        self._only = only
        self._timeout = timeout
        self._steps = steps
        self._show_progress = show_progress

    def run(self) -> None:
        """Make all steps.

        Raises:
            Stopped: if one fails without which the next ones cannot be made.
        """
        value = self._entry_point()
        with self._prober() as prober:
            loaded = self._load(prober, value)
        self._imports(loaded)
        self._output(loaded)
        if loaded.reason:
            return
        self._names(loaded)
        self._descriptions(loaded, value)
        for announced in loaded.backends:
            if self._asked(announced.name) and not self._taken(announced.name):
                # A process of its own: the backends of a module may not go together, and what one
                # does to its process must not be told of the next.
                with contextlib.suppress(Stopped), self._prober() as prober:
                    self._backend(announced, prober)

    def _prober(self) -> contextlib.closing[Prober]:
        return contextlib.closing(Prober(self._timeout))

    def _asked(self, backend: str) -> bool:
        return self._only in (None, backend)

    def _entry_point(self) -> str:
        """Return the module that the entry point names."""
        source, owner = self._source, entries.released(self._source.distribution)
        if source.entry is None:
            reason = "; ".join(problem.reason for problem in source.problems)
            raise self._steps.failed("entry point", f"{owner}: {reason}", f"reinstall {owner}")
        rivals = entries.rivals(source.name, source.distribution)
        if rivals:
            raise self._steps.failed(
                "entry point",
                f"the name {source.name!r} is claimed by {owner} and by {' and '.join(rivals)}",
                "uninstall all but one, or choose another name",
            )
        self._steps.passed("entry point", f"{source.name} = {source.entry.value}, of {owner}")
        return source.entry.value

    def _load(self, prober: Prober, value: str) -> Loaded:
        steps = self._steps
        loaded = prober.ask(Load(self._source.distribution, self._source.name))
        if isinstance(loaded, Failed):
            raise steps.failed(
                "registration",
                f"loading {value}: {loaded.reason}",
                _REPAIR,
            )
        assert isinstance(loaded, Loaded)
        if loaded.reason:
            advice = (
                "let the module answer seqcore_backends() with a list of BackendSpec, and no hook "
                "that seqcore does not have"
            )
            steps.failed(
                "registration",
                f"loading {value}: {loaded.reason}",
                advice if loaded.file else _REPAIR,
            )
        else:
            names = ", ".join(loaded.names())
            steps.passed(
                "registration", f"answers seqcore_backends with {names}, and no unknown hook"
            )
        took = f"the registration took {1000 * loaded.seconds:.0f} ms"
        if loaded.seconds > SLOW_SECONDS:
            steps.failed(
                "time",
                f"{took}, expected less than {1000 * SLOW_SECONDS:.0f} ms",
                "do what takes long in the module that the factory names",
            )
        else:
            steps.passed("time", took)
        return loaded

    def _imports(self, loaded: Loaded) -> None:
        if loaded.imported:
            self._steps.failed(
                "imports",
                f"the registration imports {', '.join(loaded.imported)}, which every listing of "
                "backends waits for, expected seqcore.spi.registration and what Python has",
                _BELONGS,
            )
        elif loaded.of_seqcore:
            self._steps.warned(
                "imports",
                f"the registration imports {', '.join(loaded.of_seqcore)}, which a new SPI may "
                "change; then it fails by that and not by its version",
                "import nothing of seqcore there but seqcore.spi.registration, which is frozen",
            )
        else:
            self._steps.passed("imports", "the registration imports no framework")

    def _output(self, loaded: Loaded) -> None:
        if loaded.printed:
            self._steps.failed(
                "output",
                f"the registration printed {loaded.printed!r}, expected nothing",
                "remove what prints",
            )
        else:
            self._steps.passed("output", "the registration prints nothing")

    def _names(self, loaded: Loaded) -> None:
        """Check that the only backend asked for is among those that there are.

        Raises:
            Stopped: if not.
        """
        given = loaded.names()
        if self._only is not None and self._only not in given:
            raise self._steps.failed(
                "name",
                f"the entry point {self._source.name!r} gives {', '.join(given)}, expected a "
                f"backend {self._only!r}",
                "give the entry point and the BackendSpec one name",
            )

    def _taken(self, backend: str) -> bool:
        """Tell whether a name is claimed by the entry point of another distribution."""
        owners = entries.rivals(backend, self._source.distribution)
        if not owners:
            return False
        self._steps.failed(
            "name",
            f"it is claimed by an entry point of {' and '.join(owners)}, expected one that "
            "nothing else installed has",
            "choose another name",
            backend,
        )
        return True

    def _descriptions(self, loaded: Loaded, value: str) -> None:
        """Tell which descriptions are unsound, and which backends are found late."""
        for name, reason in loaded.unsound.items():
            if self._asked(name):
                self._steps.failed(
                    "description", reason, "do what it says, or correct its BackendSpec", name
                )
        claimed = {
            other.name
            for other in entries.discovered()
            if other.distribution == self._source.distribution
        }
        for announced in loaded.backends:
            name = announced.name
            if name not in claimed and self._asked(name):
                self._steps.warned(
                    "name",
                    "no entry point has its name, so all other plugins are loaded to find it",
                    f'add an entry point: {name} = "{value}"',
                    name,
                )

    def _backend(self, announced: Announced, prober: Prober) -> None:
        """Make the steps for one backend."""
        steps, name = self._steps, announced.name
        steps.passed(
            "description", f"written for SPI {announced.spi}; this seqcore has {SPI_VERSION}", name
        )
        if announced.missing:
            absent = " ".join(announced.missing)
            raise steps.failed(
                "requirements",
                f"not installed: {absent}",
                f"install it: {announced.install_hint or f'pip install {absent}'}",
                name,
            )
        required = ", ".join(announced.requires)
        told = f"installed: {required}" if required else "requires nothing"
        steps.passed("requirements", told, name)
        prober.ask(Load(self._source.distribution, self._source.name))
        made = prober.ask(Make(name))
        if isinstance(made, Failed):
            raise steps.failed(
                "factory", made.reason, "repair the factory and what the backend tells", name
            )
        assert isinstance(made, Made)
        devices = ", ".join(made.devices)
        steps.passed(
            "factory",
            f"makes it in {made.seconds:.1f} s: version {made.version}, on {devices}",
            name,
        )
        self._capabilities(made, name)
        if made.border:
            raise steps.failed(
                "border",
                "\n".join(["what goes in does not come out again", *made.border]),
                "correct asarray, describe, copy or to_numpy, or declare the dtype unsupported",
                name,
            )
        steps.passed("border", "arrays of every dtype go in and come out unchanged", name)
        self._conformance(prober, name)

    def _capabilities(self, made: Made, name: str) -> None:
        declared = {**made.unsupported, **made.not_implemented}
        mute = [feature for feature, reason in declared.items() if not reason.strip()]
        if mute:
            self._steps.failed(
                "capabilities",
                f"declared without a reason: {', '.join(mute)}",
                "write the reason; users read it in the error",
                name,
            )
            return
        told = [f"dtypes {', '.join(made.dtypes) or 'none'}"]
        if made.unsupported:
            told.append(f"unsupported {', '.join(made.unsupported)}")
        if made.not_implemented:
            told.append(f"not implemented {', '.join(made.not_implemented)}")
        self._steps.passed("capabilities", "; ".join(told), name)

    def _conformance(self, prober: Prober, name: str) -> None:
        # In the probe first: what plugins add to the suite is imported, and may do anything.
        collected = prober.ask(Collect())
        if isinstance(collected, Failed):
            raise self._steps.failed(
                "conformance",
                f"the suite cannot be collected: {collected.reason}",
                "install pytest and hypothesis, and repair the plugin that is named",
                name,
            )
        assert isinstance(collected, Collected)
        try:
            report = run_smoke_tier(name, self._timeout, self._show_progress)
        except SeqcoreError as error:
            raise self._steps.failed(
                "conformance", str(error), "repair what is named", name
            ) from None
        if report.failed:
            raise self._steps.failed(
                "conformance",
                outcome(report),
                f"seqcore conform {name} --tier smoke gives a report, and a script for each case",
                name,
            )
        self._steps.passed("conformance", outcome(report), name)
