//! Ctrl-C.
//!
//! While a [`Watch`] lives, Ctrl-C only raises a flag, which the loops that produce tokens look at; a second
//! Ctrl-C ends the program. Without one, Ctrl-C ends the program at once, as it does everywhere.

use std::sync::Once;
use std::sync::atomic::{AtomicU8, Ordering};

use crate::error::INTERRUPTED;

const UNWATCHED: u8 = 0;
const WATCHED: u8 = 1;
const RAISED: u8 = 2;

static STATE: AtomicU8 = AtomicU8::new(UNWATCHED);

/// Turns Ctrl-C into a flag for as long as it lives. There is at most one at a time.
#[derive(Debug)]
pub struct Watch(());

impl Watch {
    /// Starts watching, with the flag down.
    pub fn start() -> Self {
        static HANDLER: Once = Once::new();
        HANDLER.call_once(|| {
            // Without a handler Ctrl-C ends the program, which is the next best thing.
            let _ = ctrlc::set_handler(|| {
                if STATE.compare_exchange(WATCHED, RAISED, Ordering::Relaxed, Ordering::Relaxed).is_err() {
                    std::process::exit(INTERRUPTED.into());
                }
            });
        });
        STATE.store(WATCHED, Ordering::Relaxed);
        Watch(())
    }

    /// Whether Ctrl-C was pressed.
    pub fn raised(&self) -> bool {
        STATE.load(Ordering::Relaxed) == RAISED
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        STATE.store(UNWATCHED, Ordering::Relaxed);
    }
}
