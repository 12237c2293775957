"""Folders of results as few zip files of bounded size, and back.

The name of a member is the path of its file below the folder of results. Members with other names raise an error, so that no file
is written elsewhere; nothing is unpickled.
"""

import io
import lzma
import re
import shutil
import struct
import tempfile
import zipfile
import zlib
from collections.abc import Iterable
from pathlib import Path

from replication.errors import ReplicationError
from replication.files.atomic import atomic
from replication.files.provenance import PROVENANCE, read_provenance

LIMIT = 16 * 2**20
UNPACKED_LIMIT = 2**31  # bytes of an archive after decompression: tables and states of trainings are smaller
_FOLDER = r"(?:smoke|reduced|full)/[a-z0-9_]+/(?:tables|runs|parts)/[a-z0-9_]+/seed[0-9]+"
# RuntimeError: a damaged header that seems to ask for encryption or a newer format; ValueError, struct.error: one that makes no sense
_DAMAGE = (zipfile.BadZipFile, zlib.error, lzma.LZMAError, struct.error, OSError, EOFError, RuntimeError, ValueError, OverflowError)
_MEMBER = re.compile(rf"({_FOLDER})/((?:tables/)?[A-Za-z0-9_][A-Za-z0-9_.]*)")


def packed(place: Path, stem: str) -> list[Path]:
    """The archives ``<stem>-<number>.zip`` of a folder, in order."""
    return sorted(place.glob(f"{stem}-[0-9][0-9][0-9].zip"))


def add(place: Path, stem: str, root: Path, folders: Iterable[str], *, limit: int = LIMIT) -> list[str]:
    """Add folders below ``root`` to the archives ``<stem>-<number>.zip`` of ``place``; returns those that are too large for one.

    Each archive stays below ``limit`` bytes; the last one is written again while it has room.
    """
    left_out = []
    paths = packed(place, stem)
    number = len(paths) - 1 if paths else 0
    content = paths[-1].read_bytes() if paths else _empty()
    for folder in folders:
        grown = _appended(content, root, folder)
        if len(grown) > limit:
            alone = _appended(_empty(), root, folder)
            if len(alone) > limit:
                left_out.append(folder)
                continue
            _write(place / f"{stem}-{number:03}.zip", content)
            number, grown = number + 1, alone
        content = grown
    _write(place / f"{stem}-{number:03}.zip", content)
    return left_out


def replace(place: Path, stem: str, root: Path, folders: Iterable[str]) -> None:
    """Write the archives ``<stem>-<number>.zip`` of ``place`` anew from these folders; the old ones stay until the new ones are whole."""
    with tempfile.TemporaryDirectory(dir=root) as fresh:
        add(Path(fresh), stem, root, folders)
        written = packed(Path(fresh), stem)
        for path in written:
            with atomic(place / path.name) as temporary:
                shutil.copyfile(path, temporary)
    for stale in packed(place, stem)[len(written) :]:
        stale.unlink()


def _empty() -> bytes:
    buffer = io.BytesIO()
    zipfile.ZipFile(buffer, "w").close()
    return buffer.getvalue()


def _write(path: Path, content: bytes) -> None:
    if content != _empty():
        with atomic(path) as temporary:
            temporary.write_bytes(content)


def _appended(content: bytes, root: Path, folder: str) -> bytes:
    """The archive with a folder more, or as it was if a running training takes a file of the folder away meanwhile."""
    files = {path.relative_to(root).as_posix(): path for path in sorted((root / folder).rglob("*"), key=_state_first)}
    try:  # the lock of a job is left out
        read = {name: path.read_bytes() for name, path in files.items() if path.is_file() and _MEMBER.fullmatch(name)}
    except FileNotFoundError:
        return content
    buffer = io.BytesIO(content)
    with zipfile.ZipFile(buffer, "a", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
        for name in sorted(read):
            archive.writestr(zipfile.ZipInfo(name), read[name], zipfile.ZIP_DEFLATED)
    return buffer.getvalue()


def _state_first(path: Path) -> tuple[bool, Path]:
    """The state of a running training is read before the weights it kept, which may be ahead of it but not behind."""
    return not path.name.startswith("resume."), path


def folders(path: Path) -> list[str]:
    """The folders in an archive.

    Raises:
        ReplicationError: the archive is damaged or holds something other than results.
    """
    with _opened(path) as archive:
        return list(dict.fromkeys(folder for folder, _ in map(_name, _members(path, archive))))


def extract(path: Path, root: Path) -> list[str]:
    """Write the folders of an archive below ``root``, each complete or not at all; folders that exist already stay as they are.

    Returns the folders written.

    Raises:
        ReplicationError: the archive is damaged, or holds something other than results.
    """
    written = []
    with _opened(path) as archive:
        members = _members(path, archive)
        for folder in dict.fromkeys(folder for folder, _ in map(_name, members)):
            if (root / folder).exists():
                continue
            with atomic(root / folder, folder=True) as temporary:
                for member, (folder_of_member, name) in zip(members, map(_name, members), strict=True):
                    if folder_of_member == folder:
                        (temporary / name).parent.mkdir(exist_ok=True)
                        (temporary / name).write_bytes(_content(path, archive, member))
                _check_provenances(path, folder, temporary)
            written.append(folder)
    return written


def _check_provenances(path: Path, folder: str, temporary: Path) -> None:
    """A damaged directory of an archive can give other content than was packed."""
    for provenance in temporary.rglob(f"*{PROVENANCE}"):
        try:
            read_provenance(provenance)
        except ReplicationError:
            raise ReplicationError(f"{path} is damaged ({folder} does not fit its provenance); copy it again.") from None


def _opened(path: Path) -> zipfile.ZipFile:
    try:
        return zipfile.ZipFile(path)
    except FileNotFoundError:
        raise ReplicationError(f"{path} does not exist; name an archive that `replicate record` wrote.") from None
    except _DAMAGE as error:
        raise ReplicationError(f"{path} is not an archive or is damaged ({error}); copy it again.") from None


def _members(path: Path, archive: zipfile.ZipFile) -> list[zipfile.ZipInfo]:
    for member in archive.infolist():
        if not _MEMBER.fullmatch(member.filename):
            raise ReplicationError(f"{path} holds {member.filename!r}, which is no result; only archives of `replicate record` are read.")
    if (size := sum(member.file_size for member in archive.infolist())) > UNPACKED_LIMIT:
        raise ReplicationError(
            f"{path} would unpack to {size} bytes, more than the {UNPACKED_LIMIT} of any archive of `replicate record`; copy it again."
        )
    return archive.infolist()


def _name(member: zipfile.ZipInfo) -> tuple[str, str]:
    match = _MEMBER.fullmatch(member.filename)
    assert match
    return match[1], match[2]


def _content(path: Path, archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> bytes:
    try:
        return archive.read(member)
    except _DAMAGE as error:
        raise ReplicationError(f"{path} is damaged ({error}); copy it again.") from None
