"""Reading ``paper_configs/*.yaml`` into the typed view of ``replication.schema``.

A value is either one value for every scale or a mapping by scale, so the published value and the reduced one stand in one
line: ``steps: {full: 880, reduced: 880, smoke: 40}``. ``load`` resolves one scale but validates all of them, so that a
mistake at ``full`` shows on a laptop. A wrong key or value is a ReplicationError with the file, the key, the value and
what is allowed. Files are read once per process, and again when they change.
"""

import difflib
import functools
import os
import re
import reprlib
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from replication.errors import ReplicationError
from replication.files.atomic import canonical_json
from replication.schema.base import NAME, SCALES, Strict
from replication.schema.claims import Claim
from replication.schema.papers import PaperConfig

RECORDED = "recorded"  # redraws the `full` configuration from recorded/ without training
FOLDER = Path("paper_configs")
_MOST = 1_000_000  # values in one file
_DEEPEST = 100  # levels of values inside values
QUEUE = "queue.yaml"  # beside the papers' files: what `replicate record` works through


_SafeLoader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # five times as fast, where libyaml is installed


class UniqueKeyLoader(_SafeLoader):
    """A safe loader that refuses a key given twice; plain YAML lets the last one win without a word."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        """A mapping with each key once; keys beside a merge (``<<``) override it."""
        seen = set()
        for key_node, _ in node.value:
            if key_node.tag == "tag:yaml.org,2002:merge":  # <<: *anchor, which the keys beside it override
                continue
            key = self.construct_object(key_node, deep=True)
            if key in seen:
                raise yaml.constructor.ConstructorError(None, None, f"the key '{key}' is given twice", key_node.start_mark)
            seen.add(key)
        return super().construct_mapping(node, deep)


FileState = tuple[str, int, int]  # absolute path, time of the last change in nanoseconds, size in bytes
FolderState = tuple[FileState, ...]


def state(folder: Path = FOLDER) -> FolderState:
    """What identifies the content of a folder of configurations: answers derived from it hold as long as this is equal."""
    try:
        with os.scandir(os.path.abspath(folder)) as entries:
            return tuple(sorted(_state_of(entry) for entry in entries if entry.name.endswith(".yaml")))
    except OSError:  # reading the folder says what is wrong
        return ()


def _state_of(file: "os.DirEntry[str] | Path") -> FileState:
    try:
        status = file.stat()
    except OSError:  # reading the file says what is wrong
        return os.path.abspath(file), 0, 0
    return os.path.abspath(file), status.st_mtime_ns, status.st_size


def read(path: Path) -> dict[str, Any]:
    """The raw content of one configuration file, all scales side by side; not to be changed, since later calls return it again.

    Raises:
        ReplicationError: the file is missing, cannot be read, is not valid YAML or not a mapping.
    """
    return _read(path, _state_of(path))


@functools.lru_cache(maxsize=64)
def _read(path: Path, state: FileState) -> dict[str, Any]:
    try:
        text = path.read_text(encoding="utf-8")
        _check_depth(text)
        raw = yaml.load(text, Loader=UniqueKeyLoader)  # noqa: S506 - a SafeLoader by inheritance
        if (size := _written_out(raw)) > _MOST:
            raise ValueError(f"with its aliases written out it has {size} values, and {_MOST} are allowed")
    except FileNotFoundError:
        raise ReplicationError(f"{path} does not exist; run in the folder that holds the Snakefile.") from None
    except OSError as error:
        raise ReplicationError(f"{path} cannot be read ({error.strerror or error}); fix it and run again.") from None
    # ValueError: a date or number that YAML knows by its form but that does not exist, or bytes that are no text
    except (yaml.YAMLError, ValueError, TypeError, AttributeError, RecursionError) as error:  # PyYAML: `!!timestamp 1`
        raise ReplicationError(f"{path} is not valid YAML: {_without_name(error)}; fix it and run again.") from None
    if not isinstance(raw, dict):
        raise ReplicationError(f"{path} holds {type(raw).__name__}, but a mapping with paper, runs, measurements, figures is needed.")
    return raw


def _without_name(error: Exception) -> str:
    """A message of YAML on one line, with line and column, and without the name that it gives to a text in memory."""
    return " ".join(str(error).split()).replace(' in "<unicode string>",', ", at")


def _check_depth(text: str) -> None:
    """libyaml composes values recursively without a limit, so that deep nesting would end the process.

    Raises:
        ValueError: values are nested too deeply.
    """
    depth = 0
    for event in yaml.parse(text, Loader=UniqueKeyLoader):
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if depth > _DEEPEST:
            raise ValueError(f"values are nested more than {_DEEPEST} levels deep")


def _written_out(value: Any, sizes: dict[int, int] | None = None) -> int:
    """How many values there would be without aliases, which a few lines of them can make astronomical.

    Raises:
        ValueError: an alias contains itself.
    """
    sizes = {} if sizes is None else sizes
    if not isinstance(value, dict | list):
        return 1
    if id(value) not in sizes:
        sizes[id(value)] = -1  # being counted
        sizes[id(value)] = 1 + sum(_written_out(entry, sizes) for entry in (value.values() if isinstance(value, dict) else value))
    if sizes[id(value)] < 0:
        raise ValueError("an alias contains itself")
    return sizes[id(value)]


_ABSENT = object()


def at_scale(value: Any, scale: str) -> Any:
    """``value`` with every mapping by scale replaced by its entry; an entry without this scale disappears."""
    if isinstance(value, dict):
        if value and all(key in SCALES for key in value):
            return at_scale(value[scale], scale) if scale in value else _ABSENT
        resolved = {key: at_scale(entry, scale) for key, entry in value.items()}
        return {key: entry for key, entry in resolved.items() if entry is not _ABSENT}
    if isinstance(value, list):
        return [resolved for entry in value if (resolved := at_scale(entry, scale)) is not _ABSENT]
    return value


def parse(raw: dict[str, Any], scale: str, path: Path) -> PaperConfig:
    """The configuration at ``scale`` of one file's raw content; ``path`` is for messages.

    Raises:
        ReplicationError: a key or value is wrong at this scale.
    """
    resolved = at_scale(raw, scale)
    try:
        return PaperConfig.model_validate({} if resolved is _ABSENT else resolved, context={"scale": scale})
    except ValidationError as error:
        raise ReplicationError(f"{path}, scale {scale}: {describe(error, scale)}.") from None


def describe(error: ValidationError, scale: str = "full") -> str:
    """Key, value and what is allowed, of the first mistake; the number of the others."""
    errors = error.errors()
    first, key = errors[0], _key(errors[0])
    texts = list(dict.fromkeys(each["msg"].removeprefix("Value error, ") for each in errors if _key(each) == key))  # several for a union
    if first["type"] == "union_tag_invalid":  # the value itself would be the whole mapping
        return _wrong_kind(key, first["ctx"])
    if first["type"] == "missing":
        text = f"is missing (or has no value for scale {scale})"
    elif first["type"] == "value_error":
        text = texts[0]
    else:
        value = f"{'has the key' if first['loc'][-1:] == ('[key]',) else 'is'} {reprlib.repr(first['input'])}"
        text = f"{value}: {' or '.join(each[0].lower() + each[1:] for each in texts)}".replace("valid dictionary", "mapping")
    if isinstance(first["input"], dict) and any(name in SCALES for name in first["input"]):
        strangers = [name for name in first["input"] if name not in SCALES]
        text = f"mixes scales with the key '{strangers[0]}'; allowed in a mapping by scale: {', '.join(SCALES)}" if strangers else text
    more = len({_key(each) for each in errors}) - 1
    return f"{key or 'the file'} {text}" + (f"; {more} more after this one" if more else "")


def _wrong_kind(key: str, context: Any) -> str:
    """The sentence for a mapping whose kind is none of the allowed ones."""
    kinds = [kind.strip(" '") for kind in context["expected_tags"].split(",")]
    near = difflib.get_close_matches(context["tag"], kinds, 1)
    hint = f" (did you mean '{near[0]}'?)" if near else ""
    return f"{key}.{context['discriminator'].strip(chr(39))} is '{context['tag']}'{hint}; allowed: {', '.join(kinds)}"


def _key(error: Any) -> str:
    """The key that holds the mistake, as written in the file; pydantic adds parts for unions and for keys themselves."""
    parts = error["loc"][:-2] if error["loc"][-1:] == ("[key]",) else error["loc"]
    return ".".join(str(part) for part in parts if not str(part).endswith("]"))


def paper_files(folder: Path = FOLDER) -> list[Path]:
    """The papers' configuration files."""
    return sorted(path for path in folder.glob("*.yaml") if path.name != QUEUE)


