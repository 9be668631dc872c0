//! How a pull is going, in Docker's words: a line for each layer, redrawn in place on a terminal, and elsewhere one line
//! for each step.

use orlop_engine::{LayerEvent, PullEvent};
use orlop_model::size::human;
use orlop_model::{Digest, ImageRef};
use std::fmt::Write as _;
use std::io::{self, IsTerminal, Write};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// How often the lines may be drawn anew.
const INTERVAL: Duration = Duration::from_millis(100);
/// Letters of a bar, where there is room for it.
const BAR: usize = 50;

/// Where it is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// `pull`
    Stdout,
    /// `run`, whose stdout is the container's.
    Stderr,
}

/// What is shown, and what has been.
#[derive(Debug)]
pub struct Display {
    place: Place,
    quiet: bool,
    terminal: bool,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    layers: Vec<(Digest, LayerEvent)>,
    /// Lines that the next drawing goes over.
    drawn: usize,
    when: Option<Instant>,
}

impl Display {
    /// Shows nothing when `quiet`.
    pub fn new(place: Place, quiet: bool) -> Self {
        let terminal = match place {
            Place::Stdout => io::stdout().is_terminal(),
            Place::Stderr => io::stderr().is_terminal(),
        };
        Self { place, quiet, terminal, state: Mutex::default() }
    }

    /// Takes in what the engine tells; called by several threads.
    pub fn show(&self, event: &PullEvent) {
        if self.quiet {
            return;
        }
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        match event {
            PullEvent::Begin(name) => self.write(&format!("{}: Pulling from {}\n", title(name), name.repository)),
            PullEvent::Layer(digest, event) => self.layer(&mut state, *digest, event),
            PullEvent::Syncing => {}
            PullEvent::Done(pulled) => {
                self.draw(&mut state);
                *state = State::default();
                self.write(&format!("Digest: {}\n", pulled.digest));
            }
        }
    }

    /// Draws what was held back, before anything else is written.
    pub fn end(&self) {
        self.draw(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner));
    }

    fn layer(&self, state: &mut State, digest: Digest, event: &LayerEvent) {
        match state.layers.iter_mut().find(|(known, _)| *known == digest) {
            Some((_, known)) if known == event => return,
            Some((_, known)) => known.clone_from(event),
            None => state.layers.push((digest, event.clone())),
        }
        if !self.terminal {
            // Bars are for people who look on.
            if !matches!(event, LayerEvent::Downloading(..)) {
                self.write(&format!("{}: {}\n", digest.short(), words(event, 0)));
            }
            return;
        }
        if state.when.is_none_or(|when| when.elapsed() >= INTERVAL) {
            self.draw(state);
        }
    }

    fn draw(&self, state: &mut State) {
        if !self.terminal || self.quiet || state.layers.is_empty() {
            return;
        }
        let (columns, rows) = self.size();
        let text = drawing(&state.layers, columns, rows, state.drawn);
        state.drawn = text.matches('\n').count();
        state.when = Some(Instant::now());
        self.write(&text);
    }

    fn size(&self) -> (usize, usize) {
        let size = match self.place {
            Place::Stdout => rustix::termios::tcgetwinsize(io::stdout()),
            Place::Stderr => rustix::termios::tcgetwinsize(io::stderr()),
        };
        match size {
            Ok(size) if size.ws_col > 0 && size.ws_row > 0 => (size.ws_col.into(), size.ws_row.into()),
            _ => (80, 24),
        }
    }

    /// Progress that can't be written is not worth an error: the last lines will find the same.
    fn write(&self, text: &str) {
        let _ = match self.place {
            Place::Stdout => io::stdout().lock().write_all(text.as_bytes()).and_then(|()| io::stdout().flush()),
            Place::Stderr => io::stderr().lock().write_all(text.as_bytes()),
        };
    }
}

/// The tag, or the whole name of what is pulled by its digest.
fn title(name: &ImageRef) -> String {
    match (&name.digest, &name.tag) {
        (None, Some(tag)) => tag.clone(),
        _ => name.to_string(),
    }
}

