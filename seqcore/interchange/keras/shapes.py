"""What Keras layers a list of weights, or weights by path, belongs to, inferred from the shapes.

A cell has `kernel` (features, gates*units), `recurrent_kernel` (units, gates*units) and mostly
`bias` (gates*units), for a GRU that resets after the product (2, 3*units). Shapes that fit more
than one structure are an error that asks for the structure.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from numpy.typing import NDArray

from seqcore.errors import ConversionError
from seqcore.interchange.keras.config import CELLS, DEFAULTS, Flags, Part, Words, described
from seqcore.spec.layers import AnyLayer, AnyMember, Stack
from seqcore.spec.weights import cells, parts

Array = NDArray[Any]

LAYERS = (*CELLS, "Bidirectional")
"""The words that say which layers a list of weights belongs to."""

_Pairs = tuple[Any, Any] | None
"""A list as pairs of an item and the rest, so that lists with one end share it."""

_Group = tuple["_Cell", ...]
"""One cell, or a forward and a backward one."""


@dataclass(frozen=True, slots=True)
class _Cell:
    """One cell's weights, and what their shapes say."""

    name: str
    units: int
    features: int
    weights: tuple[Array, ...]

    def __str__(self) -> str:
        return f"{self.name}({self.units})"

    def alike(self, other: _Cell) -> bool:
        """Return whether two cells can be the directions of one layer."""
        shapes = [[value.shape for value in cell.weights] for cell in (self, other)]
        return self.name == other.name and shapes[0] == shapes[1]


def from_list(
    subject: str, weights: Sequence[Array], layer: AnyLayer | str | None, words: Words
) -> list[Part]:
    """Return the Keras layers that a list of weights belongs to.

    Args:
        subject: What is read, for messages.
        weights: As `get_weights()` gives them.
        layer: The layer they are for, or one of `LAYERS`, if that was said.
        words: What else was said.

    Raises:
        ConversionError: if the shapes fit no layers, or several.
    """
    if layer is not None and not isinstance(layer, str):
        return _of_layer(subject, weights, layer)
    found = _split(subject, weights)
    groupings = [_unrolled(grouping) for grouping in _groupings(found)]
    wanted = [grouping for grouping in groupings if _fits(grouping, layer)]
    shapes = ", ".join(str(value.shape) for value in weights[:7])
    if not wanted:
        raise ConversionError(
            f"{subject}: weights of shapes {shapes} are not those of "
            f"{layer or 'layers one after another'}, whose features are the units of the one "
            "before; give the layer itself, as in layer=seqcore.LSTM(4)"
        )
    if len(wanted) > 1:
        choices = " or ".join(map(_shown, wanted[:2]))
        raise ConversionError(
            f"{subject}: weights of shapes {shapes} can be {choices}; say which with "
            f"layer={found[0].name!r} or 'Bidirectional', or give the layer itself, as in "
            "layer=seqcore.Bidirectional(seqcore.LSTM(4))"
        )
    return _parts(subject, wanted[0], words)


def from_paths(
    subject: str,
    weights: Mapping[str, Array],
    name: str | None,
    layer: AnyLayer | str | None,
    words: Words,
) -> list[Part]:
    """Return the Keras layers that weights by path belong to.

    Args:
        subject: What is read, for messages.
        weights: By the path in a file of weights, or by a variable's path.
        name: The layer to convert alone, or None.
        layer: As for `from_list`.
        words: What else was said.

    Raises:
        ConversionError: if there are other weights, or the order of the layers is open.
    """
    found, others = _members(subject, weights)
    if name is not None:
        found = {key: one for key, one in found.items() if key == name or key.endswith(f"/{name}")}
        if len(found) != 1:
            raise ConversionError(
                f"{subject}: {len(found)} recurrent layers named {name!r}, expected one of "
                f"{', '.join(_members(subject, weights)[0]) or 'none'}"
            )
    elif others:
        raise ConversionError(
            f"{subject}: holds {', '.join(others[:3])} beside the weights of recurrent layers, "
            f"which would be lost; to convert one layer alone, give its name"
            f"{f', as in name={next(iter(found))!r}' if found else ''}"
        )
    if not found:
        raise ConversionError(
            f"{subject}: no weights of a recurrent layer, expected paths such as "
            "layers/lstm/cell/vars/0 or lstm/lstm_cell/kernel"
        )
    members = _in_order(subject, found, layer)
    if layer is not None and not isinstance(layer, str):
        flat = [value for member in members for cell in member.cells for value in cell]
        return _of_layer(subject, flat, layer)
    grouping: list[_Group] = []
    for member in members:
        read = [_cell(subject, member.name, cell) for cell in member.cells]
        grouping += [tuple(read)] if member.bidirectional else [(one,) for one in read]
    if not _fits(grouping, layer):
        raise ConversionError(
            f"{subject}: layer={layer!r} was given for weights of {_shown(grouping)}; leave it out"
        )
    return _parts(subject, grouping, words)


