"""Laws of purity (clauses PURE): no side effects, no shared memory, no dependence between rows."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from seqcore.conformance.agreement import require_alike, require_same
from seqcore.conformance.calls import (
    CELLS,
    FEW,
    LATER,
    MAIN,
    OTHERS,
    SMOKE,
    Call,
    Named,
    by_name,
    copied,
    draw,
    flat,
    gates_of,
    gradients_by_name,
    implementations,
    linearized,
    outputs_of,
    results_of,
    structured,
)
from seqcore.conformance.laws import law, require, require_bits
from seqcore.conformance.model import MaskPattern
from seqcore.conformance.subject import Subject
from seqcore.spec.layers import AnyLayer

LSTM_ALONE = {"lstm": CELLS["lstm"]}


# Arguments.


@law("PURE-1", tier="smoke", needs=("masks",), over=SMOKE)
@law("PURE-1", needs=("masks",), over=LATER)
def arguments_stay_as_they_are(subject: Subject, layer: AnyLayer) -> None:
    """No call changes an array, a dictionary or a sequence that it was given."""
    _require_untouched(subject, draw(subject, layer, "untouched", mask="dead_row"))


@law("PURE-1", needs=("masks",), over=LSTM_ALONE)
def arguments_stay_as_they_are_without_a_mask(subject: Subject, layer: AnyLayer) -> None:
    """The same without a mask, and with lengths, which take other ways through an engine."""
    _require_untouched(subject, draw(subject, layer, "untouched, no mask"))
    _require_untouched(subject, draw(subject, layer, "untouched, lengths", mask="lengths"))


@law("PURE-1", tier="full", needs=("masks", "gradients"), over={**CELLS, **OTHERS})
def no_implementation_changes_an_argument(subject: Subject, layer: AnyLayer) -> None:
    """The same for every implementation that takes the call."""
    call = draw(subject, layer, "untouched", mask="dead_row")
    for _, forced in implementations(subject, call, gradient=True):
        _require_untouched(subject, forced)


def _require_untouched(subject: Subject, call: Call) -> None:
    call = call.giving(initial_state=list(call.state))
    before = copied(dict(_arrays(call)))
    names = list(call.weights)

    def require_untouched(what: str) -> None:
        found = dict(_arrays(call))
        require(
            list(call.weights) == names and found.keys() == before.keys(),
            f"{call.layer}: {what} changed the weights' dictionary or the list of states",
        )
        require_same(found, before, f"{call.layer}: arguments after {what}")

    subject.apply(call.layer, call.weights, call.x, **call.given)
    require_untouched("apply")
    bound = subject.bind(call.layer, call.weights, **call.options)
    bound(call.x, **_arguments(call))
    require_untouched("a bound layer's call")
    if subject.supports("gates") and "implementation" not in call.given:
        gates_of(subject, call)
        require_untouched("gates")
    if subject.supports("gradients"):
        _, pullback = linearized(subject, call)
        require_untouched("vjp")
        pullback(structured(call.cotangents))
        require_untouched("the pullback")


def _arrays(call: Call) -> Iterator[tuple[str, NDArray[Any]]]:
    """Yield every array among a call's arguments, cotangents included, by name."""
    yield from call.weights.items()
    yield "x", call.x
    for name in ("mask", "lengths"):
        if name in call.given:
            yield name, call.given[name]
    for index, value in enumerate(call.given.get("initial_state", ())):
        yield f"initial_state[{index}]", value
    for index, value in enumerate(call.cotangents):
        yield f"cotangents[{index}]", value


def _arguments(call: Call) -> dict[str, Any]:
    return {name: value for name, value in call.given.items() if name not in call.options}


