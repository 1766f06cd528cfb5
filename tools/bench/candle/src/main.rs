//! How fast candle reads prompts and generates on the processor, from a GGUF file of a Qwen3 or Llama model.
//!
//! `dacapo-bench-candle MODEL.gguf --threads T [--prompts N,...] [--tokens N,...] [--depths N,...]` prints one line of
//! JSON: speeds in tokens per second, seconds of loading, peak memory in bytes. A prompt is read once, and a few
//! tokens are generated, before what counts. `tools/bench/race.py` builds and runs it. candle takes its number of
//! threads from the environment only, so that `RAYON_NUM_THREADS` and `CANDLE_NUM_THREADS` must say the same as
//! `--threads`.

use std::fs::File;
use std::hint::black_box;
use std::io::BufReader;
use std::time::Instant;

use candle_core::quantized::gguf_file::Content;
use candle_core::{Device, Tensor};
use candle_transformers::models::{quantized_llama, quantized_qwen3};
use serde_json::{Map, Value, json};

type Error = Box<dyn std::error::Error + Send + Sync>;
type Result<T = (), E = Error> = std::result::Result<T, E>;

/// Tokens of a prompt that are read in one pass, as llama.cpp does by default.
const BATCH: usize = 512;
/// Tokens generated before those that are timed.
const WARM_TOKENS: usize = 4;

fn main() -> Result {
    let args = Args::parse(std::env::args().skip(1))?;
    let found = candle_core::utils::get_num_threads();
    if found != args.threads {
        let wanted = args.threads;
        return Err(
            format!("candle uses {found} threads, not {wanted}: set RAYON_NUM_THREADS={wanted}").into()
        );
    }
    // candle's own way to keep its threads warm over a whole forward pass.
    println!("{}", Device::Cpu.with_context(|| measure(&args))?);
    Ok(())
}

#[derive(Default)]
struct Args {
    model: String,
    threads: usize,
    prompts: Vec<usize>,
    tokens: Vec<usize>,
    depths: Vec<usize>,
}

impl Args {
    fn parse(mut words: impl Iterator<Item = String>) -> Result<Args> {
        let mut args = Args::default();
        while let Some(word) = words.next() {
            if !word.starts_with("--") {
                args.model = word;
                continue;
            }
            let value = words.next().ok_or_else(|| format!("{word} needs a value"))?;
            match word.as_str() {
                "--threads" => args.threads = value.parse()?,
                "--prompts" => args.prompts = numbers(&value)?,
                "--tokens" => args.tokens = numbers(&value)?,
                "--depths" => args.depths = numbers(&value)?,
                _ => return Err(format!("unknown option {word}").into()),
            }
        }
        if args.model.is_empty() || args.threads == 0 {
            return Err("needed are MODEL.gguf and --threads T".into());
        }
        Ok(args)
    }
}

/// `1,2,3`; an empty text is an empty list.
fn numbers(text: &str) -> Result<Vec<usize>> {
    let parts = text.split(',').filter(|part| !part.is_empty());
    parts.map(|part| part.parse().map_err(|_| format!("{part} is not a number").into())).collect()
}

/// The tests in turn, those at depth last, so that the peak is that of the others.
fn measure(args: &Args) -> Result<Value> {
    let started = Instant::now();
    let mut model = Model::load(&args.model)?;
    let load = started.elapsed().as_secs_f64();
    let mut speeds = Map::new();
    for &n in &args.prompts {
        model.read(n)?;
        let started = Instant::now();
        model.read(n)?;
        speeds.insert(format!("prompt {n}"), speed(n, started).into());
    }
    for &n in &args.tokens {
        speeds.insert(format!("generation {n}"), model.generation(n, 1)?.into());
    }
    let (peak, huge) = (memory("status", "VmHWM")?, memory("smaps_rollup", "AnonHugePages")?);
    for &depth in &args.depths {
        for &n in &args.tokens {
            let value = if model.holds(depth + n + WARM_TOKENS) {
                model.generation(n, depth)?.into()
            } else {
                Value::Null
            };
            speeds.insert(format!("generation {n} @ {depth}"), value);
        }
    }
    Ok(json!({ "load_s": load, "peak_memory_bytes": peak, "huge_page_bytes": huge, "speeds": speeds }))
}

fn speed(tokens: usize, started: Instant) -> f64 {
    tokens as f64 / started.elapsed().as_secs_f64()
}

/// A field in kB of a file of `/proc/self`, in bytes.
fn memory(file: &str, field: &str) -> Result<u64> {
    let text = std::fs::read_to_string(format!("/proc/self/{file}"))?;
    let value = text.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':'));
    let value = value.ok_or_else(|| format!("no {field} in /proc/self/{file}"))?;
    Ok(value.trim().trim_end_matches(" kB").parse::<u64>()? * 1024)
}

enum Model {
    Qwen3(Box<quantized_qwen3::ModelWeights>),
    Llama(Box<quantized_llama::ModelWeights>),
}

impl Model {
    fn load(path: &str) -> Result<Model> {
        let mut file =
            BufReader::with_capacity(1 << 20, File::open(path).map_err(|e| format!("{path}: {e}"))?);
        let content = Content::read(&mut file)?;
        let arch =
            content.metadata.get("general.architecture").ok_or("no general.architecture in the file")?;
        let device = &Device::Cpu;
        match arch.to_string()?.as_str() {
            "qwen3" => Ok(Model::Qwen3(Box::new(quantized_qwen3::ModelWeights::from_gguf(
                content, &mut file, device,
            )?))),
            "llama" => Ok(Model::Llama(Box::new(quantized_llama::ModelWeights::from_gguf(
                content, &mut file, device,
            )?))),
            other => Err(format!("architecture {other}: only qwen3 and llama are measured").into()),
        }
    }

    /// Whether the model takes so many positions: candle's Llama has tables for a fixed number.
    fn holds(&self, positions: usize) -> bool {
        match self {
            Model::Qwen3(_) => true,
            Model::Llama(_) => positions <= quantized_llama::MAX_SEQ_LEN,
        }
    }

    /// Logits of the last of `tokens`, which begin at `position`.
    fn forward(&mut self, tokens: &[u32], position: usize) -> Result {
        let input = Tensor::new(tokens, &Device::Cpu)?.unsqueeze(0)?;
        black_box(match self {
            Model::Qwen3(model) => model.forward(&input, position)?,
            Model::Llama(model) => model.forward(&input, position)?,
        });
        Ok(())
    }

    /// Reads a prompt of `n` tokens into an empty cache.
    fn read(&mut self, n: usize) -> Result {
        match self {
            Model::Qwen3(model) => model.clear_kv_cache(),
            Model::Llama(model) => model.clear_kv_cache(),
        }
        let tokens = (0..n as u32).map(|t| 1 + t % 100).collect::<Vec<_>>();
        for (i, part) in tokens.chunks(BATCH).enumerate() {
            self.forward(part, i * BATCH)?;
        }
        Ok(())
    }

    /// Tokens per second of `n` single tokens after `depth`; without choosing one from the logits.
    fn generation(&mut self, n: usize, depth: usize) -> Result<f64> {
        self.read(depth)?;
        let token = |t: usize| [1 + (t % 100) as u32];
        for t in 0..WARM_TOKENS {
            self.forward(&token(t), depth + t)?;
        }
        let started = Instant::now();
        for t in 0..n {
            self.forward(&token(t), depth + WARM_TOKENS + t)?;
        }
        Ok(speed(n, started))
    }
}
