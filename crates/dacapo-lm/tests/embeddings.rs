//! Vectors of texts against transformers', from encoders and a decoder.

mod support;

use std::ops::ControlFlow;

use dacapo_lm::{EmbedOptions, Error, GenerateOptions, Pooling};
use support::embeddings::{POOLINGS, fixtures, texts};
use support::load;

#[test]
fn vectors_are_the_references() {
    for exact in [true, false] {
        let wrong: Vec<_> =
            fixtures().iter().flat_map(|f| f.wrong_vectors(&load(&f.path(), 2, exact))).collect();
        assert!(wrong.is_empty(), "exact {exact}:\n{}", wrong.join("\n"));
    }
}

#[test]
fn the_files_say_how_to_pool() {
    for fixture in fixtures() {
        let expected = POOLINGS.iter().find(|(name, _)| *name == fixture.pooling).unwrap().1;
        let model = load(&fixture.path(), 1, true);
        assert_eq!(model.config().pooling, Some(expected), "{}", fixture.name);
        assert_eq!(model.embedder(&EmbedOptions::default()).unwrap().pooling(), expected);
    }
}

/// WordPiece from both formats, with the tokens that a text stands between.
#[test]
fn texts_have_the_tokens_of_their_tokenizer() {
    for fixture in fixtures().iter().filter(|f| f.name.contains("bert")) {
        let model = load(&fixture.path(), 1, true);
        let tokenizer = model.tokenizer().unwrap();
        for (i, text) in texts().iter().enumerate() {
            let expected = fixture.reference().tokens(&format!("text.{i}")).unwrap();
            assert_eq!(tokenizer.encode(text, true).unwrap(), expected, "{}: {text:?}", fixture.name);
        }
        let ids = tokenizer.encode("the unknowable cat", true).unwrap();
        assert_eq!(tokenizer.decode(&ids, true), "the unknowable cat", "{}", fixture.name);
    }
}

#[test]
fn texts_do_not_see_each_other() {
    for fixture in fixtures() {
        let model = load(&fixture.path(), 2, false);
        let tokens = fixture.reference().tokens("tokens").unwrap();
        let mut embedder = model.embedder(&EmbedOptions::default()).unwrap();
        let first = embedder.embed_tokens(&tokens).unwrap();
        embedder.embed_tokens(&tokens[5..29]).unwrap();
        assert_eq!(embedder.embed_tokens(&tokens).unwrap(), first, "{}", fixture.name);
        let length: f32 = first.iter().map(|value| value * value).sum();
        assert!((length - 1.0).abs() < 1e-5);
        let plain = EmbedOptions { normalize: false, ..EmbedOptions::default() };
        let long = model.embedder(&plain).unwrap().embed_tokens(&tokens).unwrap();
        let scale = long.iter().map(|value| value * value).sum::<f32>().sqrt();
        assert!((scale - 1.0).abs() > 0.01, "{}", fixture.name);
        assert!(long.iter().zip(&first).all(|(a, b)| (a / scale - b).abs() < 1e-6));
    }
}

/// A decoder reads a long text in parts.
#[test]
fn a_decoder_embeds_more_than_a_pass_holds() {
    let fixture = fixtures().into_iter().find(|f| f.name == "qwen3-bf16").unwrap();
    let model = load(&fixture.path(), 2, true);
    let tokens: Vec<u32> = (0..300).map(|i| i * 7 % 250).collect();
    let options = |pooling| EmbedOptions { pooling: Some(pooling), ..EmbedOptions::default() };
    let embed =
        |pooling, tokens: &[u32]| model.embedder(&options(pooling)).unwrap().embed_tokens(tokens).unwrap();
    // What comes later does not change the first token's state, and does the others'.
    assert_eq!(embed(Pooling::Cls, &tokens), embed(Pooling::Cls, &tokens[..290]));
    assert_ne!(embed(Pooling::Last, &tokens), embed(Pooling::Last, &tokens[..290]));
    assert_ne!(embed(Pooling::Mean, &tokens), embed(Pooling::Mean, &tokens[..290]));
}

#[test]
fn what_an_encoder_cannot_do_is_refused() {
    let fixture = fixtures().into_iter().find(|f| f.name == "bert-f16").unwrap();
    let model = load(&fixture.path(), 1, true);
    let mut session = model.session().unwrap();
    let refused = session.generate(&[5, 6], &GenerateOptions::default(), &mut |_| ControlFlow::Continue(()));
    assert!(matches!(refused, Err(Error::NotADecoder { architecture }) if architecture == "bert"));
    assert!(model.graph(dacapo_lm::Stage::Decode, 4).is_err());
    let mut embedder = model.embedder(&EmbedOptions::default()).unwrap();
    assert!(matches!(embedder.embed_tokens(&[]), Err(Error::Option { option: "text", .. })));
    let long = vec![7; 65];
    assert!(matches!(embedder.embed_tokens(&long), Err(Error::PromptTooLong { tokens: 65, context: 64 })));
    assert!(matches!(embedder.embed_tokens(&[9999]), Err(Error::TokenOutOfRange { token: 9999, .. })));
    assert!(embedder.embed("The cat.").is_ok());
}
