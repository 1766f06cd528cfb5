//! Matrix products.

pub mod codes;
pub mod dense;
pub mod product;
pub mod scales;
pub mod vector;

#[cfg(test)]
mod tests;
