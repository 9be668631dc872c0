//! Places where the tests kill the process.

/// Ends the process as kill -9 would, when a test asked for that at `place`. Nothing outside of tests.
#[cfg(test)]
pub(crate) fn point(place: &str) {
    if std::env::var("ORLOP_TEST_KILL_AT").is_ok_and(|wanted| wanted == place) {
        let _ = rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL);
    }
}

/// Ends the process as kill -9 would, when a test asked for that at `place`. Nothing outside of tests.
#[cfg(not(test))]
pub(crate) fn point(_place: &str) {}
