//! What is printed: Go templates, Docker's tables, sizes and times in Docker's words.

pub mod inspect;
pub mod list;
pub mod print;
pub mod progress;
pub mod prompt;
pub mod pull;
pub mod table;
pub mod template;
