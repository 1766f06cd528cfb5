//! Changes to a template's text for two things that transformers' Jinja knows and this one does not.

/// Makes `{% generation %}` and its end, which mark an assistant's text for training, into a block that is
/// always taken, with white space around it treated as before; and Python's formatting of a literal,
/// `'%s' % (x, y)`, into the filter that does the same.
pub(super) fn translate(source: &str) -> String {
    let mut out = String::with_capacity(source.len());
    let mut rest = source;
    while let Some(start) = rest.find('{') {
        let (before, tag) = rest.split_at(start);
        out.push_str(before);
        let (done, left) = match tag.as_bytes().get(1) {
            Some(b'#') => tag.split_at(tag.find("#}").map_or(tag.len(), |end| end + 2)),
            Some(b'%') => {
                let (inside, left) = inside(tag, "%}");
                block(inside, &mut out);
                ("", left)
            }
            Some(b'{') => {
                let (inside, left) = inside(tag, "}}");
                expression(inside, &mut out);
                ("", left)
            }
            _ => tag.split_at(1),
        };
        out.push_str(done);
        rest = left;
    }
    out.push_str(rest);
    out
}

/// Splits before the `end` that closes the tag at the start, minding string literals.
fn inside<'a>(tag: &'a str, end: &str) -> (&'a str, &'a str) {
    let mut at = 2;
    while at < tag.len() {
        let rest = &tag[at..];
        if rest.starts_with(end) {
            break;
        }
        at += match rest.chars().next() {
            // A literal without an end takes all that is left.
            Some('\'' | '"') => literal_len(rest).unwrap_or(rest.len()),
            Some(c) => c.len_utf8(),
            None => 1,
        };
    }
    tag.split_at(at)
}

/// The length of the string literal that `text` starts with, if it does and the literal ends.
fn literal_len(text: &str) -> Option<usize> {
    let quote = text.chars().next().filter(|c| matches!(c, '\'' | '"'))?;
    let mut escaped = false;
    for (at, c) in text.char_indices().skip(1) {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            c if c == quote => return Some(at + 1),
            _ => {}
        }
    }
    None
}

/// A tag `{% ...`, without its end.
fn block(inside: &str, out: &mut String) {
    match inside[2..].trim_matches(['-', '+']).trim() {
        "generation" => out.push_str(&inside.replace("generation", "if true")),
        "endgeneration" => out.push_str(&inside.replace("endgeneration", "endif")),
        _ => expression(inside, out),
    }
}

/// A tag with `literal % (` made into `literal|format(`.
fn expression(inside: &str, out: &mut String) {
    let mut rest = inside;
    while let Some(start) = rest.find(['\'', '"']) {
        let (before, text) = rest.split_at(start);
        out.push_str(before);
        let (literal, after) = text.split_at(literal_len(text).unwrap_or(text.len()));
        out.push_str(literal);
        let operand = after.trim_start().strip_prefix('%').and_then(|a| a.trim_start().strip_prefix('('));
        match operand {
            Some(operand) => {
                out.push_str("|format(");
                rest = operand;
            }
            None => rest = after,
        }
    }
    out.push_str(rest);
}

#[cfg(test)]
mod tests {
    use super::translate;

    #[test]
    fn tags_and_formatting_are_translated() {
        for (source, expected) in [
            ("plain { text }", "plain { text }"),
            ("{%- generation %}x{% endgeneration +%}", "{%- if true %}x{% endif +%}"),
            ("{{ 'generation' }}{% set generation = 1 %}", "{{ 'generation' }}{% set generation = 1 %}"),
            ("{{ '%s-%d' % ('a', 3) }}", "{{ '%s-%d'|format('a', 3) }}"),
            ("{% set x = \"%s\" %(y) %}", "{% set x = \"%s\"|format(y) %}"),
            ("{{ 7 % (2) }} '%s' % (1)", "{{ 7 % (2) }} '%s' % (1)"),
            ("{# '%s' % (1) {% generation %} #}", "{# '%s' % (1) {% generation %} #}"),
            ("{{ '}}' }}{{ 'a\\'%}' }}{% if 'x' %}", "{{ '}}' }}{{ 'a\\'%}' }}{% if 'x' %}"),
            ("{{ 'open", "{{ 'open"),
            ("{%", "{%"),
            ("{", "{"),
        ] {
            assert_eq!(translate(source), expected);
        }
    }
}
