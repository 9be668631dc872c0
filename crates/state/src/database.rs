//! The connection and its transactions.
//!
//! Settings, and why: journal_mode=PERSIST, because WAL can't even read when no byte is free and its mapped index may
//! be hit by SIGBUS; synchronous=FULL, because what was acknowledged must survive a power cut; BEGIN IMMEDIATE for
//! whatever may write, because a transaction that turns from reader to writer fails at once when another writes, in
//! spite of the busy time-out.

use crate::table::Sums;
use crate::{ContainerRow, Error, ImageRow, LayerRow, LeaseRow, Row, Table, TagRow, TrashRow, VolumeRow, format};
use orlop_sys::durable;
use orlop_sys::lock::FileLock;
use rusqlite::{Connection, OpenFlags, TransactionBehavior};
use rustix::fs::{FileType, Mode};
use rustix::io::Errno;
use std::marker::PhantomData;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// Each entry brings the database from the version of its index to the next. Append only.
const MIGRATIONS: [&str; 1] = [include_str!("migrations/1.sql")];

/// How long a writer waits for others.
const BUSY: Duration = Duration::from_secs(30);

/// Bytes that the journal and the free list have in reserve, so that a full disk doesn't stop a removal.
const HEADROOM: usize = 1 << 20;

/// The kinds of lock; each is a directory below `locks/`.
const LOCK_KINDS: [&str; 4] = ["container", "engine", "layer", "volume"];

/// Files that hold the environment and the command lines of containers.
const PRIVATE_FILES: [&str; 4] = ["state.db", "state.db-journal", "events.jsonl", "events.1.jsonl"];

/// The open state of one data root. Cheap to open; every process has its own.
pub struct State {
    root: PathBuf,
    path: PathBuf,
    connection: Mutex<Connection>,
}

impl State {
    /// Opens the state below `root`, making it when the root is new.
    ///
    /// # Errors
    /// When the root can't be written, was written by a version that this one doesn't understand, or has lost its
    /// database.
    pub fn open(root: &Path) -> Result<Self, Error> {
        let path = root.join("state.db");
        // Looked at first: it is written after the database, so where it is the database must be as well.
        let known = format::check(root)?;
        if known && !is_there(&path)? {
            return Err(Error::DatabaseLost { root: root.to_owned() });
        }
        // Of many processes that meet a new root one makes it, and the others wait for that.
        let making = if known { None } else { Some(make_root(root)?) };
        if making.is_some() {
            make_private(&path)?;
        }
        PRIVATE_FILES.iter().try_for_each(|name| keep_private(&root.join(name)))?;
        keep_journal(&root.join("state.db-journal"))?;
        let connection = connect(&path).map_err(|source| Error::Database { path: path.clone(), source })?;
        let state = Self { root: root.to_owned(), path, connection: Mutex::new(connection) };
        state.migrate(known)?;
        if making.is_some() {
            state.restore_headroom()?;
            durable::sync_directory(root)?;
            format::ensure(root)?;
        }
        drop(making);
        Ok(state)
    }

