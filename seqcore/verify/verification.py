"""Two models side by side: each in its own framework and on seqcore, in eps."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from seqcore.compare.reference import Reference, eps_of
from seqcore.errors import ArgumentError, BackendNotInstalled, ConversionError
from seqcore.interchange.arrays import array
from seqcore.interchange.formats import FORMATS
from seqcore.interchange.levels import assemble, disassemble
from seqcore.interchange.models import OWN, Model
from seqcore.spec.dtypes import numpy_dtype
from seqcore.verify.mistakes import Mistake, mistakes
from seqcore.verify.wiring import FINAL, Named, run, valid

BATCH, TIME = 4, 9
"""The sizes of the input where none is given."""


@dataclass(frozen=True, slots=True)
class Function:
    """A model that can only be called.

    Attributes:
        name: What it is called in messages.
        call: Takes x (batch, time, features) and the lengths (batch,) or None, NumPy arrays, and
            returns the sequence (batch, time, units), the final output (batch, units), a tuple of
            the sequence and the states, or a mapping by the names of the output contract.
    """

    name: str
    call: Callable[[Any, Any], Any]


@dataclass(frozen=True, slots=True)
class Row:
    """Two results compared.

    Attributes:
        first: Whose one is.
        second: Whose the other is.
        array: The array that is nearest to its limit, or furthest beyond.
        eps: The difference there, in units of `eps(dtype) * max(1, |reference|max)`.
        limit: What is allowed there, in the same units.
    """

    first: str
    second: str
    array: str
    eps: float
    limit: float

    @property
    def within(self) -> bool:
        """Whether it is allowed."""
        return self.eps <= self.limit


@dataclass(frozen=True, slots=True)
class Cause:
    """A known mistake that explains the difference.

    Attributes:
        name: What it is.
        cause: What happened.
        remedy: What to do.
        eps: The difference that is left once the mistake is made on the other side, too.
    """

    name: str
    cause: str
    remedy: str
    eps: float


@dataclass(frozen=True, slots=True)
class Verification:
    """What `verify` found.

    Attributes:
        layer: The layer, in short.
        dtype: The data type of the comparison: the narrower of the two.
        rows: The comparisons: each model on seqcore with itself in its own framework, then the
            two models.
        step: Where the models differ, the first step at which they do; None where no sequence
            was compared.
        causes: The known mistakes that explain the difference, each on its own.
        not_run: The models that did not run in their own framework, with the reason.
    """

    layer: str
    dtype: str
    rows: tuple[Row, ...]
    step: int | None
    causes: tuple[Cause, ...]
    not_run: Mapping[str, str]

    @property
    def agree(self) -> bool:
        """Whether everything is within its limit."""
        return all(row.within for row in self.rows)


def verify(
    first: Model | Function,
    second: Model | Function,
    *,
    x: Any = None,
    lengths: Any = None,
    seed: int = 0,
) -> Verification:
    """Run two models in their own frameworks and on seqcore, and compare what they return.

    Sequences are compared at every valid step, and all final states that both return. If the two
    models differ, every known mistake of moving weights is made in the one, to see whether that is
    what the other computes.

    Args:
        first: A model, or a function.
        second: The other; one of the two is a model.
        x: The input, (batch, time, features); random if None.
        lengths: The lengths (batch,), each at least 1; random for a random input.
        seed: Draws them, and the noise that the limits come from.

    Raises:
        ArgumentError: if both are functions, or a function returns what cannot be compared.
        InputError: if the input does not fit the models.
    """
    known = first if isinstance(first, Model) else second
    if not isinstance(known, Model):
        raise ArgumentError(
            f"verify: {first.name} and {second.name} are functions, expected a model to compare "
            "with: give one as a file, or as a layer with its weights"
        )
    models = [model for model in (first, second) if isinstance(model, Model)]
    dtype = max((_dtype(model) for model in models), key=eps_of)
    if x is None:
        x, lengths = _drawn(known, seed)
    trial = _Trial(known, x, lengths, dtype, seed)
    rows: list[Row] = []
    not_run: dict[str, str] = {}
    found = [trial.outputs(model, rows, not_run) for model in (first, second)]
    between = trial.row(first.name, second.name, *found)
    rows.append(between)
    step: int | None = None
    causes: tuple[Cause, ...] = ()
    if not between.within:
        step = trial.first_step(*found)
        target = found[1] if known is first else found[0]
        causes = tuple(trial.causes(target))
    return Verification(str(known.layer), dtype, tuple(rows), step, causes, not_run)


class _Trial:
    """One input, what the known model makes of it, and how far apart results may be."""

    def __init__(self, known: Model, x: Any, lengths: Any, dtype: str, seed: int) -> None:
        self._levels = disassemble("verify", known.layer, known.weights)
        layer, weights = assemble(self._levels, return_state=True)
        narrow = {name: value.astype(numpy_dtype(dtype)) for name, value in weights.items()}
        # In the narrower dtype for all, so that none gets digits that another has not.
        self._x = np.asarray(x).astype(numpy_dtype(dtype))
        self._lengths = None if lengths is None else np.asarray(lengths)
        given = {"mask": None, "lengths": self._lengths, "initial_state": None}
        self._reference = Reference(layer, narrow, self._x, given, precision="highest", seed=seed)

    def outputs(self, model: Model | Function, rows: list[Row], not_run: dict[str, str]) -> Named:
        """Return what a model computes; add the comparison with itself on seqcore."""
        if isinstance(model, Function):
            return self._named(model, model.call(self._x, self._lengths))
        x = self._x.astype(numpy_dtype(_dtype(model)))
        levels = disassemble("verify", model.layer, model.weights)
        ours = valid(run(levels, x, self._lengths), self._lengths)
        if model.format == OWN:
            return ours
        module = importlib.import_module(f"seqcore.verify.own.{FORMATS[model.format].module}")
        try:
            own = module.run(model.structure, model.words, x, self._lengths)
        except (BackendNotInstalled, ConversionError) as error:
            not_run[model.name] = str(error)
            return ours
        own = valid(own, self._lengths)
        rows.append(self.row(f"{model.name} in {model.format}", "on seqcore", own, ours))
        return {FINAL: ours[FINAL], **own}

    def row(self, first: str, second: str, one: Named, other: Named) -> Row:
        """Return the comparison of two results in what both have."""
        shared = [name for name in one if name in other]
        if not shared:
            raise ArgumentError(
                f"verify: {first} returns {', '.join(one)} and {second} {', '.join(other)}, "
                "expected something that both return"
            )
        for name in shared:
            if one[name].shape != other[name].shape:
                return Row(
                    first,
                    second,
                    f"{name}: {one[name].shape} and {other[name].shape}",
                    float("inf"),
                    self._limit(name),
                )
        apart = [
            Row(first, second, name, self._distance(name, one, other), self._limit(name))
            for name in shared
        ]
        return max(apart, key=lambda row: row.eps / row.limit)

    def first_step(self, one: Named, other: Named) -> int | None:
        """Return the first step at which two sequences are apart."""
        if "y" not in one or "y" not in other or one["y"].shape != other["y"].shape:
            return None
        steps = self._reference.steps("y", one["y"], other["y"])
        beyond = np.flatnonzero(steps > self._limit("y"))
        return int(beyond[0]) if beyond.size else None

    def causes(self, target: Named) -> Iterator[Cause]:
        """Yield the mistakes that turn the known model into the other, the closest first."""
        explained = []
        for mistake in mistakes(self._levels):
            row = self._tried(mistake, target)
            if row is not None and row.within:
                explained.append(Cause(mistake.name, mistake.cause, mistake.remedy, row.eps))
        yield from sorted(explained, key=lambda cause: cause.eps)

    def _tried(self, mistake: Mistake, target: Named) -> Row | None:
        try:
            with np.errstate(all="ignore"):
                x = self._x.astype(mistake.levels[0].weights[0]["kernel"].dtype)
                wrong = run(mistake.levels, x, self._lengths, mistake.wiring)
        except Exception:  # noqa: BLE001 - a model that the mistake makes impossible is not the port
            return None
        return self.row("", "", valid(wrong, self._lengths), target)

    def _distance(self, name: str, one: Named, other: Named) -> float:
        return self._reference.distance(name, one[name], other[name])

    def _limit(self, name: str) -> float:
        limits = self._reference.limits
        return 2 * limits.get(name, max(limits[own] for own in self._reference.names))

    def _named(self, function: Function, returned: Any) -> Named:
        """Return what a function returned, by name."""
        if not isinstance(returned, Mapping):
            values = returned if isinstance(returned, tuple | list) else (returned,)
            rank = np.ndim(values[0])
            names = ["y" if rank == 3 else FINAL, *self._reference.names[1:]]
            returned = dict(zip(names, values, strict=False))
        found = {
            str(name): array(f"{function.name}: {name}", value) for name, value in returned.items()
        }
        return valid(found, self._lengths)


def _dtype(model: Model) -> str:
    return next(iter(model.weights.values())).dtype.name


def _drawn(known: Model, seed: int) -> tuple[NDArray[Any], NDArray[Any]]:
    """Return random input of a model, and lengths of which one is whole."""
    random = np.random.default_rng(seed)
    features = next(iter(known.weights.values())).shape[0]
    x = random.standard_normal((BATCH, TIME, features))
    lengths = random.integers(1, TIME, BATCH)
    lengths[0] = TIME
    return x, lengths
