//! Places where the tests kill the process, or let a call fail.

use crate::Error;

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

#[cfg(test)]
thread_local! {
    static FAIL_AT: std::cell::Cell<Option<&'static str>> = const { std::cell::Cell::new(None) };
}

/// Lets the next [`failure`] at `place` in this thread be one.
#[cfg(test)]
pub(crate) fn fail_at(place: &'static str) {
    FAIL_AT.set(Some(place));
}

/// An error of the disk, when a test asked for that at `place`. Nothing outside of tests.
#[cfg(test)]
pub(crate) fn failure(place: &'static str) -> Result<(), Error> {
    if FAIL_AT.get() != Some(place) {
        return Ok(());
    }
    FAIL_AT.set(None);
    Err(Error::io("sync", place, rustix::io::Errno::IO))
}

/// An error of the disk, when a test asked for that at `place`. Nothing outside of tests.
#[cfg(not(test))]
pub(crate) fn failure(_place: &'static str) -> Result<(), Error> {
    Ok(())
}
