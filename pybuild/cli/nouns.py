"""Help for half a verb: what `pybuild image` prints, and what a wrong word after it gets.

Pure: names and their lines in, text out.
"""

from __future__ import annotations

from collections.abc import Mapping

from pybuild.cli.options import suggestion
from pybuild.errors import UsageError

# What each noun is for. `builder` and `buildx` are docker's, for the build cache.
NOUNS = {
    "builder": "Manage builds",
    "builds": "Look at the builds of the journal",
    "buildx": "Manage builds",
    "buildx imagetools": "Look at images at their registries",
    "buildx history": "Look at the builds of the journal",
    "cache": "Manage the build cache",
    "cache mounts": "Manage the directories of RUN --mount=type=cache",
    "container": "Manage containers",
    "context": "Look at build contexts",
    "image": "Manage images",
    "imagetools": "Look at images at their registries",
    "manifest": "Look at images at their registries",
    "system": "Manage pybuild",
}
HELP_WORDS = ("-h", "--help", "help")


def page(noun: str, lines: Mapping[str, str]) -> str:
    """Return the help of a noun; lines: what each verb of it does, by its name after the noun."""
    width = max(map(len, lines))
    rows = [f"  {name:<{width}}  {text}" for name, text in sorted(lines.items())]
    return "\n".join(
        [
            f"Usage: pybuild {noun} COMMAND",
            "",
            NOUNS[noun],
            "",
            "Commands:",
            *rows,
            "",
            f"Run 'pybuild {noun} COMMAND --help' for more information on a command.",
            "",
        ]
    )


def lines_of(
    noun: str, verbs: Mapping[str, str], aliases: Mapping[str, str], summaries: Mapping[str, str]
) -> dict[str, str]:
    """Return what each word after `noun` does; a noun of its own stands for its verbs."""
    found: dict[str, str] = {}
    for name in [*verbs, *aliases]:
        if name.startswith(f"{noun} "):
            word, _, rest = name.removeprefix(f"{noun} ").partition(" ")
            verb = aliases.get(name, name)
            found[word] = NOUNS[f"{noun} {word}"] if rest else summaries[verb]
    return found


def unknown(noun: str, word: str, known: Mapping[str, str]) -> UsageError:
    """Return the error for a word that is no verb of a noun."""
    close = suggestion(word, sorted(known))
    see = f"see pybuild {noun} --help"
    hint = f"did you mean {noun} {close}? {see}" if close else see
    return UsageError(f"{noun} {word}: no such verb", hint=hint)
