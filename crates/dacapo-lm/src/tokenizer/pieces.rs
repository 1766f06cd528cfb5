//! What each token decodes to, worked out once when a tokenizer is loaded.

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::LazyLock;

use serde_json::{Value, json};

/// The bytes of a token.
#[derive(Debug, Clone)]
pub(super) struct Piece {
    pub(super) bytes: Box<[u8]>,
    pub(super) special: bool,
}

/// The decoding table, by token id.
#[derive(Debug)]
pub(super) struct Pieces {
    table: Vec<Option<Piece>>,
    decoder: Decoder,
}

impl Pieces {
    pub(super) fn new(table: Vec<Option<Piece>>, decoder: Decoder) -> Self {
        Pieces { table, decoder }
    }

    /// The decoder as `tokenizer.json` describes it.
    pub(super) fn decoder_json(&self) -> Value {
        self.decoder.to_json()
    }

    pub(super) fn get(&self, id: u32) -> Option<&Piece> {
        self.table.get(usize::try_from(id).ok()?)?.as_ref()
    }

    pub(super) fn len(&self) -> usize {
        self.table.len()
    }

    pub(super) fn start(&self) -> Start {
        self.decoder.start
    }
}

/// What is dropped from the start of a text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Start {
    /// Nothing, or nothing more.
    Keep,
    /// Up to this many leading spaces.
    Spaces(usize),
    /// All spaces of the first token.
    FirstToken,
}

impl Start {
    /// The bytes of the next token without what is to be dropped.
    pub(super) fn trim<'a>(&mut self, bytes: &'a [u8]) -> Cow<'a, [u8]> {
        match *self {
            Start::Keep => Cow::Borrowed(bytes),
            Start::FirstToken => {
                *self = Start::Keep;
                Cow::Owned(bytes.iter().copied().filter(|&b| b != b' ').collect())
            }
            Start::Spaces(most) => {
                let spaces = bytes.iter().take(most).take_while(|&&b| b == b' ').count();
                *self = match most - spaces {
                    left if spaces == bytes.len() && left > 0 => Start::Spaces(left),
                    _ => Start::Keep,
                };
                Cow::Borrowed(&bytes[spaces..])
            }
        }
    }
}

/// A step from a token's name to its bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Step {
    /// Every `from` in the name becomes `to`.
    Replace { from: String, to: String },
    /// A name like `<0x0A>` is that byte.
    ByteFallback,
    /// Each character stands for a byte, in GPT-2's alphabet.
    ByteLevel,
    /// A name goes on with a word if it begins so, and begins a new one otherwise.
    WordPiece { prefix: String },
}

/// How names become bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Decoder {
    pub(super) steps: Vec<Step>,
    pub(super) start: Start,
}

impl Decoder {
    /// The byte-level decoder.
    pub(super) fn byte_level() -> Self {
        Decoder { steps: vec![Step::ByteLevel], start: Start::Keep }
    }

    /// SentencePiece's: U+2581 for spaces, names for bytes; `prefix` tells that a space is put before texts.
    pub(super) fn sentence_piece(prefix: bool) -> Self {
        let replace = Step::Replace { from: "\u{2581}".into(), to: " ".into() };
        let start = if prefix { Start::Spaces(1) } else { Start::Keep };
        Decoder { steps: vec![replace, Step::ByteFallback], start }
    }

    /// WordPiece's, whose words have a space between them.
    pub(super) fn word_piece(prefix: &str) -> Self {
        Decoder { steps: vec![Step::WordPiece { prefix: prefix.into() }], start: Start::Spaces(1) }
    }

    /// That of WordPiece in GGUF files: U+2581 stands for the space before a word.
    pub(super) fn phantom_spaces() -> Self {
        let replace = Step::Replace { from: "\u{2581}".into(), to: " ".into() };
        Decoder { steps: vec![replace], start: Start::Spaces(1) }
    }

    /// The decoder that `tokenizer.json` describes; on failure the name of what is not known.
    pub(super) fn from_json(value: &Value) -> Result<Self, String> {
        let mut decoder = Decoder { steps: Vec::new(), start: Start::Keep };
        decoder.add(value, 0)?;
        Ok(decoder)
    }

