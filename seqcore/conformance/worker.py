"""The process beside a backend: it runs the cases that it is told to, one by one.

Started by `seqcore.conformance.runner` as `python -m seqcore.conformance.worker`. Lines are
MessagePack in base64: JSON knows neither infinity nor bytes.
"""

from __future__ import annotations

import base64
import faulthandler
import hashlib
import inspect
import traceback
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import msgspec

from seqcore.conformance import engines
from seqcore.conformance.execute import execute
from seqcore.conformance.model import Case, Observed, Verdict
from seqcore.conformance.plugins import collect
from seqcore.conformance.subject import Subject
from seqcore.errors import reason_of
from seqcore.registry import registry
from seqcore.spi import Backend
from seqcore.spi.soundness import devices_of, version_of
from seqcore.workers import serve


class Start(msgspec.Struct, tag=True, frozen=True):
    """Make the backend; answered by `Started`."""

    engine: str
    folder: str
    options: dict[str, str]
    seed: int


class Try(msgspec.Struct, tag=True, frozen=True):
    """Run a case; answered by `Observed` or `Verdict`."""

    case: str


class Started(msgspec.Struct, tag=True, frozen=True, kw_only=True):
    """What the backend says of itself.

    Attributes:
        name: Its name.
        engine: As it was asked for.
        code: A digest of the file that its class is in; "" where that cannot be read.
        version: Of its engine.
        distribution: Who registers it, and its version.
        devices: The devices at hand.
        unsupported: By feature, the reason.
        not_implemented: The same.
    """

    name: str
    engine: str
    code: str
    version: str
    distribution: str
    devices: list[str]
    unsupported: dict[str, str]
    not_implemented: dict[str, str]


class Failed(msgspec.Struct, tag=True, frozen=True):
    """What went wrong outside a case."""

    reason: str
    traceback: str


Command = Start | Try
Reply = Started | Observed | Verdict | Failed


def encode(message: Command | Reply) -> bytes:
    """Return a message as a line."""
    return base64.b64encode(msgspec.msgpack.encode(message))


def decode_reply(line: bytes) -> Reply:
    """Return the reply on a line."""
    reply: Reply = msgspec.msgpack.decode(base64.b64decode(line), type=Reply)
    return reply


class Worker:
    """What one worker process knows."""

    def __init__(self) -> None:
        self._subject: Subject | None = None
        self._cases: Mapping[str, Case] = {}

    def answer(self, command: Command) -> Reply:
        """Do what the parent asks."""
        match command:
            case Start():
                return self._start(command)
            case Try(name):
                assert self._subject is not None
                return execute(self._cases[name], self._subject)

    def _start(self, command: Start) -> Started:
        backend = engines.load(command.engine, command.folder)
        engines.set_options(backend.name, command.options)
        self._subject = Subject(backend.name, command.seed)
        self._cases = {case.id: case for case in collect()}
        capabilities = backend.capabilities
        return Started(
            name=backend.name,
            engine=command.engine,
            code=_digest(backend),
            version=version_of(backend),
            distribution=_distribution(backend.name),
            devices=list(devices_of(backend)),
            unsupported=dict(capabilities.unsupported),
            not_implemented=dict(capabilities.not_implemented),
        )


def _digest(backend: Backend) -> str:
    try:
        return hashlib.sha256(Path(inspect.getfile(type(backend))).read_bytes()).hexdigest()
    except (OSError, TypeError):  # a class without a file
        return ""


def _distribution(name: str) -> str:
    owner = registry.distribution(name)
    try:
        return f"{owner} {version(owner)}"
    except (PackageNotFoundError, ValueError):  # registered in this process
        return ""


def main() -> None:
    """Serve the parent."""
    faulthandler.enable()
    engines.ignore_configuration()
    worker = Worker()
    decoder: msgspec.msgpack.Decoder[Command] = msgspec.msgpack.Decoder(Command)

    def answer(line: bytes) -> bytes:
        try:
            reply = worker.answer(decoder.decode(base64.b64decode(line)))
        except Exception as error:  # noqa: BLE001 - a backend may raise anything
            reply = Failed(reason_of(error), traceback.format_exc())
        return encode(reply)

    serve(answer)


if __name__ == "__main__":
    main()
