"""The specification's clauses and the tests that cite them: each clause is cited, none is invented.

A citation is the marker `@pytest.mark.clause("LSTM-3")` on a test function. Only what the source
says counts, so that a test that is skipped still shows where a clause is tested.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

TESTS = Path(__file__).resolve().parent
SPEC = TESTS.parent / "docs" / "spec.md"
HEADING = re.compile(r"^### ([A-Z]+)-(\d+) · (\S.*)$", re.MULTILINE)


def clauses() -> list[tuple[str, str]]:
    """Identifier and title of every clause, in the order of the document."""
    text = SPEC.read_text(encoding="utf-8")
    return [(f"{group}-{number}", title) for group, number, title in HEADING.findall(text)]


def cited(node: ast.expr) -> list[str]:
    """The clauses that a decorator cites."""
    match node:
        case ast.Call(
            func=ast.Attribute(attr="clause", value=ast.Attribute(attr="mark")), args=arguments
        ):
            return [
                argument.value if isinstance(argument, ast.Constant) else ast.unparse(argument)
                for argument in arguments
            ]
    return []


def cited_by_test() -> Iterator[tuple[str, list[str]]]:
    """Every test function of this project, with the clauses that it cites."""
    for path in sorted(TESTS.rglob("test_*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                found = [name for one in node.decorator_list for name in cited(one)]
                if node.name.startswith("test_"):
                    yield f"{path.relative_to(TESTS)}::{node.name}", found
                else:
                    assert not found, f"{path.name}: {node.name} is no test and cites {found}"


def test_the_clauses_are_numbered_upwards() -> None:
    """Without repeats; a withdrawn clause would leave a gap."""
    names = [name for name, _ in clauses()]
    assert len(names) > 90
    groups: dict[str, list[int]] = {}
    for name in names:
        group, number = name.split("-")
        groups.setdefault(group, []).append(int(number))
    for group, numbers in groups.items():
        assert numbers == sorted(set(numbers)), group


def test_every_heading_of_the_third_level_is_a_clause_or_a_convention() -> None:
    """A clause whose heading is written otherwise would escape the tests."""
    text = SPEC.read_text(encoding="utf-8")
    body = text[text.index("## NAME") : text.index("## Appendix A")]
    assert re.findall("^### .*$", body, re.MULTILINE) == [
        f"### {name} · {title}" for name, title in clauses()
    ]


def test_every_clause_has_a_test() -> None:
    known = {name for _, names in cited_by_test() for name in names}
    assert [name for name, _ in clauses() if name not in known] == []


def test_no_test_cites_what_is_no_clause() -> None:
    known = {name for name, _ in clauses()}
    wrong = {test: names for test, names in cited_by_test() if not known.issuperset(names)}
    assert wrong == {}


def test_no_test_cites_more_than_two_clauses() -> None:
    assert {test: names for test, names in cited_by_test() if len(names) > 2} == {}
    assert {test: names for test, names in cited_by_test() if len(set(names)) < len(names)} == {}


def test_the_index_lists_the_clauses() -> None:
    text = SPEC.read_text(encoding="utf-8")
    index = text[text.index("## Index of clauses") :]
    rows = re.findall(r"^\| ([A-Z]+-\d+) \| (.*?) \|$", index, re.MULTILINE)
    assert rows == clauses()


def test_the_clauses_that_the_text_mentions_exist() -> None:
    known = {name for name, _ in clauses()}
    text = SPEC.read_text(encoding="utf-8")
    groups = "|".join({name.split("-")[0] for name in known})
    mentioned = set(re.findall(rf"\b(?:{groups})-\d+\b", text)) - {"PCG-64"}
    assert mentioned <= known


def test_the_markers_of_collected_tests_are_those_of_the_source(
    request: pytest.FixtureRequest,
) -> None:
    """Pytest sees the same citations: none is added where the source is not looked at."""
    by_source = dict(cited_by_test())
    for item in request.session.items:
        name = f"{Path(item.path).name}::{item.originalname}"
        if Path(item.path).parent == TESTS and name in by_source:
            found = [clause for mark in item.iter_markers("clause") for clause in mark.args]
            assert sorted(found) == sorted(by_source[name]), name
