//! The shim with a real runc.
