//! Decode steps that are submitted ahead give what steps one at a time give.

use std::ops::ControlFlow;

use dacapo::{Device, DeviceOptions};
use dacapo_lm::{FinishReason, GenerateOptions, LoadOptions, Model, Sampling};

fn model(context: Option<usize>) -> Model {
    let device = Device::open(DeviceOptions { threads: Some(2), ..DeviceOptions::default() }).unwrap();
    let options = LoadOptions { context, ..LoadOptions::default() };
    Model::from_checkpoint(&device, &dacapo_lm::demo().unwrap(), &options, &mut |_| {}).unwrap()
}

fn options(max_tokens: usize, sampling: &Sampling) -> GenerateOptions {
    GenerateOptions {
        max_tokens: Some(max_tokens),
        sampling: sampling.clone(),
        ignore_eos: true,
        ..GenerateOptions::default()
    }
}

/// Past 256 positions, where the cache moves; with penalties and a seed, so that counts and positions matter.
#[test]
fn a_chain_equals_single_steps() {
    let model = model(None);
    let prompt = model.tokenizer().unwrap().encode("Once upon a time", true).unwrap();
    let wild = Sampling {
        temperature: 1.2,
        top_p: 0.95,
        repetition_penalty: 1.1,
        presence_penalty: 0.2,
        seed: 5,
        logit_bias: vec![(3, 1.5)],
        ..Sampling::default()
    };
    for sampling in [Sampling::default(), wild] {
        let mut session = model.session().unwrap();
        let chained =
            session.generate(&prompt, &options(290, &sampling), &mut |_| ControlFlow::Continue(())).unwrap();
        assert_eq!((chained.tokens.len(), chained.finish), (290, FinishReason::MaxTokens));
        let mut session = model.session().unwrap();
        let mut context = prompt.clone();
        for (i, &expected) in chained.tokens.iter().enumerate() {
            let single = session
                .generate(&context, &options(1, &sampling), &mut |_| ControlFlow::Continue(()))
                .unwrap();
            assert_eq!(single.tokens, [expected], "token {i}");
            context.push(expected);
        }
    }
}

#[test]
fn a_full_context_ends_the_chain() {
    let model = model(Some(40));
    let mut session = model.session().unwrap();
    let sampling = Sampling::default();
    let generation =
        session.generate(&[1, 2, 3], &options(100, &sampling), &mut |_| ControlFlow::Continue(())).unwrap();
    // The last token is drawn from the last position, and has none of its own.
    assert_eq!((generation.finish, generation.tokens.len()), (FinishReason::ContextFull, 38));
    assert_eq!(session.tokens().len(), 40);
}

#[test]
fn steps_too_many_leave_no_trace() {
    let model = model(None);
    let sampling = Sampling::default();
    let mut session = model.session().unwrap();
    let mut seen = 0;
    let broken = session
        .generate(&[1, 2, 3], &options(100, &sampling), &mut |event| {
            seen += usize::from(matches!(event, dacapo_lm::Event::Text { .. }));
            if seen < 7 { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
        })
        .unwrap();
    assert_eq!((broken.finish, broken.tokens.len()), (FinishReason::Cancelled, 7));
    let after =
        session.generate(&[1, 2, 9], &options(20, &sampling), &mut |_| ControlFlow::Continue(())).unwrap();
    let mut fresh = model.session().unwrap();
    let expected =
        fresh.generate(&[1, 2, 9], &options(20, &sampling), &mut |_| ControlFlow::Continue(())).unwrap();
    assert_eq!((after.tokens, after.cached_tokens), (expected.tokens, 2));
}

/// Steps are compiled once for each slot, whatever is generated how often and how tokens are drawn; a bias needs another
/// kernel, and a cache that has grown other buffers. The text is always that of a fresh session.
#[test]
fn a_session_keeps_its_compiled_steps() {
    let model = model(None);
    let wild =
        Sampling { temperature: 1.1, top_k: 40, repetition_penalty: 1.2, seed: 9, ..Sampling::default() };
    let biased = Sampling { logit_bias: vec![(7, 4.0), (80, -3.0)], ..wild.clone() };
    let otherwise = Sampling { logit_bias: vec![(9, 6.0)], ..Sampling::default() };
    let mut session = model.session().unwrap();
    let runs = [
        (&[1_u32, 2, 3][..], 12, Sampling::default(), 3),
        (&[1, 2, 3], 12, wild.clone(), 3),
        (&[4, 2], 9, Sampling { seed: 10, ..wild.clone() }, 3),
        (&[1, 2, 3], 12, biased, 6),
        (&[1, 2, 3], 12, otherwise, 6),
        (&[1, 2, 3], 12, wild.clone(), 6),
        // The cache grows.
        (&[1, 2, 3], 300, wild.clone(), 9),
        (&[4, 2], 9, Sampling::default(), 9),
    ];
    for (index, (prompt, count, sampling, compiled)) in runs.into_iter().enumerate() {
        let generate = |session: &mut dacapo_lm::Session| {
            session.generate(prompt, &options(count, &sampling), &mut |_| ControlFlow::Continue(())).unwrap()
        };
        let (kept, fresh) = (generate(&mut session), generate(&mut model.session().unwrap()));
        assert_eq!(kept.tokens, fresh.tokens, "generation {index}");
        assert_eq!(session.step_stats().misses, compiled, "generation {index}");
        assert_eq!(session.step_stats().evictions, 0, "generation {index}");
    }
}
