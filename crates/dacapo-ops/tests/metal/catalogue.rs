//! Whether every text was run.

use std::collections::BTreeSet;
use std::path::Path;

use dacapo::gpu::metal_limits;
use dacapo_ops::catalogue::CATALOGUE;

/// A file for each text that tests ran, for whoever asks when they have ended.
const RAN: &str = concat!(env!("CARGO_TARGET_TMPDIR"), "/metal-texts-that-ran");

fn file(kernel: &str, variant: &str) -> String {
    format!("{kernel}.{variant}")
}

/// Notes that a text was compiled and is run.
pub fn note(kernel: &str, variant: &str) {
    std::fs::create_dir_all(RAN).expect("a folder");
    std::fs::write(Path::new(RAN).join(file(kernel, variant)), "").expect("written");
}

/// Texts of one token's attention whose invocations take several pieces of a key: in subgroups of 32 none has to.
fn for_small_subgroups(kernel: &str, variant: &str) -> bool {
    kernel.contains("rope_attention") && (variant.starts_with("long_") || variant.starts_with("narrow_"))
}

/// Every text that Apple silicon can run, of every kernel with GPU code, was chosen by a case and run by the other tests.
#[test]
#[ignore = "looks at what the other tests left: .ci/metal runs it after them"]
fn every_text_was_run() {
    let limits = metal_limits(8);
    let variants = |kernel: &&dacapo::Kernel| kernel.gpu.map_or(&[][..], |twin| twin.variants);
    let wanted: BTreeSet<String> = CATALOGUE
        .iter()
        .flat_map(|kernel| variants(kernel).iter().map(|variant| (kernel.name, variant)))
        .filter(|(_, variant)| variant.needs.met_by(&limits))
        .filter(|(kernel, variant)| !for_small_subgroups(kernel, variant.name))
        .map(|(kernel, variant)| file(kernel, variant.name))
        .collect();
    let ran = std::fs::read_dir(RAN).expect("the other tests ran before");
    let ran: BTreeSet<String> =
        ran.map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned()).collect();
    let missing: Vec<_> = wanted.difference(&ran).collect();
    assert!(missing.is_empty(), "no case runs {missing:?}");
}
