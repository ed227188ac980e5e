"""What the global options say: where states are, where errors go."""

import os
import sys

from runtime import jsontext
from runtime.command.options import Parsed, UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

DEFAULT_ROOT = "/run/pybuild-runtime"


class Context:
    """The global options. root: folder of the containers. systemd_cgroup: asked for.

    seal: starts over in a sealed interpreter; None in one.
    """

    def __init__(self, parsed: Parsed) -> None:
        self.root = os.path.abspath(parsed.text("root") or _default_root())
        self.seal: Callable[[], None] | None = None
        self.systemd_cgroup = parsed.flag("systemd-cgroup")
        self._debug = parsed.flag("debug")
        self._log = parsed.text("log")
        form = parsed.text("log-format") or "text"
        if form not in ("text", "json"):
            raise UsageError(f"--log-format: {form!r} is neither text nor json")
        self._json = form == "json"
        if self._log:
            self._write("")  # callers look into it after every call

    @property
    def cache(self) -> str:
        """The folder of compiled seccomp filters."""
        return os.path.join(self.root, ".cache")

    def debug(self, message: str) -> None:
        """Say what is done, where --debug asks for it."""
        if self._debug:
            self.report("debug", message)

    def report(self, level: str, message: str) -> None:
        """Say what went wrong, or might, where the caller looks for it: runc's log, and stderr."""
        from runtime.container import now

        entry = {"level": level, "msg": message, "time": now()}
        if self._json:
            line = jsontext.dumps(entry).decode()
        else:
            line = f'time="{entry["time"]}" level={level} msg={jsontext.dumps(message).decode()}'
        if self._log:
            self._write(line + "\n")
            if level == "error":
                sys.stderr.write(message + "\n")
        else:
            plain = not self._json and level != "debug"
            sys.stderr.write(f"pybuild-runtime: {message}\n" if plain else line + "\n")
        sys.stderr.flush()

    def _write(self, text: str) -> None:
        try:
            with open(self._log, "a", encoding="utf-8") as file:
                file.write(text)
        except OSError as error:
            raise UsageError(f"--log {self._log}: {error.strerror}") from error


def _default_root() -> str:
    # Root of a user namespace alone, as below podman without root, may not write there.
    if os.geteuid() == 0 and os.access(os.path.dirname(DEFAULT_ROOT), os.W_OK):
        return DEFAULT_ROOT
    return os.path.join(os.environ.get("XDG_RUNTIME_DIR", "/tmp"), "pybuild-runtime")
