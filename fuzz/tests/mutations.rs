//! A short run of every target, in the normal tests.

use dacapo_fuzz::mutate::{Random, damage};
use dacapo_fuzz::targets::TARGETS;
use proptest::prelude::*;

#[test]
fn the_seeds_are_valid() {
    let folder = tempfile::tempdir().expect("temporary folder");
    for target in TARGETS {
        assert!(!(target.seed)().is_empty(), "{}", target.name);
    }
    for name in ["gguf", "gguf-tokenizer", "gguf-sentencepiece"] {
        let target = TARGETS.iter().find(|t| t.name == name).expect("target");
        let path = folder.path().join("m.gguf");
        std::fs::write(&path, (target.seed)()).expect("write");
        let checkpoint = dacapo_lm::Checkpoint::open(&path).expect(name);
        dacapo_lm::Tokenizer::from_checkpoint(&checkpoint).expect(name);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn damaged_files_never_panic(seed: u64) {
        let folder = tempfile::tempdir().expect("temporary folder");
        for target in &TARGETS {
            let mut bytes = (target.seed)();
            damage(&mut bytes, &mut Random::new(seed));
            (target.run)(&bytes, folder.path());
        }
    }
}
