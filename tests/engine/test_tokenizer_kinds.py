"""Tokenizers of every kind against transformers on the same file, over text that breaks tokenizers."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from text_models import STRESS, VOCAB
from tokenizer_kinds import KINDS, SPECIAL, folder_of
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from agent.engine.tokenizer import Tokenizer

# One line of each script that has letters of its own, and what joins, turns, stacks or hides characters.
SCRIPTS = (
    "Latin: Ħĕłłø ÅÄÖ ﬁ ﬀ ß ẞ ſ Straße naïve Tiếng Việt İı ǅ",
    "Ελληνικά ᾳ ΐ · Кириллица ѣ Ѯ · Հայերեն · ქართული · Ⴀ · ⰳⰾⰰⰳⱁⰾⰹⱌⰰ · ᚠᚢᚦ · ᚁᚂ",
    "עִבְרִית \u200ertl\u200f العَرَبِيَّة ﷽ لا ۱۲۳ فارسی اردو ܣܘܪܝܝܐ ދިވެހި ߒߞߏ",
    "हिन्दी क्षत्रिय বাংলা ਪੰਜਾਬੀ ગુજરાતી ଓଡ଼ିଆ தமிழ் తెలుగు ಕನ್ನಡ മലയാളം සිංහල",
    "ภาษาไทย ลาว བོད་སྐད མြန်မာ ខ្មែរ ᜊᜌ᜔ ᠮᠣᠩᠭᠣᠯ አማርኛ ⵜⴰⵎⴰⵣⵉⵖⵜ ᏣᎳᎩ ᓀᐦᐃᔭᐍᐏᐣ",
    "日本語 ひらがな カタカナ ﾊﾝｶｸ ｶﾞ 々〆 中文 繁體 𠮷𡃁 한국어 각 각 ㄅㄆㄇ ꆈꌠ",
    "𐤀𐤁 𓀀𓁐 𒀀 𐌰𐌱 𝔄𝕬𝟙 ① Ⅳ ½ ㎏ ™ ℃ K Å",
)
EMOJI = (
    "👩‍👩‍👧‍👦 👨🏿‍🚀 🏴󠁧󠁢󠁥󠁮󠁧󠁿 🏳️‍🌈 👍🏻👍🏽👍🏿 🇨🇭🇯🇵 ❤️ ❤ ☎︎ 1️⃣ 🫱🏼‍🫲🏾",
    "a\u0301\u0302\u0303\u0304 Z̷̡͖a̶l̴g̸o̵ \u200b\u200c\u200d\u2060\ufeff \u00ad \u202e\u2066\u2069",
)
CONTROLS = (
    "".join(map(chr, range(32))),
    "".join(map(chr, range(127, 161))),
    "\x00",
    "a\x00b\x1b[31m\x7f",
    "\u2028\u2029\x85",
)
RUNS = (
    *(" " * count for count in (2, 3, 15, 16, 17, 64, 300)),
    *("\n" * count for count in (2, 3, 5, 40)),
    *("\t" * 9, "\r\n\r\n\r\n", " \n \n\n  \n", "a" + " " * 33 + "b", "\n\n\n    x\n\t\ty", "-" * 80, "a" * 400),
    *("\u00a0\u00a0 \u3000\u2003", "word\u00a0word", " a  b   c    d "),
)
NUMBERS = (
    "0",
    "1234567890",
    "3.14159e-10",
    "1,234,567.89",
    "٣٤٥",
    "１２３",
    "²³¹",
    "v1.2.3-rc.4",
    "192.168.1.100:8080",
    "0xDEADbeef",
)
CODE = (
    "def f(x: int) -> str:\n    '''doc'''\n    return f\"{x!r:>10}\"  # don't\n",
    '<html><body class="a b">&nbsp;&#x1F600;</body></html>',
    "SELECT * FROM `t` WHERE a <> 'b''c' -- it's;\r\n",
    "\\frac{\\partial f}{\\partial x} $$ \\\\ \\n \\u0041 %20 {{ jinja }} {% if %}",
    "#include <stdio.h>\nint main(void){return!0;}//\t~@^|&",
)
SPECIALS = (
    "".join(SPECIAL),
    f"a{SPECIAL[1]}b {SPECIAL[2]} c",
    "<s> </s><unk>[CLS][SEP] [MASK]<mask>[UNK]<pad>",
    "<|end|",
    "|end|>",
    "<|END|>",
    "< |end|>",
    "<｜end｜>",
    "<<|end|>>",
    "<0x0A><0xZZ> ▁▁ Ġ ĊĊ ## ##ing",
)
CORPUS = (*STRESS, *SCRIPTS, *EMOJI, *CONTROLS, *RUNS, *NUMBERS, *CODE, *SPECIALS)


@pytest.fixture(scope="module", params=sorted(KINDS))
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return folder_of(request.param, tmp_path_factory.mktemp(request.param))


@pytest.fixture(scope="module")
def tokenizer(folder: Path) -> Tokenizer:
    return Tokenizer.load(folder, VOCAB)


@pytest.fixture(scope="module")
def oracle(folder: Path) -> PreTrainedTokenizerFast:
    found: PreTrainedTokenizerFast = AutoTokenizer.from_pretrained(folder)
    return found


def test_ids_and_text_are_those_of_transformers(tokenizer: Tokenizer, oracle: PreTrainedTokenizerFast) -> None:
    for text in (*CORPUS, "".join(CORPUS), "\n".join(CORPUS)):
        assert tokenizer.encode(text) == oracle.encode(text), repr(text)
        ids = tokenizer.encode_rendered(text)
        assert ids == oracle.encode(text, add_special_tokens=False), repr(text)
        plain = [id for id in ids if id not in tokenizer.control_ids]
        assert tokenizer.decode(plain) == oracle.decode(plain), repr(text)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(text=st.text(st.characters(codec="utf-8"), max_size=40))
def test_ids_of_any_text_are_those_of_transformers(
    tokenizer: Tokenizer, oracle: PreTrainedTokenizerFast, text: str
) -> None:
    assert tokenizer.encode(text) == oracle.encode(text)


def test_nothing_is_special_in_plain_text_and_innocent_text_is_what_it_was(tokenizer: Tokenizer) -> None:
    unknown = {tokenizer.added_id(name) for name in ("<unk>", "[UNK]")}
    for text in (*CORPUS, "".join(CORPUS)):
        ids = tokenizer.encode(text, special=False)
        assert not (set(ids) & tokenizer.control_ids) - unknown, repr(text)
        if not tokenizer.control_pattern.search(text):
            assert ids == tokenizer.encode_rendered(text), repr(text)
