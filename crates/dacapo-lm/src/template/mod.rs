//! Chat templates: Jinja programs that turn a conversation into a prompt, rendered as transformers does.

mod json;
mod source;
mod time;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use minijinja::syntax::SyntaxConfig;
use minijinja::value::{Kwargs, Serde, Value as Jinja, ValueKind};
use minijinja::{AutoEscape, Environment, ErrorKind};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::checkpoint::Checkpoint;
use crate::checkpoint::gguf::Gguf;
use crate::error::{Error, Result};
use crate::tokenizer::special_token;

/// Instructions that a rendering may take. The longest conversations need some hundred thousand; a template
/// that loops without end is stopped within seconds.
const FUEL: u64 = 10_000_000;
/// Special tokens that templates may name.
const TOKENS: [&str; 7] =
    ["bos_token", "eos_token", "unk_token", "pad_token", "sep_token", "cls_token", "mask_token"];

/// A turn of a conversation: `role`, `content`, and whatever else the template knows, such as `tool_calls`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Message {
    /// All fields.
    pub fields: Map<String, Value>,
}

impl Message {
    /// A turn of plain text. Roles are the template's: usually `system`, `user` and `assistant`.
    pub fn new(role: impl Into<String>, content: impl Into<String>) -> Self {
        let mut fields = Map::new();
        fields.insert("role".into(), Value::String(role.into()));
        fields.insert("content".into(), Value::String(content.into()));
        Message { fields }
    }
}

/// What a template is told beside the messages.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct TemplateOptions {
    /// Whether the prompt ends with the start of the assistant's turn. Off by default.
    pub add_generation_prompt: bool,
    /// Descriptions of tools, a list of JSON schemas. None by default.
    pub tools: Option<Value>,
    /// Further variables, such as `enable_thinking`; they win over those above. None by default.
    pub extra: Map<String, Value>,
}

/// Templates with their names.
type Sources = Vec<(String, String)>;

/// A compiled chat template.
#[derive(Debug, Clone)]
pub struct ChatTemplate {
    environment: Environment<'static>,
    /// The names of the templates compiled; usually just `default`.
    names: Vec<String>,
    tokens: BTreeMap<String, String>,
    path: PathBuf,
}

impl ChatTemplate {
    /// The chat template of a checkpoint, from `chat_template.jinja`, `chat_template.json`,
    /// `tokenizer_config.json` or GGUF metadata; `None` if there is none.
    ///
    /// # Errors
    /// [`Error::Template`] if it does not compile or is no text.
    pub fn from_checkpoint(checkpoint: &Checkpoint) -> Result<Option<Self>> {
        match checkpoint.gguf() {
            Some(file) => Self::from_gguf(file),
            None => Self::from_folder(checkpoint),
        }
    }

    /// Compiles one template; `tokens` are the special tokens that it may name, such as `bos_token`, and
    /// `path` is for messages.
    ///
    /// # Errors
    /// [`Error::Template`] if it does not compile.
    pub fn new(path: &Path, source: &str, tokens: BTreeMap<String, String>) -> Result<Self> {
        Self::compile(path, vec![("default".to_string(), source.to_string())], tokens)
    }

    fn compile(path: &Path, sources: Sources, tokens: BTreeMap<String, String>) -> Result<Self> {
        let mut environment = environment().map_err(|e| Error::template(path, e))?;
        let mut names = Vec::new();
        for (name, source) in sources {
            environment
                .add_template_owned(name.clone(), source::translate(&source))
                .map_err(|e| Error::template(path, e))?;
            names.push(name);
        }
        Ok(ChatTemplate { environment, names, tokens, path: path.to_path_buf() })
    }

    fn from_gguf(file: &Gguf) -> Result<Option<Self>> {
        let Some(source) = file.str("tokenizer.chat_template")? else { return Ok(None) };
        let mut tokens = BTreeMap::new();
        for (key, id) in
            [("bos_token", "bos"), ("eos_token", "eos"), ("unk_token", "unknown"), ("pad_token", "padding")]
        {
            let Some(id) = file.unsigned(&format!("tokenizer.ggml.{id}_token_id"))? else { continue };
            let name =
                file.strings("tokenizer.ggml.tokens")?.and_then(|mut all| all.nth(usize::try_from(id).ok()?));
            if let Some(name) = name {
                tokens.insert(key.to_string(), String::from_utf8_lossy(name).into_owned());
            }
        }
        Self::new(file.path(), source, tokens).map(Some)
    }

    fn from_folder(checkpoint: &Checkpoint) -> Result<Option<Self>> {
        let config = checkpoint.side_json("tokenizer_config.json")?.unwrap_or(Value::Null);
        let token = |key: &&str| Some((key.to_string(), special_token(&config, key)?.to_string()));
        let tokens = TOKENS.iter().filter_map(token).collect();
        match Self::folder_sources(checkpoint, &config)? {
            Some((path, sources)) => Self::compile(&path, sources, tokens).map(Some),
            None => Ok(None),
        }
    }

