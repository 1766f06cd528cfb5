//! The hardware layer.
pub mod cpu;
pub mod file;
