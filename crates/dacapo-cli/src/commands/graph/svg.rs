//! The graph as a picture: a row for each group, a box for each operation, folded into columns.

use std::ops::Range;

use super::picture::{Edge, Node, Picture, colour, escape};
use crate::units;

const BOX_HEIGHT: f64 = 32.0;
/// From one row's top to the next one's.
const ROW: f64 = 52.0;
const BOX_GAP: f64 = 10.0;
/// Left of a column's boxes, for the numbers of groups.
const GUTTER: f64 = 34.0;
/// Right of a column's boxes, for lines that pass rows by.
const MARGIN: f64 = 56.0;
const EDGE: f64 = 20.0;
/// A letter's width, about.
const LETTER: f64 = 6.1;
/// A box is no wider than this.
const WIDEST: f64 = 320.0;
/// Width of a picture for its height, about, when it is folded.
const ASPECT: f64 = 1.6;
/// Rows that are not folded.
const UNFOLDED: usize = 24;

/// Where a box is.
#[derive(Debug, Clone, Copy)]
struct Place {
    x: f64,
    y: f64,
    width: f64,
    column: usize,
}

impl Place {
    fn centre(&self) -> f64 {
        self.x + self.width / 2.0
    }
}

/// Where everything is.
struct Layout {
    places: Vec<Place>,
    /// Left and right end of each column.
    columns: Vec<(f64, f64)>,
    /// Right end of each group's row, and its top.
    rows: Vec<(f64, f64)>,
    width: f64,
    height: f64,
}

/// The picture as an SVG document.
pub fn write(picture: &Picture) -> String {
    let header = Header::new(picture);
    let layout = Layout::new(picture, header.height);
    let width = layout.width.max(header.width).ceil();
    let height = layout.height.ceil();
    let mut text = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width}\" height=\"{height}\" \
         viewBox=\"0 0 {width} {height}\" font-family=\"sans-serif\" font-size=\"11\" fill=\"#222\">\n\
         <rect width=\"100%\" height=\"100%\" fill=\"#fff\"/>\n"
    );
    text += &header.text;
    text += &barriers(&layout);
    text += &edges(picture, &layout);
    for (node, place) in picture.nodes.iter().zip(&layout.places) {
        text += &draw(node, place);
    }
    text + "</svg>\n"
}

/// Title, report and legend.
struct Header {
    text: String,
    width: f64,
    height: f64,
}

impl Header {
    fn new(picture: &Picture) -> Self {
        let (title, facts) = (picture.title(), picture.facts());
        let mut text = format!(
            "<text x=\"{EDGE}\" y=\"30\" font-size=\"16\" font-weight=\"bold\">{}</text>\n",
            escape(&title)
        );
        // Two lines, so that narrow pictures stay narrow.
        for (line, part) in facts.chunks(4).enumerate() {
            let y = 50 + 17 * line;
            text += &format!(
                "<text x=\"{EDGE}\" y=\"{y}\" font-size=\"12\">{}</text>\n",
                escape(&part.join(" · "))
            );
        }
        let mut x = EDGE;
        let mut y = 84.0;
        let mut widest = title.chars().count() as f64 * 9.5 + EDGE;
        for kind in picture.kinds() {
            let step = 20.0 + kind.name().len() as f64 * LETTER + 12.0;
            if x + step > 560.0 {
                (x, y) = (EDGE, y + 18.0);
            }
            text += &format!(
                "<rect x=\"{x:.1}\" y=\"{y:.1}\" width=\"14\" height=\"12\" rx=\"2\" fill=\"{}\" \
                 stroke=\"#777\" stroke-width=\"0.6\"/><text x=\"{:.1}\" y=\"{:.1}\">{}</text>\n",
                colour(kind),
                x + 19.0,
                y + 10.0,
                kind.name()
            );
            x += step;
            widest = f64::max(widest, x);
        }
        y += 32.0;
        text += &format!(
            "<g fill=\"#666\"><text x=\"{EDGE}\" y=\"{y:.1}\">A row is a group, a line between rows a barrier; \
             width: bytes, logarithmic.</text>\n<text x=\"{EDGE}\" y=\"{:.1}\">Curves run downwards: data (grey), \
             memory written again (dashed red).</text></g>\n",
            y + 15.0
        );
        Header { text, width: widest.max(580.0), height: y + 40.0 }
    }
}

