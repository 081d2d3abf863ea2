"""Two models side by side: each in its own framework and on seqcore, in eps."""

from __future__ import annotations

import importlib
import itertools
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from seqcore.compare import Difference
from seqcore.compare.reference import Reference, eps_of
from seqcore.errors import (
    ArgumentError,
    BackendNotInstalled,
    ConversionError,
    InputError,
    MaskError,
    ShapeError,
)
from seqcore.interchange.arrays import array
from seqcore.interchange.formats import FORMATS
from seqcore.interchange.levels import Level, assemble, disassemble
from seqcore.interchange.models import OWN, Model
from seqcore.spec.dtypes import DTYPES, numpy_dtype
from seqcore.spec.naming import nearest
from seqcore.spec.outputs import state_names
from seqcore.verify.mistakes import Mistake, mistakes
from seqcore.verify.two_biases import two_biases
from seqcore.verify.wiring import FINAL, RIGHT, Named, by_equations, run, turned, valid

BATCH, TIME = 4, 9
"""The sizes of the input where none is given."""

_ROUGHLY = 8.0
"""Of the limit, for sums that are made in another order."""

_EVERY = 100
"""After how many mistakes it is told how far the search is."""


@dataclass(frozen=True, slots=True)
class Function:
    """A model that can only be called.

    Attributes:
        name: What it is called in messages.
        call: Takes x (batch, time, features) and the lengths (batch,), NumPy arrays, and returns
            the sequence (batch, time, units), or the final output (batch, units); or a tuple of
            one of them and the states, each (batch, units), in the order of the output contract;
            or a mapping of `y`, `final` and the states, as many as there are, by name.
    """

    name: str
    call: Callable[[Any, Any], Any]


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
        layer: The layer in short, or both with their models' names where they are not alike.
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
    rows: tuple[Difference, ...]
    step: int | None
    causes: tuple[Cause, ...]
    not_run: Mapping[str, str]

    @property
    def agree(self) -> bool:
        """Whether everything that was compared is within its limit."""
        return all(row.within for row in self.rows)

    @property
    def proven(self) -> bool:
        """Whether everything agrees, and nothing ran on seqcore alone."""
        return self.agree and not self.not_run


def verify(
    first: Model | Function,
    second: Model | Function,
    *,
    x: Any = None,
    lengths: Any = None,
    seed: int = 0,
    tell: Callable[[str], None] = lambda _: None,
) -> Verification:
    """Run two models in their own frameworks and on seqcore, and compare what they return.

    Sequences are compared at every valid step, and all final states that both return. If the two
    models differ, every known mistake of moving weights is made in the first (of a model and a
    function in the model), to see whether that is what the other computes.

    Args:
        first: A model, or a function.
        second: The other; one of the two is a model.
        x: The input, (batch, time, features); random if None.
        lengths: The lengths (batch,), each at least 1; random for a random input.
        seed: Draws them, and the noise that the limits come from.
        tell: Called with what is done next.

    Raises:
        ArgumentError: if both are functions, or one fails or returns what cannot be compared.
        InputError: if the input does not fit the models, or they make no finite numbers of it.
    """
    models = [one for one in (first, second) if isinstance(one, Model)]
    if not models:
        raise ArgumentError(
            f"verify: {first.name} and {second.name} are functions, expected a model to compare "
            "with: give one as a file, or as a layer with its weights"
        )
    read = [disassemble("verify", model.layer, model.weights) for model in models]
    sizes = [_features(levels) for levels in read]
    if len(set(sizes)) > 1:
        taken = (f"{one.name} takes {size}" for one, size in zip(models, sizes, strict=True))
        raise ShapeError(f"verify: {' and '.join(taken)} features, expected the same input")
    dtype = max(map(_dtype, read), key=eps_of)
    x, lengths = _drawn(sizes[0], seed) if x is None else _checked(x, lengths)
    tell("finding how much rounding may do")
    trial = _Trial(models[0], read[0], x, lengths, dtype, seed)
    rows: list[Difference] = []
    not_run: dict[str, str] = {}
    found = []
    left = iter(read)
    for one in (first, second):
        tell(f"running {one.name}")
        if isinstance(one, Function):
            found.append(trial.called(one))
        else:
            found.append(trial.outputs(one, next(left), rows, not_run))
    between = trial.row(first.name, second.name, *found)
    rows.append(between)
    step: int | None = None
    causes: Sequence[Cause] = ()
    if not between.within:
        step = trial.first_step(*found)
        causes = trial.causes(found[1] if first is models[0] else found[0], between, tell)
    return Verification(_layers(models), dtype, tuple(rows), step, tuple(causes), not_run)


