//! Moving on to the next step, on the device.

mod gpu;

use dacapo::cpu::{CpuPlan, Split};
use dacapo::{Binding, Buffer, CommandEncoder, CpuTwin, Dispatch, Kernel, OpKind, Result};

use crate::check;

/// See [`advance`].
pub static ADVANCE: Kernel = Kernel {
    name: "advance",
    kind: OpKind::Other,
    bindings: &[Binding::read_write("step")],
    cpu: CpuTwin {
        plan: |_| CpuPlan::new(1, 1).split(0, Split::whole()),
        run: |tile| {
            let by: u32 = tile.params();
            let mut step = tile.write::<u32>(0);
            let position = &mut step.slice()[0];
            *position = position.wrapping_add(by);
        },
    },
    gpu: Some(&gpu::TWIN),
};

/// `step[0] += tokens`: the position of the next forward pass, after one over `tokens` tokens, so that passes can be
/// submitted one behind the other without the host between. `step` is U32 with the position in its first element.
///
/// # Errors
/// An element type or a length that does not fit.
pub fn advance(enc: &mut CommandEncoder, step: &Buffer, tokens: usize) -> Result<()> {
    check::step(ADVANCE.name, step)?;
    let by = check::dim(ADVANCE.name, "tokens", tokens)?;
    enc.dispatch(Dispatch::new(&ADVANCE).buffer(step).bytes(&by))
}

#[cfg(test)]
mod tests {
    use dacapo::{Device, DeviceOptions};

    use super::*;

    #[test]
    fn positions_add_up_in_order() {
        let device = Device::open(DeviceOptions::default()).unwrap();
        let step = device.upload(&[7_u32, 99], &[2]).unwrap();
        let mut encoder = device.encoder("advance").unwrap();
        for tokens in [1, 5, 0] {
            advance(&mut encoder, &step, tokens).unwrap();
        }
        encoder.commit_and_wait().unwrap();
        assert_eq!(step.to_vec::<u32>().unwrap(), [13, 99]);
    }
}
