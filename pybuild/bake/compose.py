"""Compose files: the build sections of their services as targets.

The only module that imports yaml. Source: compose-spec build.md; buildx bake/compose.go.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from pybuild.bake.blocks import Collected
from pybuild.bake.composetext import interpolated
from pybuild.bake.definitions import close
from pybuild.bake.syntax import Place
from pybuild.bake.target import Group, Target, check_name
from pybuild.bake.values import WrongValue, items, kind, mapping, text, truth
from pybuild.errors import BakeError

_BUILD_KEYS = (
    *("additional_contexts", "args", "cache_from", "cache_to", "context", "dockerfile"),
    *("dockerfile_inline", "entitlements", "extra_hosts", "isolation", "labels", "network"),
    *("no_cache", "no_cache_filter", "platforms", "privileged", "provenance", "pull", "sbom"),
    *("secrets", "shm_size", "ssh", "tags", "target", "ulimits"),
)
# Keys of a build section whose value is what the key of a target takes.
_SAME = {
    "cache_from": "cache-from",
    "cache_to": "cache-to",
    "context": "context",
    "dockerfile": "dockerfile",
    "dockerfile_inline": "dockerfile-inline",
    "entitlements": "entitlements",
    "network": "network",
    "no_cache": "no-cache",
    "no_cache_filter": "no-cache-filter",
    "platforms": "platforms",
    "pull": "pull",
    "tags": "tags",
    "target": "target",
}
_X_BAKE = (
    *("tags", "cache-from", "cache-to", "secret", "ssh", "platforms", "output", "pull"),
    *("no-cache", "no-cache-filter", "contexts"),
)
_LISTS = ("cache_from", "cache_to", "entitlements", "no_cache_filter", "platforms", "tags")


def add_compose(
    files: Sequence[tuple[str, bytes]], environment: Mapping[str, str], found: Collected
) -> None:
    """Add the targets of compose files, merged in their order. Raises BakeError."""
    merged: dict[str, object] = {}
    for name, data in files:
        merged = _merged(merged, _document(data, name, environment))
    name = files[-1][0]
    place = Place(name, "services")
    secrets = merged.get("secrets") or {}
    members = []
    for service, settings in _mapping(merged.get("services") or {}, place).items():
        where = Place(name, f"services.{service}")
        fields = _mapping(settings or {}, where)
        if fields.get("build") is not None:
            target = _Service(where, fields, secrets, environment).target(str(service))
            found.add_target(target)
            members.append(target.name)
    if members:
        found.add_group(Group("default", members))


def _document(data: bytes, name: str, environment: Mapping[str, str]) -> dict[str, object]:
    try:
        import yaml
    except ImportError as error:
        raise BakeError(
            f"{name}: the package PyYAML is not installed", hint="pip install 'pybuild[bake]'"
        ) from error
    try:
        document = yaml.safe_load(data)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f"{name}:{mark.line + 1}" if mark is not None else name
        problem = getattr(error, "problem", None) or "it is no YAML"
        raise BakeError(f"{where}: {problem}") from error
    if not isinstance(document, dict):
        raise BakeError(f"{name}: not an object", hint="a compose file has services:")
    kept = {key: document[key] for key in ("services", "secrets") if key in document}
    if "services" not in kept:
        raise BakeError(f"{name}: there are no services")
    whole = interpolated(kept, environment, name)
    return _mapping(whole, Place(name, ""))


def _merged(one: dict[str, object], other: Mapping[str, object]) -> dict[str, object]:
    """Return two documents as one: objects are merged, lists grow, else the later one wins."""
    merged = dict(one)
    for key, value in other.items():
        known = merged.get(key)
        if key == "build" and isinstance(value, str):
            value = {"context": value}
        if key == "build" and isinstance(known, str):
            known = {"context": known}
        if key in ("args", "labels") and isinstance(known, dict | list):
            known, value = _pairs(known), _pairs(value)
        if isinstance(known, dict) and isinstance(value, dict):
            merged[key] = _merged(known, value)
        elif isinstance(known, list) and isinstance(value, list):
            merged[key] = [*known, *(item for item in value if item not in known)]
        else:
            merged[key] = value
    return merged


class _Service:
    """Makes a target of one service."""

    def __init__(
        self,
        place: Place,
        fields: Mapping[str, object],
        secrets: object,
        environment: Mapping[str, str],
    ) -> None:
        self._place = place
        self._fields = fields
        self._secrets = _mapping(secrets, Place(place.file, "secrets"))
        self._environment = environment

    def target(self, service: str) -> Target:
        """Return the target. Raises BakeError."""
        name = service.replace(".", "_")
        check_name(name, self._place)
        build = self._fields["build"]
        fields = {"context": build} if isinstance(build, str) else build
        known = _mapping(fields, self._in("build"))
        for key in known:
            if key not in _BUILD_KEYS and not str(key).startswith("x-"):
                hint = close(str(key), _BUILD_KEYS) or f"there is {', '.join(_BUILD_KEYS)}"
                raise self._in(f"build.{key}").error(f'unknown key "{key}"', hint)
        target = Target(name)
        for key, value in self._keys(known):
            place = self._in(f"build.{key}")
            try:
                target.set(key, value, place)
            except WrongValue as error:
                raise place.error(str(error)) from error
        image = self._fields.get("image")
        if not target.texts("tags") and isinstance(image, str):
            target.set("tags", [image], self._in("image"))
        self._extend(target, known.get("x-bake"))
        return target

    def _in(self, key: str) -> Place:
        return Place(self._place.file, f"{self._place.where}.{key}")

    def _keys(self, build: Mapping[str, object]) -> Iterator[tuple[str, object]]:
        """Yield the keys of a target and their values."""
        for key, value in build.items():
            if value is None:
                continue
            if key in _SAME:
                yield _SAME[key], [value] if key in _LISTS and isinstance(value, str) else value
            elif key == "privileged" and truth(value):
                yield "entitlements", ["security.insecure"]
        for key, read in (
            ("args", self._args),
            ("labels", _pairs),
            ("additional_contexts", _contexts),
            ("extra_hosts", _hosts),
            ("shm_size", _size),
            ("ulimits", _ulimits),
            ("ssh", _ssh),
            ("secrets", self._secret_entries),
        ):
            if build.get(key) is not None:
                name = {"additional_contexts": "contexts", "secrets": "secret"}.get(key, key)
                yield name.replace("_", "-"), self._read(read, build[key], key)
        attests = [_attestation(key, build[key]) for key in ("provenance", "sbom") if key in build]
        if attests:
            yield "attest", attests

    def _read(self, read: object, value: object, key: str) -> object:
        assert callable(read), "the table has functions only"
        try:
            made: object = read(value)
        except WrongValue as error:
            raise self._in(f"build.{key}").error(str(error)) from error
        return made

    def _args(self, value: object) -> object:
        """Return arguments; one without a value takes the environment's, if there is one."""
        found = {}
        for name, item in _pairs(value).items():
            if item is None:
                item = self._environment.get(name)
            if item is not None:
                found[name] = item
        return found

    def _secret_entries(self, value: object) -> object:
        entries = []
        for item in items(value):
            name = text(item if isinstance(item, str) else mapping(item).get("source"))
            source = self._secrets.get(name)
            if source is None:
                hint = close(name, tuple(self._secrets)) or "declare it below secrets:"
                raise self._in("build.secrets").error(f'there is no secret "{name}"', hint)
            fields = mapping(source)
            if fields.get("external"):
                raise self._in("build.secrets").error(f"unsupported external secret {name}")
            entry = {"id": name}
            if fields.get("file"):
                entry["src"] = text(fields["file"])
            if fields.get("environment"):
                entry["env"] = text(fields["environment"])
            entries.append(entry)
        return entries

    def _extend(self, target: Target, extension: object) -> None:
        """Apply `x-bake`, which says what compose has no words for."""
        if extension is None:
            return
        place = self._in("build.x-bake")
        more = Target(target.name)
        for key, value in _mapping(extension, place).items():
            if key not in _X_BAKE:
                hint = close(key, _X_BAKE) or f"there is {', '.join(_X_BAKE)}"
                raise place.error(f'unknown key "{key}"', hint)
            words = value.split() if isinstance(value, str) and key not in ("pull",) else value
            if key == "contexts":
                words = _contexts(value)
            more.set(key, words, place)
        for key, made in more.values.items():
            known = target.values.get(key)
            if isinstance(known, list) and isinstance(made, list):
                target.values[key] = [*known, *(item for item in made if item not in known)]
            elif isinstance(known, dict) and isinstance(made, dict):
                target.values[key] = {**made, **known}
            else:
                target.values[key] = made