def load(scale: str, folder: Path = FOLDER) -> dict[str, PaperConfig]:
    """Every paper's configuration at ``scale`` (``recorded`` reads as ``full``), by the file's name.

    Raises:
        ReplicationError: a file is missing, broken, or wrong at any scale.
    """
    wanted = "full" if scale == RECORDED else scale
    if wanted not in SCALES:
        raise ReplicationError(f"The scale is '{scale}'; allowed: auto, {', '.join(SCALES)}, {RECORDED}.")
    return dict(_load(folder, state(folder))[wanted])


@functools.lru_cache(maxsize=8)
def _load(folder: Path, state: FolderState) -> dict[str, dict[str, PaperConfig]]:
    """Every paper's configuration, by scale and name of the file."""
    papers: dict[str, dict[str, PaperConfig]] = {scale: {} for scale in SCALES}
    for path in paper_files(folder):
        if not re.fullmatch(NAME, path.stem):  # it becomes a folder and an argument of commands
            raise ReplicationError(f"{folder}/ holds {path.name!r}, but allowed are a-z, 0-9 and _, a letter first: rename it.")
        raw = read(path)
        for scale in SCALES:
            papers[scale][path.stem] = parse(raw, scale, path)
    if not papers["full"]:
        raise ReplicationError(f"There is no YAML file in {folder}/; run in the folder that holds the Snakefile.")
    for by_name in papers.values():
        _check_unique(by_name)
    return papers


def _check_unique(papers: dict[str, PaperConfig]) -> None:
    """Figure names (they become targets) and claim ids must differ across papers."""
    seen: dict[str, str] = {}
    for paper, config in papers.items():
        for figure, entry in config.figures.items():
            for key in [f"figure {figure}", *(f"claim {claim.id}" for claim in entry.claims)]:
                if key in seen:
                    raise ReplicationError(f"paper_configs: {key} is given in {seen[key]} and again in {paper}.{figure}; rename one.")
                seen[key] = f"{paper}.{figure}"


def claims_of(papers: dict[str, PaperConfig]) -> list[tuple[str, str, Claim]]:
    """Every claim with its paper and figure, in the order of the files."""
    return [(paper, name, claim) for paper, config in papers.items() for name, fig in config.figures.items() for claim in fig.claims]


def identity(config: Strict) -> str:
    """Canonical text of a resolved configuration: what a job depends on."""
    return canonical_json(config.model_dump(mode="json"))