class _Trial:
    """One input, what the known model makes of it, and how far apart results may be."""

    def __init__(
        self,
        model: Model,
        levels: Sequence[Level],
        x: NDArray[Any],
        lengths: NDArray[Any] | None,
        dtype: str,
        seed: int,
    ) -> None:
        self._model = model
        self._levels = levels
        layer, weights = assemble(levels, return_state=True)
        narrow = {name: value.astype(numpy_dtype(dtype)) for name, value in weights.items()}
        # In the narrower dtype for all, so that none gets digits that another has not.
        self._x = x.astype(numpy_dtype(dtype))
        self._lengths = lengths
        self._states = state_names(layer)
        given = {"mask": None, "lengths": lengths, "initial_state": None}
        with np.errstate(all="ignore"):
            self._reference = Reference(
                layer, narrow, self._x, given, precision="highest", seed=seed, gradients=False
            )
        for output, value in self._reference.outputs.items():
            if not np.isfinite(value).all():
                raise InputError(
                    f"{model.name}: {output} is not finite for this input, so that nothing can be "
                    "compared; expected finite weights, and an input as the model knows it"
                )

    def called(self, function: Function) -> Named:
        """Return what a function returns, by name."""
        batch, time = self._x.shape[:2]
        lengths = np.full(batch, time) if self._lengths is None else self._lengths.copy()
        expected = (
            "expected a function of x (batch, time, features) and lengths (batch,) that returns y "
            "(batch, time, units), or the final output (batch, units), or a tuple of one of them "
            "and the states, each (batch, units)"
        )
        try:
            returned = function.call(self._x.copy(), lengths)
        except (Exception, SystemExit) as error:  # the user's own function may raise anything
            raise ArgumentError(
                f"{function.name}: raised {type(error).__name__}{_where(error)}: {error}; "
                f"{expected}"
            ) from error
        try:
            found = self._by_name(returned)
        except ArgumentError as error:
            raise ArgumentError(f"{function.name}: returned {error}; {expected}") from None
        return valid(self._levels, found, self._lengths)

    def outputs(
        self,
        model: Model,
        levels: Sequence[Level],
        rows: list[Difference],
        not_run: dict[str, str],
    ) -> Named:
        """Return what a model computes; add the comparison with itself on seqcore."""
        x = self._x.astype(numpy_dtype(_dtype(levels)))
        with np.errstate(all="ignore"):
            ours = valid(levels, run(levels, x, self._lengths), self._lengths)
        if model.format == OWN:
            return ours
        module = importlib.import_module(f"seqcore.verify.own.{FORMATS[model.format].module}")
        try:
            own = module.run(model.structure, model.words, x, self._lengths)
        except (BackendNotInstalled, ConversionError) as error:
            not_run[model.name] = str(error)
            return ours
        except Exception as error:  # noqa: BLE001 - a framework may raise anything; it is said
            lines = str(error).splitlines() or [""]
            not_run[model.name] = f"{model.format} raised {type(error).__name__}: {lines[0][:300]}"
            return ours
        own = valid(levels, own, self._lengths)
        rows.append(self.row(f"{model.name} in {model.format}", "on seqcore", own, ours))
        return {FINAL: ours[FINAL], **own}

    def row(self, first: str, second: str, one: Named, other: Named) -> Difference:
        """Return the comparison of two results in what both have."""
        shared = [name for name in one if name in other]
        if not shared:
            raise ArgumentError(
                f"verify: {first} returns {', '.join(one)} and {second} {', '.join(other)}, "
                "expected something that both return"
            )
        apart = [self._apart(first, second, name, one[name], other[name]) for name in shared]
        return max(apart, key=lambda row: row.eps / row.limit)

    def first_step(self, one: Named, other: Named) -> int | None:
        """Return the first step at which two sequences are apart."""
        if "y" not in one or "y" not in other or one["y"].shape != other["y"].shape:
            return None
        steps = self._reference.steps(self._scale("y"), one["y"], other["y"])
        beyond = np.flatnonzero(steps > self._limit("y"))
        return int(beyond[0]) if beyond.size else None

    def causes(
        self, target: Named, between: Difference, tell: Callable[[str], None]
    ) -> Sequence[Cause]:
        """Return the mistakes that turn the known model into the other, the closest first.

        Args:
            target: What the other returned.
            between: How far the two are apart.
            tell: Called with how far the search is.
        """
        if not all(np.isfinite(value).all() for value in target.values()):
            return ()
        found = []
        padded, origin = self._lengths is not None, self._model.format
        known = mistakes(self._levels, padded=padded, origin=origin)
        for count, mistake in enumerate(itertools.chain(two_biases(self._model), known)):
            if count % _EVERY == 0:
                tell(f"searching for the mistake, {count} tried")
            if not self._may_be(mistake, target):
                continue
            row = self._tried(mistake, target)
            # What is hardly beyond the limit, any small change may bring back by chance.
            if row.within and row.eps <= between.eps / 4:
                found.append(Cause(mistake.name, mistake.cause, mistake.remedy, row.eps))
        found.sort(key=lambda cause: cause.eps)
        # Mistakes of one effect leave the same; what leaves more is within the limit of a narrow
        # dtype, and no more than that.
        return [cause for cause in found if cause.eps <= 2 * found[0].eps + 2]

    def _may_be(self, mistake: Mistake, target: Named) -> bool:
        """Return whether a mistake makes the other's results of one short row, roughly."""
        if mistake.wiring != RIGHT:
            return FINAL in target or not mistake.wiring.last_step
        index, length = self._shortest()
        x = self._x[index : index + 1, :length].astype(numpy_dtype(_dtype(mistake.levels)))
        with np.errstate(all="ignore"):
            wrong = run(mistake.levels, x, None, cell_run=by_equations)
        start = self._x.shape[1] - length if turned(self._levels) else 0
        theirs = {name: value[index : index + 1] for name, value in target.items()}
        if "y" in theirs:
            theirs["y"] = theirs["y"][:, start : start + length]
        apart = (self._apart("", "", n, wrong[n], theirs[n]) for n in wrong if n in theirs)
        return all(row.eps <= _ROUGHLY * row.limit for row in apart)

    def _tried(self, mistake: Mistake, target: Named) -> Difference:
        """Return how far a model with a mistake is from the other's results."""
        x = self._x.astype(numpy_dtype(_dtype(mistake.levels)))
        with np.errstate(all="ignore"):
            wrong = run(mistake.levels, x, self._lengths, mistake.wiring)
        return self.row("", "", valid(self._levels, wrong, self._lengths), target)

    def _shortest(self) -> tuple[int, int]:
        """Return the shortest row of two steps, or one where all have less, and its length."""
        if self._lengths is None:
            return 0, self._x.shape[1]
        lengths = self._lengths.tolist()
        row = min(range(len(lengths)), key=lambda row: (lengths[row] < 2, lengths[row]))
        return row, lengths[row]

    def _apart(
        self, first: str, second: str, name: str, one: NDArray[Any], other: NDArray[Any]
    ) -> Difference:
        limit = self._limit(name)
        if one.shape != other.shape:
            shapes = f"{name}: {one.shape} and {other.shape}"
            return Difference(first, second, "outputs", shapes, float("inf"), limit)
        for side, value in ((first, one), (second, other)):
            if not np.isfinite(value).all():
                what = f"{name}, not finite in {side}"
                return Difference(first, second, "outputs", what, float("inf"), limit)
        eps = self._reference.distance(self._scale(name), one, other)
        return Difference(first, second, "outputs", name, eps, limit)

    def _limit(self, name: str) -> float:
        limits = self._reference.limits
        return 2 * limits.get(name, max(limits[own] for own in self._reference.names))

    def _scale(self, name: str) -> str:
        """Return the output of the reference whose size is that of `name`."""
        return name if name in self._reference.outputs else self._reference.names[0]

    def _by_name(self, returned: Any) -> Named:
        """Return arrays by name.

        Raises:
            ArgumentError: if one is no array, or none of a model's results.
        """
        if not isinstance(returned, Mapping):
            values = returned if isinstance(returned, tuple | list) else (returned,)
            arrays = [_array(f"in place {i}", value) for i, value in enumerate(values)]
            names = ["y" if arrays and arrays[0].ndim == 3 else FINAL, *self._states]
            if len(arrays) > len(names):
                raise ArgumentError(
                    f"{len(arrays)} arrays, and there are {', '.join(names)} to compare"
                )
            returned = dict(zip(names, arrays, strict=False))
        known = ("y", FINAL, *self._states)
        if not returned:
            raise ArgumentError(f"no array, and there are {', '.join(known)} to compare")
        found: Named = {}
        for name, value in returned.items():
            if name not in known:
                raise ArgumentError(
                    f"{name!r}{nearest(str(name), known)}, and there are {', '.join(known)} to "
                    "compare"
                )
            found[name] = _array(f"as {name}", value)
            if found[name].dtype.name not in DTYPES:
                raise ArgumentError(
                    f"{name} as {found[name].dtype.name}, and numbers to compare are one of "
                    f"{', '.join(DTYPES)}"
                )
            shape = found[name].shape
            steps = self._x.shape[:2]
            if len(shape) != (3 if name == "y" else 2) or (name == "y" and shape[:2] != steps):
                swap = "; swap its first two axes" if shape[:2] == steps[::-1] else ""
                raise ArgumentError(f"{name} of shape {shape} for x {self._x.shape}{swap}")
        return found


