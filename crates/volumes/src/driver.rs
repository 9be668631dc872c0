//! What differs from driver to driver.

use crate::Error;
use crate::local::LocalDriver;
use orlop_state::VolumeRow;
use std::path::Path;

/// A volume driver, as the store sees it: what a volume's `_data` stands for. The store itself has the directories,
/// the rows, the locks and the count of users, and calls a driver only under the volume's lock.
///
/// A volume's life with a driver: `check` when it is created; `attach` for each container that uses it and `detach`
/// after the last, or once more for what a crash left behind. Every driver passes the suite in `tests/conformance.rs`.
pub trait VolumeDriver: Sync {
    /// Whether the volume's options can be used. Contacts nobody and touches no file.
    fn check(&self, volume: &VolumeRow) -> Result<(), Error>;

    /// Whether `_data` is only the place where something else gets mounted.
    fn needs_mount(&self, volume: &VolumeRow) -> Result<bool, Error>;

    /// Whether the root of its content belongs to the volume alone, so that a first use may give it the owner and mode
    /// that the image has there; false for a directory of the host.
    fn root_is_ours(&self, volume: &VolumeRow) -> Result<bool, Error>;

    /// Makes the volume's content appear at `data`. It may be there already, also half.
    fn attach(&self, volume: &VolumeRow, data: &Path) -> Result<(), Error>;

    /// Ends what [`Self::attach`] did. It may be ended already, also half. Never touches the content.
    fn detach(&self, volume: &VolumeRow, data: &Path) -> Result<(), Error>;
}

/// The driver of a volume.
pub(crate) fn driver_of(volume: &VolumeRow) -> Result<&'static dyn VolumeDriver, Error> {
    match volume.driver.as_str() {
        "local" => Ok(&LocalDriver),
        driver => Err(Error::NoSuchDriver { name: volume.name.clone(), driver: driver.to_owned() }),
    }
}
