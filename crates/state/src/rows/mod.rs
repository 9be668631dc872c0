//! What the rows hold. Fields are only ever added, with a default, so that older rows stay readable.

pub mod container;
pub mod image;
pub mod layer;
pub mod trash;
pub mod volume;
