//! How far a load or a scrub is, in one line on a terminal's stderr; nothing anywhere else.

use orlop_engine::Progress;
use orlop_model::Digest;
use orlop_model::size::human;
use std::collections::HashMap;
use std::io::{IsTerminal, Write};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// How often the line may change.
const INTERVAL: Duration = Duration::from_millis(100);

/// The line.
#[derive(Debug)]
pub struct Meter {
    state: Option<Mutex<State>>,
}

#[derive(Debug)]
struct State {
    layers: HashMap<Digest, (u64, u64)>,
    shown: Option<Instant>,
}

impl Meter {
    /// Shows nothing when `quiet`, or when stderr is no terminal.
    pub fn new(quiet: bool) -> Self {
        let visible = !quiet && std::io::stderr().is_terminal();
        Self { state: visible.then(|| Mutex::new(State { layers: HashMap::new(), shown: None })) }
    }

    /// Takes in what the engine tells; called by several threads.
    pub fn show(&self, progress: Progress) {
        let Some(state) = &self.state else { return };
        let mut state = state.lock().unwrap_or_else(PoisonError::into_inner);
        let line = match progress {
            Progress::Waiting { .. }
            | Progress::Missing { .. }
            | Progress::Present { .. }
            | Progress::Retrying { .. }
            | Progress::Unpacked { .. } => return,
            Progress::Unpacking { diff_id, done, total } => {
                state.layers.insert(diff_id, (done, total));
                if state.shown.is_some_and(|shown| shown.elapsed() < INTERVAL) {
                    return;
                }
                let (done, total) = state.layers.values().fold((0, 0), |sum, layer| (sum.0 + layer.0, sum.1 + layer.1));
                format!("Unpacking layers ({}): {} of {}", state.layers.len(), human(done), human(total))
            }
            Progress::Syncing => "Writing to the disk".to_owned(),
        };
        state.shown = Some(Instant::now());
        // A progress line that can't be written is not worth an error.
        let _ = write!(std::io::stderr().lock(), "\r\u{1b}[K{line}");
    }

    /// Layers that are checked, and all of them.
    pub fn checked(&self, done: usize, total: usize) {
        let Some(state) = &self.state else { return };
        state.lock().unwrap_or_else(PoisonError::into_inner).shown = Some(Instant::now());
        let _ = write!(std::io::stderr().lock(), "\r\u{1b}[KChecking layers: {done} of {total}");
    }

    /// Takes the line away.
    pub fn clear(&self) {
        let Some(state) = &self.state else { return };
        if state.lock().unwrap_or_else(PoisonError::into_inner).shown.is_some() {
            let _ = write!(std::io::stderr().lock(), "\r\u{1b}[K");
        }
    }
}
