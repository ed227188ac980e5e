"""The verbs login and logout."""

from __future__ import annotations

import sys

from pybuild.cli.options import Parsed, Syntax, flag, value
from pybuild.cli.transfers import TERMS, terms_of
from pybuild.cli.verb import Session, Verb
from pybuild.errors import PybuildError, UsageError

LOGIN = Syntax(
    verb="login",
    usage="login [OPTIONS] [SERVER]",
    summary="Show credentials to a registry (default: Docker Hub), and keep them.",
    options=(
        value(
            "password", "PASSWORD", "others on this machine can see it: use --password-stdin", "p"
        ),
        flag("password-stdin", "read the password from stdin"),
        value("username", "USER", "name of the user", "u"),
        *TERMS,
    ),
    at_most=1,
)
LOGOUT = Syntax(
    verb="logout",
    usage="logout [SERVER]",
    summary="Forget the credentials for a registry (default: Docker Hub).",
    at_most=1,
)


def login(parsed: Parsed, session: Session) -> int:
    """Log in and say where the secret lies."""
    server = parsed.arguments[0] if parsed.arguments else ""
    username, password = _credentials(parsed)
    with session.engine() as engine:
        logged_in = engine.log_in(server, username, password, terms=terms_of(parsed))
    if logged_in.path is not None:
        print(
            f"WARNING! Your credentials are stored unencrypted in '{logged_in.path}'.\n"
            "Configure a credential helper to remove this warning.",
            file=sys.stderr,
        )
    print("Login Succeeded")
    return 0


def logout(parsed: Parsed, session: Session) -> int:
    """Log out and say of what."""
    with session.engine() as engine:
        registry, was_known = engine.log_out(parsed.arguments[0] if parsed.arguments else "")
    shown = "https://index.docker.io/v1/" if registry == "docker.io" else registry
    print(f"Removing login credentials for {shown}" if was_known else f"Not logged in to {shown}")
    return 0


VERBS = {"login": Verb(LOGIN, login), "logout": Verb(LOGOUT, logout)}


def _credentials(parsed: Parsed) -> tuple[str, str]:
    """Return user and password, asked for on a terminal where they are not given."""
    username, password = parsed.text("username"), parsed.text("password")
    if parsed.flag("password-stdin"):
        if password is not None:
            raise UsageError("login: --password and --password-stdin are mutually exclusive")
        if not username:
            raise UsageError("login: must provide --username with --password-stdin")
        password = sys.stdin.read().rstrip("\r\n")
    elif password is not None:
        print(
            "WARNING! Using --password via the CLI is insecure. Use --password-stdin.",
            file=sys.stderr,
        )
    elif not sys.stdin.isatty():
        raise PybuildError(
            "login: cannot ask for a password: stdin is no terminal", hint="use --password-stdin"
        )
    if not username:
        if not sys.stdin.isatty():
            raise UsageError("login: --username is needed")
        username = input("Username: ").strip()
    if password is None:
        from getpass import getpass

        password = getpass("Password: ")
    if not username or not password:
        raise UsageError("login: user name and password cannot be empty")
    return username, password
