"""The messages of the power contract survive the way over the wire, and nothing else gets in."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.cluster.fields import MAX_COUNT
from agent.cluster.power.messages import (
    MAX_BYTES,
    MAX_WATTS,
    Exposure,
    Handover,
    Message,
    PowerGrant,
    PowerRequest,
    Takeover,
    Term,
    decode,
    encode,
)
from agent.cluster.power.rules import PRIORITIES
from agent.cluster.state import MOST_NODES
from agent.errors import RequestError

tokens = st.text("0123456789abcdef", min_size=16, max_size=64)
names = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}", fullmatch=True)
counts = st.integers(0, MAX_COUNT)
watts = st.floats(0, MAX_WATTS)
terms = st.builds(Term, counts, names, tokens)
exposures = st.lists(
    st.builds(Exposure, names, watts, watts, st.booleans()), max_size=2 * MOST_NODES, unique_by=lambda one: one.node_id
)
messages: st.SearchStrategy[Message] = st.one_of(
    st.builds(
        PowerRequest,
        names,
        tokens,
        st.none() | terms,
        counts,
        counts,
        st.booleans(),
        watts,
        watts,
        st.sampled_from(PRIORITIES),
        st.none() | watts,
    ),
    st.builds(PowerGrant, names, tokens, terms, counts, counts, st.none() | watts),
    st.builds(Takeover, terms),
    st.builds(Handover, terms, tokens, exposures.map(tuple)),
)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=12), inner, max_size=4),
    max_leaves=6,
)


@settings(max_examples=80, deadline=None)
@given(messages)
def test_what_is_sent_arrives(message: Message) -> None:
    assert decode(encode(message)) == message


def test_the_largest_message_of_a_full_stack_fits() -> None:
    book = tuple(Exposure(f"{i:x}" * 64, MAX_WATTS / 3, 3.123456789012345, False) for i in range(2 * MOST_NODES))
    message = Handover(Term(MAX_COUNT, "n" * 64, "f" * 64), "f" * 64, book)
    assert len(encode(message)) <= MAX_BYTES
    assert decode(encode(message)) == message


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=200))
def test_noise_is_refused(noise: bytes) -> None:
    with pytest.raises(RequestError) as caught:
        decode(noise)
    assert caught.value.hint


@settings(max_examples=80, deadline=None)
@given(messages, st.data())
def test_a_message_with_anything_in_one_place_is_refused_or_still_a_message(
    message: Message, data: st.DataObject
) -> None:
    body = json.loads(encode(message))
    place = body
    while True:
        name = data.draw(st.sampled_from(sorted(place)))
        if not isinstance(place[name], dict) or data.draw(st.booleans()):
            break
        place = place[name]
    place[name] = data.draw(json_values)
    try:
        decoded = decode(json.dumps(body).encode())
    except RequestError as error:
        assert error.hint
    else:
        assert decode(encode(decoded)) == decoded


GRANT = json.loads(encode(PowerGrant("node-1", "a" * 16, Term(3, "node-0", "b" * 16), 7, 9, 25.0)))


@pytest.mark.parametrize(
    "text",
    [
        json.dumps(GRANT).replace("25.0", "NaN"),
        json.dumps(GRANT).replace("25.0", "Infinity"),
        json.dumps(GRANT).replace("25.0", "1e999"),
        json.dumps(GRANT).replace("25.0", "-0.001"),
        json.dumps(GRANT).replace("25.0", "10000.1"),
        json.dumps(GRANT).replace("25.0", "true"),
        json.dumps(GRANT).replace("25.0", '"25"'),
        json.dumps(GRANT).replace("25.0", '25.0, "watts": 40.0'),  # which one counts?
        json.dumps(GRANT).replace('"seq": 9', f'"seq": {2**53}'),
        json.dumps(GRANT).replace('"seq": 9', '"seq": 9.0'),
        json.dumps(GRANT).replace('"seq": 9', '"seq": true'),
        json.dumps(GRANT).replace('"seq": 9', '"seq": ' + "9" * 5000),
        json.dumps(GRANT).replace("node-1", "node-1\\n"),
        json.dumps(GRANT).replace("node-1", "../node"),
        json.dumps(GRANT).replace("node-1", "n" * 65),
        json.dumps(GRANT).replace("a" * 16, "a" * 15),
        json.dumps(GRANT | {"more": 1}),
        json.dumps({name: value for name, value in GRANT.items() if name != "boot"}),
        json.dumps(GRANT | {"type": "power-request"}),
        json.dumps(GRANT | {"type": ["power-grant"]}),
        json.dumps(GRANT | {"term": None}),
        json.dumps(GRANT)[:-1],
        json.dumps(GRANT) + " " * MAX_BYTES,
        "[" * 4000,
        "[]",
        "",
    ],
    ids=range(26),
)
def test_what_looks_like_a_grant_and_is_none_is_refused(text: str) -> None:
    decode(json.dumps(GRANT).encode())
    with pytest.raises(RequestError) as caught:
        decode(text.encode())
    assert caught.value.hint


def test_a_book_that_names_a_node_twice_is_refused() -> None:
    one = Exposure("node-1", 40.0, 3.0, True)
    with pytest.raises(RequestError, match="twice"):
        decode(encode(Handover(Term(1, "node-0", "b" * 16), "c" * 16, (one, one))))


def test_terms_are_in_order_and_none_comes_twice() -> None:
    first, second = Term(1, "node-0", "a" * 16), Term(1, "node-0", "b" * 16)
    assert first < second < Term(2, "a", "0" * 16)
