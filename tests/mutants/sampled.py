"""Mutants made from syntax trees: comparisons, arithmetic, logic and numbers, one change each."""

import ast
import random
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

COMPARISONS: dict[type[ast.cmpop], type[ast.cmpop]] = {
    ast.Lt: ast.LtE,
    ast.LtE: ast.Lt,
    ast.Gt: ast.GtE,
    ast.GtE: ast.Gt,
    ast.Eq: ast.NotEq,
    ast.NotEq: ast.Eq,
}
OPERATORS: dict[type[ast.operator], type[ast.operator]] = {ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.Div, ast.Div: ast.Mult}
LOGIC: dict[type[ast.boolop], type[ast.boolop]] = {ast.And: ast.Or, ast.Or: ast.And}
UNCHANGED = (ast.Raise, ast.JoinedStr, ast.AnnAssign, ast.Import, ast.ImportFrom, ast.arguments)  # messages, types and defaults


@dataclass(frozen=True)
class Change:
    """A stretch of a file, by its byte offsets, and what replaces it."""

    file: str
    start: int
    end: int
    new: str

    def applied_to(self, source: str) -> str:
        """The mutated source."""
        raw = source.encode()
        return (raw[: self.start] + self.new.encode() + raw[self.end :]).decode()

    def lines(self, source: str) -> tuple[str, str]:
        """The line where the change begins, before and after, without indentation."""
        number = source.encode()[: self.start].decode().count("\n")
        return source.splitlines()[number].strip(), self.applied_to(source).splitlines()[number].strip()


def changes(root: Path, file: str) -> list[Change]:
    """All changes of one file, in the order of the source."""
    source = (root / file).read_text(encoding="utf-8")
    starts = [0]
    for line in source.encode().splitlines(keepends=True):
        starts.append(starts[-1] + len(line))
    made = []
    for node, mutated in _mutated(ast.parse(source)):
        start, end = starts[node.lineno - 1] + node.col_offset, starts[node.end_lineno - 1] + node.end_col_offset
        made.append(Change(file, start, end, f"({mutated})" if isinstance(node, (ast.BinOp, ast.Compare, ast.BoolOp)) else mutated))
    return sorted(made, key=lambda change: (change.start, change.end, change.new))


def _mutated(node: ast.AST) -> Iterator[tuple[ast.expr, str]]:
    """Every expression that can be changed, with its changed source."""
    if isinstance(node, ast.Compare) and len(node.ops) == 1 and type(node.ops[0]) in COMPARISONS:
        yield node, ast.unparse(ast.Compare(node.left, [COMPARISONS[type(node.ops[0])]()], node.comparators))
    elif isinstance(node, ast.BinOp) and type(node.op) in OPERATORS:
        yield node, ast.unparse(ast.BinOp(node.left, OPERATORS[type(node.op)](), node.right))
    elif isinstance(node, ast.BoolOp):
        yield node, ast.unparse(ast.BoolOp(LOGIC[type(node.op)](), node.values))
    elif isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not):
        yield node, f"({ast.unparse(node.operand)})"
    elif isinstance(node, ast.Constant) and type(node.value) in (int, float):
        yield node, repr(node.value + 1)
    for child in ast.iter_child_nodes(node):
        if not isinstance(child, UNCHANGED) and not _is_annotation(node, child):
            yield from _mutated(child)


def _is_annotation(parent: ast.AST, child: ast.AST) -> bool:
    return child in (getattr(parent, "returns", None), *getattr(parent, "decorator_list", ()))


def sample(root: Path, files: list[str], size: int, seed: int) -> list[Change]:
    """``size`` of all changes of these files (all where there are fewer), the same ones for the same seed and sources."""
    every = [change for file in files for change in changes(root, file)]
    return sorted(random.Random(seed).sample(every, min(size, len(every))), key=lambda change: (change.file, change.start))
