//! Quantization of activations to int8.

pub mod cpu;
