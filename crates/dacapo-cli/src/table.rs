//! Plain tables: columns of text, aligned.

use std::fmt::Write;

/// Which side of its column a cell leans on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Align {
    /// Words.
    Left,
    /// Numbers.
    Right,
}

/// A table in the making.
#[derive(Debug)]
pub struct Table {
    columns: Vec<(String, Align)>,
    rows: Vec<Vec<String>>,
}

impl Table {
    /// A table with these headings.
    pub fn new(columns: &[(&str, Align)]) -> Self {
        Table {
            columns: columns.iter().map(|(name, align)| (name.to_string(), *align)).collect(),
            rows: vec![],
        }
    }

    /// Adds a row: one cell for each column; a missing one is empty.
    pub fn row(&mut self, cells: impl IntoIterator<Item = String>) {
        self.rows.push(cells.into_iter().collect());
    }
}

impl std::fmt::Display for Table {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let headings = self.columns.iter().map(|(name, _)| name.clone()).collect::<Vec<_>>();
        let lines = std::iter::once(&headings).chain(&self.rows);
        let width = |column: usize| {
            lines.clone().filter_map(|line| Some(line.get(column)?.chars().count())).max().unwrap_or(0)
        };
        let widths = (0..self.columns.len()).map(width).collect::<Vec<_>>();
        for line in lines {
            let mut text = String::new();
            for (column, (&width, (_, align))) in widths.iter().zip(&self.columns).enumerate() {
                let cell = line.get(column).map_or("", String::as_str);
                let gap = if column == 0 { "" } else { "  " };
                match align {
                    Align::Left => write!(text, "{gap}{cell:<width$}")?,
                    Align::Right => write!(text, "{gap}{cell:>width$}")?,
                }
            }
            writeln!(f, "{}", text.trim_end())?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up() {
        let mut table = Table::new(&[("name", Align::Left), ("n", Align::Right)]);
        table.row(["ä".into(), "5".into()]);
        table.row(["longer".into(), "12345".into()]);
        assert_eq!(table.to_string(), "name        n\nä           5\nlonger  12345\n");
    }
}
