"""Text from outside at every border: figures, pages, Markdown, messages."""

import html
import json
import re
from html.parser import HTMLParser

import pytest
from hypothesis import given
from hypothesis import strategies as st

from landscape.escaping import (
    html_text,
    is_text,
    legend_text,
    link_target,
    markdown_text,
    math_free,
    one_line,
    script_json,
)

ANY_TEXT = st.text(st.characters(exclude_categories=()), max_size=40)  # lone surrogates and control characters as well


@given(ANY_TEXT)
def test_what_a_figure_gets_has_no_formula_and_can_be_stored(text):
    shown = math_free(text)
    assert is_text(shown) and "\0" not in shown
    assert re.sub(r"\\\$", "", shown).count("$") == 0
    label = legend_text(text)
    assert label and not label.startswith("_")


@given(ANY_TEXT)
def test_what_a_page_gets_has_no_markup_and_reads_as_it_was(text):
    shown = html_text(text)
    assert is_text(shown) and not set("<>\"'") & set(shown)
    read = html.unescape(shown)
    assert len(read) == len(text)
    assert all(a == b for a, b in zip(read, text, strict=True) if b.isprintable())


@given(ANY_TEXT)
def test_what_a_script_gets_cannot_end_it_and_reads_as_it_was(text):
    shown = script_json({"name": text})
    assert "<" not in shown and shown.isascii()
    assert json.loads(shown) == {"name": text}


@given(ANY_TEXT)
def test_what_markdown_gets_is_one_line_without_markup(text):
    shown = markdown_text(text)
    assert is_text(shown) and "\n" not in shown and "\r" not in shown
    assert not set("\\`*[]|~$@<>") & set(shown)
    assert not re.search(r"&(?!#\d+;|amp;)|(?<!&)#|://|(?i:\bwww\.)", shown)
    for run in re.finditer(r"_+", shown):
        assert shown[run.start() - 1 : run.start()].isalnum() and shown[run.end() : run.end() + 1].isalnum()


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("mnist, mlp-2x16, relu", "mnist, mlp-2x16, relu"),
        ("train_loss 0.5 ± 0.1 (p = 0.03)", "train_loss 0.5 ± 0.1 (p = 0.03)"),
        ("a|b\nc", "a&#124;b c"),
        ("<script>alert(1)</script>", "&#60;script&#62;alert(1)&#60;/script&#62;"),
        ("[x](http://y)", "&#91;x&#93;(http&#58;//y)"),
        ("see WWW.example.org", "see WWW&#46;example.org"),
        ("_x_ and **y**", "&#95;x&#95; and &#42;&#42;y&#42;&#42;"),
    ],
)
def test_markdown_keeps_plain_text_and_escapes_the_rest(text, shown):
    assert markdown_text(text) == shown


class Seen(HTMLParser):
    def __init__(self):
        super().__init__()
        self.tags = []

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))


@given(st.text(st.characters(exclude_characters="\0", exclude_categories=()), min_size=1, max_size=20))
def test_a_link_leads_to_its_file_and_to_nothing_else(name):
    try:
        name.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        return  # no file has that name
    target = link_target(f"figures/{name}.png")
    assert re.fullmatch(r"[\w.~/%=,+-]*", target, re.ASCII)
    page = Seen()
    page.feed(f'<a href="{target}">x</a>')
    assert page.tags == [("a", {"href": target})]


def test_a_message_is_one_line_that_can_be_printed():
    assert one_line("a\nb\t\udcff\0 é") == "a b \\udcff\\x00 é"