    /// The data root.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Runs `body` on one consistent view of the database. Nothing but reading rows belongs in it.
    pub fn read<T, E: From<Error>>(&self, body: impl FnOnce(&ReadTx<'_>) -> Result<T, E>) -> Result<T, E> {
        let mut connection = self.connection();
        let transaction =
            connection.transaction_with_behavior(TransactionBehavior::Deferred).map_err(|source| self.error(source))?;
        self.check_version(&transaction)?;
        body(&ReadTx { connection: &transaction, sums: Sums::default(), path: &self.path })
    }

    /// Runs `body` as the only writer and commits when it returns Ok; on an error nothing of it stays. The commit is
    /// on the disk when this returns. Nothing but reading and writing rows belongs in it.
    pub fn write<T, E: From<Error>>(&self, body: impl FnOnce(&WriteTx<'_>) -> Result<T, E>) -> Result<T, E> {
        let mut connection = self.connection();
        let transaction = connection
            .transaction_with_behavior(TransactionBehavior::Immediate)
            .map_err(|source| self.error(source))?;
        self.check_version(&transaction)?;
        let tx = WriteTx(ReadTx { connection: &transaction, sums: Sums::default(), path: &self.path });
        let value = body(&tx)?;
        tx.0.sums.store(&transaction).map_err(|source| self.error(source))?;
        transaction.commit().map_err(|source| self.error(source))?;
        Ok(value)
    }

    /// Waits for the exclusive lock on one object; held until the guard is dropped.
    ///
    /// `kind` is one of container, engine, layer, volume. Who needs several of a kind takes them in sorted order.
    pub fn lock(&self, kind: &str, name: &str) -> Result<FileLock, Error> {
        Ok(FileLock::exclusive(&self.lock_path(kind, name))?)
    }

    /// Waits until nobody holds the lock exclusively.
    pub fn lock_shared(&self, kind: &str, name: &str) -> Result<FileLock, Error> {
        Ok(FileLock::shared(&self.lock_path(kind, name))?)
    }

    /// The lock, or None when somebody holds it.
    pub fn try_lock(&self, kind: &str, name: &str) -> Result<Option<FileLock>, Error> {
        Ok(FileLock::try_exclusive(&self.lock_path(kind, name))?)
    }

    fn lock_path(&self, kind: &str, name: &str) -> PathBuf {
        debug_assert!(LOCK_KINDS.contains(&kind), "unknown kind of lock {kind}");
        self.root.join("locks").join(kind).join(name)
    }

    /// Gives the database its headroom back when less than half is left; `tend` calls this.
    pub fn restore_headroom(&self) -> Result<(), Error> {
        let mut connection = self.connection();
        let free = connection
            .query_row("SELECT freelist_count * page_size FROM pragma_freelist_count, pragma_page_size", [], |row| {
                row.get::<_, i64>(0)
            })
            .map_err(|source| self.error(source))?;
        if usize::try_from(free).unwrap_or(0) < HEADROOM / 2 {
            grow(&mut connection).map_err(|source| self.error(source))?;
        }
        Ok(())
    }

    /// `known` says that the root was in use before: then an empty database is one that was lost.
    fn migrate(&self, known: bool) -> Result<(), Error> {
        let latest = u32::try_from(MIGRATIONS.len()).expect("there are few migrations");
        let mut connection = self.connection();
        if version(&connection).map_err(|source| self.error(source))? >= latest {
            return Ok(());
        }
        let transaction = connection
            .transaction_with_behavior(TransactionBehavior::Immediate)
            .map_err(|source| self.error(source))?;
        // Another process may have migrated while this one waited.
        let from = version(&transaction).map_err(|source| self.error(source))?;
        if known && from == 0 {
            return Err(Error::DatabaseLost { root: self.root.clone() });
        }
        for migration in MIGRATIONS.iter().skip(from as usize) {
            transaction.execute_batch(migration).map_err(|source| self.error(source))?;
        }
        transaction.pragma_update(None, "user_version", latest).map_err(|source| self.error(source))?;
        transaction.commit().map_err(|source| self.error(source))?;
        Ok(())
    }

    /// A process of a newer version may migrate the database while this one runs.
    fn check_version(&self, connection: &Connection) -> Result<(), Error> {
        let found = version(connection).map_err(|source| self.error(source))?;
        let known = u32::try_from(MIGRATIONS.len()).expect("there are few migrations");
        if found > known {
            return Err(Error::TooNew { path: self.path.clone(), found, known });
        }
        Ok(())
    }

    fn connection(&self) -> MutexGuard<'_, Connection> {
        // A panic inside a transaction has rolled it back, so the connection is sound.
        self.connection.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn error(&self, source: rusqlite::Error) -> Error {
        Error::Database { path: self.path.clone(), source }
    }
}

/// Makes the root and its directories; returns the lock of whoever makes the rest.
fn make_root(root: &Path) -> Result<FileLock, Error> {
    if !is_there(root)? {
        if let Some(parent) = root.parent() {
            std::fs::create_dir_all(parent).map_err(|error| orlop_sys::Error::io("create directory", parent, error))?;
        }
        durable::make_directory(root, 0o710)?;
    }
    for name in ["locks", "leases"] {
        durable::make_directory(&root.join(name), 0o700)?;
    }
    for kind in LOCK_KINDS {
        durable::make_directory(&root.join("locks").join(kind), 0o700)?;
    }
    Ok(FileLock::exclusive(&root.join("locks/engine/new"))?)
}

/// Makes a file of the database's, so that nobody else can ever read it.
fn make_private(path: &Path) -> Result<(), Error> {
    use std::os::unix::fs::OpenOptionsExt;
    // Neither truncated nor locked: another process may have made it meanwhile.
    let made = std::fs::OpenOptions::new().append(true).create(true).mode(0o600).open(path);
    made.map(drop).map_err(|error| orlop_sys::Error::io("create", path, error).into())
}

/// Sees to it that the journal's name is on the disk before a commit relies on it. SQLite is compiled without its own
/// sync of the directory (SQLITE_DISABLE_DIRSYNC), which it would do in each process, since it can't know that
/// journal_mode=PERSIST has kept the file; what SQLite itself deletes or makes anew is no journal in that mode.
fn keep_journal(path: &Path) -> Result<(), Error> {
    if !is_there(path)? {
        make_private(path)?;
        durable::sync_directory(path.parent().unwrap_or(path))?;
    }
    Ok(())
}

/// Takes a file's permissions from everybody but its owner, when others have some.
fn keep_private(path: &Path) -> Result<(), Error> {
    let stat = match rustix::fs::lstat(path) {
        Err(Errno::NOENT) => return Ok(()),
        stat => stat.map_err(|error| orlop_sys::Error::io("stat", path, error))?,
    };
    if stat.st_mode & 0o077 == 0 || !FileType::from_raw_mode(stat.st_mode).is_file() {
        return Ok(());
    }
    rustix::fs::chmod(path, Mode::RUSR | Mode::WUSR).map_err(|error| orlop_sys::Error::io("chmod", path, error).into())
}

fn is_there(path: &Path) -> Result<bool, Error> {
    match rustix::fs::lstat(path) {
        Ok(_) => Ok(true),
        Err(Errno::NOENT) => Ok(false),
        Err(error) => Err(orlop_sys::Error::io("stat", path, error).into()),
    }
}

fn connect(path: &Path) -> rusqlite::Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags)?;
    connection.busy_timeout(BUSY)?;
    connection.set_prepared_statement_cache_capacity(64);
    connection.pragma_update(None, "journal_mode", "PERSIST")?;
    connection.pragma_update(None, "synchronous", "FULL")?;
    Ok(connection)
}

