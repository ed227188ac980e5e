"""Gets the sources of other runtimes, with their tests, from this machine's own package archive."""

import subprocess
import sys
import tempfile
from pathlib import Path

PROJECT = Path(__file__).parents[2]
sys.path.insert(0, str(PROJECT / "scripts"))

import debian_rootfs  # noqa: E402 - it knows this machine's apt

CACHE = PROJECT / ".cache" / "judges"
RELEASE = "bookworm"


def source(package: str) -> Path:
    """Return the unpacked source of a Debian package, fetched once. Raises SystemExit."""
    CACHE.mkdir(parents=True, exist_ok=True)
    folder = CACHE / package
    with debian_rootfs.locked(CACHE / f"{package}.lock"):
        if not folder.is_dir():
            _fetch(package, folder)
    return folder


def _fetch(package: str, folder: Path) -> None:
    sources = debian_rootfs.host_sources(RELEASE)
    if not sources:
        raise SystemExit(f"apt's sources name no {RELEASE}: cannot fetch the source of {package}")
    with tempfile.TemporaryDirectory(dir=CACHE, prefix=".fetch-") as name:
        work = Path(name)
        (work / "lists").mkdir()
        (work / "here.sources").write_text(
            debian_rootfs.render([{**fields, "types": "deb-src"} for fields in sources])
        )
        apt = ["apt-get", "-qq", "-o", f"Dir::Etc::SourceList={work}/here.sources"]
        apt += ["-o", "Dir::Etc::SourceParts=/dev/null", "-o", f"Dir::State::Lists={work}/lists"]
        apt += ["-o", "APT::Sandbox::User=root"]
        _run([*apt, "update"], work)
        _run([*apt, "source", "--download-only", package], work)
        (archive,) = work.glob("*.orig.tar.*[z2]")
        (work / "tree").mkdir()
        _run(["tar", "-xf", str(archive), "--strip-components=1", "-C", "tree"], work)
        (work / "tree").rename(folder)


def _run(command: list[str], folder: Path) -> None:
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        sys.stderr.write(done.stderr[-2000:])
        raise SystemExit(f"{' '.join(command[-3:])}: exit status {done.returncode}")