def recognises(names: Collection[str]) -> bool:
    """Return whether arrays with these names are weights of Keras layers by path."""
    paths = [name.replace(".", "/") for name in names]
    return bool(paths) and all(map(_match, paths))


# The members of a model, in a file of weights and by a variable's own path.
_IN_FILE = re.compile(
    r"(?P<member>.+?)(?:/(?P<direction>forward|backward)_layer)?"
    r"/cell(?:/cells/(?P<cell>[a-z_]+?(?:_\d+)?))?/vars/(?P<slot>[012])"
)
_VARIABLE = re.compile(
    r"(?P<member>.+?)(?:/(?P<direction>forward|backward)_[^/]+)?(?:/stacked_rnn_cells(?:_\d+)?)?"
    r"/(?P<cell>(?:lstm|gru|simple_rnn)_cell(?:_\d+)?)"
    r"/(?P<slot>kernel|recurrent_kernel|bias)(?::0)?"
)
_SLOTS = {"kernel": 0, "recurrent_kernel": 1, "bias": 2, "0": 0, "1": 1, "2": 2}

# They count, or hold what an optimizer knows; no output depends on them.
_NO_WEIGHTS = re.compile(
    r"(.*/)?(optimizer|seed_generator(_\d+)?|metrics|compile_metrics|_?loss\w*)/.*"
)


def is_state(path: str) -> bool:
    """Return whether a path is of an optimizer or a counter, and not of a layer's weights."""
    return _NO_WEIGHTS.fullmatch(path) is not None


def _match(path: str) -> re.Match[str] | None:
    return _IN_FILE.fullmatch(path) or _VARIABLE.fullmatch(path)


@dataclass(slots=True)
class _Member:
    """One Keras layer's weights, by direction and cell and then by slot."""

    name: str
    slots: dict[tuple[str, str], dict[int, Array]] = field(default_factory=dict)

    @property
    def bidirectional(self) -> bool:
        return any(direction for direction, _ in self.slots)

    @property
    def cells(self) -> list[list[Array]]:
        """The weights of each cell, the forward direction first."""
        return [
            [values[slot] for slot in sorted(values)]
            for _, values in sorted(self.slots.items(), key=lambda item: self._order(*item[0]))
        ]

    @staticmethod
    def _order(direction: str, cell: str) -> tuple[bool, int]:
        return direction == "backward", _number(cell)[1]


def _members(subject: str, weights: Mapping[str, Array]) -> tuple[dict[str, _Member], list[str]]:
    """Return recurrent layers by name, and the paths of what is none."""
    found: dict[str, _Member] = {}
    others = []
    for path, value in weights.items():
        match = _match(path)
        if match is None:
            if not is_state(path):
                others.append(path)
            continue
        member = found.setdefault(match["member"], _Member(match["member"]))
        place = match["direction"] or "", match["cell"] or ""
        slots = member.slots.setdefault(place, {})
        slot = _SLOTS[match["slot"]]
        if slot in slots:
            raise ConversionError(f"{subject}: {path} stands beside another of that name")
        slots[slot] = value
    for member in found.values():
        for place, slots in member.slots.items():
            if sorted(slots) != list(range(len(slots))):
                raise ConversionError(
                    f"{subject}: {'/'.join(filter(None, (member.name, *place)))} lacks its kernel "
                    "or recurrent_kernel"
                )
        directions = [direction for direction, _ in member.slots]
        kinds = {_number(cell)[0] for _, cell in member.slots}
        if member.bidirectional and sorted(directions) != ["backward", "forward"]:
            raise ConversionError(
                f"{subject}: {member.name} has cells "
                f"{' and '.join(one or 'without a direction' for one in directions)}, expected one "
                "forward and one backward"
            )
        if not member.bidirectional and len(kinds) > 1:
            raise ConversionError(
                f"{subject}: {member.name} runs {' and '.join(sorted(kinds))} in one loop, and "
                "paths don't say their order; read the whole model, from its .keras file"
            )
    return found, others


