//! Whole models against transformers' logits and greedy tokens, in every format.
//!
//! `tools/oracles/models.py` makes the fixtures and says what is in them.

mod support;

use std::ops::ControlFlow;

use dacapo_lm::{Error, FinishReason, GenerateOptions, LoadOptions, Model};
use support::fixtures::{fixture, for_all, generate};
use support::{Differences, F16_CACHE, F32, device, load, logits};

/// One fixture of each kind: dense and quantized, rotary pairs of both orders, sliding windows, biases, norms of heads, and
/// what is special about each family.
const VARIED: [&str; 19] = [
    "hf-mistral-bf16",
    "mlx-llama-q4-g64-bf16",
    "mlx-qwen2-q8-g32-f16",
    "mlx-mistral-mixed-sharded",
    "gguf-qwen3-q4_0",
    "gguf-llama-k-mixed",
    "hf-gemma2-bf16",
    "hf-gemma3-bf16",
    "mlx-phi3-q4-g32-bf16",
    "hf-olmo2-bf16",
    "mlx-smollm3-q6-g32-bf16",
    "hf-granite-bf16",
    "mlx-mixtral-q4-g32-bf16",
    "hf-qwen2-moe-f16",
    "gguf-qwen3-moe-q4_0",
    "hf-gpt-oss-mxfp4",
    "hf-qwen3_5-bf16",
    "mlx-qwen3_5-images-q4-g32-bf16",
    "gguf-qwen3-next-q4_0",
];

#[test]
fn exact_logits_are_the_references() {
    for_all(|f| f.wrong_logits(&load(&f.path(), 2, true)));
}

#[test]
fn default_logits_are_near_the_references() {
    for_all(|f| f.wrong_logits(&load(&f.path(), 2, false)));
}

#[test]
fn exact_greedy_tokens_are_the_references() {
    for_all(|f| f.wrong_greedy_tokens(&load(&f.path(), 2, true)));
}

/// The bits of logits, so that a difference of any kind is one.
fn bits(values: &[f32]) -> Vec<u32> {
    values.iter().map(|v| v.to_bits()).collect()
}

#[test]
fn threads_do_not_change_a_bit() {
    for name in VARIED {
        let f = fixture(name);
        let prompt = f.reference().tokens("prompt").unwrap();
        for exact in [true, false] {
            let run = |threads| {
                let model = load(&f.path(), threads, exact);
                let mut session = model.session().unwrap();
                let generated = generate(&mut session, &prompt, 8).tokens;
                session.truncate(0);
                (bits(&logits(&mut session, &prompt).unwrap()), generated)
            };
            let one = run(1);
            for threads in [2, 3] {
                assert!(run(threads) == one, "{name}, exact {exact}: {threads} threads differ from one");
            }
        }
    }
}

/// The logits at each of `tokens`, read in parts of this many.
fn logits_in_parts(model: &Model, tokens: &[u32], part: usize) -> Vec<f32> {
    let mut session = model.session().unwrap();
    let found = tokens.chunks(part).flat_map(|tokens| logits(&mut session, tokens).unwrap()).collect();
    assert_eq!(session.tokens(), tokens);
    found
}

/// Passes over several tokens sum in the same order, however many they are. A pass over one token has kernels of its
/// own, whose order of summation is another; rounding to F16 and int8 can turn a last bit into a step there.
#[test]
fn prompts_may_be_read_in_parts() {
    for name in VARIED {
        let f = fixture(name);
        let prompt = f.reference().tokens("prompt").unwrap();
        for exact in [true, false] {
            let model = load(&f.path(), 2, exact);
            let whole = logits(&mut model.session().unwrap(), &prompt).unwrap();
            // 28 tokens; no last part is a single one.
            for part in [2, 5, 11, 20] {
                let found = logits_in_parts(&model, &prompt, part);
                assert!(
                    bits(&found) == bits(&whole),
                    "{name}, exact {exact}: parts of {part} differ from one"
                );
            }
            let single = logits_in_parts(&model, &prompt, 1);
            let differences = Differences::measure(&single, &whole, model.config().vocab_size);
            let wrong = differences.outside(if exact { &F32 } else { &F16_CACHE });
            assert!(wrong.is_empty(), "{name}, exact {exact}, token by token: {wrong:?}");
        }
    }
}

