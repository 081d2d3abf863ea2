"""The journal: each verdict, written down as soon as it is known, so that a run can go on."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

import msgspec

from seqcore.conformance.model import Observed, Verdict
from seqcore.conformance.worker import Started, decode_reply, encode
from seqcore.errors import FileError
from seqcore.files import reading


class Header(msgspec.Struct, frozen=True, kw_only=True):
    """What must be the same where a run goes on."""

    seqcore: str
    spec: str
    seed: int
    tier: str
    options: dict[str, str]


class Journal:
    """A file of JSON lines: a header, then what is known of backends and cases.

    Numbers that JSON does not know are written as Python does: `Infinity`, `NaN`.

    Args:
        path: The file.
        header: What this run is.
        resume: Whether to go on from what the file holds; there may be none.

    Raises:
        FileError: if it cannot be written, or another run's is resumed.
    """

    def __init__(self, path: Path, header: Header, *, resume: bool) -> None:
        self._path = path
        self.verdicts: dict[str, dict[str, Verdict]] = {}
        self.observed: dict[str, dict[str, Observed]] = {}
        self._engines: dict[str, Started] = {}
        goes_on = resume and path.is_file()
        if goes_on:
            self._read(header)
        try:
            self._file: IO[str] = path.open("a" if goes_on else "w", encoding="utf-8")
        except OSError as error:
            raise FileError(f"{path}: cannot be written: {error.strerror or error}") from error
        if not goes_on:
            self._write({"header": msgspec.to_builtins(header)})

    def begin(self, facts: Started) -> None:
        """Note a backend.

        Raises:
            FileError: if the journal knows it as another engine, or of other code or capabilities.
        """
        known = self._engines.get(facts.name)
        if known is None:
            self._engines[facts.name] = facts
            self._write({"backend": msgspec.to_builtins(facts)})
        elif known != facts:
            raise FileError(
                f"{self._path}: cannot be resumed: backend {facts.name!r} was {known.engine} "
                f"{known.version} then and is {facts.engine} {facts.version} now, or its code or "
                "what it declares has changed; run without --resume"
            )

    def note(self, backend: str, case: str, verdict: Verdict, observed: Observed | None) -> None:
        """Note a verdict and, for comparing backends, what the implementation chosen gave."""
        entry = {"backend": backend, "case": case, "verdict": msgspec.to_builtins(verdict)}
        if observed is not None:
            chosen = [run for run in observed.runs if not run.implementation]
            observed = Observed(chosen, observed.seconds)
            entry["observed"] = encode(observed).decode()
        self.verdicts.setdefault(backend, {})[case] = verdict
        if observed is not None:
            self.observed.setdefault(backend, {})[case] = observed
        self._write(entry)

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def _write(self, entry: dict[str, Any]) -> None:
        try:
            self._file.write(json.dumps(entry) + "\n")
            self._file.flush()
        except OSError as error:
            raise FileError(
                f"{self._path}: cannot be written: {error.strerror or error}"
            ) from error

    def _read(self, header: Header) -> None:
        entries = self._entries()
        try:
            then = msgspec.convert(next(entries)["header"], Header)
        except (StopIteration, KeyError, TypeError, msgspec.ValidationError) as error:
            raise FileError(
                f"{self._path}: cannot be resumed: not the journal of a run; run without --resume"
            ) from error
        for name in Header.__struct_fields__:
            a, b = getattr(then, name), getattr(header, name)
            if a != b:
                raise FileError(
                    f"{self._path}: cannot be resumed: {name} was {a!r} then and is {b!r} now; "
                    "give the same, or run without --resume"
                )
        for number, entry in enumerate(entries, 2):
            try:
                self._take(entry)
            except (KeyError, TypeError, AttributeError, ValueError) as error:
                raise FileError(
                    f"{self._path}: line {number}: not what a run writes; run without --resume"
                ) from error

    def _take(self, entry: Any) -> None:
        if "case" not in entry:
            facts = msgspec.convert(entry["backend"], Started)
            self._engines[facts.name] = facts
            return
        backend, case = entry["backend"], entry["case"]
        self.verdicts.setdefault(backend, {})[case] = msgspec.convert(entry["verdict"], Verdict)
        if "observed" in entry:
            found = decode_reply(entry["observed"].encode())
            if not isinstance(found, Observed):
                raise TypeError(f"received {type(found).__name__}, expected Observed")
            self.observed.setdefault(backend, {})[case] = found

    def _entries(self) -> Iterator[Any]:
        """Yield the lines; the last is left out where it was not written to its end."""
        try:
            with reading(self._path) as (file, _):
                text = file.read().decode()
        except UnicodeDecodeError as error:
            raise FileError(
                f"{self._path}: cannot be resumed: not UTF-8 text: {error.reason}; run without "
                "--resume"
            ) from error
        whole, _, rest = text.rpartition("\n")
        if rest:
            self._path.write_text(f"{whole}\n" if whole else "", encoding="utf-8")
        for number, line in enumerate(whole.split("\n"), 1):
            try:
                yield json.loads(line)
            except ValueError as error:
                raise FileError(
                    f"{self._path}: line {number}: not JSON: {error}; run without --resume"
                ) from error