@law("PURE-1", over=MAIN)
def a_bound_layer_keeps_a_snapshot(subject: Subject, layer: AnyLayer) -> None:
    """Weights that change after `bind`, before or after the first call, do not reach it."""
    call = draw(subject, layer, "snapshot")
    expected = outputs_of(subject, call)
    for called_before in (False, True):
        weights = copied(call.weights)
        bound = subject.bind(layer, weights)
        if called_before:
            bound(call.x, **call.given)
        for value in weights.values():
            value[...] = np.nan
        weights.clear()
        found = by_name(layer, bound(call.x, **call.given))
        when = "after" if called_before else "before"
        require_alike(found, expected, call, f"{layer}: weights changed after bind, {when} a call")
    if subject.supports("gradients"):
        weights = copied(call.weights)
        bound = subject.bind(layer, weights)
        _, pullback = bound.vjp(call.x, **call.given)
        for value in weights.values():
            value[...] = np.nan
        found = gradients_by_name(layer, pullback(structured(call.cotangents)))
        wanted = gradients_by_name(layer, linearized(subject, call)[1](structured(call.cotangents)))
        require_alike(found, wanted, call, f"{layer}: weights changed after bind and vjp")


# Results.


@law("PURE-2", tier="smoke", needs=("masks",), over=MAIN)
def writing_to_results_changes_nothing_else(subject: Subject, layer: AnyLayer) -> None:
    """Every result can be written to, and shares no memory with arguments or later results."""
    _require_own_results(subject, draw(subject, layer, "writing", mask="dead_row"))


@law("PURE-2", tier="full", needs=("masks", "gradients"), over={**CELLS, **OTHERS})
def no_implementation_shares_memory(subject: Subject, layer: AnyLayer) -> None:
    """The same for every implementation that takes the call, with a mask and without."""
    masks: tuple[MaskPattern, ...] = ("dead_row", "none")
    for mask in masks:
        call = draw(subject, layer, "writing", mask=mask)
        for _, forced in implementations(subject, call, gradient=True):
            _require_own_results(subject, forced)


@law("PURE-2", needs=("masks",), over=MAIN)
def a_state_that_was_not_changed_is_no_alias(subject: Subject, layer: AnyLayer) -> None:
    """A final state or output that is the initial state is a copy of it."""
    _require_own_results(subject, draw(subject, layer, "no valid step", mask="all"))
    _require_own_results(subject, draw(subject, layer, "no step", time=0))
    _require_own_results(subject, draw(subject, layer, "no row", batch=0))


def _require_own_results(subject: Subject, call: Call) -> None:
    arguments = dict(_arrays(call))
    kept = copied(arguments)
    first = results_of(subject, call)
    expected = copied(first)
    for name, value in first.items():
        for argument, array in arguments.items():
            require(
                not np.shares_memory(value, array),
                f"{call.layer}: {name} shares memory with the argument {argument}",
                expected="memory of its own",
                received="shared memory",
            )
        _overwrite(value, f"{call.layer}: {name}")
    require_same(arguments, kept, f"{call.layer}: arguments after writing to results")
    require_same(
        results_of(subject, call), expected, f"{call.layer}: after writing to earlier results"
    )


def _overwrite(value: Any, what: str) -> None:
    require(
        isinstance(value, np.ndarray) and value.flags.writeable,
        f"{what}: expected an array that the caller can write to",
        expected="a writeable NumPy array",
        received=f"a read-only {type(value).__name__}",
    )
    value[...] = np.nan


@law("PURE-2", over=FEW)
def later_calls_change_no_earlier_result(subject: Subject, layer: AnyLayer) -> None:
    """Results keep their bits while calls of the same and of other shapes follow."""
    calls = [draw(subject, layer, f"later calls, {index}") for index in range(3)]
    calls.append(draw(subject, layer, "later calls, shape", batch=2))
    bound = subject.bind(layer, calls[0].weights)

    def all_of(call: Call) -> Named:
        named = results_of(subject, call)
        of_bound = by_name(layer, bound(call.x, **call.given))
        return named | {f"a bound layer's {name}": value for name, value in of_bound.items()}

    earlier = [all_of(call) for call in calls[:2]]
    kept = [copied(named) for named in earlier]
    for call in calls:
        all_of(call)
    for named, before in zip(earlier, kept, strict=True):
        require_same(named, before, f"{layer}: results after later calls")


@law("PURE-2", needs=("gradients", "masks"), over=MAIN)
def a_pullback_has_memory_of_its_own(subject: Subject, layer: AnyLayer) -> None:
    """What is written to outputs, arguments or gradients after `vjp` does not reach its pullback.

    The pullback is a result of the call as the outputs are.
    """
    _require_own_pullback(subject, draw(subject, layer, "writing before a pullback"))
    masked = draw(subject, layer, "writing before a pullback, mask", mask="dead_row")
    _require_own_pullback(subject, masked)