    /// The reverse of [`from_json`](Self::from_json).
    fn to_json(&self) -> Value {
        let mut decoders: Vec<Value> = vec![];
        for step in &self.steps {
            decoders.push(match step {
                Step::Replace { from, to } => {
                    json!({"type": "Replace", "pattern": {"String": from}, "content": to})
                }
                Step::ByteFallback => json!({"type": "ByteFallback"}),
                Step::ByteLevel => json!({
                    "type": "ByteLevel", "add_prefix_space": true, "trim_offsets": true, "use_regex": true
                }),
                Step::WordPiece { prefix } => {
                    json!({"type": "WordPiece", "prefix": prefix, "cleanup": false})
                }
            });
        }
        if decoders.len() == 1 && self.start == Start::Keep {
            return decoders.remove(0);
        }
        decoders.push(json!({"type": "Fuse"}));
        if let Start::Spaces(count) = self.start {
            decoders.push(json!({"type": "Strip", "content": " ", "start": count, "stop": 0}));
        }
        json!({"type": "Sequence", "decoders": decoders})
    }

    fn add(&mut self, value: &Value, depth: usize) -> Result<(), String> {
        let kind = value.get("type").and_then(Value::as_str).unwrap_or("null");
        let text = |key: &str| value.get(key).and_then(Value::as_str);
        match kind {
            "Sequence" if depth < 4 => {
                for inner in value.get("decoders").and_then(Value::as_array).into_iter().flatten() {
                    self.add(inner, depth + 1)?;
                }
            }
            "ByteLevel" => self.steps.push(Step::ByteLevel),
            "ByteFallback" => self.steps.push(Step::ByteFallback),
            "Fuse" => {}
            "Replace" => {
                let from = value.pointer("/pattern/String").and_then(Value::as_str);
                let (Some(from), Some(to)) = (from.filter(|f| !f.is_empty()), text("content")) else {
                    return Err("Replace with a regular expression".into());
                };
                self.steps.push(Step::Replace { from: from.into(), to: to.into() });
            }
            "Strip" => {
                let count = |key: &str| value.get(key).and_then(Value::as_u64);
                let (Some(" "), Some(start), Some(0)) = (text("content"), count("start"), count("stop"))
                else {
                    return Err("Strip of something but leading spaces".into());
                };
                self.start = Start::Spaces(usize::try_from(start).unwrap_or(usize::MAX));
            }
            "Metaspace" => {
                let from = text("replacement").unwrap_or("\u{2581}");
                self.steps.push(Step::Replace { from: from.into(), to: " ".into() });
                let old = value.get("add_prefix_space").and_then(Value::as_bool);
                if text("prepend_scheme").map_or(old != Some(false), |scheme| scheme != "never") {
                    self.start = Start::FirstToken;
                }
            }
            "WordPiece" => *self = Self::word_piece(text("prefix").unwrap_or("##")),
            other => return Err(other.chars().take(40).collect()),
        }
        Ok(())
    }

    /// The bytes of the token called `name`.
    pub(super) fn bytes(&self, name: &str) -> Box<[u8]> {
        let mut text = Cow::Borrowed(name);
        for step in &self.steps {
            match step {
                Step::Replace { from, to } => text = Cow::Owned(text.replace(from.as_str(), to)),
                Step::ByteFallback => {
                    if let Some(byte) = byte_name(&text) {
                        return Box::new([byte]);
                    }
                }
                Step::WordPiece { prefix } => {
                    text = match text.strip_prefix(prefix.as_str()) {
                        Some(rest) => Cow::Owned(rest.to_string()),
                        None => Cow::Owned(format!(" {text}")),
                    };
                }
                Step::ByteLevel => {
                    // A name with other characters, such as that of a special token, stands for itself.
                    let bytes: Option<Box<[u8]>> = text.chars().map(|c| ALPHABET.get(&c).copied()).collect();
                    return bytes.unwrap_or_else(|| text.as_bytes().into());
                }
            }
        }
        text.as_bytes().into()
    }
}

/// The byte that a name like `<0x0A>` stands for.
fn byte_name(name: &str) -> Option<u8> {
    let hex = name.strip_prefix("<0x")?.strip_suffix('>')?;
    if hex.len() == 2 { u8::from_str_radix(hex, 16).ok() } else { None }
}

/// GPT-2's alphabet: printable characters of Latin-1 stand for themselves, other bytes for the characters
/// from U+0100 on, in order.
static ALPHABET: LazyLock<HashMap<char, u8>> = LazyLock::new(|| {
    let printable = |b: u8| matches!(b, b'!'..=b'~' | 0xa1..=0xac | 0xae..=0xff);
    let mut others = '\u{100}'..;
    (0..=u8::MAX)
        .map(|b| {
            let c = if printable(b) { char::from(b) } else { others.next().unwrap_or_default() };
            (c, b)
        })
        .collect()
});
