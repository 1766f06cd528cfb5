//! Sessions of models whose layers keep a state, which cannot go back: what they give after a text that ended, went on, or was
//! another.

use std::ops::ControlFlow;

use dacapo_lm::{Event, FinishReason, GenerateOptions, Model, Session};

use super::fixtures::{fixture, generate};
use super::logits;

/// Models with such layers.
pub const FIXTURES: [&str; 2] = ["gguf-qwen3_5-q8_0", "hf-qwen3-next-f16"];

/// Generates behind a prompt until so many tokens have been seen; steps are submitted ahead then.
fn stopped(session: &mut Session, prompt: &[u32], after: usize) -> Vec<u32> {
    let options = GenerateOptions { ignore_eos: true, max_tokens: Some(20), ..Default::default() };
    let mut seen = 0;
    let result = session.generate(prompt, &options, &mut |event| {
        seen += usize::from(matches!(event, Event::Text { .. }));
        if seen == after { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    });
    let result = result.unwrap();
    assert_eq!((result.finish, result.tokens.len()), (FinishReason::Cancelled, after));
    result.tokens
}

/// Checks that one session gives what fresh ones give, and reads no more than it must.
pub fn check(model: &Model, name: &str) {
    let prompt = fixture(name).reference().tokens("prompt").unwrap();
    let fresh = |prompt: &[u32]| generate(&mut model.session().unwrap(), prompt, 9).tokens;
    let mut session = model.session().unwrap();
    let expect = |session: &mut Session, prompt: &[u32], cached: usize, what: &str| -> Vec<u32> {
        let found = generate(session, prompt, 9);
        assert_eq!((found.cached_tokens, &found.tokens), (cached, &fresh(prompt)), "{name}: {what}");
        found.tokens
    };
    let first = expect(&mut session, &prompt, 0, "a first text");

    // A text that goes on where the answer ended; its last token was never read.
    let more = [&prompt[..], &first, &prompt[..3]].concat();
    expect(&mut session, &more, prompt.len() + first.len() - 1, "a text that goes on");
    // One that leaves what was read, one that does so at its end only, and one whose last token would be read twice.
    expect(&mut session, &[&prompt[..17], &[5, 6, 7]].concat(), 0, "another text");
    let again = [&prompt[..17], &[5, 6, 7]].concat();
    expect(&mut session, &again, 0, "the same again");

    // When somebody has seen enough, the step that reads the last token is under way, and belongs to the context.
    for after in [1, 2, 5] {
        let tokens = stopped(&mut session, &prompt, after);
        let whole = [&prompt[..], &tokens].concat();
        // Behind the first token no step is under way yet.
        let read = if after == 1 { prompt.len() } else { whole.len() };
        assert_eq!(session.tokens(), &whole[..read], "{name}: stopped after {after}");
        let more = [&whole[..], &prompt[..2]].concat();
        expect(&mut session, &more, read, "a text that goes on behind a stop");

        stopped(&mut session, &prompt, after);
        let other = [&whole[..whole.len() - 1], &prompt[3..6]].concat();
        let cached = if after == 1 { read } else { 0 };
        expect(&mut session, &other, cached, "a text without the last token");
    }

    // A profiled generation leaves behind what its tokens left.
    session.truncate(0);
    let profile = session.profile(&prompt, 4, &mut |_, _| ControlFlow::Continue(())).unwrap();
    assert_eq!(profile.tokens, fresh(&prompt)[..5], "{name}: profiled");
    let more = [session.tokens(), &profile.tokens[4..], &prompt[..2]].concat();
    expect(&mut session, &more, prompt.len() + 4, "a text that goes on behind a profiled one");

    // Without a generation: going back reads again what is left.
    session.truncate(10);
    let found = logits(&mut session, &prompt[10..]).unwrap();
    let mut whole = model.session().unwrap();
    whole.prefill(&prompt[..10], &mut |_, _| ControlFlow::Continue(())).unwrap();
    assert!(found == logits(&mut whole, &prompt[10..]).unwrap(), "{name}: gone back");
    session.truncate(0);
    assert!(
        logits(&mut session, &prompt).unwrap() == logits(&mut model.session().unwrap(), &prompt).unwrap()
    );
}
