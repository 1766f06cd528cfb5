//! A page with two pictures and their reports.

use super::picture::{Picture, escape};
use super::svg;
use crate::units;

const STYLE: &str = "\
html, body { margin: 0; height: 100%; }
body { display: flex; flex-direction: column; font: 14px sans-serif; color: #222; background: #fff; }
header { padding: 10px 16px; border-bottom: 1px solid #ccc; }
h1 { font-size: 17px; margin: 0 0 8px; }
h2 { font-size: 14px; margin: 0; padding: 8px 16px; background: #f3f3f3; }
table { border-collapse: collapse; }
td, th { padding: 1px 18px 1px 0; text-align: right; font-weight: normal; }
td:first-child { text-align: left; }
th { color: #666; }
main { display: flex; flex: 1; min-height: 0; }
section { flex: 1; min-width: 0; display: flex; flex-direction: column; border-right: 1px solid #ccc; }
section div { flex: 1; overflow: auto; }
";

/// The page. It needs nothing but itself.
pub fn write(before: &Picture, after: &Picture) -> String {
    let title = escape(&format!("{}: {}", before.origin.name(), before.origin.stage));
    let length = before.origin.length;
    format!(
        "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\"/>\n<title>{title}</title>\n\
         <style>\n{STYLE}</style>\n</head>\n<body>\n<header>\n<h1>{title}, length {length}</h1>\n{}</header>\n\
         <main>\n{}{}</main>\n</body>\n</html>\n",
        table(before, after),
        section("Recorded", before),
        section("Optimized", after)
    )
}

fn section(heading: &str, picture: &Picture) -> String {
    format!("<section>\n<h2>{heading}</h2>\n<div>\n{}</div>\n</section>\n", svg::write(picture))
}

fn table(before: &Picture, after: &Picture) -> String {
    let (a, b) = (&before.report, &after.report);
    let count = |name: &str, a: usize, b: usize| row(name, &a.to_string(), &b.to_string());
    let bytes = |name: &str, a: u64, b: u64| row(name, &units::bytes(a), &units::bytes(b));
    let rows = [
        count("dispatches", a.dispatches, b.dispatches),
        count("groups", a.groups, b.groups),
        count("longest chain", a.lower_bound, b.lower_bound),
        count("moved", a.moved, b.moved),
        count("fusions", a.fusions, b.fusions),
        bytes("touched", a.bytes, b.bytes),
        bytes("activations", a.activation_bytes as u64, b.activation_bytes as u64),
        bytes("activations, unshared", a.activation_bytes_sum as u64, b.activation_bytes_sum as u64),
    ];
    format!("<table>\n<tr><th></th><th>recorded</th><th>optimized</th></tr>\n{}</table>\n", rows.concat())
}

fn row(name: &str, before: &str, after: &str) -> String {
    format!("<tr><td>{name}</td><td>{before}</td><td>{after}</td></tr>\n")
}
