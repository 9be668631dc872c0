//! Tables whose rows are checked against bit rot.
//!
//! A row is a key, a JSON body and a hash over both. Each table also has a count and the XOR of all its rows' hashes,
//! changed in the same transaction. A row that is found is checked by itself; a list, or a row that isn't found, is
//! checked against the table, so that a lost row can't pass for one that never was. (SQLite's own integrity check
//! notices less than half of flipped bits.)

use crate::Error;
use rusqlite::{Connection, OptionalExtension, params};
use serde::Serialize;
use serde::de::DeserializeOwned;
use sha2::{Digest as _, Sha256};
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::marker::PhantomData;
use std::path::Path;

/// Something that is stored as one row.
pub trait Row: DeserializeOwned {
    /// The table's name in the database, and what errors call the thing.
    const TABLE: &'static str;

    /// The primary key.
    fn key(&self) -> String;
}

/// The first 16 bytes of a SHA-256: enough against accidents, which is all that this is for.
pub(crate) type Hash = [u8; 16];

pub(crate) fn row_hash(table: &str, key: &str, body: &str) -> Hash {
    let mut hasher = Sha256::new();
    for part in [table, "\0", key, "\0", body] {
        hasher.update(part.as_bytes());
    }
    hasher.finalize()[..16].try_into().expect("a SHA-256 has 32 bytes")
}

fn xor(one: &mut Hash, other: &Hash) {
    one.iter_mut().zip(other).for_each(|(one, other)| *one ^= other);
}

/// What a table as a whole must amount to.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
struct Sum {
    count: i64,
    hash: Hash,
}

/// The sums of the tables touched in one transaction; written back before it commits.
#[derive(Default)]
pub(crate) struct Sums(RefCell<BTreeMap<&'static str, Sum>>);

impl Sums {
    fn get(&self, connection: &Connection, table: &'static str) -> rusqlite::Result<Sum> {
        if let Some(sum) = self.0.borrow().get(table) {
            return Ok(*sum);
        }
        connection
            .prepare_cached("SELECT count, hash FROM checksum WHERE name = ?1")?
            .query_row([table], |row| Ok(Sum { count: row.get(0)?, hash: row.get(1)? }))
            .optional()
            .map(Option::unwrap_or_default)
    }

    fn change(
        &self,
        connection: &Connection,
        table: &'static str,
        old: Option<&Hash>,
        new: Option<&Hash>,
    ) -> rusqlite::Result<()> {
        let mut sum = self.get(connection, table)?;
        for hash in [old, new].into_iter().flatten() {
            xor(&mut sum.hash, hash);
        }
        sum.count += i64::from(new.is_some()) - i64::from(old.is_some());
        self.0.borrow_mut().insert(table, sum);
        Ok(())
    }

    /// Writes the changed sums; the last thing before a commit.
    pub(crate) fn store(&self, connection: &Connection) -> rusqlite::Result<()> {
        for (table, sum) in self.0.borrow().iter() {
            connection
                .prepare_cached("INSERT OR REPLACE INTO checksum (name, count, hash) VALUES (?1, ?2, ?3)")?
                .execute(params![table, sum.count, sum.hash])?;
        }
        Ok(())
    }
}

/// One table inside a transaction.
pub struct Table<'tx, R> {
    pub(crate) connection: &'tx Connection,
    pub(crate) sums: &'tx Sums,
    pub(crate) path: &'tx Path,
    pub(crate) rows: PhantomData<R>,
}

