//! Mounts from flag to runtime, on a real disk and a real kernel.

mod apply;
mod containment;
mod resolve;
mod runtime;
mod support;
