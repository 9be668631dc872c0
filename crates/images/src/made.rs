//! Images that are made here, of a container's changes (`commit`) or of any archive (`import`). They go the way of every
//! other image: unpacked, verified, on the disk, then visible.

use crate::archive::{self, ArchivedImage, ArchivedLayer, Blob, LayerBlob, Listener, Spool};
use crate::load::{load_all, threads};
use crate::{Error, Loaded, Store};
use orlop_layers::LayerArchive;
use orlop_model::image::{ContainerDefaults, History, ImageConfig, RootFs};
use orlop_model::{Digest, ImageRef, Timestamp};
use orlop_state::LayerPhase;
use sha2::Digest as _;
use std::fs::File;
use std::io::{Read, Write};
use std::path::PathBuf;
use std::sync::Arc;

/// What an image is made of, besides its new layer.
#[derive(Clone, Debug, Default)]
pub struct NewImage {
    /// Its name; None for an image without one.
    pub name: Option<ImageRef>,
    /// How containers of it run.
    pub config: ContainerDefaults,
    /// Of the author, the platform and the steps before; the rest of it is written anew.
    pub base: ImageConfig,
    /// The layers below the new one, lowest first. They are stored, and something keeps them.
    pub below: Vec<Digest>,
    /// What the new layer's line of `history` says.
    pub step: History,
}

/// Makes an image whose topmost layer is what `write` writes, a tar archive.
pub fn commit<E: From<Error>>(
    store: Store<'_>,
    image: NewImage,
    write: impl FnOnce(&mut dyn Write) -> Result<(), E>,
) -> Result<Loaded, E> {
    let mut spool = Spool::new(&store.ingest())?;
    write(&mut spool)?;
    let (blob, diff_id) = spool.end("the changes of the container")?;
    Ok(store_made(store, image, diff_id, blob)?)
}

/// Makes an image of one layer out of an archive: tar, plain or compressed with gzip or zstd.
pub fn import(store: Store<'_>, image: NewImage, archive: File) -> Result<Loaded, Error> {
    let (file, length) = archive::plain_file(archive, &store.ingest())?;
    let blob = Blob::new("the archive".to_owned(), Arc::new(file), 0, length);
    let read = |source| Error::ReadArchive { source };
    let mut hash = sha2::Sha256::new();
    let mut buffer = vec![0; 1 << 18];
    let mut reader = blob.reader();
    let mut length = reader.read(&mut buffer).map_err(read)?;
    archive::check_begin(&buffer[..length.min(512)])?;
    while length > 0 {
        hash.update(&buffer[..length]);
        length = reader.read(&mut buffer).map_err(read)?;
    }
    store_made(store, image, Digest::from_sha256(hash.finalize().into()), blob)
}

fn store_made(store: Store<'_>, image: NewImage, diff_id: Digest, blob: Blob) -> Result<Loaded, Error> {
    let NewImage { name, config, base, below, step } = image;
    let diff_ids: Vec<Digest> = below.iter().copied().chain([diff_id]).collect();
    let created = Some(Timestamp::now().to_string());
    let mut history = base.history.clone();
    // Every layer has its line, and one that nobody has written still counts.
    let told = history.iter().filter(|line| !line.empty_layer).count();
    history.resize_with(history.len() + below.len().saturating_sub(told), History::default);
    history.push(History { created: created.clone(), ..step });
    let parsed =
        ImageConfig { created, config, rootfs: RootFs { kind: "layers".to_owned(), diff_ids }, history, ..base };
    let config = serde_json::to_vec(&parsed).expect("strings and lists become JSON");
    let rows = store.state.read(|tx| tx.layers().list())?;
    let stored = |diff_id: Digest| {
        // Over another chain there may be a damaged one.
        let ready = rows.iter().filter(|row| row.diff_id == diff_id && row.phase == LayerPhase::Ready);
        let row = ready.min_by_key(|row| row.damaged);
        let directory = row.map(|row| store.driver.directory(row.id));
        let size = directory.as_deref().and_then(|path| LayerArchive::open(path).ok()).map_or(0, |open| open.size());
        ArchivedLayer { diff_id, blob: Arc::new(Stored { diff_id, directory, size }), digest: None }
    };
    let mut layers: Vec<ArchivedLayer> = below.into_iter().map(stored).collect();
    layers.push(ArchivedLayer { diff_id, blob: Arc::new(blob), digest: None });
    let names = name.iter().map(ImageRef::familiar).collect();
    let image = ArchivedImage {
        id: archive::sha256(&config),
        names,
        config,
        parsed,
        manifest: None,
        pinned: Vec::new(),
        layers,
    };
    let mut loaded = load_all(store, vec![image], threads(), &|_| {})?;
    Ok(loaded.remove(0))
}

/// A layer that is here, so nobody reads its archive; unless it is marked as damaged. Then it is made again, if the archive
/// still comes back.
#[derive(Debug)]
struct Stored {
    diff_id: Digest,
    directory: Option<PathBuf>,
    size: u64,
}

impl LayerBlob for Stored {
    fn name(&self) -> String {
        self.diff_id.to_string()
    }

    fn size(&self) -> u64 {
        self.size
    }

    fn open<'a>(&'a self, _: Listener<'a>) -> Result<Box<dyn Read + Send + 'a>, Error> {
        let Some(directory) = &self.directory else {
            return Err(Error::LayerGone { diff_id: self.diff_id });
        };
        Ok(Box::new(LayerArchive::open(directory).map_err(|error| Error::of_layer(self.diff_id, error))?))
    }
}
