//! Mounts and unmounts a writable layer over a chain of empty layers, to measure it.

use orlop_layers::Driver;
use orlop_layers::driver::{Overlay2, create_image_layer};
use orlop_model::Id;
use std::io::Write;
use std::path::Path;
use std::time::Instant;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [root, layers] = &arguments[..] else { return Err("usage: mount DATA_ROOT LAYERS".into()) };
    let start = Instant::now();
    let driver = Overlay2::open(Path::new(root), false)?;
    let opened = start.elapsed();
    let chain: Vec<Id> = (0..layers.parse()?).map(|_| Id::random()).collect();
    for &id in &chain {
        create_image_layer(&driver, id)?;
    }
    let id = Id::random();
    let start = Instant::now();
    driver.prepare(id, &chain)?;
    let prepared = start.elapsed();
    let start = Instant::now();
    driver.mount(id)?;
    let mounted = start.elapsed();
    let start = Instant::now();
    driver.unmount(id)?;
    let unmounted = start.elapsed();
    let start = Instant::now();
    driver.remove(id)?;
    let removed = start.elapsed();
    for id in chain {
        driver.remove(id)?;
    }
    Ok(writeln!(
        std::io::stdout(),
        "open {opened:?} prepare {prepared:?} mount {mounted:?} unmount {unmounted:?} remove {removed:?}"
    )?)
}