def _number(name: str) -> tuple[str, int]:
    """Return a path's last name without the number that Keras counts with, and the number."""
    name = name.rpartition("/")[2]
    stem, _, digits = name.rpartition("_")
    # Numbers longer than any that Keras counts to are part of the name.
    return (stem, int(digits)) if stem and digits.isdecimal() and len(digits) < 9 else (name, 0)


def _in_order(
    subject: str, found: Mapping[str, _Member], layer: AnyLayer | str | None
) -> list[_Member]:
    """Return layers in the order of the model, as far as paths say it."""
    queues: dict[str, list[_Member]] = {}
    for member in sorted(found.values(), key=lambda one: _number(one.name)):
        queues.setdefault(_number(member.name)[0], []).append(member)
    if len(queues) == 1:
        (members,) = queues.values()
        return members
    wanted = [_class(member) for member in layer.layers] if isinstance(layer, Stack) else []
    if sorted(wanted) == sorted(kind for kind, queue in queues.items() for _ in queue):
        return [queues[kind].pop(0) for kind in wanted]
    raise ConversionError(
        f"{subject}: layers {', '.join(found)}, and paths don't say their order; give the layer, "
        "as in layer=seqcore.Stack([...]), or read the whole model, from its .keras file"
    )


def _class(member: AnyMember) -> str:
    """Return the name of a Keras layer's class as paths have it."""
    name = type(member).__name__
    return {"SimpleRNN": "simple_rnn"}.get(name, name.lower())


def _cell(subject: str, name: str, weights: Sequence[Array]) -> _Cell:
    """Return the one cell that some weights belong to."""
    found = _split(f"{subject}: {name}", weights)
    if len(found) != 1:
        raise ConversionError(f"{subject}: {name} has the weights of {len(found)} cells, not one")
    return found[0]


def _split(subject: str, weights: Sequence[Array]) -> list[_Cell]:
    """Return the cells that a list of weights belongs to, in order.

    Raises:
        ConversionError: if it is no list of cells' weights, or can be read in two ways.
    """
    count = len(weights)
    # All ways to read the weights from each place on, at most two of them.
    ways: list[list[_Pairs]] = [[] for _ in range(count)] + [[None]]
    for start in range(count - 1, -1, -1):
        for cell in _cells_at(weights, start):
            ways[start] += [(cell, rest) for rest in ways[start + len(cell.weights)]]
        del ways[start][2:]
    shapes = ", ".join(str(value.shape) for value in weights[:7])
    if not ways[0] or not count:
        raise ConversionError(
            f"{subject}: weights of shapes {shapes or 'none'}, expected for each cell kernel "
            "(features, gates*units), recurrent_kernel (units, gates*units) and mostly bias, with "
            "1 gate (SimpleRNN), 3 (GRU) or 4 (LSTM)"
        )
    if len(ways[0]) > 1:
        raise ConversionError(
            f"{subject}: weights of shapes {shapes} can be cells with or without a bias; give the "
            "layer itself, as in layer=seqcore.GRU(4)"
        )
    return list(_items(ways[0][0]))


def _cells_at(weights: Sequence[Array], start: int) -> Iterator[_Cell]:
    """Yield the cells that the weights from one place on can begin with."""
    shapes = [value.shape for value in weights[start : start + 3]]
    if len(shapes) < 2 or len(shapes[0]) != 2 or len(shapes[1]) != 2:
        return
    (features, columns), (units, other) = shapes[:2]
    if columns != other or not units or not features:
        return
    for name, kind in CELLS.items():
        if columns != kind.blocks * units:
            continue
        yield _Cell(name, units, features, tuple(weights[start : start + 2]))
        biases = [(columns,), (2, columns)] if name == "GRU" else [(columns,)]
        if shapes[2:] and shapes[2] in biases:
            yield _Cell(name, units, features, tuple(weights[start : start + 3]))


