import re
import time
from importlib.resources import files

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from grammar import ast, flags
from grammar.errors import DockerfileSyntaxError, GrammarError
from grammar.parse import parse, parse_instruction


def only(text: str) -> ast.Instruction:
    return parse(b"FROM a\n" + text.encode()).instructions[1]


def fault(text: str) -> DockerfileSyntaxError:
    with pytest.raises(DockerfileSyntaxError) as caught:
        parse(text.encode(), "some/Dockerfile")
    return caught.value


def test_an_error_has_its_data() -> None:
    error = fault("FROM a\nRUN x \\\n\ty\n  RUM z\n")
    assert (error.name, error.line, error.column) == ("some/Dockerfile", 4, 3)
    assert error.source_line == "  RUM z"
    assert error.message == 'unknown instruction "RUM"'
    assert error.hint == "did you mean RUN?"
    assert str(error) == 'some/Dockerfile:4:3: unknown instruction "RUM"'
    assert error.render() == (
        'some/Dockerfile:4:3: unknown instruction "RUM" (did you mean RUN?)\n    RUM z\n    ^'
    )


def test_errors_can_be_printed_whatever_the_bytes() -> None:
    for text in (b"\x80\xff x", b"FROM a\nCOPY --\xff a b", b"FROM a\nRUN <<\xff\n"):
        with pytest.raises(DockerfileSyntaxError) as caught:
            parse(text)
        caught.value.render().encode("utf-8")
        str(caught.value).encode("utf-8")


def test_every_flag_of_the_table_is_in_the_grammar() -> None:
    grammar = files("grammar").joinpath("dockerfile.lark").read_text("utf-8")
    in_grammar = set(re.findall(r"^[A-Z_]+_FLAG\.9: /--([a-z-]+)\(", grammar, re.MULTILINE))
    assert in_grammar == {name for names in flags.FLAGS.values() for name in names}


VALUES = {
    "mount": "target=/x", "network": "host", "security": "sandbox", "interval": "1s",
    "timeout": "1s", "start-period": "1s", "start-interval": "1s", "retries": "1",
}  # fmt: skip
ARGUMENTS = {"FROM": "a", "HEALTHCHECK": "CMD x", "RUN": "x"}


@pytest.mark.parametrize("instruction", flags.INSTRUCTIONS)
@pytest.mark.parametrize("name", sorted({name for names in flags.FLAGS.values() for name in names}))
def test_an_instruction_takes_its_flags_and_no_others(instruction: str, name: str) -> None:
    value = "true" if name in flags.SWITCHES else VALUES.get(name, "x")
    text = f"{instruction} --{name}={value} {ARGUMENTS.get(instruction, 'a b')}"
    if name in flags.FLAGS.get(instruction, ()):
        only(text)
    else:
        error = fault(f"FROM a\n{text}")
        assert error.message == f"unknown flag --{name} for {instruction}"
        assert error.column == len(instruction) + 2


@pytest.mark.parametrize("instruction", flags.INSTRUCTIONS)
def test_an_instruction_alone_is_an_error(instruction: str) -> None:
    error = fault(f"FROM a\n{instruction}")
    assert re.fullmatch(rf"{instruction} requires .*", error.message)
    assert (error.line, error.column) == (2, 1)


@pytest.mark.parametrize("instruction", flags.INSTRUCTIONS)
def test_words_near_an_instruction_are_recognised(instruction: str) -> None:
    assert fault(f"FROM a\n{instruction}{instruction[-1]} x").hint == f"did you mean {instruction}?"


@pytest.mark.parametrize("key", flags.ALL_MOUNT_KEYS)
def test_mount_keys(key: str) -> None:
    node = only(f"RUN --mount={key.upper()}=V,type=x y")
    assert isinstance(node, ast.Run)
    assert node.mounts[0].options[0] == (key, "V")


def test_flags_repeat_only_where_they_may() -> None:
    for instruction, names in flags.FLAGS.items():
        for name in names:
            value = "true" if name in flags.SWITCHES else VALUES.get(name, "x")
            twice = f"--{name}={value} " * 2
            text = f"FROM a\n{instruction} {twice}{ARGUMENTS.get(instruction, 'a b')}"
            if name in flags.REPEATABLE:
                parse(text.encode())
            else:
                assert fault(text).message == f"duplicate flag --{name}"


