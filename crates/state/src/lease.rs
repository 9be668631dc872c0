//! Leases: what a long verb needs to stay until it has ended.
//!
//! A lease is a row and a file that its holder keeps locked. It is alive exactly as long as the lock can't be taken,
//! so kill -9 ends it; `tend` removes the row then, and whatever was half made under it.

use crate::{Error, ReadTx, Row, State, WriteTx};
use orlop_model::Id;
use orlop_sys::lock::FileLock;
use serde::{Deserialize, Serialize};

/// The row of a lease.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeaseRow {
    /// Also the name of the file below `leases/`.
    pub id: Id,
    /// For people: the verb.
    pub purpose: String,
    /// Layers that must not be removed while it lives.
    pub layers: Vec<Id>,
}

impl Row for LeaseRow {
    const TABLE: &'static str = "lease";

    fn key(&self) -> String {
        self.id.hex()
    }
}

/// A lease that this process holds. The row is the holder's to write and to delete, in transactions of its own;
/// dropping the guard ends the lease even when that didn't happen.
#[derive(Debug)]
pub struct Lease {
    id: Id,
    lock: Option<FileLock>,
}

impl Lease {
    /// What rows refer to.
    pub fn id(&self) -> Id {
        self.id
    }

    /// Writes the lease's row, new or with other layers.
    pub fn put(&self, tx: &WriteTx<'_>, purpose: &str, layers: Vec<Id>) -> Result<(), Error> {
        tx.leases().put(&LeaseRow { id: self.id, purpose: purpose.to_owned(), layers })
    }

    /// Deletes the lease's row, in the transaction that ends the verb.
    pub fn end(&self, tx: &WriteTx<'_>) -> Result<(), Error> {
        tx.leases().delete(&self.id.hex()).map(drop)
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        if let Some(lock) = self.lock.take() {
            lock.remove();
        }
    }
}

impl State {
    /// A new lease, alive before any row refers to it.
    pub fn lease(&self) -> Result<Lease, Error> {
        let id = Id::random();
        let lock = FileLock::exclusive(&self.root().join("leases").join(id.hex()))?;
        Ok(Lease { id, lock: Some(lock) })
    }

    /// Whether some process holds the lease.
    pub fn lease_is_alive(&self, id: Id) -> Result<bool, Error> {
        let path = self.root().join("leases").join(id.hex());
        match path.try_exists() {
            Ok(true) => {}
            Ok(false) => return Ok(false),
            // Not a dead lease: whoever takes it for one deletes what its holder needs.
            Err(error) => return Err(orlop_sys::Error::io("stat", &path, error).into()),
        }
        match FileLock::try_exclusive(&path)? {
            None => Ok(true),
            Some(lock) => {
                lock.remove();
                Ok(false)
            }
        }
    }

    /// The leases whose holders live. Asks the locks inside the transaction, so that no lease begins between that and
    /// what the caller decides by it; none of these locks is waited for.
    pub fn live_leases(&self, tx: &ReadTx<'_>) -> Result<Vec<LeaseRow>, Error> {
        let mut live = Vec::new();
        for lease in tx.leases().list()? {
            if self.lease_is_alive(lease.id)? {
                live.push(lease);
            }
        }
        Ok(live)
    }
}