def _where(error: BaseException) -> str:
    """Return the line of the user's own file at which an error was raised, or on its way there."""
    frames = traceback.extract_tb(error.__traceback__)[1:]  # the first is our call
    mine = [frame for frame in frames if frame.filename == frames[0].filename]
    return f" ({Path(mine[-1].filename).name}, line {mine[-1].lineno})" if mine else ""


def _array(where: str, value: Any) -> NDArray[Any]:
    try:
        return array(where, value)
    except ConversionError:
        raise ArgumentError(
            f"{type(value).__name__} {where}, and arrays are what is compared"
        ) from None


def _layers(models: Sequence[Model]) -> str:
    texts = [str(model.layer) for model in models]
    if len(set(texts)) == 1:
        return texts[0]
    return ", and ".join(f"{one.name} is {text}" for one, text in zip(models, texts, strict=True))


def _features(levels: Sequence[Level]) -> int:
    return int(levels[0].weights[0]["kernel"].shape[0])


def _dtype(levels: Sequence[Level]) -> str:
    return levels[0].weights[0]["kernel"].dtype.name


def _checked(x: Any, lengths: Any) -> tuple[NDArray[Any], NDArray[Any] | None]:
    """Return an input that is given, as far as a layer would take it and frameworks would not.

    Raises:
        InputError: if there is nothing to compare in it.
    """
    x = array("verify: x", x)
    if 0 in x.shape:
        raise ShapeError(f"verify: x has shape {x.shape}, expected a row and a step at least")
    if lengths is None:
        return x, None
    lengths = np.asarray(lengths)
    if lengths.size and lengths.min() < 1:
        raise MaskError(
            f"verify: lengths go down to {lengths.min()}, expected 1 or more: of an empty row each "
            "framework makes something else"
        )
    return x, lengths


def _drawn(features: int, seed: int) -> tuple[NDArray[Any], NDArray[Any]]:
    """Return random input of a model, and lengths: a whole row, a short one, and others."""
    random = np.random.default_rng(seed)
    x = random.standard_normal((BATCH, TIME, features))
    lengths = random.integers(1, TIME, BATCH)
    lengths[:2] = TIME, 2
    return x, lengths
