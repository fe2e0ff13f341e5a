"""The states that a power cut may leave, rebuilt from the system calls of a program.

`record` runs a command under strace and returns its `Calls` below one directory. `Disk` replays
them on a model of a file system that knows, for each file, which bytes have been synchronised, and
for each directory entry, whether its directory has. `states` then lists the trees that a crash
between two calls may leave:

- *ordered*: directory entries reach the disk in the order of the calls, and at least up to the last
  one whose directory was synchronised (the journals of ext4, XFS and Btrfs);
- *unordered*: each entry whose directory was not synchronised may be lost alone, or all of them
  (what POSIX promises, and no more).

In both, the bytes of a file that were not synchronised are there, lost, half there, or zeros.
A file that is written through a shared mapping has its final bytes once it is synchronised, and
zeros before: strace does not see stores to memory.
"""

import copy
import dataclasses
import itertools
import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

TRACED = (
    "open,openat,creat,close,write,pwrite64,writev,pwritev,lseek,ftruncate,fallocate,"
    "copy_file_range,sendfile,mmap,rename,renameat,renameat2,unlink,unlinkat,mkdir,mkdirat,rmdir,"
    "link,linkat,symlink,symlinkat,fsync,fdatasync,clone,clone3,fork,vfork,dup,dup2,dup3,chdir"
)
VARIANTS = ("all", "lost", "half", "zeros")
"""What is left of the bytes that were not synchronised."""


class UnknownCall(Exception):
    """A system call that changes a file in a way the model does not know."""


@dataclasses.dataclass(frozen=True)
class Call:
    """One finished system call: name, arguments as strace prints them, and what it returned."""

    process: int
    name: str
    arguments: list[str]
    result: str


def record(command: list[str], trace: Path, **options) -> tuple[int, list[Call]]:
    """Runs a command under strace.

    Args:
        command: the program and its arguments.
        trace: a directory for the raw traces.
        options: of `subprocess.run`.

    Returns:
        The exit code, and the calls of all its threads and processes in the order they ended in.
    """
    trace.mkdir(parents=True)
    strace = ["strace", "-ff", "-f", "--seccomp-bpf", "-y", "-xx", "-s", "100000000", "-o"]
    strace += [str(trace / "calls"), "--absolute-timestamps=format:unix,precision:ns"]
    strace += ["--syscall-times=ns", "-e", f"trace={TRACED}", "-e", "signal=none"]
    done = subprocess.run([*strace, *command], check=False, **options)
    return done.returncode, parsed({int(file.suffix[1:]): file for file in trace.iterdir()})


_LINE = re.compile(r"^(\d+)\.(\d{9}) (\w+)\((.*)\) = (.*?)(?: <(\d+)\.(\d{9})>)?$")
_ARGUMENT = re.compile(r'(?:"[^"]*"(?:\.\.\.)?|\{[^}]*\}|\[[^\]]*\]|<[^>]*>|[^,])+')


def parsed(files: dict[int, Path]) -> list[Call]:
    """Reads the traces of threads (id -> file) into one list of calls."""
    lines, started = [], {}
    for thread, file in files.items():
        with file.open() as trace:
            for text in trace:
                if (line := _LINE.match(text)) is None:
                    continue  # "+++ exited", "--- SIGCHLD"
                second, nano, name, arguments, result, long, fraction = line.groups()
                if result.startswith("-1 ") or result.startswith("?"):
                    continue
                at = int(second) * 10**9 + int(nano)
                at += int(long or 0) * 10**9 + int(fraction or 0)
                lines.append((at, thread, name, arguments, result))
                if "clone" in name and "CLONE_THREAD" in arguments:
                    started[int(result.split("<")[0])] = thread
    lines.sort(key=lambda line: line[0])
    calls = []
    for _, thread, name, arguments, result in lines:
        process = thread
        while process in started:
            process = started[process]
        calls.append(Call(process, name, [a.strip() for a in _ARGUMENT.findall(arguments)], result))
    return calls


