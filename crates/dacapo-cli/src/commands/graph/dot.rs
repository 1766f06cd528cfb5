//! The graph in the language of Graphviz.

use super::picture::{Picture, colour};
use crate::units;

/// A digraph with a cluster for each group.
pub fn write(picture: &Picture) -> String {
    let mut text = format!(
        "digraph dacapo {{\n  label={};\n  labelloc=t;\n  fontname=\"sans-serif\";\n  \
         node [shape=box, style=filled, fontname=\"sans-serif\", fontsize=10];\n  edge [color=\"#777777\"];\n",
        quote(&format!("{}\n{}", picture.title(), picture.facts().join(", ")))
    );
    for (group, nodes) in picture.groups().enumerate() {
        text += &format!("  subgraph cluster_{group} {{\n    label=\"{group}\";\n    color=\"#bbbbbb\";\n");
        for node in nodes {
            let label = format!("{}\n{}", node.kernel, units::bytes(node.bytes));
            text += &format!(
                "    n{} [label={}, fillcolor=\"{}\", tooltip={}];\n",
                node.index,
                quote(&label),
                colour(node.op),
                quote(&node.details())
            );
        }
        text += "  }\n";
    }
    for node in &picture.nodes {
        for edge in &node.edges {
            let style = if edge.flow { "" } else { " [style=dashed]" };
            text += &format!("  n{} -> n{}{style};\n", edge.from, node.index);
        }
    }
    text + "}\n"
}

/// A quoted string.
fn quote(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n"))
}

#[cfg(test)]
mod tests {
    #[test]
    fn quotes_and_line_breaks_are_escaped() {
        assert_eq!(super::quote("a\"b\\c\nd"), r#""a\"b\\c\nd""#);
    }
}