    /// The text of a checkpoint's template, of several the default one; `None` if there is none.
    ///
    /// # Errors
    /// [`Error::Template`] if it is no text.
    pub(crate) fn source_of(checkpoint: &Checkpoint) -> Result<Option<String>> {
        if let Some(file) = checkpoint.gguf() {
            return Ok(file.str("tokenizer.chat_template")?.map(str::to_string));
        }
        let config = checkpoint.side_json("tokenizer_config.json")?.unwrap_or(Value::Null);
        let Some((_, mut sources)) = Self::folder_sources(checkpoint, &config)? else { return Ok(None) };
        let chosen = sources.iter().position(|(name, _)| name == "default").unwrap_or(0);
        Ok(Some(sources.swap_remove(chosen).1))
    }

    /// A folder's templates with their names, at least one, and their file; `config` is `tokenizer_config.json`.
    fn folder_sources(checkpoint: &Checkpoint, config: &Value) -> Result<Option<(PathBuf, Sources)>> {
        if let Some(file) = checkpoint.side_file("chat_template.jinja")? {
            let source =
                std::str::from_utf8(file.bytes()).map_err(|_| Error::template(file.path(), "not UTF-8"))?;
            let sources = vec![("default".to_string(), source.to_string())];
            return Ok(Some((file.path().to_path_buf(), sources)));
        }
        for name in ["chat_template.json", "tokenizer_config.json"] {
            let path = checkpoint.config_path().with_file_name(name);
            let content = if name == "tokenizer_config.json" {
                Some(config.clone())
            } else {
                checkpoint.side_json(name)?
            };
            let Some(value) = content.as_ref().and_then(|c| c.get("chat_template")).filter(|v| !v.is_null())
            else {
                continue;
            };
            let sources = sources(value)
                .ok_or_else(|| Error::template(&path, "neither a text nor a list of named ones"))?;
            return Ok(Some((path, sources)));
        }
        Ok(None)
    }

    /// The prompt for `messages`.
    ///
    /// # Errors
    /// [`Error::Template`] if the template refuses them (`raise_exception`), fails, or takes too long.
    pub fn render(&self, messages: &[Message], options: &TemplateOptions) -> Result<String> {
        let mut context: BTreeMap<&str, Jinja> = BTreeMap::new();
        for (name, token) in &self.tokens {
            context.insert(name, Jinja::from(token.as_str()));
        }
        context.insert("messages", Jinja::from(Serde(messages)));
        context.insert("tools", Jinja::from(Serde(&options.tools)));
        context.insert("documents", Jinja::from(()));
        context.insert("add_generation_prompt", Jinja::from(options.add_generation_prompt));
        for (name, value) in &options.extra {
            context.insert(name, Jinja::from(Serde(value)));
        }
        let fail = |e: minijinja::Error| Error::template(&self.path, e);
        let template = self.environment.get_template(self.choose(options)).map_err(fail)?;
        template.render(context).map_err(fail)
    }

    /// The template for these options: one made for tools if there are tools, else the default one.
    fn choose(&self, options: &TemplateOptions) -> &str {
        let has = |name: &str| self.names.iter().any(|n| n == name);
        match self.names.first() {
            _ if options.tools.is_some() && has("tool_use") => "tool_use",
            Some(first) if !has("default") => first,
            _ => "default",
        }
    }
}

/// The templates in a configuration's value: one text, or a list of objects with `name` and `template`.
fn sources(value: &Value) -> Option<Sources> {
    match value {
        Value::String(source) => Some(vec![("default".into(), source.clone())]),
        Value::Array(list) if !list.is_empty() => list
            .iter()
            .map(|entry| {
                let text = |key: &str| entry.get(key).and_then(Value::as_str).map(str::to_string);
                Some((text("name")?, text("template")?))
            })
            .collect(),
        _ => None,
    }
}

/// Jinja as transformers sets it up.
fn environment() -> Result<Environment<'static>, minijinja::Error> {
    let mut environment = Environment::new();
    environment.set_syntax(SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build()?);
    environment.set_auto_escape_callback(|_| AutoEscape::None);
    environment.set_unknown_method_callback(minijinja_contrib::pycompat::unknown_method_callback);
    environment.set_fuel(Some(FUEL));
    environment.set_formatter(|out, state, value| match value.kind() {
        ValueKind::Number if !value.is_integer() => Ok(out.write_str(&json::float(value))?),
        _ => minijinja::escape_formatter(out, state, value),
    });
    environment.add_filter("tojson", tojson);
    environment.add_function("raise_exception", |message: String| -> Result<Jinja, minijinja::Error> {
        Err(minijinja::Error::new(ErrorKind::InvalidOperation, message))
    });
    environment.add_function("strftime_now", |format: String| time::now(&format));
    Ok(environment)
}

/// Python's `json.dumps` with `ensure_ascii=False`, which is what transformers gives templates.
fn tojson(value: &Jinja, options: Kwargs) -> Result<Jinja, minijinja::Error> {
    let style = json::Style {
        indent: options.get::<Option<usize>>("indent")?,
        sort_keys: options.get::<Option<bool>>("sort_keys")?.unwrap_or(false),
        ensure_ascii: options.get::<Option<bool>>("ensure_ascii")?.unwrap_or(false),
        separators: options.get::<Option<Vec<String>>>("separators")?,
    };
    options.assert_all_used()?;
    json::dump(value, &style).map(Jinja::from)
}