@law("PURE-2", tier="full", needs=("gradients", "masks"), over={**CELLS, **OTHERS})
def every_pullback_has_memory_of_its_own(subject: Subject, layer: AnyLayer) -> None:
    """The same for every implementation that takes the call."""
    masks: tuple[MaskPattern, ...] = ("none", "dead_row")
    for mask in masks:
        call = draw(subject, layer, "writing before a pullback", mask=mask)
        for _, forced in implementations(subject, call, gradient=True):
            _require_own_pullback(subject, forced)


def _require_own_pullback(subject: Subject, call: Call) -> None:
    def owned() -> Call:
        given = {
            name: value.copy() if isinstance(value, np.ndarray) else value
            for name, value in call.given.items()
        }
        given["initial_state"] = tuple(h.copy() for h in call.state)
        return call.but(weights=copied(call.weights), x=call.x.copy(), given=given)

    cotangents = structured(call.cotangents)
    expected = copied(gradients_by_name(call.layer, linearized(subject, call)[1](cotangents)))
    mine = owned()
    outputs, pullback = linearized(subject, mine)
    for name, y in by_name(call.layer, outputs).items():
        _overwrite(y, f"{call.layer}: vjp's {name}")
    found = gradients_by_name(call.layer, pullback(cotangents))
    require_same(found, expected, f"{call.layer}: the pullback after writing to outputs")
    for name, value in found.items():
        _overwrite(value, f"{call.layer}: {name}")
    for name, value in _arrays(mine.but(cotangents=())):
        value[...] = ~value if name == "mask" else np.full_like(value, 7)
    found = gradients_by_name(call.layer, pullback(cotangents))
    require_same(found, expected, f"{call.layer}: the pullback after writing to arguments")


# Repetition.


@law("PURE-3", over=MAIN)
def the_same_call_gives_the_same_bits(subject: Subject, layer: AnyLayer) -> None:
    """Ten times in a row, with equal arrays in other places in memory."""
    call = draw(subject, layer, "repetition", batch=3)
    expected = results_of(subject, call)
    for _ in range(9):
        again = call.but(weights=copied(call.weights), x=call.x.copy())
        require_same(results_of(subject, again), expected, f"{layer}: the same call again")


@law("PURE-3", needs=("masks",), over=FEW)
def nothing_of_a_call_is_left_to_the_next(subject: Subject, layer: AnyLayer) -> None:
    """Calls that differ in mask, shape, state or values take turns; each keeps its own results."""
    plain = draw(subject, layer, "turns", state=False)
    holes = draw(subject, layer, "turns", mask="holes", state=False)
    state = draw(subject, layer, "turns, state").given
    calls = {
        "no mask": plain,
        "a mask": plain.masked(holes.valid),
        "a state": plain.giving(**state),
        "fewer rows": plain.rows(slice(2)),
        "other weights": plain.but(weights={n: v * -1 for n, v in plain.weights.items()}),
    }
    # In another order, so that what is taken from an earlier call is taken from another one.
    expected = {name: copied(results_of(subject, calls[name])) for name in reversed(calls)}
    for _ in range(2):
        for name, call in calls.items():
            require_same(results_of(subject, call), expected[name], f"{layer}: {name}, in turn")
    y = expected["a mask"]["y"]
    require(
        bool((y[~holes.valid] == 0).all()),
        f"{layer}: a mask after no mask: expected 0 at masked steps",
        expected=0.0,
        received=y[~holes.valid],
    )
    first = {"y": expected["no mask"]["y"][:2]}
    fewer = calls["fewer rows"]
    require_alike(expected["fewer rows"], first, fewer, f"{layer}: the first rows alone")


@law("PURE-3", needs=("masks",), over=LSTM_ALONE)
def a_changed_argument_changes_the_result(subject: Subject, layer: AnyLayer) -> None:
    """No call gets what an earlier one gave that differs in mask, state or weights alone."""
    call = draw(subject, layer, "one argument changed", mask="holes")
    other = draw(subject, layer, "one argument changed, others", mask="dead_row")
    before = outputs_of(subject, call)["h"]
    changes = {
        "mask": call.masked(other.valid),
        "state": call.giving(initial_state=other.state),
        "weights": call.but(weights=other.weights),
    }
    for name, changed in changes.items():
        found = outputs_of(subject, changed)["h"]
        require(
            not np.array_equal(found, before),
            f"{layer}: h of a call with another {name}: expected other numbers than before",
            expected="other numbers",
            received=found,
        )


