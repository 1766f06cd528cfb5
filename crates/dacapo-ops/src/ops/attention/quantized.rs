//! Attention with the quantization behind it: replacements from the [table of fusions](crate::fusion).

use dacapo::{Binding, CpuTwin, Dispatch, FuseMatch, Kernel, OpKind};

use super::{Params, cpu, gpu};
use crate::quant::panel::BLOCK;

/// `attention` of one token, `quantize_q8`.
pub static ATTENTION_Q8: Kernel = Kernel {
    name: "attention_q8",
    kind: OpKind::Attention,
    bindings: &[
        Binding::read("q"),
        Binding::read("k_cache"),
        Binding::read("v_cache"),
        Binding::read("step"),
        Binding::write("codes"),
        Binding::write("meta"),
    ],
    cpu: CpuTwin { plan: cpu::plan_q8, run: cpu::run_q8 },
    gpu: Some(&gpu::ATTENTION_Q8),
};

/// `attention_combine`, `quantize_q8`.
pub static ATTENTION_COMBINE_Q8: Kernel = Kernel {
    name: "attention_combine_q8",
    kind: OpKind::Attention,
    bindings: &[
        Binding::read("found"),
        Binding::read("step"),
        Binding::write("codes"),
        Binding::write("meta"),
    ],
    cpu: CpuTwin { plan: cpu::split::plan_combine_q8, run: cpu::split::run_combine_q8 },
    gpu: Some(&gpu::COMBINE_Q8),
};

/// The replacement of `attention`, `quantize_q8`, of one token.
pub(crate) fn build(found: &FuseMatch<'_>) -> Option<Dispatch> {
    let one = found.params::<Params>(0)?.tokens == 1;
    one.then_some(())?;
    finish(found, Dispatch::new(&ATTENTION_Q8), 4)
}

/// The replacement of `attention_combine`, `quantize_q8`.
pub(crate) fn build_combine(found: &FuseMatch<'_>) -> Option<Dispatch> {
    finish(found, Dispatch::new(&ATTENTION_COMBINE_Q8), 2)
}

/// The first step's inputs, then codes and meta, if blocks do not reach over heads. `out` is the index of attention's
/// output, behind its inputs.
fn finish(found: &FuseMatch<'_>, dispatch: Dispatch, out: usize) -> Option<Dispatch> {
    let params = found.params::<Params>(0)?;
    let quantized = found.buffer(0, out)?.is_same_view(&found.buffer(1, 0)?);
    (quantized && (params.value_dim as usize).is_multiple_of(BLOCK)).then_some(())?;
    let dispatch =
        (0..out).try_fold(dispatch, |dispatch, at| Some(dispatch.buffer(&found.buffer(0, at)?)))?;
    Some(dispatch.buffer(&found.buffer(1, 1)?).buffer(&found.buffer(1, 2)?).bytes(&params))
}