@dataclasses.dataclass(eq=False)
class Inode:
    """A file or a directory; `synced` holds the bytes that a crash leaves."""

    number: int
    directory: bool = False
    data: bytearray = dataclasses.field(default_factory=bytearray)
    synced: bytes = b""
    dirty: bool = False
    mapped: bool = False
    _left: dict[str, bytes] = dataclasses.field(default_factory=dict)

    def changed(self) -> None:
        """Notes that bytes have changed which no crash is sure to leave."""
        self.dirty = True
        self._left.clear()

    def sync(self) -> None:
        """Notes that a crash leaves all bytes."""
        self.synced, self.dirty = bytes(self.data), False
        self._left.clear()

    def left(self, variant: str) -> bytes:
        """The bytes after a crash; the same object as long as they stay."""
        if not self.dirty:
            return self.synced
        if variant not in self._left:
            now = bytes(self.data)
            same = _same(self.synced, now)
            self._left[variant] = {
                "all": now,
                "lost": self.synced,
                "half": now[: same + (len(now) - same) // 2],
                "zeros": now[:same] + bytes(len(now) - same),
            }[variant]
        return self._left[variant]


@dataclasses.dataclass(frozen=True)
class Entry:
    """One change of directory entries, which happens whole: (directory, name, inode or None)."""

    changes: tuple[tuple[int, str, int | None], ...]


class Disk:
    """A tree as the running system sees it, and what of it has reached the disk.

    Args:
        root: the directory that is watched; its present content is the first state.
    """

    def __init__(self, root: Path):
        self.root = root.resolve()
        self.inodes: dict[int, Inode] = {}
        self.entries: dict[int, dict[str, int]] = {}
        self.before: dict[int, dict[str, int]] = {}
        self.log: list[Entry] = []
        self.durable: set[int] = set()  # places in the log
        self.top = self._new(directory=True).number
        self._descriptors: dict[tuple[int, int], tuple[int, int]] = {}
        self._cwd: dict[int, str] = {}
        self.mapped: dict[int, bytes] = {}
        self._load(self.root, self.top)
        self.before = {number: dict(names) for number, names in self.entries.items()}

    def _new(self, directory=False) -> Inode:
        made = Inode(len(self.inodes), directory)
        self.inodes[made.number] = made
        if directory:
            self.entries[made.number] = {}
        return made

    def _load(self, path: Path, number: int) -> None:
        for child in sorted(path.iterdir()):
            made = self._new(child.is_dir() and not child.is_symlink())
            self.entries[number][child.name] = made.number
            if made.directory:
                self._load(child, made.number)
            elif child.is_file():
                made.synced = child.read_bytes()
                made.data = bytearray(made.synced)

    def place(self, path: str) -> tuple[int, str] | None:
        """Directory and name of a path below the root; None elsewhere."""
        path = os.path.normpath(path)
        if not path.startswith(f"{self.root}{os.sep}"):
            return None
        *above, name = path[len(str(self.root)) + 1 :].split(os.sep)
        number = self.top
        for part in above:
            number = self.entries[number][part]
        return number, name

    def found(self, path: str) -> Inode | None:
        """What a path below the root names."""
        if os.path.normpath(path) == str(self.root):
            return self.inodes[self.top]
        if (place := self.place(path)) is None:
            return None
        number = self.entries[place[0]].get(place[1])
        return None if number is None else self.inodes[number]

    def _enter(self, *changes: tuple[int, str, int | None]) -> None:
        self.log.append(Entry(changes))
        for directory, name, number in changes:
            if number is None:
                self.entries[directory].pop(name, None)
            else:
                self.entries[directory][name] = number

    def play(self, call: Call) -> bool:
        """Plays one call; returns whether it is a moment to look at: entries changed or synced."""
        before = len(self.log), len(self.durable)
        synced = self._play(call)
        return synced or (len(self.log), len(self.durable)) != before

    def _play(self, call: Call) -> bool:
        name, arguments = call.name, call.arguments
        match name:
            case "open" | "openat" | "creat":
                self._open(call)
            case "close":
                self._descriptors.pop((call.process, _descriptor(arguments[0])), None)
            case "lseek":
                self._seek(call, int(call.result.split()[0]))
            case "write" | "writev":
                self._write(call, None)
            case "pwrite64" | "pwritev":
                self._write(call, int(arguments[-1]))
            case "ftruncate":
                if inode := self._inode(arguments[0]):
                    size = int(arguments[1])
                    inode.data = inode.data[:size] + bytes(max(0, size - len(inode.data)))
                    inode.changed()
            case "fallocate":
                if inode := self._inode(arguments[0]):
                    if arguments[1] != "0":
                        raise UnknownCall(f"{name} {arguments}")
                    more = int(arguments[2]) + int(arguments[3]) - len(inode.data)
                    inode.data += bytes(max(0, more))
                    inode.changed()
            case "copy_file_range" | "sendfile":
                self._copied(call)
            case "mmap":
                shared = "MAP_SHARED" in arguments[3] and "PROT_WRITE" in arguments[2]
                if shared and (inode := self._inode(arguments[4])):
                    inode.mapped = True
                    inode.changed()
            case "fsync" | "fdatasync":
                return self._sync(arguments[0])
            case "dup" | "dup2" | "dup3":
                old = (call.process, _descriptor(arguments[0]))
                if old in self._descriptors:
                    new = (call.process, _descriptor(call.result))
                    self._descriptors[new] = self._descriptors[old]
            case _:
                self._names(call)
        return False

    def _names(self, call: Call) -> None:
        """The calls that change names only."""
        name, paths = call.name, self._paths(call)
        places = [self.place(path) for path in paths]
        match name:
            case "chdir":
                self._cwd[call.process] = paths[0]
            case "mkdir" | "mkdirat":
                if places[0] is not None:
                    self._enter((*places[0], self._new(directory=True).number))
            case "rmdir" | "unlink" | "unlinkat":
                if places[0] is not None:
                    self._enter((*places[0], None))
            case "symlink" | "symlinkat":
                if places[-1] is not None:
                    self._enter((*places[-1], self._new().number))
            case "link" | "linkat":
                if places[1] is not None:
                    linked = self.found(paths[0])
                    self._enter((*places[1], linked.number))
            case "rename" | "renameat" | "renameat2":
                self._rename(call, paths, places)

    def _rename(self, call, paths, places) -> None:
        source, target = places
        moved, other = self.found(paths[0]), self.found(paths[1])
        if source is None and target is None:
            return
        if moved is None or source is None or target is None:
            raise UnknownCall(f"a rename across the root: {paths}")
        if "RENAME_EXCHANGE" in call.arguments[-1]:
            self._enter((*source, other.number), (*target, moved.number))
        else:
            self._enter((*source, None), (*target, moved.number))

    def _paths(self, call: Call) -> list[str]:
        """Absolute paths of a call's arguments."""
        found, base = [], None
        for argument in call.arguments:
            if argument.startswith('"'):
                path = _unquoted(argument)
                start = base or self._cwd.get(call.process, str(self.root))
                found.append(os.path.join(start, path))
                base = None
            elif "<" in argument:
                base = _path_of(argument)
                if argument.startswith("AT_FDCWD"):
                    self._cwd[call.process] = base
        return found

    def _open(self, call: Call) -> None:
        path = _path_of(call.result)
        flags = " ".join(call.arguments)
        self._paths(call)
        key = (call.process, _descriptor(call.result))
        if path is None or (place := self.place(path)) is None:
            self._descriptors.pop(key, None)
            return
        inode = self.found(path)
        if inode is None:
            if "O_CREAT" not in flags and call.name != "creat":
                return  # a device, or a file whose name is gone already
            inode = self._new()
            self._enter((*place, inode.number))
        elif ("O_TRUNC" in flags or call.name == "creat") and len(inode.data):
            inode.data = bytearray()
            inode.changed()
        self._descriptors[key] = (inode.number, -1 if "O_APPEND" in flags else 0)

    def _inode(self, argument: str) -> Inode | None:
        path = _path_of(argument)
        return self.found(path) if path is not None else None

    def _of(self, call: Call, argument: str) -> tuple[tuple[int, int], Inode, int] | None:
        key = (call.process, _descriptor(argument))
        if key in self._descriptors:
            number, position = self._descriptors[key]
            return key, self.inodes[number], position
        inode = self._inode(argument)  # opened by a parent
        return (key, inode, -1) if inode is not None and not inode.directory else None

    def _seek(self, call: Call, position: int) -> None:
        if (found := self._of(call, call.arguments[0])) is not None and found[2] >= 0:
            self._descriptors[found[0]] = (found[1].number, position)

    def _write(self, call: Call, offset: int | None) -> None:
        if (found := self._of(call, call.arguments[0])) is None:
            return
        key, inode, position = found
        written = int(call.result.split()[0])
        content = b"".join(_bytes(text) for text in re.findall(r'"[^"]*"', call.arguments[1]))
        content = content[:written]
        if len(content) != written:
            raise UnknownCall(f"{call.name}: strace left out bytes of {call.arguments[0]}")
        at = offset if offset is not None else position if position >= 0 else len(inode.data)
        inode.data += bytes(max(0, at - len(inode.data)))
        inode.data[at : at + written] = content
        inode.changed()
        if offset is None and position >= 0:
            self._descriptors[key] = (inode.number, at + written)

    def _copied(self, call: Call) -> None:
        """A copy inside the kernel: whole files only, as shutil makes them."""
        source, target = call.arguments[0], call.arguments[2]
        if call.name == "sendfile":
            source, target = call.arguments[1], call.arguments[0]
        if (found := self._of(call, target)) is None:
            return
        key, inode, position = found
        copied = int(call.result.split()[0])
        start = max(position, 0)
        read_from = self._inode(source)
        content = bytes(read_from.data) if read_from else Path(_path_of(source)).read_bytes()
        inode.data[start : start + copied] = content[start : start + copied]
        inode.changed()
        self._descriptors[key] = (inode.number, start + copied)

    def _sync(self, argument: str) -> bool:
        inode = self._inode(argument)
        if inode is None:
            return False
        if inode.directory:
            for number, entry in enumerate(self.log):
                added = {directory for directory, _, one in entry.changes if one is not None}
                touched = added or {directory for directory, _, _ in entry.changes}
                if number not in self.durable and touched <= {inode.number}:
                    self.durable.add(number)
            return True
        if inode.mapped:
            inode.data = bytearray(self.mapped.get(inode.number, bytes(len(inode.data))))
        inode.sync()
        return True

    def keep(self, calls: list[Call]) -> None:
        """Notes the names and bytes that the calls end with, for files written through mappings."""
        names = copy.deepcopy(self).finish(calls)
        mapped = {number: self.root / path for number, path in names.items()}
        self.mapped = {n: path.read_bytes() for n, path in mapped.items() if path.is_file()}

    def finish(self, calls: list[Call]) -> dict[int, str]:
        """Plays all calls and returns inode -> path below the root, at the end."""
        for call in calls:
            self.play(call)
        return {number: path for path, number in _walk(self.entries, self.top)}

    def states(self) -> Iterator[tuple[str, dict[str, bytes | None]]]:
        """The trees that a crash now may leave: (which, path -> bytes, None for a directory)."""
        for order, kept in self._orders():
            for variant in VARIANTS:
                yield f"{order}, unsynchronised bytes {variant}", self.tree(variant, kept)

    def tree(self, variant: str, kept: set[int]) -> dict[str, bytes | None]:
        """The tree with some of the log's entries, and some of the unsynchronised bytes."""
        entries = {number: dict(names) for number, names in self.before.items()}
        for number in sorted(kept):
            for directory, name, inode in self.log[number].changes:
                names = entries.setdefault(directory, {})
                names.pop(name, None) if inode is None else names.update({name: inode})
        found: dict[str, bytes | None] = {}
        for path, number in _walk(entries, self.top):
            inode = self.inodes[number]
            found[path] = None if inode.directory else inode.left(variant)
        return found

    def surely(self) -> int:
        """How many entries of the log have reached the disk, where they reach it in order."""
        return max(self.durable, default=-1) + 1

    def _orders(self) -> Iterator[tuple[str, set[int]]]:
        """Which entries of the log a crash may leave."""
        everything = set(range(len(self.log)))
        surely = self.surely()
        for end in sorted({surely, (surely + len(self.log)) // 2, len(self.log)}):
            yield f"ordered up to entry {end} of {len(self.log)}", set(range(end))
        loose = sorted(everything - self.durable)
        if loose:
            yield "unordered, none of the others", set(self.durable)
        for one in loose[-6:]:
            yield f"unordered, without entry {one}", everything - {one}


def _walk(entries, number, above="") -> Iterator[tuple[str, int]]:
    for name, child in sorted(entries.get(number, {}).items()):
        yield f"{above}{name}", child
        if child in entries:
            yield from _walk(entries, child, f"{above}{name}/")


def digest(tree: dict[str, bytes | None]) -> int:
    """One number for a tree; quick, as Python keeps the hash of bytes that it has seen."""
    return hash(frozenset(tree.items()))


def write(tree: dict[str, bytes | None], root: Path) -> None:
    """Makes a directory hold a tree."""
    root.mkdir(parents=True, exist_ok=True)
    for path, content in sorted(tree.items()):
        file = root / path
        if content is None:
            file.mkdir(exist_ok=True)
        else:
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(content)


def visible(path: str) -> bool:
    """Whether a path has its final name: no part starts with a dot."""
    return not any(part.startswith(".") for part in path.split("/"))


def torn(
    disk: Disk, calls: list[Call], logs: tuple[str, ...]
) -> tuple[int, list[str], list[dict[str, bytes | None]]]:
    """Replays calls, and compares every visible file of every state with what was published.

    A file is published with the bytes that it has when its final name is given to it (or to a
    directory above it), or when it is closed where it was opened under its final name. Logs, which
    are named by parts of their names, may also be cut at any byte.

    Returns:
        How many states there are; one line for each file of a state that was never published, or
        that was there before and after the command but not in a state in between; and the
        different trees of visible files, the last of them after the command's end.
    """
    published = _published(disk, calls)
    replayed = copy.deepcopy(disk)
    replayed.finish(calls)
    always = _files(disk, logs) & _files(replayed, logs)
    replayed = copy.deepcopy(disk)
    seen, problems, trees = set(), {}, {}
    for number, call in enumerate(itertools.chain(calls, [None])):
        if call is not None and not replayed.play(call):
            continue
        for which, tree in replayed.states():
            if (name := digest(tree)) in seen:
                continue
            seen.add(name)
            shown = {path: content for path, content in tree.items() if visible(path)}
            trees.setdefault(digest(shown), tree)
            for path in always - {_MOVED_ASIDE.sub(r"\1", one) for one in tree}:
                text = f"{path}: gone after call {number} ({call.name if call else 'the last'})"
                problems.setdefault(path, f"{text}: {which}")
            for path, content in shown.items():
                if content is None or content in published.get(path, ()):
                    continue
                if any(mark in path for mark in logs):
                    continue
                if path not in problems:
                    problems[path] = (
                        f"{path}: {len(content)} bytes that were never published, after call "
                        f"{number} ({call.name if call else 'the last'}): {which}"
                    )
    return len(seen), list(problems.values()), list(trees.values())


_MOVED_ASIDE = re.compile(r"\.([^/]+)\.new-[0-9a-f]{12}-old(?=/|$)")
"""Where `mmnet.files.write_directory` keeps a directory while the new one takes its name."""


def _files(disk: Disk, logs: tuple[str, ...]) -> set[str]:
    """Paths of the visible files, but for logs."""
    return {
        path
        for path, number in _walk(disk.entries, disk.top)
        if visible(path) and not disk.inodes[number].directory
        if not any(mark in path for mark in logs)
    }


def lost(disk: Disk, calls: list[Call], logs: tuple[str, ...]) -> dict[str, list[str]]:
    """Which visible files a crash after the command's end may take back, by order of entries."""
    replayed = copy.deepcopy(disk)
    replayed.finish(calls)
    finished = replayed.tree("all", set(range(len(replayed.log))))
    found = {}
    for order, kept in (
        ("ordered", set(range(replayed.surely()))),
        ("unordered", replayed.durable),
    ):
        left = replayed.tree("lost", kept)
        found[order] = [
            path
            for path, content in finished.items()
            if visible(path) and content is not None and left.get(path) != content
            if not any(mark in path for mark in logs)
        ]
    return found


def _published(disk: Disk, calls: list[Call]) -> dict[str, set[bytes]]:
    """Path -> every content that a reader may find under it."""
    found: dict[str, set[bytes]] = {}
    replayed = copy.deepcopy(disk)

    def note():
        for path, number in _walk(replayed.entries, replayed.top):
            inode = replayed.inodes[number]
            if visible(path) and not inode.directory:
                found.setdefault(path, set()).add(bytes(inode.data))

    note()
    for call in calls:
        entries = len(replayed.log)
        closed = call.name == "close" and (path := _path_of(call.arguments[0])) is not None
        inode = replayed.found(path) if closed else None
        replayed.play(call)
        if inode is not None and inode.dirty:
            note()
        if len(replayed.log) > entries and call.name.startswith(("rename", "link")):
            note()
    return found


def _same(left: bytes, right: bytes) -> int:
    """How many first bytes are equal."""
    low, high = 0, min(len(left), len(right))
    while low < high:
        middle = (low + high + 1) // 2
        if left[low:middle] == right[low:middle]:
            low = middle
        else:
            high = middle - 1
    return low


def _descriptor(text: str) -> int:
    return int(text.split("<")[0])


def _path_of(text: str) -> str | None:
    if "<" not in text:
        return None
    path = _bytes(text[text.index("<") + 1 : text.rindex(">")]).decode(errors="surrogateescape")
    return path if path.startswith("/") else None


def _unquoted(text: str) -> str:
    return _bytes(text).decode(errors="surrogateescape")


def _bytes(text: str) -> bytes:
    return bytes.fromhex(text.strip('"').replace("\\x", ""))