@law("PURE-3", over={"lstm": CELLS["lstm"].replace(mask_output="carry")})
def more_rows_after_fewer(subject: Subject, layer: AnyLayer) -> None:
    """A call with more rows than the first of its kind gives each row what it gives alone."""
    call = draw(subject, layer, "more rows after fewer")
    alone = call.row(len(call.x) - 1)
    expected = outputs_of(subject, alone)
    found = {name: value[-1:] for name, value in outputs_of(subject, call).items()}
    require_alike(found, expected, alone, f"{layer}: the last row of more rows than before")


@law("PURE-3", needs=("masks",), over=LSTM_ALONE)
def values_count_and_not_the_array_they_are_in(subject: Subject, layer: AnyLayer) -> None:
    """Arrays that were written to since the last call are read anew."""
    one = draw(subject, layer, "read anew, 1", mask="dead_row")
    two = draw(subject, layer, "read anew, 2", mask="holes")
    expected = results_of(subject, two)
    results_of(subject, one)
    for (_, target), (_, value) in zip(_arrays(one), _arrays(two), strict=True):
        target[...] = value
    require_same(results_of(subject, one), expected, f"{layer}: arrays written to between calls")


@law("PURE-3", needs=("masks",), over=FEW)
def threads_do_not_meet(subject: Subject, layer: AnyLayer) -> None:
    """Eight threads with arguments of their own get what each gets alone, call after call."""
    calls = []
    for index in range(8):
        call = draw(subject, layer, f"threads, {index}")
        masked = draw(subject, layer, f"threads, {index}", mask="holes").valid
        calls.append(call.masked(masked) if index % 2 else call)
    bound = subject.bind(layer, calls[0].weights)

    def of_bound(call: Call) -> Named:
        return by_name(layer, bound(call.x, **call.given))

    _require_alone(partial(results_of, subject), calls, f"{layer}: eight threads")
    _require_alone(of_bound, calls, f"{layer}: eight threads and one bound layer")


@law("PURE-3", "PREC-1", needs=("tf32",), over=LSTM_ALONE)
def threads_keep_their_precision(subject: Subject, layer: AnyLayer) -> None:
    """Threads that ask for different precisions get what each gets alone."""
    call = draw(subject, layer, "threads and precisions")
    calls = [call.giving(matmul_precision=level) for level in ("highest", "tf32") * 4]
    _require_alone(partial(results_of, subject), calls, f"{layer}: threads of two precisions")


def _require_alone(
    function: Callable[[Call], Named], calls: list[Call], what: str, times: int = 20
) -> None:
    """Depart unless calls made at once, many times each, give what each gives alone."""
    expected = [copied(function(call)) for call in calls]
    start = threading.Barrier(len(calls))

    def repeat(call: Call) -> list[Named]:
        start.wait(60)
        return [function(call) for _ in range(times)]

    with ThreadPoolExecutor(len(calls)) as pool:
        for alone, found in zip(expected, pool.map(repeat, calls), strict=True):
            for named in found:
                require_same(named, alone, what)


# Rows.


@law("PURE-4", needs=("masks",), over=MAIN)
def rows_do_not_depend_on_each_other(subject: Subject, layer: AnyLayer) -> None:
    """A row keeps its results while everything in the other rows changes, NaN and inf included."""
    _require_rows_apart(subject, layer)


@law("PURE-4", tier="full", needs=("masks",), over=OTHERS)
def rows_of_others_do_not_depend_on_each_other(subject: Subject, layer: AnyLayer) -> None:
    """The same for further layers."""
    _require_rows_apart(subject, layer)


