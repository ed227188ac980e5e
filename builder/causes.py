"""Why a step had to run: what differs between what its key is made of and what one was made of.

Pure: values in, sentences with old and new values out. Finding the record to compare with, and
what stands before the step, is `why`'s business.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence, Set

from builder.cachekey import SECRETS
from grammar.ignorefile import PatternList
from values.classes import dataclass

Ingredients = Mapping[str, object]
Files = Mapping[str, str]

# What keys of RUN are made of beside arguments, environment and mounts, in a Dockerfile's words.
_FIELDS = {
    "cwd": "WORKDIR",
    "user": "USER",
    "network": "network",
    "security": "security mode",
    "hostname": "hostname",
    "platform": "platform",
    "fidelity": "way of keeping owners",
    "schema": "way of making keys",
    "destination": "destination",
    "chown": "--chown",
    "chmod": "--chmod",
    "exclude": "--exclude",
    "unpack": "--unpack",
    "path": "path",
    "commit": "commit",
    "subdir": "directory of the repository",
    "submodules": "submodules",
    "keep_git_dir": "--keep-git-dir",
    "commit_time": "times of files",
}
_NOT_COMPARED = {
    "parent", "content", "files", "sources", "args", "env", "mounts", "kind",
    "arg_names", "base", "remote", "ref", SECRETS,
}  # fmt: skip
_SHOWN = 60
_DIGEST = 7 + 12  # sha256: and what people recognize it by


@dataclass(frozen=True, slots=True)
class Cause:
    """One reason why a step ran.

    kind: first, pruned, lost, failed, no-cache, ttl, files, ignore, variable, command, field,
    mount, secret, base, sequence or follows. text: the sentence. old, new: what it says of before
    and now. paths: for files and ignore, every path that is meant.
    """

    kind: str
    text: str
    old: str | None = None
    new: str | None = None
    paths: tuple[str, ...] = ()

    def to_fields(self) -> dict[str, object]:
        """Return the cause as JSON values."""
        fields: dict[str, object] = {"kind": self.kind, "text": self.text}
        if self.old is not None or self.new is not None:
            fields |= {"old": self.old, "new": self.new}
        if self.paths:
            fields["paths"] = list(self.paths)
        return fields

    @classmethod
    def from_fields(cls, fields: Mapping[str, object]) -> "Cause":
        """Return the cause that `to_fields` wrote."""
        old, new, paths = fields.get("old"), fields.get("new"), fields.get("paths")
        return cls(
            str(fields.get("kind")),
            str(fields.get("text")),
            None if old is None else str(old),
            None if new is None else str(new),
            tuple(map(str, paths)) if isinstance(paths, list) else (),
        )


@dataclass(frozen=True, slots=True)
class FileFacts:
    """What is known about files besides what keys are made of.

    ignored_before, ignored_now: the patterns of the ignore file then and now. lines: of text
    files that changed, how many lines came and went in each.
    """

    ignored_before: tuple[str, ...] = ()
    ignored_now: tuple[str, ...] = ()
    lines: Mapping[str, tuple[int, int]] | None = None


def compare(old: Ingredients, new: Ingredients, facts: FileFacts | None = None) -> list[Cause]:
    """Return what differs in the step itself; what it stands on (its parent) is not looked at."""
    if old.get("kind") != new.get("kind"):
        return [Cause("command", "the instruction is another one")]
    return [
        *_variables(old, new),
        *_command(old, new),
        *_fields(old, new),
        *_mounts(old, new),
        *_secrets(old, new),
        *_contents(old, new, facts or FileFacts()),
    ]


def changed_files(old: Ingredients, new: Ingredients) -> tuple[str, ...]:
    """Return the paths of the regular files whose bytes differ."""
    before, after = _files(old), _files(new)
    return tuple(
        path
        for path in sorted(before.keys() & after.keys())
        if _digest(before[path]) and _digest(before[path]) != _digest(after[path])
    )


def shortened(text: str, width: int = _SHOWN) -> str:
    """Return one line of at most `width` characters."""
    line = " ".join(text.split())
    return line if len(line) <= width else line[: width - 1] + "…"


# -- the parts of a key ----------------------------------------------------------------------


def _variables(old: Ingredients, new: Ingredients) -> Iterator[Cause]:
    before, after = _pairs(old.get("env")), _pairs(new.get("env"))
    declared = {*_texts(old.get("arg_names")), *_texts(new.get("arg_names"))}
    for name in [*after, *(name for name in before if name not in after)]:
        was, now = before.get(name), after.get(name)
        if was == now:
            continue
        what = f"{'ARG' if name in declared else 'ENV'} {name}"
        if was is None:
            text = f"{what}={_quoted(now)} is new"
        elif now is None:
            text = f"{what} is gone (it was {_quoted(was)})"
        else:
            text = f"{what} {_quoted(was)} → {_quoted(now)}"
        yield Cause("variable", text, was, now)
    if before == after and list(before) != list(after):
        yield Cause("variable", "the order of ARG and ENV changed")


def _command(old: Ingredients, new: Ingredients) -> Iterator[Cause]:
    before, after = _texts(old.get("args")), _texts(new.get("args"))
    if before == after:
        return
    if before[:-1] == after[:-1]:
        was, now = before[-1], after[-1]
        what = "the command changed"
    else:
        was, now = " ".join(before), " ".join(after)
        what = "the command or its shell changed"
    yield Cause("command", f"{what}: {_difference(was, now)}", was, now)


def _fields(old: Ingredients, new: Ingredients) -> Iterator[Cause]:
    for name in sorted(old.keys() | new.keys()):
        was, now = old.get(name), new.get(name)
        if name in _NOT_COMPARED or was == now:
            continue
        text = f"{_FIELDS.get(name, name)} {_value(was)} → {_value(now)}"
        yield Cause("field", text, _value(was), _value(now))


def _mounts(old: Ingredients, new: Ingredients) -> Iterator[Cause]:
    """Compare the mounts; files that a bind shows are told with the other files."""
    before, after = _by_target(old.get("mounts")), _by_target(new.get("mounts"))
    for target in [*after, *(target for target in before if target not in after)]:
        was, now = before.get(target), after.get(target)
        if was is None or now is None:
            change = "is new" if was is None else "is gone"
            yield Cause("mount", f"--mount at {target} {change}")
        else:
            names = [k for k in {**was, **now} if k != "content" and was.get(k) != now.get(k)]
            if names:
                said = ", ".join(
                    f"{name} {_value(was.get(name))} → {_value(now.get(name))}" for name in names
                )
                yield Cause("mount", f"--mount at {target}: {said}")


def _secrets(old: Ingredients, new: Ingredients) -> Iterator[Cause]:
    """Compare the secrets whose values count; what they are is in no sentence."""
    before, after = old.get(SECRETS), new.get(SECRETS)
    if not isinstance(before, Mapping) or not isinstance(after, Mapping):
        if before != after:
            how = "count now" if after is not None else "do not count any more"
            yield Cause("secret", f"values of secrets {how} (secret-key=content)")
        return
    for name in after:
        was, now = before.get(name), after[name]
        if name in before and was != now:
            how = "is given now" if was is None else "is not given any more"
            yield Cause("secret", f'secret "{name}" {"changed" if was and now else how}')


def _contents(old: Ingredients, new: Ingredients, facts: FileFacts) -> Iterator[Cause]:
    targets = _by_target(old.get("mounts")).keys() & _by_target(new.get("mounts")).keys()
    if _content_keys(old, targets) == _content_keys(new, targets):
        return  # a mount that came or went is told as such
    before, after = _files(old), _files(new)
    added = [path for path in after if path not in before]
    removed = [path for path in before if path not in after]
    changed = [path for path in after if path in before and before[path] != after[path]]
    told = 0
    for pattern, paths in _grouped(added, facts.ignored_before).items():
        told += 1
        text = f".dockerignore no longer excludes {pattern}"
        yield Cause("ignore", f"{text} ({_counted(paths)})", None, None, tuple(paths))
        added = [path for path in added if path not in paths]
    for pattern, paths in _grouped(removed, facts.ignored_now).items():
        told += 1
        text = f".dockerignore now excludes {pattern}"
        yield Cause("ignore", f"{text} ({_counted(paths)})", None, None, tuple(paths))
        removed = [path for path in removed if path not in paths]
    if changed or added or removed:
        sentences = [
            *(_file_change(path, before[path], after[path], facts) for path in changed),
            *(f"{path} is new" for path in added),
            *(f"{path} is gone" for path in removed),
        ]
        more = f" and {len(sentences) - 1} more" if len(sentences) > 1 else ""
        yield Cause("files", sentences[0] + more, None, None, (*changed, *added, *removed))
    elif not told and (old.get("chown") is None) == (new.get("chown") is None):
        # With --chown the owners of the files do not count, so it changes what the key holds.
        text = "names, owners, links or attributes of its files changed, their bytes did not"
        yield Cause("files", text)


def _file_change(path: str, was: str, now: str, facts: FileFacts) -> str:
    if _digest(was) != _digest(now):
        if was.startswith("-> ") and now.startswith("-> "):
            return f"{path} changed ({was[3:]} → {now[3:]})"
        return f"{path} changed{_lines_changed((facts.lines or {}).get(path))}"
    before, after = was.split(), now.split()
    if len(before) > 1 and len(after) > 1 and before[1] != after[1]:
        return f"mode of {path} {before[1]} → {after[1]}"
    return f"owner or kind of {path} changed"


def _lines_changed(counts: tuple[int, int] | None) -> str:
    if counts is None:
        return ""
    parts = [f"{sign}{count}" for sign, count in zip("+-", counts, strict=True) if count]
    return f" (lines {' '.join(parts)})" if parts else " (its lines changed places)"


# -- words -----------------------------------------------------------------------------------


def _quoted(text: str | None) -> str:
    shown = shortened(text or "", 40)
    return shown if shown and " " not in shown else f'"{shown}"'


def _value(value: object) -> str:
    if isinstance(value, str) and value.startswith("sha256:"):
        return value[:_DIGEST]
    if value in (None, "", [], ()):
        return "none"
    if isinstance(value, list | tuple):
        return shortened(",".join(map(str, value)), 40)
    return shortened(str(value), 40)


def _difference(was: str, now: str) -> str:
    """Return two texts from where they begin to differ, a few words before."""
    same = 0
    while same < min(len(was), len(now)) and was[same] == now[same]:
        same += 1
    start = was.rfind(" ", 0, max(same - 20, 0)) + 1 if same > 30 else 0
    lead = "…" if start else ""
    return f'"{lead}{shortened(was[start:], 45)}" → "{lead}{shortened(now[start:], 45)}"'


def _counted(paths: Sequence[str]) -> str:
    return paths[0] if len(paths) == 1 else f"{len(paths)} files, {paths[0]} among them"


def _grouped(paths: Iterable[str], patterns: tuple[str, ...]) -> dict[str, list[str]]:
    """Return those of `paths` that `patterns` exclude, by the pattern that does."""
    if not patterns:
        return {}
    rules = PatternList(patterns)
    found: dict[str, list[str]] = {}
    for path in paths:
        if rules.excludes(path.rstrip("/")):
            decides = rules.deciding_rule(path.rstrip("/"))
            found.setdefault(decides[1] if decides else path, []).append(path)
    return found


def _pairs(value: object) -> dict[str, str]:
    pairs = (str(item).partition("=") for item in value) if isinstance(value, list | tuple) else ()
    return {name: text for name, _, text in pairs}


def _texts(value: object) -> list[str]:
    return [str(item) for item in value] if isinstance(value, list | tuple) else []


def _files(ingredients: Ingredients) -> dict[str, str]:
    value = ingredients.get("files")
    if not isinstance(value, list | tuple):
        return {}
    return {str(row[0]): str(row[1]) for row in value}


def _digest(state: str) -> str:
    """Return the part of a file's state that says what it holds."""
    return state if state.startswith("-> ") else state.split(" ", 1)[0]


def _by_target(value: object) -> dict[str, dict[str, object]]:
    rows = value if isinstance(value, list | tuple) else ()
    return {str(row.get("target")): dict(row) for row in rows if isinstance(row, Mapping)}


def _content_keys(ingredients: Ingredients, targets: Set[str]) -> list[object]:
    mounts = _by_target(ingredients.get("mounts"))
    return [ingredients.get("content"), *(mounts[name].get("content") for name in sorted(targets))]
