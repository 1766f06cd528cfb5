//! The demo model, as part of the program.

use dacapo::MappedFile;

use crate::checkpoint::Checkpoint;
use crate::error::Result;

/// The small model that is shipped with the library: it tells short stories, answers sums and simple questions.
///
/// # Errors
/// None that a build whose tests pass can give.
pub fn demo() -> Result<Checkpoint> {
    static BYTES: &[u8] = include_bytes!("../../../models/demo/demo-q4_0.gguf");
    Checkpoint::from_gguf(MappedFile::embedded("demo model", BYTES))
}