def _require_rows_apart(subject: Subject, layer: AnyLayer) -> None:
    call = draw(subject, layer, "rows", mask="holes")
    other = draw(subject, layer, "rows, others", mask="dead_row")
    expected = _by_row(results_of(subject, call))
    alone = [call.row(row) for row in range(len(call.x))]

    def require_row(found: Named, row: int, what: str) -> None:
        mine, wanted = ({name: a[row] for name, a in named.items()} for named in (found, expected))
        require_alike(mine, wanted, alone[row], what)

    for row in range(len(call.x)):
        mixed = _with_other_rows(call, other, row)
        found = _by_row(results_of(subject, mixed))
        require_row(found, row, f"{layer}: row {row} beside other rows")
    for value in (np.nan, np.inf):
        for what, bad in _with_bad_row(call, 1, value).items():
            with np.errstate(all="ignore"):  # the bad row's own numbers
                found = _by_row(results_of(subject, bad))
            for row in (0, 2):
                require_row(found, row, f"{layer}: row {row} beside {value} in {what}")


@law("PURE-4", over=LSTM_ALONE)
def a_row_alone_gives_what_it_gives_among_others(subject: Subject, layer: AnyLayer) -> None:
    """Each row of a batch gives, in a batch of its own, the same results."""
    call = draw(subject, layer, "a row alone")
    expected = _by_row(results_of(subject, call))
    for row in range(len(call.x)):
        alone = call.row(row)
        found = _by_row(results_of(subject, alone))
        wanted = {name: value[row : row + 1] for name, value in expected.items()}
        require_alike(found, wanted, alone, f"{layer}: row {row} alone")


def _by_row(named: Named) -> Named:
    """Return the results that have rows: all but the gradients of weights."""
    rows = ("gradient of x", "gradient of initial_state")
    return {
        name: value
        for name, value in named.items()
        if not name.startswith("gradient") or name.startswith(rows)
    }


def _with_other_rows(call: Call, other: Call, row: int) -> Call:
    """Return a call with one row of the first and all others of the second; weights stay."""

    def mixed(mine: NDArray[Any], others: NDArray[Any]) -> NDArray[Any]:
        result = others.copy()
        result[row] = mine[row]
        return result

    pairs = zip(call.cotangents, other.cotangents, strict=True)
    states = zip(call.state, other.state, strict=True)
    return (
        call.masked(mixed(call.valid, other.valid))
        .but(x=mixed(call.x, other.x), cotangents=tuple(mixed(*pair) for pair in pairs))
        .giving(initial_state=tuple(mixed(*pair) for pair in states))
    )


def _with_bad_row(call: Call, row: int, value: float) -> Mapping[str, Call]:
    """Return the call with one row of x, of the state, or of the cotangents filled with a value."""

    def bad(array: NDArray[Any]) -> NDArray[Any]:
        result = array.copy()
        result[row] = value
        return result

    states = tuple(bad(h) for h in call.state)
    return {
        "x": call.but(x=bad(call.x)),
        "the state": call.giving(initial_state=states),
        "the cotangents": call.but(cotangents=tuple(bad(d) for d in call.cotangents)),
    }


@law("PURE-2", needs=("gates",), over=LSTM_ALONE)
def gates_are_the_callers(subject: Subject, layer: AnyLayer) -> None:
    """What `gates` returns can be written to, and changes no argument and no later result."""
    call = draw(subject, layer, "writing to gates")
    arguments = dict(_arrays(call))
    kept = copied(arguments)
    shown = gates_of(subject, call)
    expected = copied(shown)
    for name, value in shown.items():
        _overwrite(value, f"{layer}: {name} of gates")
    require_same(arguments, kept, f"{layer}: arguments after writing to gates")
    again = gates_of(subject, call)
    require_same(again, expected, f"{layer}: gates after writing to earlier ones")


@law("PURE-2", over={"one_step": CELLS["lstm"].replace(return_sequences=False)})
def one_step_is_the_callers(subject: Subject, layer: AnyLayer) -> None:
    """Where `y` is the final `h` both keep their values through later calls."""
    call = draw(subject, layer, "one step")
    outputs = subject.apply(layer, call.weights, call.x, **call.given)
    kept = [np.array(y) for y in flat(outputs)]
    results_of(subject, draw(subject, layer, "one step, later"))
    for y, value in zip(flat(outputs), kept, strict=True):
        require_bits(y, value, f"{layer}: results after a later call")
