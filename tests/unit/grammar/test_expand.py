import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from grammar.errors import ExpansionError
from grammar.expand import Expansion, expand, expand_body, expand_words

ENV = {
    "FOO": "xxyy",
    "EMPTY": "",
    "STARS": "a***yy*",
    "PATH_": "/tmp/tmp/bar.txt",
    "NEEDLE": "/tmp",
    "KOREAN": "한국어",
    "LINES": "a\nb",
}

VALUES = {
    # plain names
    "": "",
    "plain": "plain",
    "$FOO": "xxyy",
    "${FOO}x": "xxyyx",
    "a$FOO.b": "axxyy.b",
    "$KOREAN!": "한국어!",
    "${FOO}${FOO}": "xxyyxxyy",
    "$UNSET": "",
    # what is no name
    "$": "$",
    "a$": "a$",
    "$.": "$.",
    "$/x": "$/x",
    "a}b/c{d": "a}b/c{d",
    # digits and special parameters
    "he$1x": "hex",
    "$001": "",
    "$@$*$#$?$-$$$!$0": "",
    "${@}${-}${1}": "",
    # quotes
    "'$FOO \\'": "$FOO \\",
    '"$FOO"': "xxyy",
    '"it\'s"': "it's",
    "'a'\"b\"c": "abc",
    '""': "",
    '"a\\b \\" \\$FOO \\\\"': 'a\\b " $FOO \\',
    # escapes
    "\\$FOO": "$FOO",
    "\\a\\'\\\"": "a'\"",
    "a\\": "a",
    "a\\\\": "a\\",
    # defaults
    "${FOO:-w}": "xxyy",
    "${EMPTY:-w}": "w",
    "${UNSET:-w}": "w",
    "${EMPTY-w}": "",
    "${UNSET-w}": "w",
    "${UNSET-}": "",
    "${UNSET:-a b/c}": "a b/c",
    "${UNSET:-$FOO}": "xxyy",
    "${UNSET:-${EMPTY:-${FOO}}}": "xxyy",
    "${UNSET:-'}'\"}\"\\}}": "}}}",
    '"${UNSET:-"q"}"': "q",
    "${UNSET:-:=}": ":=",
    # alternatives
    "${FOO:+w}": "w",
    "${EMPTY:+w}": "",
    "${UNSET:+w}": "",
    "${EMPTY+w}": "w",
    "${UNSET+w}": "",
    "a${FOO:+-${FOO}}.gz": "a-xxyy.gz",
    # required
    "${FOO:?m}": "xxyy",
    "${EMPTY?m}": "",
    # an alternative that is not taken is not expanded
    "${FOO:-${UNSET:?m}}": "xxyy",
    # prefixes and suffixes
    "${FOO#x}": "xyy",
    "${FOO##x}": "xyy",
    "${FOO#*x}": "xyy",
    "${FOO##*x}": "yy",
    "${FOO#?}": "xyy",
    "${FOO#}": "xxyy",
    "${FOO#*}": "xxyy",
    "${FOO##*}": "",
    "${FOO#y}": "xxyy",
    "${FOO#*x*y}": "y",
    "${FOO%y}": "xxy",
    "${FOO%%y}": "xxy",
    "${FOO%y*}": "xxy",
    "${FOO%%y*}": "xx",
    "${FOO%*}": "xxyy",
    "${FOO%%*}": "",
    "${FOO%$UNSET}": "xxyy",
    "${STARS%%\\**\\*}": "a",
    "${STARS##*'*'}": "",  # the quotes go, the pattern is `**`
    "${STARS#[a]}": "a***yy*",
    "${LINES%%?b}": "a",
    "${UNSET#x}": "",
    # replacements
    "${PATH_/$NEEDLE/}": "/tmp/bar.txt",
    "${PATH_//$NEEDLE/}": "/bar.txt",
    "${PATH_/tmp/$FOO}": "/xxyy/tmp/bar.txt",
    "${PATH_//\\//\\/}": "\\/tmp\\/tmp\\/bar.txt",
    "${FOO/x/$1}": "xyy",
    "${FOO//x/\\1}": "\\1\\1yy",
    "${FOO//*/w}": "w",
    "${FOO///}": "xxyy",
    "${FOO/$EMPTY/w}": "wxxyy",
    "${FOO//?/-}": "----",
    "${FOO/x}y/w}": "xxyy",
}

