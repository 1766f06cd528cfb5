#!/usr/bin/env python3
"""Makes crates/dacapo-lm/tests/fixtures/templates.json: chat templates and what transformers renders from them.

    python tools/oracles/template_cases.py

Needs transformers. Each case: template, messages, tools, variables, special tokens, and the text, or null where
transformers refuses.
"""
import json
import os

from transformers.utils.chat_template_utils import render_jinja_template

OUT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "../../crates/dacapo-lm/tests/fixtures/templates.json")
TOKENS = {"bos_token": "<s>", "eos_token": "</s>"}


def turns(*pairs):
    return [{"role": r, "content": c} for r, c in pairs]


TALKS = [turns(("user", "Play it again")), turns(("system", "Be short."), ("user", " Hi \n"), ("assistant", "  Yes? "), ("user", "<b>&\"'\u00e9\U0001f600"))]
TOOL = {"type": "function", "function": {"name": "tune", "description": "Tunes <a> \"string\" \u2013 fast",
                                         "parameters": {"type": "object", "properties": {"pitch": {"type": "number"}, "a": {"type": "integer"}}}}}
CALL = [{"role": "user", "content": "Tune"}, {"role": "assistant", "content": "", "tool_calls": [
    {"type": "function", "function": {"name": "tune", "arguments": {"pitch": 440.0, "a": 1}}}]}, {"role": "tool", "content": "{\"ok\": true}"}]
FEATURES = [
    "{% for m in messages %}{{ '<|' + m['role'] + '|>\\n' + m.content | trim + eos_token + '\\n' }}{% endfor %}{% if add_generation_prompt %}{{ '<|assistant|>\\n' }}{% endif %}",
    "{{ bos_token }}{% if messages[0].role == 'system' %}{% set rest = messages[1:] %}{% set system = messages[0].content %}{% else %}{% set rest = messages %}{% endif %}"
    "{% for m in rest %}{% if (m.role == 'user') != loop.index is odd %}{{ raise_exception('turns must alternate') }}{% endif %}"
    "{{ '[' ~ (system ~ ' ' if system is defined and loop.first else '') ~ m.content ~ ']' }}{% endfor %}",
    "{{ raise_exception('never') }}",
    "   {% if true %}\n block\n   {%- endif %}\n\t{# gone #}\nkept {{- ' x ' -}}  \n end\n",
    "{{ messages | tojson }}|{{ tools | tojson }}|{{ messages[0] | tojson(indent=3) }}|{{ [] | tojson(indent=2) }}|{{ [1, -2.5, 1e30, 1e-7, 3.0, none, false, 'a\\u007f\\t\\\\/'] | tojson }}",
    "{{ {'b': 1, 'a': [2]} | tojson(sort_keys=true) }} {{ '\u00e9\U0001f600' | tojson(ensure_ascii=true) }} {{ [1, {'k': 2}] | tojson(separators=(',', ':')) }}",
    "{% set ns = namespace(n=0, last='') %}{% for m in messages %}{% set ns.n = ns.n + m.content | length %}{% set ns.last = m.role %}{% endfor %}{{ ns.n }} {{ ns.last }} {{ messages[-1]['content'][::-1] }}",
    "{{ 'A,b'.split(',')[1].upper() }}{{ ' x '.strip() }}{{ 'abc'.replace('b', '-') }}{{ '%s=%d' % ('n', 4) }}{{ 'abc'.startswith('ab') }}{{ 'q' * 3 }}{{ 'b' in 'abc' }}{{ 'x'.join(['1', '2']) }}",
    "{{ none }} {{ true }} {{ 1.0 }} {{ 1e20 }} {{ 0.1 + 0.2 }} {{ 7 // 2 }} {{ -7 % 3 }} {{ 2 ** 5 }} {{ [1, 'a', none] }} {{ {'k': \"it's\"} }} {{ undefined_name }}",
    "{{ messages | map(attribute='role') | unique | join('+') }} {{ messages | selectattr('role', 'equalto', 'user') | list | length }} {{ (messages | last).role | title }} {{ messages | length > 2 }}",
    "{% macro show(m, n=1) %}({{ n }}:{{ m.role }}){% endmacro %}{% for m in messages %}{{ show(m, loop.index) }}{% if loop.index == 2 %}{% break %}{% endif %}{% endfor %}",
    "{% for m in messages %}{% if m.role == 'assistant' %}{% generation %}{{ m.content }}{% endgeneration %}{% else %}{{ m.content }}{% endif %}|{% endfor %}",
    "{% for m in messages if m.role != 'system' %}{{ loop.index }}/{{ loop.length }}{{ m.get('name', '?') }}{% for k, v in m.items() %}{{ k }}:{{ v }};{% endfor %}{% endfor %}",
    "{% set l = [1] %}{% set _ = l.append(2) %}{{ l }}",
    "{{ strftime_now('%d %B %Y') | length > 8 }}{{ messages[0].missing is defined }}{{ thinking if thinking is defined else 'off' }}",
]
TOOLS = ("{% for t in tools or [] %}{{ t | tojson }}\n{% endfor %}{% for m in messages %}<{{ m.role }}>{{ m.content }}{% for c in m.tool_calls %}"
         "{{ c.function.name }}({{ c.function.arguments | tojson }}){% endfor %}\n{% endfor %}")


def main():
    cases = []

    def add(template, messages, tools=None, **variables):
        try:
            text = render_jinja_template([messages], tools=tools, chat_template=template, **TOKENS, **variables)[0][0]
        except Exception:
            text = None
        cases.append({"template": template, "messages": messages, "tools": tools, "variables": variables, "tokens": TOKENS, "text": text})

    for template in FEATURES:
        for talk in TALKS:
            add(template, talk)
    for talk in TALKS:
        add(FEATURES[0], talk, add_generation_prompt=True)
    add(FEATURES[-1], TALKS[0], thinking="on")
    add(TOOLS, CALL, tools=[TOOL])
    add(TOOLS, CALL)
    json.dump(cases, open(OUT, "w"), indent=0)
    print(len(cases), "cases,", sum(c["text"] is None for c in cases), "refused")


if __name__ == "__main__":
    main()