impl Layout {
    fn new(picture: &Picture, top: f64) -> Self {
        let groups: Vec<&[Node]> = picture.groups().collect();
        let widths: Vec<f64> = groups
            .iter()
            .map(|nodes| nodes.iter().map(|node| width(node) + BOX_GAP).sum::<f64>() - BOX_GAP)
            .collect();
        let mut layout =
            Layout { places: Vec::new(), columns: Vec::new(), rows: Vec::new(), width: 0.0, height: top };
        let mut left = EDGE;
        for (column, rows) in fold(&crossings(picture), rows_in_column(&widths)).into_iter().enumerate() {
            let (groups, widths) = (&groups[rows.clone()], &widths[rows]);
            let start = left + GUTTER;
            let widest = widths.iter().copied().fold(0.0, f64::max);
            layout.columns.push((left, start + widest));
            for (row, (nodes, row_width)) in groups.iter().zip(widths).enumerate() {
                let mut x = start + (widest - row_width) / 2.0;
                let y = top + row as f64 * ROW;
                for node in *nodes {
                    layout.places.push(Place { x, y, width: width(node), column });
                    x += width(node) + BOX_GAP;
                }
                layout.rows.push((x - BOX_GAP, y));
                layout.height = layout.height.max(y + BOX_HEIGHT + 2.0 * EDGE);
            }
            left = start + widest + MARGIN;
        }
        layout.width = left;
        layout
    }
}

/// How many rows a column gets, so that the picture is about as wide as [`ASPECT`] says.
fn rows_in_column(widths: &[f64]) -> usize {
    let rows = widths.len().max(1);
    if rows <= UNFOLDED {
        return rows;
    }
    let column = widths.iter().copied().fold(0.0, f64::max) + GUTTER + MARGIN;
    let columns = (rows as f64 * ROW * ASPECT / column).sqrt().round().max(1.0);
    (rows as f64 / columns).ceil() as usize
}

/// For each group the lines that lead from groups before it to it or beyond.
fn crossings(picture: &Picture) -> Vec<usize> {
    let mut crossing = vec![0; picture.report.groups];
    for node in &picture.nodes {
        for edge in &node.edges {
            let from = picture.nodes[edge.from].group;
            crossing[from + 1..=node.group].iter_mut().for_each(|lines| *lines += 1);
        }
    }
    crossing
}

/// The rows of each column: about as many as asked for, cut where few lines cross.
fn fold(crossing: &[usize], per_column: usize) -> Vec<Range<usize>> {
    let spread = per_column / 6;
    let mut columns = Vec::new();
    let mut start = 0;
    while crossing.len() - start > per_column + spread {
        let ideal = start + per_column;
        let cut = (ideal - spread..=ideal + spread).min_by_key(|&cut| (crossing[cut], cut.abs_diff(ideal)));
        let cut = cut.unwrap_or(ideal);
        columns.push(start..cut);
        start = cut;
    }
    columns.push(start..crossing.len());
    columns
}

/// A box's width: rises with the logarithm of its bytes, and has room for its name.
fn width(node: &Node) -> f64 {
    let name = node.kernel.chars().count() as f64 * LETTER + BOX_GAP;
    let bytes = 36.0 * ((node.bytes.max(1) as f64).log10() - 1.0);
    bytes.max(name).clamp(60.0, WIDEST)
}

/// The lines between rows, and the numbers of the groups.
fn barriers(layout: &Layout) -> String {
    let mut text = String::from("<g stroke=\"#ddd\" fill=\"none\">\n");
    let mut numbers = String::from("<g fill=\"#888\" font-size=\"10\">\n");
    let mut column = 0;
    let mut last = f64::NEG_INFINITY;
    for (group, &(_, y)) in layout.rows.iter().enumerate() {
        if y <= last {
            column += 1;
        }
        let (left, right) = layout.columns[column];
        if group > 0 {
            let line = y - (ROW - BOX_HEIGHT) / 2.0;
            text += &format!("<path d=\"M{left:.1} {line:.1}H{right:.1}\"/>\n");
        }
        numbers += &format!("<text x=\"{left:.1}\" y=\"{:.1}\">{group}</text>\n", y + BOX_HEIGHT / 2.0 + 4.0);
        last = y;
    }
    text + "</g>\n" + &numbers + "</g>\n"
}

fn edges(picture: &Picture, layout: &Layout) -> String {
    let mut flow = String::from("<g fill=\"none\" stroke=\"#666\" stroke-opacity=\"0.65\">\n");
    let mut again =
        String::from("<g fill=\"none\" stroke=\"#c33\" stroke-opacity=\"0.55\" stroke-dasharray=\"4 3\">\n");
    for node in &picture.nodes {
        for edge in &node.edges {
            let path = format!("<path d=\"{}\"/>\n", curve(picture, layout, edge, node));
            if edge.flow { flow += &path } else { again += &path }
        }
    }
    flow + "</g>\n" + &again + "</g>\n"
}

