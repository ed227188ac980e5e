"""`--change`: Dockerfile instructions as changes of an image's config.

The meaning of the instructions is the builder's; only those that change nothing but the config
are taken.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pybuild.errors import UsageError

if TYPE_CHECKING:
    from store.oci import ContainerConfig
    from store.root import Store

_TAKEN = ("CMD", "ENTRYPOINT", "ENV", "EXPOSE", "LABEL", "ONBUILD", "USER", "VOLUME", "WORKDIR")


def config_of(store: Store, changes: tuple[str, ...], platform: str) -> ContainerConfig:
    """Return an empty config after `changes`, an instruction each.

    Raises UsageError for other instructions, GrammarError and BuildError for wrong ones.
    """
    from store.oci import ContainerConfig

    if not changes:
        return ContainerConfig()
    from builder.planning import plan_build
    from builder.request import BuildRequest
    from builder.stages import stages_of
    from grammar.parse import parse

    for change in changes:
        keyword = change.split(maxsplit=1)[0].upper() if change.split() else ""
        if keyword not in _TAKEN or "\n" in change:
            raise UsageError(
                f'--change "{change}": not one of {", ".join(_TAKEN)}',
                hint="give every instruction its own --change",
            )
    text = "\n".join(("FROM scratch", *changes, "")).encode()
    stages = stages_of(parse(text, "--change"), text)
    plan = plan_build(store, BuildRequest(context="."), stages, platform, lambda *_: None)
    return plan.target.container_config()
