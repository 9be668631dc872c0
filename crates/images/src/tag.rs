//! `tag`: another name for an image.

use crate::resolve::resolve;
use crate::{Error, Store};
use orlop_model::{Digest, ImageRef, Timestamp};
use orlop_state::TagRow;

/// Refuses a name that reads as an id.
pub(crate) fn check_name(name: &ImageRef) -> Result<(), Error> {
    if name.familiar_name() == "sha256" { Err(Error::DigestAsName(name.familiar())) } else { Ok(()) }
}

/// Gives the image that `source` means the name `target`, which may have been another's. Returns the image's id.
pub fn tag(store: Store<'_>, source: &str, target: &ImageRef) -> Result<Digest, Error> {
    if target.digest.is_some() || target.tag.is_none() {
        return Err(Error::TagDigest);
    }
    check_name(target)?;
    store.state.write(|tx| {
        let image = resolve(tx, source)?.row.id;
        tx.tags().put(&TagRow { name: target.to_string(), image, tagged: Timestamp::now() })?;
        Ok(image)
    })
}
