//! Unpacks layer archives into new directories below a given one, each on its own thread, to measure it.

use orlop_layers::{Budget, Limits, Options, unpack};
use std::io::Write;
use std::path::PathBuf;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args_os().skip(1).map(PathBuf::from);
    let into = arguments.next().ok_or("usage: unpack DIRECTORY ARCHIVE…")?;
    let archives: Vec<PathBuf> = arguments.collect();
    let budget = Budget::new(Limits::default());
    let start = std::time::Instant::now();
    let results = std::thread::scope(|scope| {
        let (into, budget) = (&into, &budget);
        let run = |(number, archive): (usize, &PathBuf)| {
            let directory = into.join(number.to_string());
            std::fs::create_dir(&directory)?;
            let file = std::fs::File::open(archive)?;
            Ok::<_, Box<dyn std::error::Error + Send + Sync>>(unpack(
                file,
                &directory,
                Options { blob_digest: true, record: false },
                budget,
            )?)
        };
        let threads: Vec<_> = archives.iter().enumerate().map(|job| scope.spawn(move || run(job))).collect();
        threads
            .into_iter()
            .map(|thread| thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
            .collect::<Vec<_>>()
    });
    let mut out = std::io::stdout();
    for result in results {
        match result {
            Ok(unpacked) => writeln!(out, "{} {} {:?}", unpacked.diff_id, unpacked.size, unpacked.dependencies)?,
            Err(error) => writeln!(out, "error: {error}")?,
        }
    }
    writeln!(out, "{:?}", start.elapsed())?;
    Ok(())
}