ERRORS = {
    "${": "missing }",
    "${FOO": "missing }",
    "${FOO:-": "missing }",
    "${FOO:-a": "missing }",
    "${FOO#'}'": "missing }",
    "${}": "bad substitution",
    "${:x}": "bad substitution",
    "${{x}": "bad substitution",
    "${ FOO}": "bad substitution",
    "${FOO:=w}": "unsupported modifier :=",
    "${FOO=w}": "unsupported modifier =w",
    "${FOO:#w}": "unsupported modifier :#",
    "${FOO:}": "unsupported modifier :}",
    "${FOO BAR}": "unsupported modifier  B",
    "${FOO@Q}": "unsupported modifier @Q",
    "${FOO/x}": "missing / in",
    "${FOO//}": "missing / in",
    "${FOO/x/y": "missing }",
    "'a": "unterminated single quote",
    '"a': "unterminated double quote",
    '"a\\"': "unterminated double quote",
    '"${FOO:-"}"': "missing }",
    "${UNSET?}": "UNSET: is not allowed to be unset",
    "${UNSET:?}": "UNSET: is not allowed to be unset",
    "${EMPTY:?}": "EMPTY: is not allowed to be empty",
    "${UNSET:?need $FOO}": "UNSET: need xxyy",
    "${FOO#\\x}": "invalid escape",
    "${FOO%x\\\\\\x}": "invalid escape",
}


@pytest.mark.parametrize("word", VALUES)
def test_value(word: str) -> None:
    assert expand(word, ENV).value == VALUES[word]


@pytest.mark.parametrize("word", ERRORS)
def test_error(word: str) -> None:
    with pytest.raises(ExpansionError) as caught:
        expand(word, ENV)
    assert str(caught.value).startswith("failed to expand ")
    assert ERRORS[word] in str(caught.value)


@pytest.mark.parametrize(
    ("word", "value"),
    [
        ("`$FOO", "$FOO"),
        ("C:\\$FOO\\", "C:\\xxyy\\"),
        ('"`"\\a"', '"\\a'),
        ("a``b`", "a`b"),
        ("'`'", "`"),
        ("${UNSET:-`}}", "}"),
        ('"a`b"', "a`b"),
    ],
)
def test_backtick_is_the_escape_character(word: str, value: str) -> None:
    assert expand(word, ENV, "`").value == value


@pytest.mark.parametrize(
    ("word", "undefined"),
    [
        ("$FOO", ()),
        ("$B$A${B}", ("B", "A")),
        ("'$A' \\$B", ()),
        ("${A:-x}${B+x}", ()),
        ("${A:-$B}", ("B",)),
        ("${FOO:-$B}", ()),
        ("${A#x}${B/x/y}", ("A", "B")),
        ("$EMPTY", ()),
    ],
)
def test_undefined_names(word: str, undefined: tuple[str, ...]) -> None:
    assert expand(word, ENV).undefined == undefined


@pytest.mark.parametrize(
    ("word", "words"),
    [
        ("80", ("80",)),
        ("80 81", ("80", "81")),
        ("$PORTS", ("80", "81/tcp")),
        ("$PORTS/udp", ("80", "81/tcp/udp")),
        ("9$PORTS", ("9", "80", "81/tcp")),
        ('"$PORTS"', (" 80  81/tcp",)),
        ("a' 'b\\ c", ("a b c",)),
        ("$EMPTY", ()),
        ("'' $EMPTY", ()),
        ('${UNSET:-"a b"}', ("a", "b")),
        ("  a\u00a0b ", ("a", "b")),
    ],
)
def test_words_split_after_expansion(word: str, words: tuple[str, ...]) -> None:
    env = {"PORTS": " 80  81/tcp", "EMPTY": ""}
    assert expand_words(word, env) == words


