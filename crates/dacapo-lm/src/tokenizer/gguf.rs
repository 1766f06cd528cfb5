//! A tokenizer from the metadata of a GGUF file.

use std::collections::HashSet;
use std::sync::Arc;

use tokenizers::models::bpe::{BPE, BpeBuilder, Merges, Vocab};
use tokenizers::models::wordpiece::WordPiece;
use tokenizers::normalizers::{BertNormalizer, NFC, Prepend, Replace, Sequence as Normalizers};
use tokenizers::pre_tokenizers::bert::BertPreTokenizer;
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::pre_tokenizers::sequence::Sequence as PreTokenizers;
use tokenizers::pre_tokenizers::split::{Split, SplitPattern};
use tokenizers::{AddedToken, NormalizerWrapper, PreTokenizerWrapper, SplitDelimiterBehavior};

use super::pieces::{Decoder, Piece, Pieces};
use super::{Special, Tokenizer, pre};
use crate::checkpoint::gguf::Gguf;
use crate::error::{Error, Result, one_line};

const MODEL: &str = "tokenizer.ggml.model";
const MODELS: &str = "gpt2, llama or bert";
const PRE: &str = "tokenizer.ggml.pre";
const TOKENS: &str = "tokenizer.ggml.tokens";
const MERGES: &str = "tokenizer.ggml.merges";
const SCORES: &str = "tokenizer.ggml.scores";
const TYPES: &str = "tokenizer.ggml.token_type";

/// SentencePiece's mark for a space.
const SPACE: &str = "\u{2581}";
/// The longest token, in bytes, that is searched for pairs it could be merged from. Real ones are far
/// shorter, and the search takes the square of the length.
const LONGEST: usize = 256;
/// Tokens that end a turn whatever the metadata says, as in llama.cpp.
const END_OF_TURN: [&str; 6] =
    ["<|eot_id|>", "<|im_end|>", "<|end|>", "<end_of_turn>", "<|endoftext|>", "<|eom_id|>"];

/// What a token is, by the ids of `tokenizer.ggml.token_type`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Text,
    /// Matched in texts before anything else.
    UserDefined,
    /// Matched likewise, and skipped when decoding without special tokens.
    Control,
    Byte,
}

struct Token {
    name: String,
    kind: Kind,
    score: f64,
}

/// Loads the tokenizer of a GGUF file.
pub(super) fn load(file: &Gguf) -> Result<Tokenizer> {
    let fail =
        |part: &str, expected: &str, found: String| Error::tokenizer(file.path(), part, expected, found);
    let tokens = tokens(file)?;
    let model = file.str(MODEL)?.ok_or_else(|| fail(MODEL, MODELS, "nothing".into()))?;
    let (mut inner, decoder, add_bos) = match model {
        "gpt2" => byte_level(file, &tokens)?,
        "llama" => sentence_piece(file, &tokens)?,
        "bert" => word_piece(file, &tokens)?,
        other => return Err(fail(MODEL, MODELS, format!("{:?}", one_line(other)))),
    };
    let added: Vec<AddedToken> = tokens
        .iter()
        .filter(|t| matches!(t.kind, Kind::Control | Kind::UserDefined) && !t.name.is_empty())
        .map(|t| AddedToken::from(t.name.clone(), t.kind == Kind::Control).normalized(false))
        .collect();
    inner.add_tokens(&added);

    let table = tokens
        .iter()
        .map(|t| {
            let bytes = match t.kind {
                // Names of tokens that are matched as they stand are their own text.
                Kind::Control | Kind::UserDefined => t.name.as_bytes().into(),
                Kind::Text | Kind::Byte => decoder.bytes(&t.name),
            };
            Some(Piece { bytes, special: t.kind == Kind::Control })
        })
        .collect();
    let (bos, eos) = (id(file, "bos", tokens.len())?, end_tokens(file, &tokens)?);
    let eos_is_added = file.bool("tokenizer.ggml.add_eos_token")?.unwrap_or(false);
    let after = match model {
        // The key is spelled so.
        "bert" => Some("seperator"),
        _ => Some("eos").filter(|_| eos_is_added),
    };
    let special = Special::Around {
        before: bos.filter(|_| add_bos),
        after: after.map(|role| id(file, role, tokens.len())).transpose()?.flatten(),
    };
    Ok(Tokenizer {
        inner,
        pieces: Arc::new(Pieces::new(table, decoder)),
        special,
        bos,
        eos,
        path: file.path().to_path_buf(),
    })
}

