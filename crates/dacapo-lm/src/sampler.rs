//! The choice of the next token, on the device.

use dacapo::{Buffer, CommandEncoder, DType};
use dacapo_ops::SampleParams;

use crate::error::{Error, Result};
use crate::generate::Sampling;
use crate::model::Model;

/// Places for drawn tokens. A step draws into the place behind the one that it reads, so that the host can read a token
/// while later steps run: one more than the most that run at once.
pub(crate) const SLOTS: usize = 3;

/// Sampling options on a device, and how often each token was seen. Made once for a session; graphs that draw tokens are
/// recorded on its buffers, and stay good when their contents change.
#[derive(Debug)]
pub(crate) struct Sampler {
    params: Buffer,
    counts: Buffer,
    /// U32 `[1]` each.
    slots: [Buffer; SLOTS],
    /// F32 `[V]`, once somebody asks for a bias.
    bias: Option<Buffer>,
    /// Whether the bias counts.
    biased: bool,
}

impl Sampler {
    /// A sampler that takes the likeliest token and has seen none.
    pub fn new(model: &Model) -> Result<Self> {
        let device = model.device();
        let params = params(&Sampling::default()).words();
        let slot = || device.alloc(DType::U32, &[1]);
        Ok(Sampler {
            params: device.upload(&params, &[params.len()])?,
            counts: device.alloc(DType::U32, &[model.config().vocab_size])?,
            slots: [slot()?, slot()?, slot()?],
            bias: None,
            biased: false,
        })
    }

    /// Begins anew with these options, as one that has seen `prompt`. Waits for draws that still run.
    pub fn start(&mut self, model: &Model, sampling: &Sampling, prompt: &[u32]) -> Result<()> {
        check(sampling)?;
        model.check_tokens(prompt)?;
        let bias = bias(model, sampling)?;
        let mut counts = vec![0_u32; model.config().vocab_size];
        prompt.iter().for_each(|&token| counts[token as usize] += 1);
        self.params.copy_from(&params(sampling).words())?;
        self.counts.copy_from(&counts)?;
        self.biased = bias.is_some();
        if let Some(bias) = bias {
            match &self.bias {
                Some(buffer) => buffer.copy_from(&bias)?,
                None => self.bias = Some(model.device().upload(&bias, &[bias.len()])?),
            }
        }
        Ok(())
    }

    /// Whether tokens are drawn with a bias: by another kernel then.
    pub fn is_biased(&self) -> bool {
        self.biased
    }

    /// The place of a drawn token.
    pub fn slot(&self, slot: usize) -> &Buffer {
        &self.slots[slot]
    }

    /// The token drawn last into a place. Waits for it.
    pub fn token(&self, slot: usize) -> Result<u32> {
        Ok(self.slots[slot].read::<u32>()?[0])
    }

    /// Draws a token into a place, from the logits that follow position `step[0]`.
    pub fn encode(
        &self,
        encoder: &mut CommandEncoder,
        logits: &Buffer,
        step: &Buffer,
        slot: usize,
    ) -> Result<()> {
        let (bias, token) = (self.bias.as_ref().filter(|_| self.biased), &self.slots[slot]);
        Ok(dacapo_ops::sample(encoder, logits, &self.params, step, bias, &self.counts, token, 1)?)
    }
}

fn params(sampling: &Sampling) -> SampleParams {
    SampleParams {
        temperature: sampling.temperature,
        top_k: u32::try_from(sampling.top_k).unwrap_or(u32::MAX),
        top_p: sampling.top_p,
        min_p: sampling.min_p,
        repetition_penalty: sampling.repetition_penalty,
        frequency_penalty: sampling.frequency_penalty,
        presence_penalty: sampling.presence_penalty,
        ..SampleParams::GREEDY.with_seed(sampling.seed)
    }
}

/// What is added to each token's logit, if to any.
fn bias(model: &Model, sampling: &Sampling) -> Result<Option<Vec<f32>>> {
    if sampling.logit_bias.is_empty() {
        return Ok(None);
    }
    let mut bias = vec![0.0_f32; model.config().vocab_size];
    for &(token, value) in &sampling.logit_bias {
        model.check_tokens(&[token])?;
        bias[token as usize] += value;
    }
    Ok(Some(bias))
}

/// Refuses what makes no sense.
fn check(sampling: &Sampling) -> Result<()> {
    let require = |option, expected: &str, found: f32, holds: bool| {
        if holds {
            return Ok(());
        }
        Err(Error::Option { option, expected: expected.into(), found: found.to_string() })
    };
    let s = sampling;
    let finite = "a finite number";
    require(
        "temperature",
        "a number from 0 on",
        s.temperature,
        s.temperature.is_finite() && s.temperature >= 0.0,
    )?;
    require("top-p", "a number above 0, at most 1", s.top_p, s.top_p > 0.0 && s.top_p <= 1.0)?;
    require("min-p", "a number from 0 to 1", s.min_p, (0.0..=1.0).contains(&s.min_p))?;
    let positive = s.repetition_penalty.is_finite() && s.repetition_penalty > 0.0;
    require("repetition-penalty", "a number above 0", s.repetition_penalty, positive)?;
    require("frequency-penalty", finite, s.frequency_penalty, s.frequency_penalty.is_finite())?;
    require("presence-penalty", finite, s.presence_penalty, s.presence_penalty.is_finite())?;
    let worst = s.logit_bias.iter().find(|(_, value)| value.is_nan());
    require("logit-bias", "a number", f32::NAN, worst.is_none())
}
