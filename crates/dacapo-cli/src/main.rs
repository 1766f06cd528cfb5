//! dacapo
fn main() {}
