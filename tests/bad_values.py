"""Strategies of hypothesis for input as it should not be: values, documents with odd parts, damaged bytes."""

import copy
import json

from hypothesis import strategies as st

ODD_TEXTS = (
    "",
    " ",
    "\0",
    "a\nb",
    "\x1b[31m",
    "\ud800",
    "~nobody-here",
    "..",
    "/",
    "/dev/zero",
    "{x}",
    "%s",
    "a" * 5000,
)
NUMBERS = (-1, 0, 1, 2**31, 2**63, 10**30, -(10**400), 1e-320, 1e308, float("nan"), float("inf"), -float("inf"))
TEXTS = st.sampled_from(ODD_TEXTS) | st.text(st.characters(exclude_categories=()), max_size=20)
SCALARS = st.none() | st.booleans() | st.sampled_from(NUMBERS) | st.integers() | st.floats() | TEXTS
VALUES = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3), max_leaves=5
)
# What is odd in YAML wherever it stands.
SNIPPETS = (
    *("&a [*a]", "*unknown", "!!int abc", "!!python/object/apply:os.system [id]", "!!binary aGk=", "!!set {a}", "0b_"),
    *("2026-11-24", "9" * 5000, "0x" + "f" * 5000, "[" * 3000, "{a: {a: " * 500, "'", '"', "\t", "? ", "- ", "<<: 1\n"),
    *("<<: *a", "\0", "\n---\n", "%YAML 9\n", "1:2:3", '"\\ud800"', '"\\0"', "\ufeff", "#", "a: 1\na: 1\n", "!x y"),
)


@st.composite
def with_odd_parts(draw, document):
    """Returns a JSON document, as bytes, of which some parts are replaced or left out."""
    document = copy.deepcopy(document)
    for _ in range(draw(st.integers(1, 3))):
        if places := list(_places(document)):
            container, key = draw(st.sampled_from(places))
            if draw(st.booleans()):
                container[key] = draw(VALUES)
            else:
                del container[key]
    return json.dumps(document).encode()


def _places(node):
    keys = list(node) if isinstance(node, dict) else range(len(node)) if isinstance(node, list) else ()
    for key in keys:
        yield node, key
        yield from _places(node[key])


@st.composite
def damaged(draw, content):
    """Returns a file's content that is cut short, has bytes replaced, or bytes added."""
    start = draw(st.integers(0, len(content)))
    length = draw(st.integers(0, 200))
    return draw(
        st.sampled_from(
            [content[:start], content[:start] + draw(st.binary(max_size=20)) + content[start + length :], bytes(length)]
        )
    )


@st.composite
def with_snippets(draw, text):
    """Returns YAML, as bytes, in which something odd stands at some places."""
    for _ in range(draw(st.integers(0, 2))):
        at = draw(st.integers(0, len(text)))
        text = text[:at] + draw(st.sampled_from(SNIPPETS)) + text[at + draw(st.integers(0, 3)) :]
    return text.encode(errors="surrogatepass")