def _mapping(value: object, place: Place) -> dict[str, object]:
    if not isinstance(value, dict):
        raise place.error(f"an object is needed, and this is {kind(value)}")
    return {str(key): item for key, item in value.items()}


def _pairs(value: object) -> dict[str, object]:
    """Return names and values of an object, or of a list of `NAME=VALUE`; None without `=`."""
    if isinstance(value, list):
        split = (text(item).partition("=") for item in value)
        return {name: item if equals else None for name, equals, item in split}
    return {str(key): item for key, item in mapping(value).items()}


def _contexts(value: object) -> dict[str, object]:
    found: dict[str, object] = {}
    for name, where in _pairs(value).items():
        place = text(where)
        scheme, colon, rest = place.partition(":")
        if colon and scheme in ("service", "target"):
            place = "target:" + rest.replace(".", "_")
        found[name] = place
    return found


def _hosts(value: object) -> dict[str, object]:
    if isinstance(value, list):
        found: dict[str, object] = {}
        for item in value:
            word = text(item)
            name, mark, address = word.partition("=")
            if not mark:
                name, _, address = word.partition(":")
            found[name] = address.strip("[]")
        return found
    return {
        name: ",".join(map(text, item)) if isinstance(item, list) else item
        for name, item in mapping(value).items()
    }


def _size(value: object) -> str:
    return text(value)


def _ulimits(value: object) -> list[object]:
    found: list[object] = []
    for name, limit in mapping(value).items():
        if isinstance(limit, dict):
            found.append(f"{name}={text(limit.get('soft'))}:{text(limit.get('hard'))}")
        else:
            found.append(f"{name}={text(limit)}:{text(limit)}")
    return found


def _ssh(value: object) -> list[object]:
    """Return key agents, by their ids; `default` is one of them."""
    if isinstance(value, list):
        return sorted(value, key=text)
    pairs = sorted(mapping(value).items())
    return [name if path is None else f"{name}={text(path)}" for name, path in pairs]


def _attestation(type_: str, value: object) -> str:
    """Return the attestation that `true`, `false` or `mode=max` means."""
    said = text(value)
    if said.lower() in ("true", "false"):
        return f"type={type_},disabled={'false' if said.lower() == 'true' else 'true'}"
    return f"type={type_},{said}"