/// All lines, over those drawn before. More layers than rows are shown by those that something happens with, and how
/// many others there are.
fn drawing(layers: &[(Digest, LayerEvent)], columns: usize, rows: usize, drawn: usize) -> String {
    let room = rows.saturating_sub(2).max(2);
    let mut shown: Vec<&(Digest, LayerEvent)> = layers.iter().collect();
    let mut left = 0;
    if shown.len() > room {
        shown.sort_by_key(|(_, event)| match event {
            LayerEvent::Downloading(..) | LayerEvent::Verifying | LayerEvent::Retrying(_) => 0,
            LayerEvent::Begin | LayerEvent::Waiting => 1,
            _ => 2,
        });
        left = shown.len() - (room - 1);
        shown.truncate(room - 1);
        shown.sort_by_key(|layer| layers.iter().position(|(digest, _)| *digest == layer.0));
    }
    let mut text = if drawn > 0 { format!("\u{1b}[{drawn}A\r") } else { String::new() };
    // The last column stays free: writing into it wraps on some terminals.
    let width = columns.saturating_sub(1);
    for (digest, event) in shown {
        let line = format!("{}: {}", digest.short(), words(event, width.saturating_sub(60)));
        let line: String = line.chars().take(width).collect();
        let _ = writeln!(text, "\u{1b}[2K{line}");
    }
    if left > 0 {
        let line: String = format!("... {left} more layers").chars().take(width).collect();
        let _ = writeln!(text, "\u{1b}[2K{line}");
    }
    // Fewer lines than before: the rest is wiped.
    text + if drawn > 0 { "\u{1b}[J" } else { "" }
}

fn words(event: &LayerEvent, room: usize) -> String {
    match event {
        LayerEvent::Begin => "Pulling fs layer".to_owned(),
        LayerEvent::Waiting => "Waiting".to_owned(),
        LayerEvent::Downloading(done, total) => {
            let numbers = format!("{:>8}/{}", human(*done), human(*total));
            let bar = room.min(BAR);
            if bar < 10 || *total == 0 {
                return format!("Downloading {numbers}");
            }
            let share = u128::from(*done) * bar as u128 / u128::from(*total);
            let full = usize::try_from(share).unwrap_or(bar).min(bar);
            format!("Downloading [{}>{}] {numbers}", "=".repeat(full), " ".repeat(bar - full))
        }
        LayerEvent::Retrying(1) => "Retrying in 1 second".to_owned(),
        LayerEvent::Retrying(seconds) => format!("Retrying in {seconds} seconds"),
        LayerEvent::Verifying => "Verifying Checksum".to_owned(),
        LayerEvent::Unpacked => "Download complete".to_owned(),
        LayerEvent::Exists => "Already exists".to_owned(),
        LayerEvent::Complete => "Pull complete".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn digest(number: u8) -> Digest {
        Digest::from_sha256([number; 32])
    }

    #[test]
    fn lines_fit_any_terminal() {
        let layers: Vec<_> =
            (0..100).map(|number| (digest(number), LayerEvent::Downloading(1 << 20, 1 << 30))).collect();
        for (columns, rows) in [(1, 1), (20, 3), (80, 24), (500, 200)] {
            let text = drawing(&layers, columns, rows, 7);
            let lines: Vec<&str> = text.lines().map(|line| line.rsplit("[2K").next().unwrap()).collect();
            assert!(lines.len() <= rows.max(4) + 1, "{columns}x{rows}: {} lines", lines.len());
            assert!(lines.iter().all(|line| line.chars().count() < columns.max(5)), "{columns}x{rows}");
        }
    }

    #[test]
    fn words_are_dockers() {
        for (event, room, expected) in [
            (LayerEvent::Begin, 0, "Pulling fs layer"),
            (LayerEvent::Downloading(1_200_000, 30_000_000), 0, "Downloading    1.2MB/30MB"),
            (LayerEvent::Downloading(15, 30), 10, "Downloading [=====>     ]      15B/30B"),
            (LayerEvent::Retrying(5), 0, "Retrying in 5 seconds"),
            (LayerEvent::Exists, 0, "Already exists"),
        ] {
            assert_eq!(words(&event, room), expected);
        }
    }
}
