"""Why files come out different from one build to the next: the usual ones, by their paths.

Source: reproducible-builds.org/docs, and Debian's notes on packages' maintainer scripts.
"""

import re

_ADDED = "only"
_CAUSES = (
    (
        r"\.pyc$",
        "Python writes the source's time into it: PYTHONDONTWRITEBYTECODE=1, or compile"
        " with --invalidation-mode checked-hash",
    ),
    (r"/var/log/", "a log says when things happened: remove it in the same step"),
    (r"/var/cache/ldconfig/aux-cache$", "ldconfig notes inodes and times: remove it in the step"),
    (
        r"/var/lib/apt/lists/|/var/lib/apk/db/|/var/cache/apk/",
        "package lists change with the day:"
        " remove them in the step, install pinned versions from a snapshot",
    ),
    (
        r"/var/cache/(apt|debconf|fontconfig|man)/",
        "a package manager's cache: remove it in the step",
    ),
    (
        r"/var/lib/dpkg/|/var/lib/rpm/|/usr/lib/sysimage/rpm/",
        "the package database: the versions or"
        " the order of what was installed differ; pin them, use a snapshot of the archive",
    ),
    (
        r"/etc/(shadow|passwd|group|gshadow)-?$",
        "shadow's file has the day of the last change:"
        " chage -d, or run the tool with SOURCE_DATE_EPOCH",
    ),
    (r"/etc/machine-id$|/var/lib/dbus/machine-id$", "a machine's id is random: empty it"),
    (r"/etc/ssh/ssh_host_", "host keys are random: make them when the container starts"),
    (
        r"\.(key|pem|crt|jks|p12)$",
        "keys and certificates are made of chance and the date: give them"
        " as secrets, or make them when the container starts",
    ),
    (
        r"\.(a|lib)$",
        "an archive of objects has times and owners: ar with D (binutils' default is"
        " --enable-deterministic-archives)",
    ),
    (r"\.(gz|tgz)$", "gzip writes the time and name into the file: gzip -n"),
    (
        r"\.(zip|jar|war|whl|apk)$",
        "a zip has the times of its files: set SOURCE_DATE_EPOCH, or use strip-nondeterminism",
    ),
    (
        r"\.tar(\.\w+)?$",
        "tar keeps times, owners and the order of directories: --sort=name"
        " --mtime=@$SOURCE_DATE_EPOCH --owner=0 --group=0",
    ),
    (
        r"\.(o|so(\.[\d.]+)?|ko)$|/s?bin/",
        "a program may hold __DATE__, its build's folder or a random"
        " build id: SOURCE_DATE_EPOCH, -ffile-prefix-map, ld --build-id=sha1; go: -trimpath",
    ),
    (
        r"\.(db|sqlite3?|mo|cache)$",
        "it keeps times or the order of what was written",
    ),
    (r"/\.git/", "git's index has times and inodes: leave .git out"),
    (
        r"/node_modules/\.|/\.npm/|/\.yarn",
        "a package manager's state: npm ci, and remove its cache",
    ),
    (r"/(root|home/[^/]+)/\.cache/|/tmp/", "left over: remove it in the step"),
    (r"/proc/|/sys/", "the kernel's state at that moment"),
)
_BY_PROPERTY = {
    "time": "its time is older than the build and still differs: touch -d @$SOURCE_DATE_EPOCH",
    "mode": "its mode follows the umask: install -m, or chmod",
    "owner": "its owner was given by number or chance: chown",
    "link target": "a link to something whose name is chance or a date",
}


def known_cause(path: str, what: tuple[str, ...]) -> str | None:
    """Return what usually makes a file differ in this way, None where nothing is known."""
    if not {"content", "size"}.isdisjoint(what) or what[0].startswith(_ADDED):
        return next((cause for pattern, cause in _CAUSES if re.search(pattern, path)), None)
    return next((_BY_PROPERTY[name] for name in what if name in _BY_PROPERTY), None)
