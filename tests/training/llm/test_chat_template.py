"""Chat templates of many shapes: a prompt is the template's own text, or a message says why it cannot be used."""

from __future__ import annotations

import pytest

from cluster.errors import UserError
from tests.tiny_llm import make_tokenizer
from training.llm.chat_template import DATE
from training.llm.prompts import PromptEncoder, load_template

TITLES = ["", "Toy Story (1995)", 'A "B" & <c>\'s', "千与千寻"]

LOOP = (
    "{% for m in messages %}<|{{ m['role'] }}|>\n{{ m['content'] }}\n{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>\n{% endif %}"
)
#: Names describe the family of templates with that shape.
SOUND = {
    "plain": LOOP,
    "refuses a system message": "{{ bos_token }}{% if messages[0]['role'] == 'system' %}"
    "{{ raise_exception('System role not supported') }}{% endif %}" + LOOP,
    "roles must alternate": "{% for m in messages %}{% if (m['role'] == 'user') != (loop.index0 % 2 == 0) %}"
    "{{ raise_exception('Conversation roles must alternate user/assistant/user/assistant/...') }}{% endif %}"
    "{% if m['role'] == 'user' %}[INST] {{ m['content'] }} [/INST]{% else %} {{ m['content'] }}</s>{% endif %}"
    "{% endfor %}",
    "writes a system message of its own": "{% if messages[0]['role'] != 'system' %}<|system|>\nYou are helpful.\n"
    "{% endif %}" + LOOP,
    "writes the date": "Today is {{ date_string }}.\n" + LOOP,
    "asks for the date": "Today is {{ strftime_now('%d %b %Y') }}.\n" + LOOP,
    "strips": LOOP.replace("m['content']", "m['content'] | trim"),
    "opens the answer": LOOP.replace("<|assistant|>\n", "<|assistant|>\n<think>\n\n</think>\n\n"),
    "ignores the generation prompt": "{% for m in messages %}<|{{ m['role'] }}|>{{ m['content'] }}</s>{% endfor %}",
    "takes parts alone": "{% for m in messages %}<|{{ m['role'] }}|>{% for part in m['content'] %}"
    "{% if part['type'] == 'text' %}{{ part['text'] }}{% endif %}{% endfor %}\n{% endfor %}<|assistant|>\n",
    "takes a text or parts": "{% for m in messages %}<|{{ m['role'] }}|>{% if m['content'] is string %}"
    "{{ m['content'] }}{% else %}{% for part in m['content'] %}{{ part['text'] }}{% endfor %}{% endif %}\n{% endfor %}",
}
UNSOUND = {
    "needs a system message": (
        "{% if messages[0]['role'] != 'system' %}{{ raise_exception('A system message must come first') }}{% endif %}"
        + LOOP,
        "rejects a user message: A system message must come first",
    ),
    "needs two turns": ("{{ messages[1]['content'] }}", "rejects a user message"),
    "is no template": ("{% for m in messages %}", "rejects a user message"),
    "leaves the user out": ("Hello", "does not print the user's message."),
    "says it twice": (LOOP + "{{ messages[0]['content'] }}", "prints the user's message twice"),
    "escapes": (LOOP.replace("m['content']", "m['content'] | tojson"), "does not print the user's message unchanged"),
    "shouts": (LOOP.replace("m['content']", "m['content'] | upper"), "does not print the user's message unchanged"),
    "cuts": (LOOP.replace("m['content']", "m['content'][:40]"), "does not print the user's message unchanged"),
    "depends on what is said": (
        "{% if 'Toy' in messages[0]['content'] or '1st' in messages[0]['content'] %}!{% endif %}" + LOOP,
        "does not print the user's message unchanged",
    ),
}


def encoder(chat: str, **template: str) -> PromptEncoder:
    tokenizer = make_tokenizer()
    tokenizer.chat_template = chat
    made = load_template({"name": "movies", "layout": "chat", **template})
    return PromptEncoder(tokenizer, made, TITLES, 20, 512)


def own_text(made: PromptEncoder, content: str) -> str:
    """Return what the tokenizer makes of the message itself, on the fixed day."""
    turns: list[object] = [content, [{"type": "text", "text": content}]]
    for turn in turns:
        chat = "{% macro strftime_now(format) %}" + DATE + "{% endmacro %}" + str(made.tokenizer.chat_template)
        text = made.tokenizer.apply_chat_template(
            [{"role": "user", "content": turn}],
            chat_template=chat,
            tokenize=False,
            add_generation_prompt=True,
            date_string=DATE,
        )
        if content in text:
            return str(text)
    raise AssertionError("the template does not say it")


@pytest.mark.parametrize("shape", SOUND)
@pytest.mark.parametrize("instruction", ["Recommend the next movie.", "  Recommend. ", ""])
def test_the_prompt_is_the_templates_own_text(shape: str, instruction: str) -> None:
    made = encoder(SOUND[shape], instruction=instruction)
    history = [1, 2, 3]
    prompt = made.render(history, 1)
    assert prompt.text == own_text(made, prompt.turn) + prompt.output
    asked, trained = made.encode(history), made.encode(history, 1)
    assert trained.input_ids[: trained.response_start] == asked.input_ids
    assert made.tokenizer.decode(asked.input_ids) == prompt.text.removesuffix(prompt.output)


@pytest.mark.parametrize("shape", UNSOUND)
def test_a_template_that_cannot_be_used_is_refused_with_its_own_words(shape: str) -> None:
    chat, words = UNSOUND[shape]
    with pytest.raises(UserError, match=r"llm\.template") as caught:
        encoder(chat)
    assert words in caught.value.message
    assert "llm.template.layout" in caught.value.remedy
    # The remedy works, because no chat template is read.
    tokenizer = make_tokenizer()
    tokenizer.chat_template = chat
    assert PromptEncoder(tokenizer, load_template("movies"), TITLES, 20, 512).encode([1, 2], 3).input_ids


def test_several_templates_of_one_tokenizer_without_a_default_are_refused() -> None:
    tokenizer = make_tokenizer()
    tokenizer.chat_template = {"tool_use": LOOP, "rag": LOOP}
    with pytest.raises(UserError, match=r"llm\.template"):
        PromptEncoder(tokenizer, load_template({"layout": "chat"}), TITLES, 20, 512)
