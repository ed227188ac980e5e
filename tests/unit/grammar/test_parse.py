import re
import sys
import time
from importlib.resources import files

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from grammar import ast, flags
from grammar.errors import DockerfileSyntaxError, GrammarError
from grammar.lines import read
from grammar.parse import parse, parse_instruction
from tests.unit.grammar.texts import dockerfiles, instructions


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


COMMANDS = ("CMD", "ENTRYPOINT", "RUN")


@pytest.mark.parametrize("instruction", COMMANDS)
def test_a_command_alone_is_an_empty_text(instruction: str) -> None:
    for text in (instruction, f"{instruction} \\\n", f"{instruction} --"):
        node = only(text)
        assert isinstance(node, ast.Cmd | ast.Entrypoint | ast.Run)
        assert node.command == ast.ShellForm("")


@pytest.mark.parametrize("instruction", sorted(set(flags.INSTRUCTIONS) - set(COMMANDS)))
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


def test_a_heredoc_of_any_length() -> None:
    body = "x" * 99 + "\n"
    node = only(f"RUN <<EOF\n{body * 100_000}EOF")
    assert isinstance(node, ast.Run)
    assert node.heredocs[0].body == body * 100_000


def test_comments_of_any_number() -> None:
    node = only("# c\n" * 200_000 + "RUN x")
    assert len(node.comments) == 200_000


def test_ten_thousand_lines_are_matched_once_each() -> None:
    def work(lines: int) -> int:
        calls = 0

        def count(*_: object) -> None:
            nonlocal calls
            calls += 1

        text = "FROM a\n" + "# c\nENV A=b C='d e'\nRUN <<E\nx\nE\nCOPY a \\\n\n b\n" * (lines // 3)
        before = sys.getprofile()
        sys.setprofile(count)
        try:
            parse(text)
        finally:
            sys.setprofile(before)
        return calls

    work(3)
    assert work(10_000) < 10.5 * work(1_000)


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


def check(data: bytes) -> None:
    try:
        tree = parse(data)
    except GrammarError as error:
        assert isinstance(error, DockerfileSyntaxError)
        assert error.errors[0] is error
        assert [one.line for one in error.errors] == sorted(one.line for one in error.errors)
        for one in error.errors:
            assert one.line >= 1
            assert one.column is None or 1 <= one.column <= len(one.source_line) + 1
            assert "\n" not in str(one)
            one.render().encode()
    else:
        assert isinstance(tree.instructions[0], ast.From | ast.Arg)


@given(st.one_of(dockerfiles, instructions))
def test_nothing_but_grammar_errors(text: str) -> None:
    check(text.encode())


@given(dockerfiles)
def test_every_line_has_the_error_that_it_has_alone(text: str) -> None:
    source = read(f"FROM a\n{text}".encode(), "Dockerfile")
    alone = list(source.errors)
    for line in source.logical:
        lines = source.physical[line.span.first_line - 1 : line.span.last_line]
        try:
            parse("".join(f"{line}\n" for line in ("FROM a", *lines)))
        except DockerfileSyntaxError as error:
            alone.append(error)
    try:
        parse(f"FROM a\n{text}")
    except DockerfileSyntaxError as error:
        assert {e.message for e in error.errors} == {e.message for e in alone}
    else:
        assert not alone


@given(st.text(max_size=60))
def test_text_is_as_good_as_its_bytes(text: str) -> None:
    try:
        found = repr(parse(f"FROM a\nRUN {text}"))
    except DockerfileSyntaxError as error:
        found = str(error)
    try:
        expected = repr(parse(f"FROM a\nRUN {text}".encode()))
    except DockerfileSyntaxError as error:
        expected = str(error)
    assert found == expected


@given(st.binary(max_size=60))
@example(b"\x1c")  # a blank to Python, none to Go
def test_nothing_but_grammar_errors_on_bytes(data: bytes) -> None:
    check(data)
    check(b"FROM a\n" + data)


@given(st.sampled_from(flags.INSTRUCTIONS), st.text(max_size=40))
def test_nothing_but_grammar_errors_on_arguments(instruction: str, text: str) -> None:
    check(f"FROM a\n{instruction} {text}".encode("utf-8", "surrogatepass"))
    check(f"FROM a\nONBUILD {instruction} {text}".encode("utf-8", "surrogatepass"))
