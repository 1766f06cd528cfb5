//! Writes every kernel in Metal's shading language into a folder, a file for each text that Apple silicon can run, so that
//! Apple's compiler can be asked what it thinks of them: `cargo run -p dacapo-ops --example metal_texts -- FOLDER`.
//!
//! What differs from dispatch to dispatch has its default value in them. Programs do not need the files: the backend
//! translates and compiles what it runs.

use std::path::PathBuf;
use std::process::ExitCode;

use dacapo::gpu::{metal_limits, msl};
use dacapo_ops::catalogue::CATALOGUE;

/// Cores to plan for; no text depends on them.
const CORES: u32 = 8;

fn write(folder: &std::path::Path) -> Result<usize, String> {
    std::fs::create_dir_all(folder).map_err(|error| format!("{}: {error}", folder.display()))?;
    let limits = metal_limits(CORES);
    let mut count = 0;
    for kernel in CATALOGUE {
        let variants = kernel.gpu.iter().flat_map(|twin| twin.variants);
        for variant in variants.filter(|variant| variant.needs.met_by(&limits)) {
            let text = msl(kernel, variant, &[]).map_err(|error| error.to_string())?.source;
            let file = folder.join(format!("{}.{}.metal", kernel.name, variant.name));
            std::fs::write(&file, text).map_err(|error| format!("{}: {error}", file.display()))?;
            count += 1;
        }
    }
    Ok(count)
}

fn main() -> ExitCode {
    let Some(folder) = std::env::args_os().nth(1).map(PathBuf::from) else {
        eprintln!("expected a folder to write to");
        return ExitCode::from(2);
    };
    match write(&folder) {
        Ok(count) => {
            println!("{count} texts in {}", folder.display());
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}