fn tokens(file: &Gguf) -> Result<Vec<Token>> {
    let fail =
        |part: &str, expected: String, found: String| Error::tokenizer(file.path(), part, expected, found);
    let names =
        file.strings(TOKENS)?.ok_or_else(|| fail(TOKENS, "an array of strings".into(), "nothing".into()))?;
    let count = names.len();
    let same_length = |key: &str, len: usize| {
        if len == count { Ok(()) } else { Err(fail(key, format!("{count} values"), len.to_string())) }
    };
    let mut tokens: Vec<Token> = names
        .map(|name| Token { name: String::from_utf8_lossy(name).into_owned(), kind: Kind::Text, score: 0.0 })
        .collect();
    if let Some(types) = file.numbers(TYPES)? {
        same_length(TYPES, types.len())?;
        for (token, kind) in tokens.iter_mut().zip(types) {
            token.kind = match kind as i64 {
                2 | 3 => Kind::Control,
                4 => Kind::UserDefined,
                6 => Kind::Byte,
                _ => Kind::Text,
            };
        }
    }
    if let Some(scores) = file.numbers(SCORES)? {
        same_length(SCORES, scores.len())?;
        for (token, score) in tokens.iter_mut().zip(scores) {
            token.score = score;
        }
    }
    Ok(tokens)
}

/// Names to ids; of tokens with one name, the first.
fn vocabulary(tokens: &[Token]) -> Vocab {
    let mut vocab = Vocab::with_capacity(tokens.len());
    for (id, token) in (0u32..).zip(tokens) {
        vocab.entry(token.name.clone()).or_insert(id);
    }
    vocab
}

fn build(file: &Gguf, builder: BpeBuilder) -> Result<tokenizers::Tokenizer> {
    let model: BPE = builder.build().map_err(|e| {
        Error::tokenizer(file.path(), MERGES, "merges of tokens of the vocabulary", one_line(&e.to_string()))
    })?;
    Ok(tokenizers::Tokenizer::new(model))
}

/// Byte-level byte-pair encoding: the model "gpt2".
fn byte_level(file: &Gguf, tokens: &[Token]) -> Result<(tokenizers::Tokenizer, Decoder, bool)> {
    let name = file.str(PRE)?.unwrap_or("default");
    let pre = pre::find(name)
        .ok_or_else(|| Error::tokenizer(file.path(), PRE, pre::NAMES, format!("{:?}", one_line(name))))?;
    let mut merges = Merges::new();
    for merge in file.strings(MERGES)?.into_iter().flatten() {
        let merge = std::str::from_utf8(merge).ok();
        match merge
            .and_then(|m| m.split_once(' '))
            .filter(|(left, right)| !left.is_empty() && !right.is_empty())
        {
            Some((left, right)) => merges.push((left.to_string(), right.to_string())),
            None => {
                let part = format!("{MERGES}[{}]", merges.len());
                let found = merge.map_or("no UTF-8".to_string(), |m| format!("{:?}", one_line(m)));
                return Err(Error::tokenizer(file.path(), part, "two tokens and a space between", found));
            }
        }
    }
    let builder =
        BPE::builder().vocab_and_merges(vocabulary(tokens), merges).ignore_merges(pre.ignore_merges);
    let mut inner = build(file, builder)?;
    if pre.nfc {
        inner.with_normalizer(Some(NFC));
    }
    let mut steps: Vec<PreTokenizerWrapper> = Vec::new();
    for &pattern in pre.patterns {
        let split = Split::new(SplitPattern::Regex(pattern.into()), SplitDelimiterBehavior::Isolated, false)
            .map_err(|e| Error::tokenizer(file.path(), PRE, "a valid pattern", one_line(&e.to_string())))?;
        steps.push(split.into());
    }
    steps.push(ByteLevel::new(false, false, false).into());
    inner.with_pre_tokenizer(Some(PreTokenizers::new(steps)));
    let add_bos = file.bool("tokenizer.ggml.add_bos_token")?.unwrap_or(pre.add_bos);
    Ok((inner, Decoder::byte_level(), add_bos))
}