def test_deep_nesting() -> None:
    word = "${X:-" * 60 + "deep" + "}" * 60
    assert expand(word, {}) == Expansion("deep")
    with pytest.raises(ExpansionError, match="nested too deeply"):
        expand("${X:-" * 5000 + "}" * 5000, {})


def test_long_word() -> None:
    assert expand("$A" * 20_000, {"A": "x"}).value == "x" * 20_000
    assert expand("'" + "x" * 1_000_000 + "'", {}).value == "x" * 1_000_000


@pytest.mark.parametrize("form", ["#{}b", "##{}b", "%b{}", "%%b{}", "/{}b/x", "//{}b/x"])
@pytest.mark.parametrize("stars", ["*a" * 30, "?*" * 30, "*" * 30])
def test_many_stars_take_no_longer(form: str, stars: str) -> None:
    value = "a" * 300
    assert expand(f"${{v{form.format(stars)}}}", {"v": value}).value == value


@given(st.text(max_size=80), st.dictionaries(st.sampled_from("abc"), st.text(max_size=20)))
def test_any_word_has_a_value_or_an_error(word: str, env: dict[str, str]) -> None:
    for escape in ("\\", "`"):
        try:
            value = expand(word, env, escape).value
        except ExpansionError:
            with pytest.raises(ExpansionError):
                expand_words(word, env, escape)
        else:
            words = "".join(expand_words(word, env, escape))
            assert "".join(words.split()) == "".join(value.split())


@pytest.mark.parametrize(
    ("body", "value"),
    [
        ("it's \"$v\" '$v'\n", "it's \"w\" 'w'\n"),
        ("\\\n", "\n"),
        ("\\\\\n", "\\\n"),
        ("\\$v \\n \\\" \\' \\`", "$v n \" ' `"),
        ("a\\", "a"),
        ("`$v `${v}` $ $. ${n}x $nx", "`w `w` $ $. x "),
        ("${v:-}} ${n:-'} ${n:-${v}\"}", "w} ' w\""),
        ("${n:-a\nb}\n", "a\nb\n"),
        ('${q//"/\'} ${q#\'"} ${q%%"*}', "''x' x\" '"),
        ('${v/w/"}', '"'),
        ("", ""),
    ],
)
def test_body(body: str, value: str) -> None:
    assert expand_body(body, {"v": "w", "q": '\'"x"'}).value == value


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ("one\n${v\ntwo }", "failed to expand '${v': missing }"),
        ('${n:?"no"} more', 'failed to expand \'${n:?"no"}\': n: "no"'),
        ("${}", "bad substitution"),
    ],
)
def test_body_error(body: str, said: str) -> None:
    with pytest.raises(ExpansionError) as caught:
        expand_body(body, {"v": "w"})
    assert said in str(caught.value)


def test_a_body_of_any_length() -> None:
    """Names are as they come, undefined ones in their order."""
    body = '$v ${a:-"d"} it\'s \\$ ${b} $c\n' * 50_000
    assert expand_body(body, {"v": "w"}) == Expansion('w "d" it\'s $  \n' * 50_000, ("b", "c"))


@given(st.text(alphabet="ab${}:-+?#%/\\'\"\n *", max_size=40))
def test_any_body_has_a_value_or_an_error(body: str) -> None:
    try:
        value = expand_body(body, {"a": "b"}).value
    except ExpansionError:
        return
    if not set(body) & set("$\\"):
        assert value == body


def test_a_literal_word_does_not_load_lark() -> None:
    code = (
        "import sys\n"
        "from grammar.expand import expand, expand_words\n"
        "assert expand('a/b:c}', {}).value == 'a/b:c}'\n"
        "assert expand_words('a b', {}) == ('a', 'b')\n"
        "assert 'lark' not in sys.modules\n"
        "expand('$a', {})\n"
        "assert 'lark' in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)


ROOT = __file__.rpartition("/tests/")[0]
