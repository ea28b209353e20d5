"""Reads YAML and TOML as plain values, and tells on which line each of them stands.

Hostile text costs no more than its length: nothing is constructed but mappings, lists, texts and nothing, nesting is
bounded, and YAML's aliases may not make a file larger than it is written.
"""

import re
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final

import yaml

Place = tuple[str | int, ...]
"""Names and list indexes from the top; () is the whole file."""

MOST_NESTING: Final = 16
"""Four levels more than any file here needs, and then some; far from the interpreter's own limit."""

NO_TEXT: Final = 0
"""Stands for what no file here has a field for: numbers, dates, switches and values with tags of their own."""

_SPARE: Final = 1000
"""What aliases may always add, so that small files can use them freely."""

_TEXT: Final = "tag:yaml.org,2002:str"
_NOTHING: Final = "tag:yaml.org,2002:null"
_MERGE: Final = "tag:yaml.org,2002:merge"

_TOML_TOKEN: Final = re.compile(
    r"""(?P<text>\"{3}(?:\\.|[^\\])*?\"{3,5} | '{3}.*?'{3,5} | "(?:\\.|[^"\\\n])*" | '[^'\n]*')
    | (?P<comment>\#[^\n]*)
    | (?P<mark>[\[\]{}=,.\n])
    | (?P<bare>[^\s\[\]{}=,."'\#]+)""",
    re.VERBOSE | re.DOTALL,
)


class UnreadableError(Exception):
    """The text cannot be read. `line` counts from 1; the message may hold parts of the text."""

    def __init__(self, line: int, message: str) -> None:
        super().__init__(message)
        self.line = line


@dataclass(frozen=True, slots=True)
class Document:
    """What was read.

    Attributes:
        values: mappings, lists, texts, None and NO_TEXT.
        lines: of each place.
        repeated: places that stand there more than once, each with the line of the repetition.
    """

    values: object
    lines: Mapping[Place, int]
    repeated: tuple[tuple[Place, int], ...] = ()

    def line(self, place: Place) -> int:
        """Give the line of a place, or of the nearest thing around it."""
        while place and place not in self.lines:
            place = place[:-1]
        return self.lines.get(place, 1)


def read_yaml(text: str) -> Document:
    """Read YAML with aliases and merge keys.

    Raises:
        UnreadableError: it is no YAML, or nests or repeats itself beyond the bounds.
    """
    loader: yaml.SafeLoader | None = None
    try:
        loader = yaml.SafeLoader(text)
        node = loader.get_single_node()
        walk = _YamlWalk(len(text) + _SPARE)
        values = None if node is None else walk.value(node, ())
        return Document(values, walk.lines, tuple(walk.repeated))
    except yaml.reader.ReaderError as error:
        raise UnreadableError(text.count("\n", 0, error.position) + 1, f"is not YAML: {error.reason}") from None
    except yaml.MarkedYAMLError as error:
        line = 1 if error.problem_mark is None else error.problem_mark.line + 1
        raise UnreadableError(line, f"is not YAML: {error.problem or error.context}") from None
    except RecursionError:
        raise UnreadableError(1 if loader is None else loader.line + 1, "is nested too deeply") from None


@dataclass(slots=True)
class _YamlWalk:
    allowance: int
    lines: dict[Place, int] = field(default_factory=dict)
    repeated: list[tuple[Place, int]] = field(default_factory=list)

    def value(self, node: yaml.Node, place: Place) -> object:
        """Give the value of a node at a place."""
        self._spend(node, 1)
        if len(place) > MOST_NESTING:
            raise UnreadableError(_line_of(node), "is nested too deeply")
        self.lines[place] = _line_of(node)
        if isinstance(node, yaml.SequenceNode):
            return [self.value(item, (*place, index)) for index, item in enumerate(node.value)]
        if isinstance(node, yaml.MappingNode):
            return self._mapping(node, place)
        return {_TEXT: node.value, _NOTHING: None}.get(node.tag, NO_TEXT)

    def _mapping(self, node: yaml.MappingNode, place: Place) -> dict[str, object]:
        names = [key.value for key, _ in node.value if isinstance(key, yaml.ScalarNode)]
        fields = self._fields(node, 0)
        if len(names) != len(set(names)):
            self._note_repeated(node, place)
        values: dict[str, object] = {}
        for name, (key, value) in fields.items():
            values[name] = self.value(value, (*place, name))
            self.lines[*place, name] = _line_of(key)
        return values

    def _note_repeated(self, node: yaml.MappingNode, place: Place) -> None:
        seen: set[str] = set()
        for key, _ in node.value:
            if key.value in seen:
                self.repeated.append(((*place, key.value), _line_of(key)))
            seen.add(key.value)

    def _fields(self, node: yaml.Node, merges: int) -> dict[str, tuple[yaml.Node, yaml.Node]]:
        """Give a mapping's own fields, and those of the mappings merged into it that it does not have itself."""
        if not isinstance(node, yaml.MappingNode) or merges > MOST_NESTING:
            raise UnreadableError(_line_of(node), "<< takes a mapping, or a list of mappings")
        self._spend(node, len(node.value))
        fields: dict[str, tuple[yaml.Node, yaml.Node]] = {}
        merged: list[yaml.Node] = []
        for key, value in node.value:
            if not isinstance(key, yaml.ScalarNode):
                raise UnreadableError(_line_of(key), "a list or mapping is no name of a field")
            if key.tag == _MERGE:
                merged += value.value if isinstance(value, yaml.SequenceNode) else [value]
            else:
                fields.setdefault(key.value, (key, value))
        for other in merged:
            for name, found in self._fields(other, merges + 1).items():
                fields.setdefault(name, found)
        return fields

    def _spend(self, node: yaml.Node, amount: int) -> None:
        self.allowance -= amount
        if self.allowance < 0:
            raise UnreadableError(_line_of(node), "aliases make it far larger than it is written")


