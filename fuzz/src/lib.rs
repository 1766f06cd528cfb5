//! Damaged files for everything in Dacapo that reads files: each must be answered with a value or an error, never
//! a panic, and never more memory than the file's size accounts for.
//!
//! The damage is done by a seeded generator, so a failure is repeated from the seed alone. There is no coverage
//! feedback: the seeds are small valid files, and the formats are dense, so blind damage reaches most checks.

pub mod files;
pub mod mutate;
pub mod targets;