def test_triggers() -> None:
    node = parse_instruction("COPY <<EOF --flag /x\na\nEOF")
    assert isinstance(node, ast.Copy)
    assert (node.sources, node.heredocs[0].body) == (("--flag",), "a\n")
    assert parse_instruction("RUN a `\n b", "`").text == "RUN a  b"
    for text, message in (("", "no instruction"), ("RUN a\nRUN b", "more than one instruction")):
        with pytest.raises(DockerfileSyntaxError, match=message):
            parse_instruction(text)


@pytest.mark.parametrize(
    "text",
    ["RUN a", "RUN <<EOF\n\ta\nEOF", "COPY --link <<-A <<'B' c /x\n\ta\nA\nb\nB", "ENV a=b c='d'"],
)
def test_a_trigger_parses_to_the_same_instruction(text: str) -> None:
    onbuild = only(f"ONBUILD {text}")
    assert isinstance(onbuild, ast.Onbuild)
    again, inner = parse_instruction(onbuild.trigger), onbuild.instruction
    assert type(again) is type(inner)
    assert again.text == inner.text
    if isinstance(again, ast.Run | ast.Copy) and isinstance(inner, ast.Run | ast.Copy):
        assert again.heredocs == inner.heredocs


def test_lines_of_any_length() -> None:
    long = "x" * 300_000
    node = only(f"RUN {long}")
    assert isinstance(node, ast.Run)
    assert node.command == ast.ShellForm(long)
    node = only(f'ENV a="{long}" ' + "b=c " * 5_000)
    assert isinstance(node, ast.Env)
    assert len(node.pairs) == 5_001
    node = only("CMD [" + ", ".join(['"a"'] * 20_000) + "]")
    assert isinstance(node, ast.Cmd)
    assert node.command == ast.ExecForm(("a",) * 20_000)


def test_deep_json_is_text() -> None:
    node = only("RUN " + "[" * 200_000)
    assert isinstance(node, ast.Run)
    assert isinstance(node.command, ast.ShellForm)


def test_a_hundred_instructions_are_quick() -> None:
    text = b"FROM a\n" + b"RUN --mount=type=cache,target=/x a && \\\n  b\nENV A=b C='d e'\n" * 50
    parse(text)
    begin = time.process_time()
    parse(text)
    assert time.process_time() - begin < 0.1


WORDS = r"""FROM RUN COPY ADD ENV LABEL ARG ONBUILD HEALTHCHECK SHELL VOLUME CMD NONE AS a b=c d='e
" ' [ ] "x" "y", -- --from=x --link --mount=type=bind,ro --mount='" --interval=1s <<EOF <<-'B' EOF B
# \ ` $a ${ = , é"""
words = st.sampled_from([*WORDS.split(), "\ufeff", "\x00", "\x85", "\u2028"])
blanks = st.sampled_from([" ", " ", "\n", "\n", "\t", "\\\n", "`\n", "\r\n", "", "\x0b"])
dockerfiles = st.builds(
    lambda head, parts: head + "".join(word + blank for word, blank in parts),
    st.sampled_from(["", "FROM a\n", "FROM a\n", "# escape=`\nFROM a\n", "#escape=\\\n", "#!x\n"]),
    st.lists(st.tuples(words, blanks), max_size=25),
)


def check(data: bytes) -> None:
    try:
        tree = parse(data)
    except GrammarError as error:
        assert isinstance(error, DockerfileSyntaxError)
        assert error.line >= 1
        assert error.column is None or 1 <= error.column <= len(error.source_line) + 1
        assert "\n" not in str(error)
        error.render().encode()
    else:
        assert isinstance(tree.instructions[0], ast.From | ast.Arg)


@given(dockerfiles)
def test_nothing_but_grammar_errors(text: str) -> None:
    check(text.encode())


@given(st.binary(max_size=60))
@example(b"\x1c")  # a blank to Python, none to Go
def test_nothing_but_grammar_errors_on_bytes(data: bytes) -> None:
    check(data)
    check(b"FROM a\n" + data)


@given(st.sampled_from(flags.INSTRUCTIONS), st.text(max_size=40))
def test_nothing_but_grammar_errors_on_arguments(instruction: str, text: str) -> None:
    check(f"FROM a\n{instruction} {text}".encode("utf-8", "surrogatepass"))
    check(f"FROM a\nONBUILD {instruction} {text}".encode("utf-8", "surrogatepass"))
