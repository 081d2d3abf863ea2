"""What `seqcore plugin check` answers: a list of steps."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

Status = Literal["pass", "warn", "fail"]


@dataclass(frozen=True, slots=True)
class Step:
    """One line of the answer.

    Attributes:
        name: What was looked at.
        status: How it is; what is warned of breaks no rule, and harms somebody all the same.
        message: What was found.
        advice: What to do about it; "" for what passed.
        backend: Whose it is, for what is one backend's.
    """

    name: str
    status: Status
    message: str
    advice: str = ""
    backend: str = ""


class Stopped(Exception):
    """A step failed without which the next ones cannot be made. It never leaves the check."""


class Steps:
    """The steps so far.

    Attributes:
        all: In order.

    Args:
        tell: Told each step as soon as it is known.
    """

    def __init__(self, tell: Callable[[Step], None]) -> None:
        self.all: list[Step] = []
        self._tell = tell

    def passed(self, name: str, message: str, backend: str = "") -> None:
        """Add a step that passed."""
        self._add(Step(name, "pass", message, backend=backend))

    def warned(self, name: str, message: str, advice: str, backend: str = "") -> None:
        """Add a step that breaks no rule."""
        self._add(Step(name, "warn", message, advice, backend))

    def failed(self, name: str, message: str, advice: str, backend: str = "") -> Stopped:
        """Add a step that failed; returns what to raise where the next ones cannot be made."""
        self._add(Step(name, "fail", message, advice, backend))
        return Stopped()

    def _add(self, step: Step) -> None:
        self.all.append(step)
        self._tell(step)


def next_step(steps: Sequence[Step], target: str) -> str:
    """Return what to do after a check of `target`."""
    failed = [step for step in steps if step.status == "fail"]
    if failed:
        return f"{failed[0].advice}; then again: seqcore plugin check {target}"
    names = dict.fromkeys(step.backend for step in steps if step.backend)
    return f"the whole proof: seqcore conform {' '.join(names)}"
