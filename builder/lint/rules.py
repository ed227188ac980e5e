"""The table of all rules. A new rule is a function, a row here, and a page in docs/lint/."""

import re
from collections.abc import Callable, Iterator

from builder.lint import semantics, syntax
from builder.lint.subject import Finding, Subject
from grammar import ast
from values.classes import dataclass

_PAGES = "https://docs.docker.com/go/dockerfile/rule/"


@dataclass(frozen=True, slots=True)
class Rule:
    """A rule; it warns, and `# check=error=true` makes errors of warnings.

    check: finds the violations of a file. inspect: gives the messages about one instruction of the
    types `nodes`, given the stage as it is before it. A rule with neither is called by name where
    what it needs is known. experimental: off unless it is asked for. ours: BuildKit has none.
    """

    name: str
    description: str
    check: Callable[[Subject], Iterator[Finding]] | None = None
    inspect: Callable[..., Iterator[str]] | None = None
    nodes: tuple[type[ast.Instruction], ...] = ()
    experimental: bool = False
    ours: bool = False

    @property
    def url(self) -> str:
        """The address of BuildKit's page about the rule; empty for rules that it does not have."""
        words = re.sub("(?<=[a-z])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "-", self.name)
        return "" if self.ours else f"{_PAGES}{words.lower()}/"

    @property
    def page(self) -> str:
        """The rule's page, a path in the project."""
        return f"docs/lint/{self.name}.md"


_TABLE = (
    Rule("StageNameCasing", "Stage names should be lowercase", syntax.stage_name_casing),
    Rule(
        "FromAsCasing",
        "The 'as' keyword should match the case of the 'from' keyword",
        syntax.from_as_casing,
    ),
    Rule(
        "NoEmptyContinuation",
        "Empty continuation lines will become errors in a future release",
        syntax.no_empty_continuation,
    ),
    Rule(
        "ConsistentInstructionCasing",
        "All commands within the Dockerfile should use the same casing (either upper or lower)",
        syntax.consistent_instruction_casing,
    ),
    Rule("DuplicateStageName", "Stage names should be unique", syntax.duplicate_stage_name),
    Rule(
        "ReservedStageName",
        "Reserved words should not be used as stage names",
        syntax.reserved_stage_name,
    ),
    Rule(
        "JSONArgsRecommended",
        "JSON arguments recommended for ENTRYPOINT/CMD to prevent unintended behavior related to "
        "OS signals",
        inspect=semantics.json_args_recommended,
        nodes=(ast.Cmd, ast.Entrypoint),
    ),
    Rule(
        "MaintainerDeprecated",
        "The MAINTAINER instruction is deprecated, use a label instead to define an image author",
        syntax.maintainer_deprecated,
    ),
    Rule(
        "UndefinedArgInFrom",
        "FROM command must use declared ARGs",
        semantics.undefined_arg_in_from,
    ),
    Rule(
        "WorkdirRelativePath",
        "Relative workdir without an absolute workdir declared within the build can have "
        "unexpected results if the base image changes",
        inspect=semantics.workdir_relative_path,
        nodes=(ast.Workdir,),
    ),
    Rule("UndefinedVar", "Variables should be defined before their use"),
    Rule(
        "MultipleInstructionsDisallowed",
        "Multiple instructions of the same type should not be used in the same stage",
    ),
    Rule(
        "LegacyKeyValueFormat",
        "Legacy key/value format with whitespace separator should not be used",
        inspect=semantics.legacy_key_value_format,
        nodes=(ast.Env, ast.Label),
    ),
    Rule(
        "InvalidBaseImagePlatform",
        "Base image platform does not match expected target platform",
    ),
    Rule(
        "RedundantTargetPlatform",
        "Setting platform to predefined $TARGETPLATFORM in FROM is redundant as this is the "
        "default behavior",
        semantics.redundant_target_platform,
    ),
    Rule(
        "SecretsUsedInArgOrEnv",
        "Sensitive data should not be used in the ARG or ENV commands",
        inspect=semantics.secrets_used_in_arg_or_env,
        nodes=(ast.Arg, ast.Env),
    ),
    Rule(
        "InvalidDefaultArgInFrom",
        "Default value for global ARG results in an empty or invalid base image name",
        semantics.invalid_default_arg_in_from,
    ),
    Rule(
        "FromPlatformFlagConstDisallowed",
        "FROM --platform flag should not use a constant value",
        semantics.from_platform_flag_const_disallowed,
    ),
    Rule("CopyIgnoredFile", "Attempting to Copy file that is excluded by .dockerignore"),
    Rule(
        "InvalidDefinitionDescription",
        "Comment for build stage or argument should follow the format: `# <arg/stage name> "
        "<description>`. If this is not intended to be a description comment, add an empty line "
        "or comment between the instruction and the comment.",
        syntax.invalid_definition_description,
        experimental=True,
    ),
    Rule(
        "ExposeProtoCasing",
        "Protocol in EXPOSE instruction should be lowercase",
        inspect=semantics.expose_proto_casing,
        nodes=(ast.Expose,),
    ),
    Rule(
        "ExposeInvalidFormat",
        "IP address and host-port mapping should not be used in EXPOSE instruction. This will "
        "become an error in a future release",
        inspect=semantics.expose_invalid_format,
        nodes=(ast.Expose,),
    ),
    # What BuildKit does silently.
    Rule("ArgShadowsEnv", "An ARG should not hide an ENV of the same name", ours=True),
    Rule(
        "CopyManySourcesToFile",
        "The destination of several sources should end with /",
        ours=True,
    ),
    Rule(
        "CopyUnknownOwner",
        "--chown should name users and groups that the image knows",
        ours=True,
    ),
    Rule(
        "ExecFormInvalidJSON",
        "A command that begins like a JSON array should be one",
        syntax.exec_form_invalid_json,
        ours=True,
    ),
    Rule(
        "ForeignSyntax",
        "A frontend that the syntax directive asks for is not used",
        syntax.foreign_syntax,
        ours=True,
    ),
)

RULES = {rule.name: rule for rule in _TABLE}
