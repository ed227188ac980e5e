#!/usr/bin/env python3
"""Make the root filesystem of a small Debian as a tar file, from this machine's own apt sources.

The image can use apt afterwards: it gets the entries of this machine's sources that belong to the
release, the keyrings those name, and the options without which this machine's apt would not reach
them (proxy, date checks). Nothing here knows the name of a mirror.

usage: debian_rootfs.py OUT.tar [RELEASE]     does nothing when OUT.tar is there
"""

import contextlib
import fcntl
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

APT = Path("/etc/apt")
HOST_CERTIFICATES = Path("/etc/ssl/certs/ca-certificates.crt")
SUITE_SUFFIXES = ("", "-updates", "-security", "-backports", "/updates")
DEB822_NAMES = {"arch": "architectures", "lang": "languages", "target": "targets"}
# What decides whether this machine's apt reaches its mirror at all.
CARRIED_OPTIONS = re.compile(
    r"^(Acquire::(?:(?:http|https|ftp)::.*|Check-Valid-Until|Check-Date|Retries|Languages.*))"
    r' "(.+)";$'
)
# As Debian's own slim images: nobody reads manuals in a container.
NOT_UNPACKED = ("/usr/share/man/*", "/usr/share/locale/*", "/usr/share/info/*", "/usr/share/doc/*")
UNPACKED_ALL_THE_SAME = ("/usr/share/doc/*/copyright", "/usr/share/locale/locale.alias")


def stanzas(text: str) -> Iterator[dict[str, str]]:
    """Yield the paragraphs of a deb822 file as fields with lower-case names."""
    for paragraph in re.split(r"\n[ \t]*\n", text):
        fields: dict[str, str] = {}
        name = ""
        for line in paragraph.splitlines():
            if line.startswith("#") or not line.strip():
                continue
            if line[0] in " \t":
                fields[name] = f"{fields[name]}\n{line}"
            else:
                name, _, value = line.partition(":")
                name = name.strip().lower()
                fields[name] = value.strip()
        if fields:
            yield fields


def one_line_entries(text: str) -> Iterator[dict[str, str]]:
    """Yield the `deb [options] uri suite components` lines of a .list file in the deb822 form."""
    for line in text.splitlines():
        match = re.match(r"\s*deb\s+(?:\[([^\]]*)\]\s+)?(\S+)\s+(\S+)\s*([^#]*)", line)
        if match is None:
            continue
        options, uri, suite, components = match.groups()
        fields = {"types": "deb", "uris": uri, "suites": suite, "components": components.strip()}
        for option in (options or "").split():
            name, _, value = option.partition("=")
            fields[DEB822_NAMES.get(name, name.lower())] = value.replace(",", " ")
        yield fields


def host_sources(release: str, apt: Path = APT) -> list[dict[str, str]]:
    """Return the binary sources of `release`, its updates and security, that `apt` names."""
    found: list[dict[str, str]] = []
    lists = [apt / "sources.list", *sorted((apt / "sources.list.d").glob("*.list"))]
    for path in lists:
        if path.is_file():
            found.extend(one_line_entries(path.read_text()))
    for path in sorted((apt / "sources.list.d").glob("*.sources")):
        found.extend(stanzas(path.read_text()))
    wanted = {release + suffix for suffix in SUITE_SUFFIXES}
    sources = []
    for fields in found:
        suites = [suite for suite in fields.get("suites", "").split() if suite in wanted]
        disabled = fields.get("enabled", "yes").lower() == "no"
        if suites and not disabled and "deb" in fields.get("types", "").split():
            sources.append({**fields, "types": "deb", "suites": " ".join(suites)})
    return sources


def render(sources: list[dict[str, str]]) -> str:
    """Return `sources` as the text of a deb822 file."""
    paragraphs = (
        "".join(f"{name.title()}: {value}\n" for name, value in fields.items())
        for fields in sources
    )
    return "\n".join(paragraphs)


def carried_options() -> list[str]:
    """Return this machine's apt options that reaching a mirror may depend on."""
    dump = subprocess.run(["apt-config", "dump"], check=True, capture_output=True, text=True)
    options = []
    for line in dump.stdout.splitlines():
        match = CARRIED_OPTIONS.match(line)
        if match:
            options.append(f'{match[1]} "{match[2]}";')
    for scheme in ("http", "https"):
        proxy = os.environ.get(f"{scheme}_proxy")
        if proxy and not any(f"::{scheme}::Proxy " in option for option in options):
            options.append(f'Acquire::{scheme}::Proxy "{proxy}";')
    return options


def mmdebstrap_command(release: str, sources: list[dict[str, str]], out: Path) -> list[str]:
    """Return the command that writes the tar to `out` and reads the sources from its stdin."""
    command = ["mmdebstrap", "--quiet", "--mode=root", "--variant=apt", "--format=tar"]
    command += [f"--aptopt={option}" for option in carried_options()]
    command += [f"--dpkgopt=path-exclude={pattern}" for pattern in NOT_UNPACKED]
    command += [f"--dpkgopt=path-include={pattern}" for pattern in UNPACKED_ALL_THE_SAME]
    for keyring in sorted({path for fields in sources for path in keyrings(fields)}):
        command += [
            f'--setup-hook=mkdir -p "$1{Path(keyring).parent}"',
            f"--setup-hook=upload {keyring} {keyring}",
        ]
    if any("https:" in fields["uris"] for fields in sources):
        command.append("--include=ca-certificates")
        if HOST_CERTIFICATES.exists():
            command.append(f"--customize-hook=upload {HOST_CERTIFICATES} {HOST_CERTIFICATES}")
    # This machine's name and resolver, and devices that a runtime makes anew, are no image's.
    command.append('--customize-hook=rm -f "$1/etc/hostname" "$1/etc/resolv.conf"')
    command.append("--skip=output/dev")
    return [*command, release, str(out), "-"]


def keyrings(fields: dict[str, str]) -> list[str]:
    """Return the keyring files that a source names; a key may stand in the source itself."""
    value = fields.get("signed-by", "")
    return [word for word in value.split() if word.startswith("/")] if "\n" not in value else []


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold an exclusive lock, so that two test processes make one file once."""
    with path.open("w") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        yield


def make(out: Path, release: str, apt: Path = APT) -> None:
    """Write the tar to `out`, complete or not at all. Raises SystemExit with one line."""
    sources = host_sources(release, apt)
    if not sources:
        raise SystemExit(f"apt's sources in {apt} name no {release}: cannot make a base image")
    # Root's files in a folder that others may write to: the temporary name must not be guessable.
    with tempfile.TemporaryDirectory(dir=out.parent, prefix=".rootfs-") as folder:
        half_made = Path(folder) / "rootfs.tar"
        made = subprocess.run(
            mmdebstrap_command(release, sources, half_made),
            input=render(sources),
            text=True,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            check=False,
        )
        if made.returncode != 0:
            sys.stderr.write(made.stderr[-3000:])
            raise SystemExit(f"mmdebstrap could not make a root filesystem of {release}")
        half_made.rename(out)


def main() -> None:
    """Make the file named on the command line unless it is there."""
    if len(sys.argv) not in (2, 3):
        raise SystemExit("usage: debian_rootfs.py OUT.tar [RELEASE]")
    out = Path(sys.argv[1]).absolute()
    release = sys.argv[2] if len(sys.argv) == 3 else "bookworm"
    out.parent.mkdir(parents=True, exist_ok=True)
    with locked(out.with_suffix(".lock")):
        if not out.exists():
            make(out, release)


if __name__ == "__main__":
    main()
