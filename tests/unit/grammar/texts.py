"""Texts for property tests: pieces of Dockerfiles, joined so that many of them parse."""

import json

from hypothesis import strategies as st

from grammar import flags

WORDS = r"""FROM RUN COPY ADD ENV LABEL ARG ONBUILD HEALTHCHECK SHELL VOLUME CMD NONE AS a b=c d='e
" ' [ ] "x" "y", -- --from=x --link --mount=type=bind,ro --mount='" --interval=1s <<EOF <<-'B' EOF B
# \ ` $a ${ = , é"""
words = st.sampled_from([*WORDS.split(), "\ufeff", "\x00", "\x85", "\u2028"])
blanks = st.sampled_from([" ", " ", "\n", "\n", "\t", "\\\n", "`\n", "\r\n", "", "\x0b"])
heads = st.sampled_from(
    ["", "FROM a\n", "FROM a\n", "# escape=`\nFROM a\n", "#escape=\\\n", "#!x\n", "# check=a\n"]
)

# Anything at all, most of it wrong.
dockerfiles = st.builds(
    lambda head, parts: head + "".join(word + blank for word, blank in parts),
    heads,
    st.lists(st.tuples(words, blanks), max_size=25),
)

_FLAGS = {
    "ADD": [
        "--chown=1:2",
        "--chmod='7 5'",
        "--link",
        "--link=false",
        '--exclude="a b"',
        "--checksum=",
        "--keep-git-dir=TRUE",
        "--unpack=false",
    ],
    "COPY": [
        "--from=a",
        "--chown=$a",
        '--chmod="`"\\"',
        "--link=true",
        "--parents",
        "--exclude=`'",
    ],
    "FROM": ["--platform=$a", "--platform=''"],
    "HEALTHCHECK": ["--interval=1s", "--retries=3", "--timeout=", "--start-period=0"],
    "RUN": [
        "--mount=type=cache,target=/a",
        "--mount='type=bind,\"dst=a,b\",ro'",
        "--network=none",
        "--security=insecure",
        "--device=a/b",
        '--mount=\'id="a""b"\'',
    ],
}
_words = st.sampled_from(
    [
        "a",
        "/b",
        "c=d",
        "$e",
        "\\n",
        "`o",
        "--",
        "--p",
        "é",
        "\x0b",
        "# u",
        "#",
        "\\\n",
        "`\n",
        "\r",
        "\x80",
        "[f",
        "1-2/udp",
        "  ",
        "\\",
        "`",
        "\\\\",
    ]
)
_pairs = st.sampled_from(
    [
        "a=b",
        'c="d e"',
        "f='g' ",
        "h=i\\ j",
        "k=`  ",
        "l=",
        "--m=n",
        "'o'=p",
        "# \\\n",
        "\\",
        "`\x0b",
    ]
)
_texts = st.one_of(
    st.lists(_words, min_size=1, max_size=4).map(" ".join),
    st.lists(_words, min_size=1, max_size=4).map(lambda words: json.dumps(words)),
)
_ARGUMENTS = {
    "ENV": st.lists(_pairs, min_size=1, max_size=3).map(" ".join),
    "LABEL": st.lists(_pairs, min_size=1, max_size=3).map(" ".join),
    "ARG": st.lists(st.one_of(_pairs, st.sampled_from("ab")), min_size=1).map(" ".join),
    "FROM": st.sampled_from(["a", "$a AS B", "a as b-c", "-- --a"]),
    "HEALTHCHECK": st.one_of(_texts.map("CMD {}".format), st.just("none")),
    "SHELL": st.sampled_from(['["a", "b\\n"]', '["\\u00e9"]', "sh"]),
}
_HEREDOCS = [("<<A", "A"), ("<<-'B'", "B"), ('3<<"D"', "D"), ("<<-E\\F", "EF"), ("<<'G\"'", 'G"')]
_heredocs = st.lists(
    st.tuples(
        st.sampled_from([*_HEREDOCS, ("<<'H I'", "H I")]),
        st.sampled_from(["", "x\n", "\t$y \\\n", "# z\r\n\n", "<<A\n"]),
    ),
    max_size=2,
)


@st.composite
def _one(draw: st.DrawFn) -> str:
    word = draw(st.sampled_from(flags.INSTRUCTIONS))
    if word == "ONBUILD":
        return f"onbuild {draw(_one())}"
    given = draw(st.lists(st.sampled_from(_FLAGS[word]), max_size=2)) if word in _FLAGS else []
    arguments = [draw(_ARGUMENTS.get(word, _texts))]
    bodies = ""
    if word in ("RUN", "COPY", "ADD"):
        for (start, end), body in draw(_heredocs):
            arguments.insert(draw(st.integers(0, len(arguments))), start)
            bodies += f"\n{body}{end}"
        if word == "RUN" and bodies and draw(st.booleans()):
            arguments.remove(arguments[-1])
        elif word != "RUN":
            arguments.append("/to")
    return " ".join([word, *given, *arguments]) + bodies


_POLICIES = [
    "# pybuild: no-cache\n# c\n",
    "#pybuild: ttl=1h30m\n",
    "#\n # pybuild: retry=3 delay=5s timeout=90m\n# pybuild: cpus=1.25 memory=1.5g\n",
    "# pybuild: retry=100 timeout=1.001s memory=5000001 secret-key=content\n",
]

# A FROM and an instruction; most of them are right.
instructions = st.builds(
    lambda head, comment, one: f"{head}FROM a\n{comment}{one}\n",
    heads,
    st.sampled_from(["", "", "# c\n", "#\n", "#check=skip=all\n\n", *_POLICIES]),
    _one(),
)