#[test]
fn a_session_that_is_used_again_is_as_good_as_new() {
    // One has frequencies by the length, and reads more again; some have states, which cannot go back.
    for name in
        VARIED.into_iter().filter(|name| !["phi3", "qwen3_5", "next"].iter().any(|n| name.contains(n)))
    {
        let f = fixture(name);
        let prompt = f.reference().tokens("prompt").unwrap();
        let model = load(&f.path(), 2, true);
        let mut session = model.session().unwrap();
        let first = generate(&mut session, &prompt, 12);
        assert_eq!(first.cached_tokens, 0);

        // Another end: the beginning is not read again.
        let mut other = prompt[..17].to_vec();
        other.extend(prompt[17..].iter().rev());
        let common = prompt.iter().zip(&other).take_while(|(a, b)| a == b).count();
        let second = generate(&mut session, &other, 12);
        assert_eq!(second.cached_tokens, common);
        assert_eq!(second.tokens, generate(&mut model.session().unwrap(), &other, 12).tokens, "{name}");

        // A prompt that goes on where the last answer ended; its last token was never read.
        let mut more = other.clone();
        more.extend(&second.tokens);
        more.extend(&prompt[..3]);
        let third = generate(&mut session, &more, 12);
        assert_eq!(third.cached_tokens, other.len() + second.tokens.len() - 1);
        assert_eq!(third.tokens, generate(&mut model.session().unwrap(), &more, 12).tokens, "{name}");

        // The whole prompt is there: its last token is read again for its logits.
        session.truncate(other.len());
        let fourth = generate(&mut session, &other, 12);
        assert_eq!((fourth.cached_tokens, fourth.tokens), (other.len() - 1, second.tokens), "{name}");
    }
}

#[test]
fn a_cache_that_grows_keeps_what_it_holds() {
    // Caches grow after 256 positions, here in the middle of a generation.
    for name in ["gguf-llama-q8_0", "hf-qwen3_5-bf16"] {
        let f = fixture(name);
        let prompt = &f.reference().tokens("long_prompt").unwrap()[..250];
        let model = load(&f.path(), 2, true);
        let mut session = model.session().unwrap();
        let whole = generate(&mut session, prompt, 20);
        let mut tokens = prompt.to_vec();
        for (step, &expected) in whole.tokens.iter().enumerate() {
            let next = generate(&mut model.session().unwrap(), &tokens, 1).tokens;
            assert_eq!(next, [expected], "{name}, step {step}");
            tokens.extend(next);
        }
    }
}

#[test]
fn states_follow_the_text_or_begin_anew() {
    for name in support::states::FIXTURES {
        support::states::check(&load(&fixture(name).path(), 2, true), name);
    }
}

#[test]
fn states_are_counted() {
    let footprint = load(&fixture("hf-qwen3_5-bf16").path(), 1, false).footprint();
    // Two of three layers: three tokens of 128 channels, and four matrices of 16 by 16.
    assert_eq!(footprint.state_bytes, 2 * 4 * (3 * 128 + 4 * 16 * 16));
    // The third: two heads of 32 in F16.
    assert_eq!(footprint.kv_bytes_per_position, 2 * 2 * 32 * 2);
}

