//! README's table of what is proven, made from the fixtures that the tests of every backend run.

mod support;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use dacapo_lm::Checkpoint;
use dacapo_lm::checkpoint::{ARCHITECTURES, Format};

const START: &str = "<!-- What is proven: made by `cargo test -p dacapo-lm --test table -- --ignored`. -->\n";
const END: &str = "<!-- End of what is proven. -->\n";

/// What people call the models of an architecture.
const NAMES: &[(&str, &str)] = &[
    ("llama", "Llama 2, 3, 3.1 to 3.3"),
    ("mistral", "Mistral, Ministral"),
    ("granite", "Granite 3 (dense)"),
    ("smollm3", "SmolLM 3"),
    ("olmo2", "OLMo 2, OLMo 3"),
    ("qwen2", "Qwen2, Qwen2.5"),
    ("qwen3", "Qwen3 (dense), Qwen3-Embedding"),
    ("qwen2moe", "Qwen1.5-MoE, Qwen2-MoE"),
    ("qwen3moe", "Qwen3-MoE"),
    ("mixtral", "Mixtral"),
    ("gpt-oss", "gpt-oss"),
    ("qwen35", "Qwen3.5 (dense, text)"),
    ("qwen35moe", "Qwen3.5 with experts (text)"),
    ("qwen3next", "Qwen3-Next"),
    ("gemma2", "Gemma 2"),
    ("gemma3", "Gemma 3 (text)"),
    ("phi3", "Phi-3, Phi-4-mini"),
    ("bert", "BERT and its kin (embeddings)"),
];

fn readme() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../README.md")
}

/// Architecture and kind of every checkpoint that is compared with a reference. `tests/{models,vulkan,metal}.rs` take the same
/// lists, so that what is proven on one backend is proven on all.
fn proven() -> BTreeSet<(String, String)> {
    let models = support::fixtures::fixtures().into_iter().map(|fixture| fixture.path());
    let embeddings = support::embeddings::fixtures().into_iter().map(|fixture| fixture.path());
    models.chain(embeddings).map(|path| of(&path)).collect()
}

fn of(path: &Path) -> (String, String) {
    let checkpoint = Checkpoint::open(path).unwrap_or_else(|error| panic!("{error}"));
    let config = checkpoint.model_config().unwrap_or_else(|error| panic!("{error}"));
    (config.architecture, checkpoint.format().to_string())
}

/// The table, between its marks.
fn table() -> String {
    let proven = proven();
    let mut out = String::from(START);
    out += "\n| models | architecture | safetensors | MLX | GGUF |\n|---|---|---|---|---|\n";
    for architecture in ARCHITECTURES {
        let name = NAMES.iter().find(|(known, _)| *known == architecture);
        let (_, name) = name.unwrap_or_else(|| panic!("a name for {architecture} in NAMES"));
        let cells = [Format::HuggingFace, Format::Mlx, Format::Gguf].map(|format| {
            match proven.contains(&(architecture.to_string(), format.to_string())) {
                true => "proven",
                // llama.cpp's converter calls them so.
                false if (architecture, format) == ("mistral", Format::Gguf) => "as `llama`",
                false => "works",
            }
        });
        out += &format!("| {name} | `{architecture}` | {} |\n", cells.join(" | "));
    }
    out + "\n" + END
}

/// README without the table, before and behind it.
fn around(text: &str) -> (&str, &str) {
    let (start, rest) = text.split_once(START).expect("the table's first mark");
    let (_, end) = rest.split_once(END).expect("the table's last mark");
    (start, end)
}

#[test]
fn the_readme_says_what_is_proven() {
    let text = std::fs::read_to_string(readme()).unwrap();
    let (start, end) = around(&text);
    let expected = format!("{start}{}{end}", table());
    assert!(text == expected, "README should have this table (see its first mark):\n{}", table());
}

#[test]
#[ignore = "changes README.md"]
fn write_the_table() {
    let text = std::fs::read_to_string(readme()).unwrap();
    let (start, end) = around(&text);
    std::fs::write(readme(), format!("{start}{}{end}", table())).unwrap();
}
