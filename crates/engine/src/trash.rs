//! How long what was removed can be brought back.

use crate::{Engine, Result};
use orlop_model::Timestamp;

const SECONDS_A_DAY: i64 = 24 * 60 * 60;

impl Engine {
    /// When something that was removed at `removed` is deleted for good by `tend`.
    pub fn trash_expiry(&self, removed: Timestamp) -> Timestamp {
        let seconds = removed.seconds().saturating_add(i64::from(self.config.trash.keep_days) * SECONDS_A_DAY);
        Timestamp::from_seconds(seconds).unwrap_or(removed)
    }

    /// Deletes for good what has been in the trash for longer than it is kept.
    pub(crate) fn expire_trash(&self) -> Result<()> {
        let now = Timestamp::now();
        self.trash_empty(|row| self.trash_expiry(row.removed) <= now)?;
        Ok(())
    }
}
