//! `wait`: the exit code of a container, once it has one.

use crate::container::Phase;
use crate::{Engine, Error, Result};
use orlop_runtime::shim::ExitRecord;

impl Engine {
    /// Waits until the container doesn't run any more and returns its exit code.
    pub fn wait(&self, name: &str) -> Result<i32> {
        let container = self.container(name)?;
        if container.details.status.phase != Phase::Running {
            return Ok(container.details.status.exit_code);
        }
        self.ensure_shim(&container)?;
        // The record is read before somebody's reap removes a `--rm` container with it, so the shim is asked first.
        let told = orlop_runtime::attach::wait(&self.bundle(container.id), None);
        if let Ok(Some(code)) = told {
            self.reap(container.id)?;
            return Ok(code);
        }
        self.wait_for_end(&container, None)?;
        let record = ExitRecord::find(&self.exit_record(container.id), &self.bundle(container.id))?;
        self.reap(container.id)?;
        match (record, self.row(container.id)?) {
            (Some(record), _) => Ok(record.code),
            (None, Some(row)) => Ok(row.details.status.exit_code),
            (None, None) => Err(Error::NoSuchContainer(name.to_owned())),
        }
    }
}
