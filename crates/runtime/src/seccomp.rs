//! Docker's default seccomp profile.
