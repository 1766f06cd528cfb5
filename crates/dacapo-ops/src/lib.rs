//! dacapo-ops