def _line_of(node: yaml.Node) -> int:
    return int(node.start_mark.line) + 1


def read_toml(text: str) -> Document:
    """Read TOML.

    Raises:
        UnreadableError: it is no TOML, or nested too deeply.
    """
    try:
        values = tomllib.loads(text)
        return Document(values, _TomlWalk(_tokens(text)).places())
    except RecursionError:
        raise UnreadableError(1, "is nested too deeply") from None
    except ValueError as error:  # the reader's own, and those of numbers with too many digits
        found = re.search(r"at line (\d+)", str(error))
        last = text.count("\n") + 1 if "at end of document" in str(error) else 1
        raise UnreadableError(int(found[1]) if found else last, f"is not TOML: {error}") from None


@dataclass(frozen=True, slots=True)
class _Token:
    kind: str
    text: str
    line: int


_END: Final = _Token("mark", "", 0)


def _tokens(text: str) -> Iterator[_Token]:
    line = 1
    for match in _TOML_TOKEN.finditer(text):
        kind, token = str(match.lastgroup), match[0]
        if kind != "comment":
            yield _Token(kind, token, line)
        line += token.count("\n")


class _TomlWalk:
    """Finds the lines of tables, keys and list items in text that the standard reader, which tells none, has read."""

    def __init__(self, tokens: Iterator[_Token]) -> None:
        self._tokens = tokens
        self._next = next(tokens, _END)
        self._lines: dict[Place, int] = {(): 1}
        self._counts: dict[Place, int] = {}

    def places(self) -> dict[Place, int]:
        """Give the line of each place."""
        table: Place = ()
        while self._next is not _END:
            if self._next.text == "[" and self._next.kind == "mark":
                table = self._header()
            elif self._next.text == "\n":
                self._take()
            else:
                self._pair(table)
        return self._lines

    def _take(self) -> _Token:
        token, self._next = self._next, next(self._tokens, _END)
        return token

    def _header(self) -> Place:
        line = self._take().line
        repeats = self._at("[")
        if repeats:
            self._take()
        place: Place = ()
        names = self._key()
        for depth, name in enumerate(names, start=1):
            place = (*place, name)
            self._lines.setdefault(place, line)
            if repeats and depth == len(names):
                self._counts[place] = self._counts.get(place, -1) + 1
            if place in self._counts:
                place = (*place, self._counts[place])
                self._lines.setdefault(place, line)
        while self._at("]"):
            self._take()
        return place

    def _key(self) -> list[str]:
        names = []
        while self._next.kind != "mark" or self._next.text == ".":
            token = self._take()
            if token.kind == "text":
                names.append(str(tomllib.loads(f"name = {token.text}")["name"]))
            elif token.kind == "bare":
                names.append(token.text)
        return names

    def _pair(self, table: Place) -> None:
        line = self._next.line
        for name in self._key():
            table = (*table, name)
            self._lines.setdefault(table, line)
        self._take()
        self._value(table)

    def _value(self, place: Place) -> None:
        self._lines.setdefault(place, self._next.line)
        if self._at("["):
            self._items(place, "]")
        elif self._at("{"):
            self._items(place, "}")
        else:
            while self._next is not _END and not any(self._at(mark) for mark in ",]}\n"):
                self._take()

    def _items(self, place: Place, closing: str) -> None:
        self._take()
        index = 0
        while not self._at(closing) and self._next is not _END:
            if self._at(",") or self._at("\n"):
                self._take()
            elif closing == "}":
                self._pair(place)
            else:
                self._value((*place, index))
                index += 1
        self._take()

    def _at(self, mark: str) -> bool:
        return self._next.kind == "mark" and self._next.text == mark
