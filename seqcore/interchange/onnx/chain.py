"""The levels of a layer, found in the recurrent nodes of a graph and in what they read."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from seqcore.errors import ConversionError
from seqcore.interchange.levels import Level, Weights
from seqcore.interchange.onnx.graph import Graph, short
from seqcore.interchange.onnx.values import JOINED, Merged, Output, Piece, outputs
from seqcore.spec.layers import AnyCell

Atom = tuple[int, int]
"""One direction of one node, by their numbers."""


@dataclass(frozen=True, slots=True)
class Link:
    """The cells that read one sequence, in the order in which they are put side by side.

    Attributes:
        atoms: Which they are.
        cells: The cells.
        weights: The canonical weights of each.
        reverse: Whether each reads from the last step to the first.
        merge_mode: How their outputs are merged.
        settled: Whether the graph says how, and in which order; else it returns the states alone.
    """

    atoms: tuple[Atom, ...]
    cells: tuple[AnyCell, ...]
    weights: tuple[Weights, ...]
    reverse: tuple[bool, ...]
    merge_mode: str
    settled: bool = True


@dataclass(frozen=True, slots=True)
class Chain:
    """A layer as a graph has it.

    Attributes:
        links: The members of the stack.
        turned: Whether the sequence is returned in reverse order; None if none is returned.
        carried: Whether steps beyond the length hold the state; None if the graph does not say.
    """

    links: tuple[Link, ...]
    turned: bool | None
    carried: bool | None

    def names(self) -> dict[Atom, str]:
        """Return what the states of each cell begin with in the output contract."""
        found: dict[Atom, str] = {}
        for index, link in enumerate(self.links):
            prefix = f"layers_{index}_" if len(self.links) > 1 else ""
            for atom, direction in zip(link.atoms, ("forward_", "backward_"), strict=False):
                found[atom] = prefix + (direction if len(link.atoms) > 1 else "")
        return found


def chain_of(graph: Graph) -> Chain:
    """Return the chain of a graph's nodes.

    Raises:
        ConversionError: if they are none, naming the first node or output that is not in it.
    """
    groups = _groups(graph)
    readers = [pieces for pieces, _ in groups][1:]
    links = [
        _link(graph, atoms, pieces, f"{graph.nodes[after[0][0]].subject}: reads")
        for (_, atoms), pieces, (_, after) in zip(groups, readers, groups[1:], strict=False)
    ]
    return _ended(graph, links, groups[-1][1])


def levels_of(chain: Chain) -> list[Level]:
    """Return the levels of a layer that computes what a chain does.

    Raises:
        ConversionError: if the order of the steps is none that a layer has.
    """
    *inner, last = chain.links
    levels = [_level(link, False) for link in inner]
    output = "carry" if chain.carried else "zero"
    level = _level(last, bool(chain.turned))
    cells = tuple(cell.replace(mask_output=output) for cell in level.cells)
    return [*levels, Level(cells, level.weights, level.merge_mode)]


def _level(link: Link, turned: bool) -> Level:
    if len(link.cells) == 2:
        if link.reverse != (False, True) or turned:
            raise ConversionError(
                "from onnx: a bidirectional level returns its steps in reverse order, or its "
                "backward direction first, which layers do not; expected the forward one first, "
                "in the order of the input"
            )
        return Level(link.cells, link.weights, link.merge_mode)
    (cell,), (reverse,) = link.cells, link.reverse
    if turned and not reverse:
        raise ConversionError(
            "from onnx: the graph turns the steps of what it returns round, and its last node "
            "reads them forward, which layers do not; expected the order of the input"
        )
    backwards = cell.replace(go_backwards=reverse, keep_order=reverse and not turned)
    return Level((backwards,), link.weights)


def _groups(graph: Graph) -> list[tuple[tuple[Piece, ...], list[Atom]]]:
    """Return what is read, in order, with the one or two directions that read it."""
    groups: dict[tuple[Piece, ...], list[Atom]] = {}
    for number, node in enumerate(graph.nodes):
        groups.setdefault(node.pieces, []).extend((number, d) for d in range(len(node.cells)))
    for atoms in groups.values():
        subject = graph.nodes[atoms[-1][0]].subject
        reverse = [_reverse(graph, atom) for atom in atoms]
        if len(atoms) > 2 or (len(atoms) == 2 and reverse[0] == reverse[1]):
            raise ConversionError(
                f"{subject}: reads what another node reads in the same direction; a layer has one "
                "for each direction. Cut the graph with onnx.utils.extract_model"
            )
    return list(groups.items())


def _link(
    graph: Graph, atoms: list[Atom], pieces: tuple[Piece, ...], subject: str, name: str = "y"
) -> Link:
    """Return the cells of a level, as what comes after puts them side by side."""
    mode = "concat"
    found: Sequence[Any] = pieces
    if len(pieces) == 1 and isinstance(pieces[0], Merged):
        mode, found = pieces[0].mode, pieces[0].parts
    order = [(piece.node, piece.direction) for piece in found if isinstance(piece, Output)]
    if sorted(order) != sorted(atoms) or any(output.name != name for output in found):
        raise ConversionError(
            f"{subject} something else than the outputs of the level before, all of them once; "
            "expected a chain"
        )
    if mode != "concat":
        order.sort(key=lambda atom: _reverse(graph, atom))
    return _linked(graph, order, mode)


def _linked(graph: Graph, order: Iterable[Atom], mode: str, settled: bool = True) -> Link:
    atoms = tuple(order)
    pairs = [graph.nodes[node].cells[direction] for node, direction in atoms]
    return Link(
        atoms,
        tuple(cell for cell, _ in pairs),
        tuple(weights for _, weights in pairs),
        tuple(_reverse(graph, atom) for atom in atoms),
        mode,
        settled,
    )


def _reverse(graph: Graph, atom: Atom) -> bool:
    return graph.nodes[atom[0]].reverse[atom[1]]


def _ended(graph: Graph, links: list[Link], atoms: list[Atom]) -> Chain:
    """Return the chain with its last link, of which the graph's outputs say how it is merged."""
    last: Link | None = None
    alone: list[Atom] = []
    turned: set[bool] = set()
    carried: set[bool] = set()
    for name, tensor in graph.outputs.items():
        held = outputs(tensor)
        subject = f"from onnx: the output {short(name)} holds"
        if {output.name for output in held} == {"y"}:
            turned.add(f"-{graph.time}" in tensor.axes)
            carried |= {output.carried for output in held}
            if len(held) == 1 and len(atoms) == 2 and (held[0].node, held[0].direction) in atoms:
                alone.append((held[0].node, held[0].direction))
                continue
            found = _link(graph, atoms, tensor.pieces, subject)
        elif any(isinstance(piece, Merged) for piece in tensor.pieces):
            found = _link(graph, atoms, tensor.pieces, subject, "h")
        elif "y" in {output.name for output in held}:
            raise ConversionError(
                f"{subject} sequences and states together; expected an output for each"
            )
        elif JOINED in tensor.axes and sorted(_atoms(held)) == sorted(atoms):
            found = _link(graph, atoms, tensor.pieces, subject, held[0].name)
        else:
            continue  # states are what every layer can return
        if last and (last.atoms, last.merge_mode) != (found.atoms, found.merge_mode):
            raise ConversionError(
                f"{subject} the last level merged in another way than another output; a layer has "
                "one merge_mode"
            )
        last = found
    if alone and (last is not None or sorted(alone) != sorted(atoms)):
        raise ConversionError(
            "from onnx: the outputs hold one direction of the last level, and not the other, or "
            "both merged, too; a layer returns both"
        )
    if len(turned) > 1 or len(carried) > 1:
        raise ConversionError(
            "from onnx: the outputs differ in the order of their steps, or in what they hold "
            "beyond the lengths; a layer has one for all"
        )
    if last is None:
        order = sorted(atoms, key=lambda atom: _reverse(graph, atom))
        mode = "none" if alone else "concat"
        last = _linked(graph, order, mode, settled=bool(alone) or len(atoms) == 1)
    masked = graph.lengths is not None
    return Chain(
        (*links, last),
        turned=True in turned if turned else None,
        carried=True in carried if carried and masked else None,
    )


def _atoms(held: Sequence[Output]) -> Iterator[Atom]:
    return ((output.node, output.direction) for output in held)
