//! `top` and `stats`: what runs in containers and what it takes.

use crate::args::container::{StatsArgs, TopArgs};
use crate::door::Door;
use crate::failure::{Failure, Outcome};
use crate::output::list::{Format, Listing, Row};
use crate::output::print::out;
use orlop_engine::{ContainerStats, StatsUsage};
use orlop_model::size::{human, human_short};
use std::collections::HashMap;
use std::io::IsTerminal;
use std::time::Duration;

/// `top`
pub fn top(door: &Door, args: TopArgs) -> Outcome {
    let (name, options) = args.command.split_first().expect("the number of arguments was checked");
    let table = door.engine()?.top(name, options)?;
    let mut widths: Vec<usize> = table.titles.iter().map(String::len).collect();
    for process in &table.processes {
        for (width, cell) in widths.iter_mut().zip(process) {
            *width = (*width).max(cell.len());
        }
    }
    for line in std::iter::once(&table.titles).chain(&table.processes) {
        let cells: Vec<String> =
            line.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}", width = *width + 2)).collect();
        out(&format!("{}\n", cells.concat().trim_end()))?;
    }
    Ok(0)
}

/// Between two looks.
const PERIOD: Duration = Duration::from_secs(1);

/// What `stats` knows of a container.
const STATS: Listing = Listing {
    columns: &[
        ("Container", "CONTAINER"),
        ("ID", "CONTAINER ID"),
        ("Name", "NAME"),
        ("CPUPerc", "CPU %"),
        ("MemUsage", "MEM USAGE / LIMIT"),
        ("MemPerc", "MEM %"),
        ("NetIO", "NET I/O"),
        ("BlockIO", "BLOCK I/O"),
        ("PIDs", "PIDS"),
    ],
    kind: "*container.statsContext",
    table: "{{.ID}}\t{{.Name}}\t{{.CPUPerc}}\t{{.MemUsage}}\t{{.MemPerc}}\t{{.NetIO}}\t{{.BlockIO}}\t{{.PIDs}}",
    quiet: "{{.ID}}",
};

/// `stats`
pub fn stats(door: &Door, args: StatsArgs) -> Outcome {
    if args.all && !args.names.is_empty() {
        return Err(Failure::invalid("conflicting options: --all and names of containers"));
    }
    let format = Format::new(&STATS, args.format.as_deref().unwrap_or_default(), false).whole(args.no_trunc);
    let engine = door.engine()?;
    let clears = std::io::stdout().is_terminal() && !args.no_stream;
    let mut before = by_id(&engine.stats(&args.names, args.all)?);
    loop {
        std::thread::sleep(PERIOD);
        let now = engine.stats(&args.names, args.all)?;
        let rows: Vec<Row> = now.iter().map(|stats| row(stats, before.get(&stats.id.hex()), !args.no_trunc)).collect();
        if clears {
            // Home, and everything below is cleared.
            out("\u{1b}[2J\u{1b}[H")?;
        }
        out(&format.render(&STATS, &rows)?)?;
        if args.no_stream {
            return Ok(0);
        }
        before = by_id(&now);
    }
}

fn by_id(all: &[ContainerStats]) -> HashMap<String, StatsUsage> {
    all.iter().filter_map(|stats| Some((stats.id.hex(), stats.usage?))).collect()
}

fn row(stats: &ContainerStats, before: Option<&StatsUsage>, truncate: bool) -> Row {
    let id = if truncate { stats.id.short() } else { stats.id.hex() };
    let used = match stats.usage {
        Some(now) => {
            let pair = |(first, second): (u64, u64)| format!("{} / {}", human_short(first), human_short(second));
            let share = percent(now.memory as f64, now.memory_limit as f64);
            [
                format!("{:.2}%", before.map_or(0.0, |before| cpu(before, &now))),
                format!("{} / {}", binary(now.memory), binary(now.memory_limit)),
                format!("{share:.2}%"),
                pair(now.network),
                pair(now.block),
                now.pids.to_string(),
            ]
        }
        None => ["0.00%", "0B / 0B", "0.00%", "0B / 0B", "0B / 0B", "0"].map(str::to_owned),
    };
    let cells = [id.clone(), id, stats.name.clone()].into_iter().chain(used).collect();
    Row { cells, labels: None }
}

/// Docker's way: 100 % is one CPU.
fn cpu(before: &StatsUsage, now: &StatsUsage) -> f64 {
    let passed = |now: u64, before: u64| now.saturating_sub(before) as f64;
    percent(passed(now.cpu, before.cpu), passed(now.system, before.system)) * now.cpus as f64
}

fn percent(part: f64, whole: f64) -> f64 {
    if whole > 0.0 { part / whole * 100.0 } else { 0.0 }
}

/// Memory in powers of 1024 with four digits, as Docker shows it.
fn binary(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["B", "KiB", "MiB", "GiB", "TiB"];
    let mut value = bytes as f64;
    let mut unit = 0;
    while value >= 1024.0 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    let digits = if value >= 1000.0 {
        0
    } else if value >= 100.0 {
        1
    } else if value >= 10.0 {
        2
    } else {
        3
    };
    let text = format!("{value:.digits$}");
    let text = if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.') } else { &text };
    if bytes < 1024 { human(bytes) } else { format!("{text}{}", UNITS[unit]) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_shown_as_docker_shows_them() {
        for (bytes, expected) in [(0, "0B"), (1536, "1.5KiB"), (6 << 20, "6MiB"), (1_234_567_890, "1.15GiB")] {
            assert_eq!(binary(bytes), expected);
        }
        let before = StatsUsage { cpu: 0, system: 0, cpus: 2, ..StatsUsage::default() };
        let now = StatsUsage { cpu: 500, system: 2000, cpus: 2, ..before };
        assert_eq!(format!("{:.2}", cpu(&before, &now)), "50.00");
    }
}
