"""What the values of the build verb's options mean: text to the values of a `BuildRequest`.

Every parser takes one value as written and raises UsageError for what it does not mean.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator

from pybuild.errors import UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NoReturn

    from builder.request import Budget, CachePlace, Output, Place, SecretSource, SshSource, Ulimit

_SECRET_KEYS = ("id", "type", "src", "source", "env")
_SECRET_TYPES = ("file", "env")
ENTITLEMENTS = ("network.host", "security.insecure", "buildx.local.delete")
# Source: docker/go-units ulimit.go.
ULIMITS = (
    *("core", "cpu", "data", "fsize", "locks", "memlock", "msgqueue", "nice", "nofile", "nproc"),
    *("rss", "rtprio", "rttime", "sigpending", "stack"),
)
_EXAMPLES = {
    "--secret": "as in id=token,src=FILE",
    "--sbom": "true, false, or as in generator=IMAGE",
    "--provenance": "min, max, false, or as in mode=max,builder-id=URL",
    "--attest": "as in type=provenance,mode=max",
    "--output": "as in type=oci,dest=FILE",
    "--cache-from": "as in type=registry,ref=HOST/NAME:TAG",
    "--cache-to": "as in type=registry,ref=HOST/NAME:TAG",
}
_BOOLEANS = ("1", "t", "true", "", "0", "f", "false")
_SIZE = r"(?i)(\d+(?:\.\d+)?) ?([kmgtp])?i?b?"
_NUMBER = r"-1|\d+"


def refuse(message: str, hint: str | None = None) -> NoReturn:
    """Raise UsageError for a value of the build verb."""
    raise UsageError(f"build: {message}", hint=hint or "see pybuild build --help")


def parse_output(text: str) -> Output:
    """Return the output that `text` describes, `type=oci,dest=FILE` in CSV.

    A word without `=` is docker's short form: a directory, or `-` for a tar on stdout.
    """
    from builder.request import Output

    if "=" not in text and "," not in text:
        return Output("tar" if text == "-" else "local", (("dest", text),))
    pairs = list(csv_pairs("--output", text))
    kinds = [option for key, option in pairs if key == "type"]
    if not kinds:
        refuse(f'--output: "{text}" names no type', "as in type=oci,dest=FILE")
    return Output(kinds[-1], tuple(pair for pair in pairs if pair[0] != "type"))


def parse_cache(option: str, text: str) -> CachePlace:
    """Return the place that `text` describes; a word without `=` is an image at a registry."""
    from builder.request import CachePlace

    if "=" not in text and "," not in text:
        return CachePlace("registry", (("ref", text),))
    pairs = list(csv_pairs(option, text))
    kinds = [value for key, value in pairs if key == "type"]
    if not kinds:
        refuse(f'{option}: "{text}" names no type', "as in type=registry,ref=HOST/NAME:TAG")
    return CachePlace(kinds[-1], tuple(pair for pair in pairs if pair[0] != "type"))


def parse_provenance(text: str | None) -> Place | None:
    """Return what `true`, `false`, `max`, or `mode=max,…` asks for; None without it."""
    if text is not None and "=" not in text and text.lower() not in _BOOLEANS:
        text = f"mode={text}"
    return _attestation("provenance", text)


def parse_sbom(text: str | None) -> Place | None:
    """Return what `true`, `false` or `generator=IMAGE` asks for; None without it."""
    return _attestation("sbom", text)


def _attestation(kind: str, text: str | None) -> Place | None:
    from builder.request import FALSE, TRUE, Place

    if text is None or text.lower() in FALSE:
        return None
    if text.lower() in TRUE:
        return Place(kind)
    # A generator's own parameters are of upper case.
    return Place(kind, tuple(csv_pairs(f"--{kind}", text, lower=False)))


def parse_attests(
    texts: tuple[str, ...], provenance: str | None, sbom: str | None
) -> tuple[Place | None, Place | None]:
    """Return what `--attest type=sbom|provenance,…` and the short forms ask for, provenance first.

    Each may be asked for once. Source: buildx util/buildflags/attests.go.
    """
    from builder.request import Place

    found = {"provenance": parse_provenance(provenance), "sbom": parse_sbom(sbom)}
    given = {
        kind for kind, text in (("provenance", provenance), ("sbom", sbom)) if text is not None
    }
    for text in texts:
        pairs = list(csv_pairs("--attest", text, lower=False))
        kind = dict(pairs).get("type")
        if kind is None:
            refuse(f'--attest: "{text}" names no type', "as in type=provenance,mode=max")
        if kind not in found:
            refuse(f'--attest: unknown type "{kind}"', f"there is {' and '.join(sorted(found))}")
        if kind in given:
            refuse(f"--attest: duplicate attestation field {kind}", "say everything in one option")
        given.add(kind)
        found[kind] = Place(kind, tuple(pair for pair in pairs if pair[0] != "type"))
    return found["provenance"], found["sbom"]


def parse_secret(text: str) -> SecretSource:
    """Return the secret that `text` describes, `id=token,src=FILE` in CSV."""
    from builder.request import SecretSource

    given = dict(csv_pairs("--secret", text))
    for key in given:
        if key not in _SECRET_KEYS:
            refuse(f'--secret: unknown key "{key}"', f"there is {', '.join(_SECRET_KEYS)}")
    name, kind = given.get("id", ""), given.get("type")
    if kind is not None and kind not in _SECRET_TYPES:
        refuse(f'--secret: unsupported type "{kind}"', f"there is {' and '.join(_SECRET_TYPES)}")
    if not name:
        refuse(f'--secret: "{text}" has no id', "as in id=token,src=FILE")
    path = given.get("src") or given.get("source")
    if kind == "env":
        return SecretSource(name, variable=given.get("env") or path or name)
    if kind == "file" or path:
        return SecretSource(name, path=path or name)
    return SecretSource(name, variable=given.get("env") or None)


def parse_ssh(text: str) -> SshSource:
    """Return the key agent that `text` describes: `default`, `id=SOCKET` or `id=KEY,KEY`."""
    from builder.request import SshSource

    name, _, paths = text.partition("=")
    if not name:
        refuse(f'--ssh: "{text}" has no id', "as in --ssh default")
    return SshSource(name, tuple(path for path in paths.split(",") if path))


def allowed(words: tuple[str, ...], network: str) -> tuple[str, ...]:
    """Return the entitlements that `--allow`s give; `--network host` gives its own."""
    names = [name.strip() for word in words for name in word.split(",")]
    for name in names:
        if name not in ENTITLEMENTS:
            refuse(f'--allow: unknown entitlement "{name}"', f"there is {', '.join(ENTITLEMENTS)}")
    if network == "host" and "network.host" not in names:
        names.append("network.host")
    return tuple(names)


def parse_network(text: str | None) -> str:
    """Return the network of RUN steps that name none."""
    network = text or "default"
    if network not in ("default", "none", "host"):
        from runtime.errors import InvalidNetwork
        from runtime.network.modes import parse_mode

        try:
            parse_mode(network)
        except InvalidNetwork as error:
            refuse(str(error), error.hint)
    return network


def parse_context(word: str) -> tuple[str, str]:
    """Return name and place of a `--build-context`."""
    name, _, where = word.partition("=")
    if not name or not where:
        refuse(f'--build-context: "{word}" is no NAME=WHERE')
    return name, where


def build_args(words: tuple[str, ...]) -> Iterator[tuple[str, str]]:
    """Yield the build arguments; a name alone takes the environment's value, if there is one.

    SOURCE_DATE_EPOCH is passed on from the environment unasked, as buildx does.
    """
    epoch = os.environ.get("SOURCE_DATE_EPOCH")
    if epoch and not any(word.partition("=")[0] == "SOURCE_DATE_EPOCH" for word in words):
        yield "SOURCE_DATE_EPOCH", epoch
    for word in words:
        name, equals, text = word.partition("=")
        if not name:
            refuse(f'--build-arg: "{word}" has no name')
        if equals:
            yield name, text
        elif name in os.environ:
            yield name, os.environ[name]


def parse_stage_tag(word: str) -> tuple[str, str]:
    """Return stage and name of a `-t STAGE=NAME`."""
    stage, _, name = word.partition("=")
    if not stage or not name:
        refuse(f'--tag: "{word}" is no STAGE=NAME', "as in -t test=example/test:1")
    return stage, name


def parse_label(word: str) -> tuple[str, str]:
    """Return key and value of a `--label`; a key alone has an empty value."""
    key, _, text = word.partition("=")
    if not key:
        refuse(f'--label: "{word}" has no key')
    return key, text


def parse_annotation(word: str) -> tuple[str, str]:
    """Return key and value of an `--annotation`; the key still has its `type[platform]:`."""
    key, equals, text = word.partition("=")
    if not equals or not key.rpartition(":")[2]:
        refuse(
            f'--annotation: "{word}" is no key=value',
            "as in key=value, or index,manifest:key=value",
        )
    return key, text


def parse_add_host(word: str) -> tuple[str, str]:
    """Return name and address of an `--add-host`. Source: docker/cli opts/hosts.go."""
    import ipaddress

    name, equals, address = word.partition("=")
    if not equals:
        name, equals, address = word.partition(":")
    if not equals or not name:
        refuse(f'--add-host: bad format for add-host: "{word}"', "as in NAME:ADDRESS")
    if address == "host-gateway":
        return name, address
    bare = address[1:-1] if address.startswith("[") and address.endswith("]") else address
    try:
        ipaddress.ip_address(bare)
    except ValueError:
        refuse(
            f'--add-host: invalid IP address in add-host: "{address}"',
            "give an IPv4 or IPv6 address, or host-gateway",
        )
    return name, bare


def parse_ulimit(word: str) -> Ulimit:
    """Return the limit that `NAME=SOFT[:HARD]` means. Source: docker/go-units ulimit.go."""
    from builder.request import Ulimit

    name, equals, values = word.partition("=")
    if not equals or not values:
        refuse(f"--ulimit: invalid ulimit argument: {word}", "as in nofile=1024:2048")
    if name not in ULIMITS:
        refuse(f"--ulimit: invalid ulimit type: {name}", f"there is {', '.join(ULIMITS)}")
    numbers = values.split(":")
    if len(numbers) > 2 or not all(re.fullmatch(_NUMBER, n) for n in numbers):
        refuse(f'--ulimit: "{values}" is no limit', "write SOFT or SOFT:HARD; -1 is no limit")
    soft, hard = int(numbers[0]), int(numbers[-1])
    if hard != -1 and (soft > hard or soft == -1):
        refuse(f"--ulimit: soft limit must be less than or equal to hard limit: {soft} > {hard}")
    return Ulimit(name, soft, hard)


def parse_size(option: str, text: str | None) -> int | None:
    """Return the bytes that a size means (64m, 1.5g; powers of 1024), None without one."""
    if text is None:
        return None
    found = re.fullmatch(_SIZE, text)
    if found is None:
        refuse(f'{option}: invalid size: "{text}"', "write it like 67108864, 64m or 1g")
    power = "kmgtp".index(found[2].lower()) + 1 if found[2] else 0
    return int(float(found[1]) * 1024**power)


def parse_jobs(text: str | None) -> int | None:
    """Return how many steps may run at once, None where it is not said."""
    if text is None:
        return None
    if not text.isdecimal() or int(text) < 1:
        refuse(f'--jobs: "{text}" is no number above 0')
    return int(text)


def parse_budget(texts: tuple[str, ...]) -> Budget | None:
    """Return the limits that `image=200MB,step=60s,total=5m` say; a later one of a key wins."""
    from builder.request import Budget
    from pybuild.sizes import parse_duration, parse_size

    hint = "image=SIZE (kB, MB, GB, KiB, MiB, GiB), step=TIME and total=TIME (ms, s, m, h)"
    limits: dict[str, float] = {}
    for text in words(texts):
        key, _, limit = text.partition("=")
        if key not in ("image", "step", "total"):
            refuse(f'--budget: "{text}" limits nothing that there is', hint)
        try:
            limits[key] = parse_size(limit) if key == "image" else parse_duration(limit)
        except ValueError as error:
            refuse(f"--budget {key}: {error}", hint)
    if not limits:
        return None
    image = limits.get("image")
    return Budget(None if image is None else int(image), limits.get("step"), limits.get("total"))


def words(texts: tuple[str, ...]) -> Iterator[str]:
    """Yield the words of lists with commas."""
    for text in texts:
        yield from filter(None, (word.strip() for word in text.split(",")))


def csv_pairs(option: str, text: str, *, lower: bool = True) -> Iterator[tuple[str, str]]:
    """Yield the `key=value` fields of an option's value in CSV, keys in lower case unless not."""
    import csv

    try:
        fields = next(csv.reader([text], strict=True), [])
    except csv.Error as error:
        refuse(f"{option}: {text}: {error}", "quote values that have commas with double quotes")
    for field in fields:
        key, equals, value = field.partition("=")
        if not equals:
            refuse(f'{option}: "{field}" is no key=value', _EXAMPLES.get(option))
        key = key.strip()
        yield (key.lower() if lower else key), value