/// SentencePiece's byte-pair encoding: the model "llama". Pairs merge in the order of the scores of what they
/// merge into.
fn sentence_piece(file: &Gguf, tokens: &[Token]) -> Result<(tokenizers::Tokenizer, Decoder, bool)> {
    let vocab = vocabulary(tokens);
    let merges = merges_by_score(tokens);
    let unknown = id(file, "unknown", tokens.len())?.map(|id| tokens[id as usize].name.clone());
    let mut builder = BPE::builder().vocab_and_merges(vocab, merges).byte_fallback(true).fuse_unk(true);
    if let Some(unknown) = unknown {
        builder = builder.unk_token(unknown);
    }
    let mut inner = build(file, builder)?;
    let prefix = file.bool("tokenizer.ggml.add_space_prefix")?.unwrap_or(true);
    let replace = Replace::new(" ", SPACE)
        .map_err(|e| Error::tokenizer(file.path(), MODEL, "a valid pattern", one_line(&e.to_string())))?;
    let mut normalizers: Vec<NormalizerWrapper> = Vec::new();
    if prefix {
        normalizers.push(Prepend::new(SPACE.to_string()).into());
    }
    normalizers.push(replace.into());
    inner.with_normalizer(Some(Normalizers::new(normalizers)));
    let add_bos = file.bool("tokenizer.ggml.add_bos_token")?.unwrap_or(true);
    Ok((inner, Decoder::sentence_piece(prefix), add_bos))
}

/// BERT's WordPiece: the model "bert". What begins a word has a mark before it in these files, what goes on with one has
/// none; WordPiece itself has it the other way round.
fn word_piece(file: &Gguf, tokens: &[Token]) -> Result<(tokenizers::Tokenizer, Decoder, bool)> {
    const ON: &str = "##";
    let mut vocab = Vocab::with_capacity(tokens.len());
    for (id, token) in (0u32..).zip(tokens) {
        let name = match (token.kind, token.name.strip_prefix(SPACE)) {
            (Kind::Text, None) => format!("{ON}{}", token.name),
            (_, Some(start)) => start.to_string(),
            (_, None) => token.name.clone(),
        };
        vocab.entry(name).or_insert(id);
    }
    let unknown = id(file, "unknown", tokens.len())?.map_or("[UNK]", |id| &tokens[id as usize].name);
    let builder = WordPiece::builder().vocab(vocab).unk_token(unknown.to_string());
    let model = builder.continuing_subword_prefix(ON.into()).build().map_err(|e| {
        Error::tokenizer(file.path(), TOKENS, "tokens of WordPiece", one_line(&e.to_string()))
    })?;
    let lowercase = file.bool("tokenizer.ggml.normalizer.lowercase")?.unwrap_or(true);
    let accents = file.bool("tokenizer.ggml.normalizer.strip_accents")?;
    let mut inner = tokenizers::Tokenizer::new(model);
    inner.with_normalizer(Some(BertNormalizer::new(true, true, accents, lowercase)));
    inner.with_pre_tokenizer(Some(BertPreTokenizer));
    Ok((inner, Decoder::phantom_spaces(), true))
}

/// Every way to merge two tokens into a third, best score first; ties go to the lower id.
fn merges_by_score(tokens: &[Token]) -> Merges {
    let text = |token: &&Token| token.kind == Kind::Text;
    let names: HashSet<&str> = tokens.iter().filter(text).map(|t| t.name.as_str()).collect();
    let mut found: Vec<(f64, &str, &str)> = Vec::new();
    for token in tokens.iter().filter(text).filter(|t| t.name.len() <= LONGEST) {
        for (at, _) in token.name.char_indices().skip(1) {
            let (left, right) = token.name.split_at(at);
            if names.contains(left) && names.contains(right) {
                found.push((token.score, left, right));
            }
        }
    }
    found.sort_by(|a, b| b.0.total_cmp(&a.0));
    found.into_iter().map(|(_, left, right)| (left.to_string(), right.to_string())).collect()
}

/// The token that the metadata name for this role.
fn id(file: &Gguf, role: &str, count: usize) -> Result<Option<u32>> {
    let key = format!("tokenizer.ggml.{role}_token_id");
    match file.unsigned(&key)? {
        // Converters write -1, as an unsigned number, for none.
        None | Some(0xffff_ffff) => Ok(None),
        Some(id) if id < count as u64 => Ok(Some(id as u32)),
        Some(id) => {
            let expected = format!("a token below {count}");
            Err(Error::tokenizer(file.path(), key, expected, id.to_string()))
        }
    }
}

fn end_tokens(file: &Gguf, tokens: &[Token]) -> Result<Vec<u32>> {
    let mut eos = Vec::new();
    for role in ["eos", "eot", "eom"] {
        if let Some(id) = id(file, role, tokens.len())?.filter(|id| !eos.contains(id)) {
            eos.push(id);
        }
    }
    for (id, token) in (0u32..).zip(tokens) {
        let ends = token.kind == Kind::Control && END_OF_TURN.contains(&token.name.as_str());
        if ends && !eos.contains(&id) {
            eos.push(id);
        }
    }
    Ok(eos)
}
