//! The table of fusions: which dispatches of a forward pass become one.
//!
//! A row stands here because it is faster in a measurement (`cargo bench -p dacapo-lm --bench fuse`), which it names. That
//! the replacement computes the same bytes is proven by `tests/fusion`; that it may stand in is proven by the engine, for
//! every place anew. What was tried and is not here is in `docs/graph.md`.

use dacapo::{BackendKind, FusePattern, FuseStep, Gain, Link, OpKind, Selector};

use crate::ops::attention::{quantized, step as attention_step};
use crate::ops::fused::{gated_quantize, norm_quantize, norm_rope, rope_kv_write};
use crate::ops::matmul::{normed, residual};

/// A dispatch of this kernel that reads what an earlier step has written.
const fn step(kernel: &'static str) -> FuseStep {
    FuseStep { select: Selector::Kernel(kernel), link: Link::Reads }
}

/// What was measured on the processor.
const fn cpu(figure: &'static str) -> Gain {
    Gain { backend: BackendKind::Cpu, figure, borrowed_by: &[] }
}

/// What was measured on Vulkan devices. Metal's go by it until somebody measures there.
const fn gpu(figure: &'static str) -> Gain {
    Gain { backend: BackendKind::Vulkan, figure, borrowed_by: &[BackendKind::Metal] }
}

/// A row that stands here for the sake of GPUs, each group of which costs microseconds.
const GPU: Gain = gpu(
    "with all rows 1.37, 1.25 and 1.15 times the speed of a decode step of Qwen3-0.6B, Llama-3.2-1B and Llama-3.1-8B on an H200",
);

/// A dispatch of this kind that reads what an earlier step has written.
const fn kind(kind: OpKind) -> FuseStep {
    FuseStep { select: Selector::Kind(kind), link: Link::Reads }
}

/// Rows that leave fewer groups because workgroups do anew, or on the way, what a dispatch of its own did before.
const ON_THE_WAY: Gain = gpu(
    "the three rows together 1.28, 1.17 and 1.03 times the speed of a decode step of Qwen3-0.6B, Llama-3.2-1B and Llama-3.1-8B on an H200",
);

/// A group of each layer less.
const STEP: Gain = gpu(
    "a layer's attention, with copies in the place of products, takes 0.67 to 0.74 of the time on an H200 at 128 positions, 0.75 to 0.78 at 4096",
);

/// A dispatch of this kernel that shares an input with the first step.
const fn beside(kernel: &'static str) -> FuseStep {
    FuseStep { select: Selector::Kernel(kernel), link: Link::Beside }
}

/// The fusions that pay. Longer ones come before their parts.
pub static FUSIONS: &[FusePattern] = &[
    FusePattern {
        name: "norm and gated MLP into quantization",
        steps: &[step("rms_norm_q8"), step("matmul_int8"), step("matmul_int8"), step("gated_q8")],
        build: normed::build_gated,
        spread: false,
        gains: &[ON_THE_WAY],
    },
    FusePattern {
        name: "norm into each product",
        steps: &[step("rms_norm_q8"), kind(OpKind::Matmul)],
        build: normed::build,
        spread: true,
        gains: &[ON_THE_WAY],
    },
    FusePattern {
        name: "product and sum",
        steps: &[kind(OpKind::Matmul), step("add")],
        build: residual::build,
        spread: false,
        gains: &[ON_THE_WAY],
    },
    FusePattern {
        name: "attention from splits with norms and rotations before it",
        steps: &[step("rms_norm_rope"), beside("rms_norm_rope_kv_write"), step("attention_part")],
        build: attention_step::build_part_normed,
        spread: false,
        gains: &[STEP],
    },
    FusePattern {
        name: "attention from splits with rotations before it",
        steps: &[step("rope"), beside("rope_kv_write"), step("attention_part")],
        build: attention_step::build_part,
        spread: false,
        gains: &[STEP],
    },
    FusePattern {
        name: "attention with norms and rotations before it",
        steps: &[step("rms_norm_rope"), beside("rms_norm_rope_kv_write"), step("attention_q8")],
        build: attention_step::build_q8_normed,
        spread: false,
        gains: &[STEP],
    },
    FusePattern {
        name: "attention with rotations before it",
        steps: &[step("rope"), beside("rope_kv_write"), step("attention_q8")],
        build: attention_step::build_q8,
        spread: false,
        gains: &[STEP],
    },
    FusePattern {
        name: "norm and rotation of keys into the cache",
        steps: &[step("rms_norm_in_place"), step("rope"), step("kv_write")],
        build: rope_kv_write::build_normed,
        spread: false,
        gains: &[
            cpu("alone 1.007 and 1.016 times the speed of a decode step of the demo model in two runs"),
            GPU,
        ],
    },
    FusePattern {
        name: "rotation of keys into the cache",
        steps: &[step("rope"), step("kv_write")],
        build: rope_kv_write::build,
        spread: false,
        gains: &[
            cpu("alone 1.006 and 1.020 times the speed of a decode step of the demo model in two runs"),
            GPU,
        ],
    },
    FusePattern {
        name: "norm and rotation of heads",
        steps: &[step("rms_norm_in_place"), step("rope")],
        build: norm_rope::build,
        spread: false,
        gains: &[
            cpu(
                "with the row on keys, which it runs beside: 1.035 times the speed of a decode step of the demo model with it, 1.026 without; alone 1.004",
            ),
            GPU,
        ],
    },
    FusePattern {
        name: "gated activation into quantization",
        steps: &[step("gated"), step("quantize_q8")],
        build: gated_quantize::build,
        spread: false,
        gains: &[
            cpu(
                "alone 0.999 and 1.016 times the speed of a decode step of the demo model in two runs, 1.009 times at a prompt of 128",
            ),
            GPU,
        ],
    },
    FusePattern {
        name: "attention into quantization",
        steps: &[step("attention"), step("quantize_q8")],
        build: quantized::build,
        spread: false,
        gains: &[GPU],
    },
    FusePattern {
        name: "attention from splits into quantization",
        steps: &[step("attention_combine"), step("quantize_q8")],
        build: quantized::build_combine,
        spread: false,
        gains: &[GPU],
    },
    FusePattern {
        name: "norm of a sum into quantization",
        steps: &[step("rms_norm_add"), step("quantize_q8")],
        build: norm_quantize::build_add,
        spread: false,
        gains: &[GPU],
    },
    FusePattern {
        name: "norm into quantization",
        steps: &[step("rms_norm"), step("quantize_q8")],
        build: norm_quantize::build,
        spread: false,
        gains: &[GPU],
    },
];
