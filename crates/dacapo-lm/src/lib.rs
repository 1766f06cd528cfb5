//! dacapo-lm