fn version(connection: &Connection) -> rusqlite::Result<u32> {
    connection.prepare_cached("PRAGMA user_version")?.query_row([], |row| row.get(0))
}

/// Fills and frees pages: the file keeps them in its free list, and the persistent journal keeps the length that it
/// needed to save them. Each row fills one page, since pages that a row overflows into aren't saved in the journal.
fn grow(connection: &mut Connection) -> rusqlite::Result<()> {
    let pages = HEADROOM / 4096;
    connection.execute_batch(&format!(
        "BEGIN IMMEDIATE;
         CREATE TABLE IF NOT EXISTS headroom (filler BLOB);
         WITH RECURSIVE page (number) AS (SELECT 1 UNION ALL SELECT number + 1 FROM page WHERE number <= {pages})
         INSERT INTO headroom SELECT zeroblob(4000) FROM page;
         COMMIT;
         BEGIN IMMEDIATE; UPDATE headroom SET filler = randomblob(4000); COMMIT;
         BEGIN IMMEDIATE; DROP TABLE headroom; COMMIT;"
    ))
}

/// A consistent view of the database.
pub struct ReadTx<'a> {
    connection: &'a Connection,
    sums: Sums,
    path: &'a Path,
}

macro_rules! tables {
    ($($(#[$doc:meta])* $name:ident: $row:ty;)*) => {
        $($(#[$doc])* pub fn $name(&self) -> Table<'_, $row> { self.table() })*
    };
}

impl ReadTx<'_> {
    /// Any table, by its rows' type.
    pub fn table<R: Row>(&self) -> Table<'_, R> {
        Table { connection: self.connection, sums: &self.sums, path: self.path, rows: PhantomData }
    }

    /// Whether some object is in the middle of a change, by a living process or by one that was killed. Cheap: it reads
    /// only indexes that are empty at rest.
    pub fn is_unsettled(&self) -> Result<bool, Error> {
        const QUERY: &str = "SELECT
            EXISTS (SELECT 1 FROM container WHERE body ->> '$.details.status.phase' NOT IN ('Created', 'Exited', 'Running'))
            OR EXISTS (SELECT 1 FROM layer WHERE body ->> '$.phase' <> 'Ready')
            OR EXISTS (SELECT 1 FROM volume WHERE body ->> '$.phase' <> 'Ready')
            OR EXISTS (SELECT 1 FROM trash WHERE body ->> '$.emptying')
            OR EXISTS (SELECT 1 FROM lease)";
        self.connection
            .prepare_cached(QUERY)
            .and_then(|mut statement| statement.query_row([], |row| row.get(0)))
            .map_err(|source| Error::Database { path: self.path.to_owned(), source })
    }

    tables! {
        /// Layers of images.
        layers: LayerRow;
        /// Images by id.
        images: ImageRow;
        /// Names of images.
        tags: TagRow;
        /// Volumes by name.
        volumes: VolumeRow;
        /// Containers by id, without the engine's details.
        containers: ContainerRow;
        /// What was removed and can be restored.
        trash: TrashRow;
        /// Long verbs that need objects to stay.
        leases: LeaseRow;
    }
}

/// The one writer; what it changes is visible to it at once and to others after the commit.
pub struct WriteTx<'a>(ReadTx<'a>);

impl<'a> std::ops::Deref for WriteTx<'a> {
    type Target = ReadTx<'a>;

    fn deref(&self) -> &ReadTx<'a> {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::LayerPhase;
    use crate::rows::volume::VolumePhase;
    use orlop_model::{Id, Timestamp, VolumeName};

    fn volume(name: &str) -> VolumeRow {
        VolumeRow {
            name: name.parse::<VolumeName>().unwrap(),
            driver: "local".to_owned(),
            options: Default::default(),
            labels: Default::default(),
            created: Timestamp::now(),
            anonymous: false,
            origin: None,
            phase: VolumePhase::Ready,
            mounted_for: Vec::new(),
        }
    }

    fn put(state: &State, name: &str) {
        state.write(|tx| tx.volumes().put(&volume(name))).unwrap();
    }

    #[test]
    fn rows_are_there_for_the_next_process_and_an_error_leaves_none() {
        let dir = tempfile::tempdir().unwrap();
        let state = State::open(dir.path()).unwrap();
        put(&state, "one");
        let failed = state.write(|tx| {
            tx.volumes().put(&volume("two"))?;
            tx.volumes().insert(&volume("one"))
        });
        assert!(matches!(failed, Err(Error::Exists { table: "volume", .. })));
        let next = State::open(dir.path()).unwrap();
        let names: Vec<_> = next.read(|tx| tx.volumes().list()).unwrap().into_iter().map(|row| row.name).collect();
        assert_eq!(names, ["one".parse().unwrap()]);
        assert!(next.write(|tx| tx.volumes().delete("one")).unwrap());
        assert_eq!(next.read(|tx| tx.volumes().get("one")).unwrap(), None);
    }

    #[test]
    fn a_changed_a_lost_and_a_foreign_row_are_noticed() {
        for (sql, damaged) in [
            ("UPDATE volume SET body = replace(body, 'local', 'lacol') WHERE key = 'one'", "one"),
            ("DELETE FROM volume WHERE key = 'one'", "table"),
            ("INSERT INTO volume SELECT 'three', body, hash FROM volume WHERE key = 'one'", "table"),
            ("UPDATE volume SET key = 'onf' WHERE key = 'one'", "onf"),
            ("UPDATE checksum SET count = 3", "table"),
        ] {
            let dir = tempfile::tempdir().unwrap();
            let state = State::open(dir.path()).unwrap();
            put(&state, "one");
            put(&state, "two");
            state.connection().execute_batch(sql).unwrap();
            let error = state.read(|tx| tx.volumes().list()).unwrap_err();
            assert!(matches!(&error, Error::Corrupt { key, .. } if key.contains(damaged)), "{sql}: {error}");
            if let Ok(found) = state.read(|tx| tx.volumes().get("one")) {
                assert_eq!(found.unwrap().name.as_str(), "one", "{sql}");
            }
            assert!(state.read(|tx| tx.volumes().get("missing")).is_err(), "{sql}");
        }
    }

    #[test]
    fn many_processes_write_without_an_error() {
        let dir = tempfile::tempdir().unwrap();
        drop(State::open(dir.path()).unwrap());
        std::thread::scope(|scope| {
            for writer in 0..16 {
                let root = dir.path();
                scope.spawn(move || {
                    let state = State::open(root).unwrap();
                    for number in 0..10 {
                        put(&state, &format!("volume-{writer}-{number}"));
                    }
                });
            }
        });
        let state = State::open(dir.path()).unwrap();
        assert_eq!(state.read(|tx| tx.volumes().list()).unwrap().len(), 160);
    }

    #[test]
    fn many_processes_may_make_the_same_root() {
        let dir = tempfile::tempdir().unwrap();
        std::thread::scope(|scope| {
            for writer in 0..16 {
                let root = dir.path();
                scope.spawn(move || put(&State::open(root).unwrap(), &format!("volume-{writer}")));
            }
        });
        assert_eq!(State::open(dir.path()).unwrap().read(|tx| tx.volumes().list()).unwrap().len(), 16);
    }

    #[test]
    fn the_headroom_is_there_from_the_start() {
        let dir = tempfile::tempdir().unwrap();
        let state = State::open(dir.path()).unwrap();
        let length = |name: &str| std::fs::metadata(dir.path().join(name)).unwrap().len();
        assert!(length("state.db") >= HEADROOM as u64);
        assert!(length("state.db-journal") >= HEADROOM as u64);
        state.restore_headroom().unwrap();
    }

    #[test]
    fn a_change_under_way_is_found_by_an_index() {
        let dir = tempfile::tempdir().unwrap();
        let state = State::open(dir.path()).unwrap();
        put(&state, "one");
        assert!(!state.read(|tx| tx.is_unsettled()).unwrap());
        let half = VolumeRow { phase: VolumePhase::Removing(Id::random()), ..volume("two") };
        state.write(|tx| tx.volumes().put(&half)).unwrap();
        assert!(state.read(|tx| tx.is_unsettled()).unwrap());
        for table in ["volume", "layer"] {
            let query = format!("EXPLAIN QUERY PLAN SELECT 1 FROM {table} WHERE body ->> '$.phase' <> 'Ready'");
            let plan: String = state.connection().query_row(&query, [], |row| row.get(3)).unwrap();
            assert!(plan.contains(&format!("{table}_unsettled")), "{plan}");
        }
    }

    #[test]
    fn a_layer_under_way_is_unsettled() {
        let dir = tempfile::tempdir().unwrap();
        let state = State::open(dir.path()).unwrap();
        let digest = format!("sha256:{}", Id::random()).parse().unwrap();
        let id = Id::random();
        let ready = LayerRow { id, diff_id: digest, chain: None, size: 0, phase: LayerPhase::Ready, damaged: false };
        for (phase, unsettled) in
            [(LayerPhase::Ready, false), (LayerPhase::Removing, true), (LayerPhase::Creating(ready.id), true)]
        {
            state.write(|tx| tx.layers().put(&LayerRow { phase, ..ready.clone() })).unwrap();
            assert_eq!(state.read(|tx| tx.is_unsettled()).unwrap(), unsettled, "{phase:?}");
        }
    }

    #[test]
    fn a_lost_database_is_not_a_new_one() {
        use orlop_model::{ErrorKind, Kind};
        for empty in [false, true] {
            let dir = tempfile::tempdir().unwrap();
            put(&State::open(dir.path()).unwrap(), "one");
            let path = dir.path().join("state.db");
            std::fs::rename(&path, dir.path().join("kept")).unwrap();
            if empty {
                std::fs::write(&path, b"").unwrap();
            }
            let error = State::open(dir.path()).map(drop).unwrap_err();
            assert!(matches!(error, Error::DatabaseLost { .. }) && error.kind() == ErrorKind::Corrupt, "{error}");
            assert_eq!(path.exists(), empty, "nothing is made");
            std::fs::rename(dir.path().join("kept"), &path).unwrap();
            assert!(State::open(dir.path()).unwrap().read(|tx| tx.volumes().get("one")).unwrap().is_some());
        }
    }

    #[test]
    fn a_root_that_was_half_made_is_finished() {
        let dir = tempfile::tempdir().unwrap();
        drop(State::open(dir.path()).unwrap());
        std::fs::remove_file(dir.path().join("format.json")).unwrap();
        put(&State::open(dir.path()).unwrap(), "one");
        assert!(dir.path().join("format.json").exists());
    }

    #[test]
    fn only_the_owner_reads_what_containers_were_given() {
        use std::os::unix::fs::PermissionsExt;
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("deep/root");
        let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o7777;
        let open = || {
            let state = State::open(&root).unwrap();
            put(&state, "one");
            state.emit(&crate::events::Event::now("volume", "create", "one", &[]));
        };
        open();
        assert_eq!(mode(&root), 0o710);
        for name in ["state.db", "state.db-journal", "events.jsonl"] {
            assert_eq!(mode(&root.join(name)), 0o600, "{name}");
            std::fs::set_permissions(root.join(name), PermissionsExt::from_mode(0o644)).unwrap();
        }
        open();
        for name in ["state.db", "state.db-journal", "events.jsonl"] {
            assert_eq!(mode(&root.join(name)), 0o600, "{name} of an older version");
        }
    }

    #[test]
    fn a_newer_database_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let state = State::open(dir.path()).unwrap();
        state.connection().pragma_update(None, "user_version", 99).unwrap();
        assert!(matches!(state.read(|tx| tx.volumes().list()), Err(Error::TooNew { found: 99, .. })));
    }
}