def _groupings(found: Sequence[_Cell]) -> list[_Pairs]:
    """Return the ways to take cells for layers in one or both directions.

    Of the ways that have layers in one direction alone, in both alone, and mixed, at most two each:
    enough to know that there are several.
    """
    count = len(found)
    ways: list[list[tuple[frozenset[int], _Pairs]]] = [[] for _ in range(count)]
    ways.append([(frozenset(), None)])
    for start in range(count - 1, -1, -1):
        kept: Counter[frozenset[int]] = Counter()
        for group in _groups_at(found, start):
            after = start + len(group)
            if after < count and found[after].features not in _outputs(group):
                continue
            for sizes, rest in ways[after]:
                both = sizes | {len(group)}
                kept[both] += 1
                if kept[both] <= 2:
                    ways[start].append((both, (group, rest)))
    return [way for _, way in ways[0]]


def _groups_at(found: Sequence[_Cell], start: int) -> Iterator[_Group]:
    yield (found[start],)
    if start + 1 < len(found) and found[start].alike(found[start + 1]):
        yield (found[start], found[start + 1])


def _outputs(group: _Group) -> tuple[int, ...]:
    """Return how many features a layer can give: side by side, or summed."""
    units = group[0].units
    return (units,) if len(group) == 1 else (2 * units, units)


def _items(pairs: _Pairs) -> Iterator[Any]:
    while pairs is not None:
        item, pairs = pairs
        yield item


def _unrolled(grouping: _Pairs) -> list[_Group]:
    return list(_items(grouping))


def _fits(grouping: Sequence[_Group], layer: AnyLayer | str | None) -> bool:
    if layer is None:
        return True
    if layer == "Bidirectional":
        return all(len(group) == 2 for group in grouping)
    return all(len(group) == 1 and group[0].name == layer for group in grouping)


def _shown(grouping: Sequence[_Group]) -> str:
    names = [
        str(group[0]) if len(group) == 1 else f"Bidirectional({group[0]})" for group in grouping
    ]
    return ", ".join(names[:4]) + (", ..." if len(names) > 4 else "")


def _parts(subject: str, grouping: Sequence[_Group], words: Words) -> list[Part]:
    """Return the Keras layers of a grouping, each with the options that Keras has by default."""
    found = []
    for index, group in enumerate(grouping):
        following = grouping[index + 1][0].features if index + 1 < len(grouping) else None
        units = [cell.units for cell in group]
        if following not in (None, sum(units)):
            raise ConversionError(
                f"{subject}: layer {index} gives {sum(units)} features and the next one takes "
                f"{following}; if it is a Bidirectional with merge_mode 'sum', 'mul' or 'ave', "
                "give the layer itself, as in layer=seqcore.Stack([...])"
            )
        inner = [_described(cell, words, backwards=place == 1) for place, cell in enumerate(group)]
        description = inner[0]
        if len(inner) == 2:
            config = {"layer": inner[0], "backward_layer": inner[1], "merge_mode": "concat"}
            description = {"class_name": "Bidirectional", "config": config}
        found.append(Part(description, tuple(value for cell in group for value in cell.weights)))
    return found


def _described(cell: _Cell, words: Words, *, backwards: bool) -> dict[str, Any]:
    config: dict[str, Any] = {
        "units": cell.units,
        "use_bias": len(cell.weights) == 3,
        "go_backwards": backwards,
        "return_sequences": True,
    }
    for name, default in DEFAULTS.items():
        if name in CELLS[cell.name].__struct_fields__:
            config[name] = getattr(words, name) or default
    reset_after = words.reset_after
    if cell.name == "GRU" and len(cell.weights) == 3:
        reset_after = cell.weights[2].ndim == 2
    if cell.name == "GRU" and reset_after is not None:
        config["reset_after"] = reset_after
    return {"class_name": cell.name, "config": config}


def _of_layer(subject: str, weights: Sequence[Array], layer: AnyLayer) -> list[Part]:
    """Return the Keras layers of a layer that was given, with the weights dealt out to them."""
    members = parts(layer) if isinstance(layer, Stack) else (("", layer),)
    left = list(weights)
    found = []
    for index, (_, member) in enumerate(members):
        assert isinstance(member, AnyMember)
        count = sum(3 if cell.use_bias else 2 for _, cell, _ in cells(member, 1))
        last = index == len(members) - 1
        flags = Flags(layer.return_sequences, layer.return_state) if last else Flags(True, False)
        description = described(member, flags, "float32", f"layer_{index}")
        found.append(Part(description, tuple(left if last else left[:count])))
        del left[:count]
    return found