/// In a layer with a window, what was read last takes the place of what was read long before.
#[test]
fn what_rings_have_lost_is_read_again() {
    for name in ["hf-ministral-bf16", "gguf-gemma3-q8_0"] {
        let f = fixture(name);
        let long = f.reference().tokens("long_prompt").unwrap();
        let model = load(&f.path(), 2, true);
        let mut session = model.session().unwrap();
        let fresh = |prompt: &[u32]| generate(&mut model.session().unwrap(), prompt, 12).tokens;
        generate(&mut session, &long, 12);

        // A short way back, everything is there still.
        let mut near = long[..690].to_vec();
        near.extend([5, 6, 7]);
        let again = generate(&mut session, &near, 12);
        assert_eq!((again.cached_tokens, again.tokens), (690, fresh(&near)), "{name}");

        let mut far = long[..300].to_vec();
        far.extend([5, 6, 7]);
        let again = generate(&mut session, &far, 12);
        assert_eq!((again.cached_tokens, again.tokens), (0, fresh(&far)), "{name}");

        // Without a generation between, reading goes on behind what the context holds.
        generate(&mut session, &long, 1);
        session.truncate(100);
        let found = logits(&mut session, &long[100..120]).unwrap();
        assert_eq!(session.tokens(), &long[..120]);
        let mut whole = model.session().unwrap();
        whole.prefill(&long[..100], &mut |_, _| ControlFlow::Continue(())).unwrap();
        assert!(bits(&found) == bits(&logits(&mut whole, &long[100..120]).unwrap()), "{name}");
    }
}

/// Frequencies by the length of the context: a session that crosses it one way or the other reads its tokens again.
#[test]
fn a_context_may_become_long_and_short_again() {
    let f = fixture("hf-phi3-bf16");
    let tokens = &f.reference().tokens("long_prompt").unwrap()[..60];
    let model = load(&f.path(), 2, true);
    let last = |session: &mut dacapo_lm::Session, tokens: &[u32]| bits(&logits(session, tokens).unwrap());
    let mut session = model.session().unwrap();
    logits(&mut session, &tokens[..36]).unwrap();
    // No pass over a single token, which sums in another order. 40 is the last length with the short list.
    for (held, end) in [(36, 40), (40, 42), (42, 60), (38, 40)] {
        session.truncate(held);
        let found = last(&mut session, &tokens[held..end]);
        let mut fresh = model.session().unwrap();
        fresh.prefill(&tokens[..end], &mut |_, _| ControlFlow::Continue(())).unwrap();
        fresh.truncate(held);
        assert!(found == last(&mut fresh, &tokens[held..end]), "{held} to {end}");
    }
}

fn short_context(context: usize) -> Model {
    let f = fixture("gguf-llama-q4_0");
    let options = LoadOptions { exact: true, context: Some(context) };
    Model::load(&device(1), &f.path(), &options, &mut |_| {}).unwrap()
}

#[test]
fn the_context_is_a_limit() {
    let model = short_context(12);
    assert_eq!(model.context(), 12);
    let mut session = model.session().unwrap();
    let tokens: Vec<u32> = (0..13).collect();
    assert!(matches!(logits(&mut session, &tokens), Err(Error::PromptTooLong { tokens: 13, context: 12 })));
    assert!(session.tokens().is_empty(), "nothing is read of what does not fit");
    logits(&mut session, &tokens[..7]).unwrap();
    assert!(matches!(
        session.prefill(&tokens[..6], &mut |_, _| ControlFlow::Continue(())),
        Err(Error::PromptTooLong { tokens: 13, context: 12 })
    ));
    assert_eq!(session.tokens(), &tokens[..7]);

    // The last token that is generated need not be read.
    let full = generate(&mut session, &tokens[..10], 50);
    assert_eq!((full.finish, full.tokens.len()), (FinishReason::ContextFull, 3));
    let whole = generate(&mut session, &tokens[..12], 50);
    assert_eq!((whole.finish, whole.tokens.len()), (FinishReason::ContextFull, 1));
}

#[test]
fn tokens_that_the_model_lacks_are_refused() {
    let model = short_context(64);
    let vocabulary = model.config().vocab_size;
    let mut session = model.session().unwrap();
    let bad = [1, vocabulary as u32, 2];
    match logits(&mut session, &bad) {
        Err(Error::TokenOutOfRange { token, vocabulary: rows }) => {
            assert_eq!((token, rows), (bad[1], vocabulary));
        }
        other => panic!("expected a refusal, found {other:?}"),
    }
    let options = GenerateOptions::default();
    let refused = session.generate(&bad, &options, &mut |_| ControlFlow::Continue(()));
    assert!(matches!(refused, Err(Error::TokenOutOfRange { .. })));
    assert!(session.tokens().is_empty());
    assert!(session.generate(&[], &options, &mut |_| ControlFlow::Continue(())).is_err());
}
