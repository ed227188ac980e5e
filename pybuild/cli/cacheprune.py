"""The verbs cache prune and cache verify: what goes, and what is damaged."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from pybuild.cli.cache import du_table, verbose
from pybuild.cli.confirm import confirmed
from pybuild.cli.options import Parsed, Syntax, flag, many, usage_error, value
from pybuild.cli.table import human_size
from pybuild.cli.verb import Session, Verb

if TYPE_CHECKING:
    from pybuild.engine.cacheprune import Policy

PRUNE = Syntax(
    verb="cache prune",
    usage="cache prune [OPTIONS]",
    summary="Let go of what the build cache holds; what was made of what stays on record.",
    options=(
        flag("all", "what images and containers have too, not just what only the cache has", "a"),
        many("filter", "KEY=VALUE", "until=24h, type=exec.cachemount, id=…, description~=…"),
        value("max-used-space", "SIZE", "go no further than this, as 10GB"),
        value("min-free-space", "SIZE", "go on until this much of the disk is free"),
        value("reserved-space", "SIZE", "always keep this much"),
        value("keep-storage", "SIZE", "the old name of --reserved-space"),
        flag("dry-run", "only say what would go"),
        flag("force", "do not ask", "f"),
        flag("verbose", "show all that is known of what goes"),
    ),
    later="builder timeout",
)
VERIFY = Syntax(
    verb="cache verify",
    usage="cache verify [OPTIONS]",
    summary="Read every byte; drop what is damaged, so that the next build makes it anew.",
    options=(flag("quiet", "say nothing when all is well", "q"),),
)

_PRUNE = "This will remove all dangling build cache."
_PRUNE_ALL = "This will remove all build cache."


def prune(parsed: Parsed, session: Session) -> int:
    """Let go of what the options say, after a question; print what went."""
    policy = policy_of(parsed)
    dry_run = parsed.flag("dry-run")
    if not dry_run and not parsed.flag("force"):
        warning = _PRUNE_ALL if policy.everything else _PRUNE
        if not confirmed(warning):
            return 0
    with session.engine(reading=True) as engine:
        plan = engine.prune_cache(policy, dry_run=dry_run)
    going = list(plan.going)
    if going:
        print(verbose(going) if parsed.flag("verbose") else du_table(going), end="")
    print(f"{'Would free' if dry_run else 'Total'}:\t{human_size(plan.freed_bytes)}")
    return 0


def verify(parsed: Parsed, session: Session) -> int:
    """Print a line for each damage and what was done about it; exit code 1 when there was any."""
    with session.engine(reading=True) as engine:
        found = engine.verify_cache()
    for damage in found:
        print(damage)
    if found:
        count = len(found)
        print(f"error: {count} problem{'s' if count > 1 else ''} found", file=sys.stderr)
        return 1
    if not parsed.flag("quiet"):
        print("all is well")
    return 0


VERBS = {"cache prune": Verb(PRUNE, prune), "cache verify": Verb(VERIFY, verify)}


def policy_of(parsed: Parsed) -> Policy:
    """Return what the options let go. Raises UsageError, PybuildError."""
    from pybuild.engine.cachefilters import parse_filters
    from pybuild.engine.cacheprune import Policy

    reserved = "reserved-space" if parsed.text("reserved-space") else "keep-storage"
    return Policy(
        everything=parsed.flag("all"),
        filters=parse_filters(parsed.many("filter")),
        reserved=_size(parsed, reserved),
        max_used=_size(parsed, "max-used-space"),
        min_free=_size(parsed, "min-free-space"),
    )


def _size(parsed: Parsed, name: str) -> int:
    from pybuild.sizes import parse_size

    text = parsed.text(name)
    if text is None:
        return 0
    try:
        return parse_size(text)
    except ValueError as error:
        raise usage_error(PRUNE, f"--{name}: {error}") from error
