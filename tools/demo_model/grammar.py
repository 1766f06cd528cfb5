"""A small text grammar: templates with alternatives and slots, and the finishing of sentences.

A template is plain text with
    [one|two|three]   one of the alternatives (they nest; an empty one makes the text optional)
    {slot}            the value of a slot, itself expanded
    ^                 the next letter is a capital one
"""

import functools
import re


@functools.lru_cache(maxsize=None)
def _parse(template):
    """Turns a template into a nested tuple: str, ("slot", name) or ("any", alternatives)."""
    position = 0

    def sequence(stops):
        nonlocal position
        parts, text = [], []
        while position < len(template) and template[position] not in stops:
            char = template[position]
            position += 1
            if char not in "[{":
                text.append(char)
                continue
            if text:
                parts.append("".join(text))
                text = []
            if char == "{":
                end = template.index("}", position)
                parts.append(("slot", template[position:end]))
                position = end + 1
            else:
                options = [sequence("|]")]
                while template[position] == "|":
                    position += 1
                    options.append(sequence("|]"))
                position += 1
                parts.append(("any", tuple(options)))
        if text:
            parts.append("".join(text))
        return tuple(parts)

    result = sequence("")
    return result


def expand(rng, template, slots):
    """Expands a template with the given random source and slots (name -> template)."""
    out = []

    def walk(parts):
        for part in parts:
            if isinstance(part, str):
                out.append(part)
            elif part[0] == "slot":
                walk(_parse(slots[part[1]]))
            else:
                walk(part[1][int(rng.random() * len(part[1]))])

    walk(_parse(template))
    return "".join(out)


_SPACES = re.compile(r" {2,}")
_BEFORE_POINT = re.compile(r" +([,.!?])")
_ARTICLE = re.compile(r"\b([Aa]) (?=[aeiouAEIOU])(?!one\b|uni|use)")
_START = re.compile(r"(^\"?|[.!?] \"?|\n\"?| \")([a-z])")
_GOES_ON = re.compile(r",\" [^\".!?]*, \"$")
_MARKED = re.compile(r"\^(\"?)([a-z]?)")


def finish(text):
    """Sets spaces, articles and capital letters right."""
    text = _SPACES.sub(" ", text).strip()
    text = _BEFORE_POINT.sub(r"\1", text)
    text = _ARTICLE.sub(r"\1n ", text)
    text = _MARKED.sub(lambda m: m.group(1) + m.group(2).upper(), text)

    def capital(m):
        # In `"Good," said Pip, "but late."` the second half goes on with a small letter.
        goes_on = m.group(1) == ' "' and _GOES_ON.search(text, max(0, m.start() - 80), m.start(2))
        return m.group(0) if goes_on else m.group(1) + m.group(2).upper()

    return _START.sub(capital, text)