impl<R: Row> Table<'_, R> {
    /// The row with this key.
    ///
    /// # Errors
    /// [`Error::Corrupt`] when the row, or for a miss the table, doesn't match its hash.
    pub fn get(&self, key: &str) -> Result<Option<R>, Error> {
        let sql = format!("SELECT key, body, hash FROM {} WHERE key = ?1", R::TABLE);
        let found = self.one(&sql, key)?;
        if found.is_none() {
            self.verify()?;
        }
        Ok(found)
    }

    /// The row whose indexed `column` has this value; the column is one that the schema makes unique.
    ///
    /// # Errors
    /// [`Error::Corrupt`] when the row, or for a miss the table, doesn't match its hash.
    pub(crate) fn get_by(&self, column: &str, value: &str) -> Result<Option<R>, Error> {
        let sql = format!("SELECT key, body, hash FROM {} WHERE {column} = ?1", R::TABLE);
        let found = self.one(&sql, value)?;
        if found.is_none() {
            self.verify()?;
        }
        Ok(found)
    }

    fn one(&self, sql: &str, value: &str) -> Result<Option<R>, Error> {
        let raw = self
            .connection
            .prepare_cached(sql)
            .and_then(|mut statement| statement.query_row([value], raw_row).optional())
            .map_err(|source| self.database(source))?;
        raw.map(|raw| self.check(raw)).transpose()
    }

    /// Every row, ordered by key.
    ///
    /// # Errors
    /// [`Error::Corrupt`] when a row or the table doesn't match its hash.
    pub fn list(&self) -> Result<Vec<R>, Error> {
        self.raw_rows()?.into_iter().map(|raw| self.check(raw)).collect()
    }

    /// The row with this key, or None without a look at the table: for who asks again, under a lock, before he believes
    /// it.
    pub fn peek(&self, key: &str) -> Result<Option<R>, Error> {
        self.one(&format!("SELECT key, body, hash FROM {} WHERE key = ?1", R::TABLE), key)
    }

    /// The check of a miss: every row against its hash, and the table against its sum.
    fn verify(&self) -> Result<(), Error> {
        self.raw_rows()?.iter().try_for_each(|raw| self.check_hash(raw))
    }

    /// Every row as it is stored; all of them together match the table's sum.
    fn raw_rows(&self) -> Result<Vec<RawRow>, Error> {
        let sql = format!("SELECT key, body, hash FROM {} ORDER BY key", R::TABLE);
        let raws = self
            .connection
            .prepare_cached(&sql)
            .and_then(|mut statement| statement.query_map([], raw_row)?.collect::<rusqlite::Result<Vec<_>>>())
            .map_err(|source| self.database(source))?;
        let mut found = Sum::default();
        for (.., hash) in &raws {
            found.count += 1;
            xor(&mut found.hash, hash);
        }
        let expected = self.sums.get(self.connection, R::TABLE).map_err(|source| self.database(source))?;
        if found != expected {
            let key = format!("table ({} rows found, {} expected)", found.count, expected.count);
            return Err(Error::Corrupt { table: R::TABLE, key });
        }
        Ok(raws)
    }

    /// Every row whose key begins with `prefix`. Meant for ids: a hit checks its rows, a miss the table.
    ///
    /// # Errors
    /// [`Error::Corrupt`] when a row, or for a miss the table, doesn't match its hash.
    pub fn with_prefix(&self, prefix: &str) -> Result<Vec<R>, Error> {
        // Keys are ASCII, so DEL sorts behind all of them.
        let sql = format!("SELECT key, body, hash FROM {} WHERE key >= ?1 AND key < ?1 || char(127)", R::TABLE);
        let raws = self
            .connection
            .prepare_cached(&sql)
            .and_then(|mut statement| statement.query_map([prefix], raw_row)?.collect::<rusqlite::Result<Vec<_>>>())
            .map_err(|source| self.database(source))?;
        if raws.is_empty() {
            self.verify()?;
        }
        raws.into_iter().map(|raw| self.check(raw)).collect()
    }

    /// Writes a row, new or changed. Only in [`crate::State::write`].
    ///
    /// # Errors
    /// [`Error::Exists`] when another row has the same unique name.
    pub fn put(&self, row: &R) -> Result<(), Error>
    where
        R: Serialize,
    {
        let key = row.key();
        let body = serde_json::to_string(row).expect("rows hold nothing that JSON can't");
        let hash = row_hash(R::TABLE, &key, &body);
        let old = self.old_hash(&key)?;
        let sql = format!(
            "INSERT INTO {} (key, body, hash) VALUES (?1, ?2, ?3) \
             ON CONFLICT (key) DO UPDATE SET body = excluded.body, hash = excluded.hash",
            R::TABLE
        );
        self.connection
            .prepare_cached(&sql)
            .and_then(|mut statement| statement.execute(params![key, body, hash]))
            .map_err(|source| match source.sqlite_error_code() {
                Some(rusqlite::ErrorCode::ConstraintViolation) => Error::Exists { table: R::TABLE, key: key.clone() },
                _ => self.database(source),
            })?;
        self.sums.change(self.connection, R::TABLE, old.as_ref(), Some(&hash)).map_err(|source| self.database(source))
    }

    /// Writes a row that must be new.
    ///
    /// # Errors
    /// [`Error::Exists`] when the key or a unique name is taken.
    pub fn insert(&self, row: &R) -> Result<(), Error>
    where
        R: Serialize,
    {
        let key = row.key();
        match self.old_hash(&key)? {
            Some(_) => Err(Error::Exists { table: R::TABLE, key }),
            None => self.put(row),
        }
    }

    /// Removes a row; false when there was none.
    pub fn delete(&self, key: &str) -> Result<bool, Error> {
        let Some(old) = self.old_hash(key)? else { return Ok(false) };
        let sql = format!("DELETE FROM {} WHERE key = ?1", R::TABLE);
        self.connection
            .prepare_cached(&sql)
            .and_then(|mut statement| statement.execute([key]))
            .map_err(|source| self.database(source))?;
        self.sums.change(self.connection, R::TABLE, Some(&old), None).map_err(|source| self.database(source))?;
        Ok(true)
    }

    fn old_hash(&self, key: &str) -> Result<Option<Hash>, Error> {
        let sql = format!("SELECT hash FROM {} WHERE key = ?1", R::TABLE);
        self.connection
            .prepare_cached(&sql)
            .and_then(|mut statement| statement.query_row([key], |row| row.get(0)).optional())
            .map_err(|source| self.database(source))
    }

    fn check(&self, raw: RawRow) -> Result<R, Error> {
        self.check_hash(&raw)?;
        let (key, body, _) = raw;
        // A body that matches its hash and yet can't be read was written by another version.
        serde_json::from_str(&body).map_err(|error| Error::Corrupt { table: R::TABLE, key: format!("{key} ({error})") })
    }

    fn check_hash(&self, (key, body, hash): &RawRow) -> Result<(), Error> {
        if row_hash(R::TABLE, key, body) == *hash {
            return Ok(());
        }
        Err(Error::Corrupt { table: R::TABLE, key: key.clone() })
    }

    fn database(&self, source: rusqlite::Error) -> Error {
        Error::Database { path: self.path.to_owned(), source }
    }
}

type RawRow = (String, String, Hash);

fn raw_row(row: &rusqlite::Row<'_>) -> rusqlite::Result<RawRow> {
    Ok((row.get(0)?, row.get(1)?, row.get(2)?))
}