/// From the bottom of one box to the top of another.
fn curve(picture: &Picture, layout: &Layout, edge: &Edge, to: &Node) -> String {
    let from = &picture.nodes[edge.from];
    let (a, b) = (&layout.places[from.index], &layout.places[to.index]);
    let (x1, y1, x2, y2) = (a.centre(), a.y + BOX_HEIGHT, b.centre(), b.y);
    if a.column != b.column {
        // Down out of its column, up beside the column that it leads to, and down into that.
        let between = layout.columns[b.column].0 - MARGIN / 3.0;
        let bend = EDGE;
        return format!(
            "M{x1:.1} {y1:.1}C{x1:.1} {:.1} {between:.1} {:.1} {between:.1} {y1:.1}L{between:.1} {y2:.1}\
             C{between:.1} {:.1} {x2:.1} {:.1} {x2:.1} {y2:.1}",
            y1 + bend,
            y1 + bend,
            y2 - bend,
            y2 - bend
        );
    }
    let passed = &layout.rows[from.group + 1..to.group];
    if passed.is_empty() {
        let middle = (y1 + y2) / 2.0;
        return format!("M{x1:.1} {y1:.1}C{x1:.1} {middle:.1} {x2:.1} {middle:.1} {x2:.1} {y2:.1}");
    }
    // Around the rows between, a little further out the more there are of them.
    let out = passed.iter().map(|&(right, _)| right).fold(x1.max(x2), f64::max)
        + 8.0
        + (2.5 * passed.len() as f64).min(MARGIN / 2.0);
    let bend = ROW * 0.6;
    format!(
        "M{x1:.1} {y1:.1}C{x1:.1} {:.1} {out:.1} {y1:.1} {out:.1} {:.1}L{out:.1} {:.1}\
         C{out:.1} {y2:.1} {x2:.1} {:.1} {x2:.1} {y2:.1}",
        y1 + bend / 2.0,
        y1 + bend,
        y2 - bend,
        y2 - bend / 2.0
    )
}

fn draw(node: &Node, place: &Place) -> String {
    let Place { x, y, width, .. } = *place;
    let centre = place.centre();
    format!(
        "<g text-anchor=\"middle\"><title>{}</title><rect x=\"{x:.1}\" y=\"{y:.1}\" width=\"{width:.1}\" \
         height=\"{BOX_HEIGHT}\" rx=\"4\" fill=\"{}\" stroke=\"#777\" stroke-width=\"0.8\"/>\
         <text x=\"{centre:.1}\" y=\"{:.1}\">{}</text><text x=\"{centre:.1}\" y=\"{:.1}\" font-size=\"9\" \
         fill=\"#555\">{}</text></g>\n",
        escape(&node.details()),
        colour(node.op),
        y + 14.0,
        escape(&fitting(node.kernel, width - 8.0)),
        y + 26.0,
        units::bytes(node.bytes)
    )
}

/// The text, cut to a width.
fn fitting(text: &str, width: f64) -> String {
    let room = (width / LETTER) as usize;
    if text.chars().count() <= room {
        return text.to_string();
    }
    text.chars().take(room.saturating_sub(1)).chain(['…']).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_graphs_fold() {
        assert_eq!(rows_in_column(&[100.0; 24]), 24);
        let rows = rows_in_column(&[600.0; 300]);
        let columns = 300_usize.div_ceil(rows);
        let aspect = columns as f64 * 690.0 / (rows as f64 * ROW);
        assert!((1.0..2.5).contains(&aspect), "{columns} columns of {rows} rows");
        assert_eq!(rows_in_column(&[]), 1);
    }

    #[test]
    fn columns_are_cut_where_few_lines_cross() {
        let mut crossing = [3; 100];
        crossing[0] = 0;
        crossing[27] = 1;
        crossing[50] = 2;
        assert_eq!(fold(&crossing, 24), [0..27, 27..50, 50..74, 74..100]);
        assert_eq!(fold(&[], 1), [Range { start: 0, end: 0 }]);
    }

    #[test]
    fn text_is_cut_to_its_box() {
        assert_eq!(fitting("norm", 72.0), "norm");
        assert_eq!(fitting("abcdefghij", LETTER * 5.5), "abcd…");
    }
}
