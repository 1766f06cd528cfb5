//! Chat templates against what transformers renders; the cases come from `tools/oracles/template_cases.py`.

use std::collections::BTreeMap;
use std::path::Path;

use dacapo_lm::{ChatTemplate, Checkpoint, Message, TemplateOptions};
use serde_json::Value;

fn fixtures() -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures")
}

#[test]
fn renders_as_transformers() {
    let cases: Value =
        serde_json::from_slice(&std::fs::read(fixtures().join("templates.json")).expect("cases"))
            .expect("JSON");
    for case in cases.as_array().expect("cases") {
        let source = case["template"].as_str().expect("template");
        let tokens = case["tokens"].as_object().expect("tokens").iter();
        let tokens: BTreeMap<_, _> =
            tokens.map(|(name, token)| (name.clone(), token.as_str().expect("token").to_string())).collect();
        let messages: Vec<Message> = serde_json::from_value(case["messages"].clone()).expect("messages");
        let options = TemplateOptions {
            tools: Some(case["tools"].clone()).filter(|tools| !tools.is_null()),
            extra: case["variables"].as_object().expect("variables").clone(),
            ..TemplateOptions::default()
        };
        let rendered = ChatTemplate::new(Path::new("template"), source, tokens)
            .and_then(|template| template.render(&messages, &options));
        match case["text"].as_str() {
            Some(expected) => assert_eq!(rendered.expect(source), expected, "{source}"),
            None => assert!(rendered.is_err(), "{source}"),
        }
    }
}

#[test]
fn a_gguf_file_brings_its_template_and_tokens() {
    let checkpoint = Checkpoint::open(fixtures().join("tokenizers/llama2/vocab.gguf")).expect("GGUF");
    let template = ChatTemplate::from_checkpoint(&checkpoint).expect("template").expect("one");
    let text = template.render(&[Message::new("user", "hi")], &TemplateOptions::default()).expect("text");
    assert_eq!(text, "<s>[user]hi</s>");
}

#[test]
fn folders_are_searched_in_order() {
    let work = tempfile::tempdir().expect("temporary folder");
    let write = |name: &str, content: &str| std::fs::write(work.path().join(name), content).expect("write");
    let render = |tools: bool| {
        let checkpoint = Checkpoint::open(work.path()).expect("folder");
        let template = ChatTemplate::from_checkpoint(&checkpoint).expect("template")?;
        let tools = tools.then(|| Value::Array(Vec::new()));
        Some(template.render(&[], &TemplateOptions { tools, ..TemplateOptions::default() }).expect("text"))
    };
    write("model.safetensors", "\x02\0\0\0\0\0\0\0{}");
    write("config.json", "{}");
    assert_eq!(render(false), None);
    write(
        "tokenizer_config.json",
        r#"{"bos_token": {"content": "<B>"}, "chat_template": [{"name": "default", "template": "{{ bos_token }}plain"},
            {"name": "tool_use", "template": "tools"}]}"#,
    );
    assert_eq!(render(false).as_deref(), Some("<B>plain"));
    assert_eq!(render(true).as_deref(), Some("tools"));
    write("chat_template.json", r#"{"chat_template": "from json"}"#);
    assert_eq!(render(true).as_deref(), Some("from json"));
    write("chat_template.jinja", "from jinja {{ bos_token }}");
    assert_eq!(render(true).as_deref(), Some("from jinja <B>"));
}

#[test]
fn a_template_without_end_is_stopped() {
    let source = "{% for a in range(99999) %}{% for b in range(99999) %}{{ '' }}{% endfor %}{% endfor %}";
    let template = ChatTemplate::new(Path::new("t.jinja"), source, BTreeMap::new()).expect("template");
    let error = template.render(&[], &TemplateOptions::default()).expect_err("it has no end");
    assert_eq!(error.to_string(), "t.jinja: chat template: engine ran out of fuel (in default:1)");
}
