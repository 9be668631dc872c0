//! From parsed mounts to resolved ones: merging, checking, then making what is missing.

use crate::lookup::is_within;
use crate::{Entry, Error, Origin, ResolvedKind, ResolvedMount, ResolvedVolume, source, tmpfs};
use orlop_model::VolumeName;
use orlop_model::mount::{
    BindMount, MountKind, MountSpec, Relabel, VolumeMount, VolumesFrom, check_duplicates, parse_target,
};
use orlop_state::State;
use orlop_state::rows::volume::VolumeOrigin;
use orlop_volumes::{CreateVolume, Created};
use std::collections::BTreeMap;
use std::path::PathBuf;

/// What a new container is to have mounted.
pub struct Request<'a> {
    /// `-v`, `--mount` and `--tmpfs`, in any order.
    pub mounts: &'a [MountSpec],
    /// `--volumes-from`, in the order given.
    pub volumes_from: &'a [Inherited],
    /// The image's `VOLUME`s.
    pub image_volumes: &'a [String],
    /// The container, for which anonymous volumes are made, and the image as the user named it.
    pub origin: &'a VolumeOrigin,
    /// Looks at a path of the image, where the caller can do that already.
    /// Without it, what it would refuse is refused by [`apply`](crate::apply()), and there are no warnings.
    pub image_entry: Option<&'a LookAtImage<'a>>,
}

/// Says what an image has at an absolute path.
pub type LookAtImage<'a> = dyn Fn(&str) -> Result<Entry, Error> + 'a;

/// The mounts of another container that `--volumes-from` names.
#[derive(Clone, Debug)]
pub struct Inherited {
    /// The flag.
    pub flag: VolumesFrom,
    /// The other container's mounts, from its row.
    pub mounts: Vec<ResolvedMount>,
}

/// What [`resolve`] has found and made.
#[derive(Debug)]
pub struct Resolved {
    /// For the container's row, parents before what lies below them.
    pub mounts: Vec<ResolvedMount>,
    /// For stderr, one line each.
    pub warnings: Vec<String>,
    /// Volumes that didn't exist before.
    pub created_volumes: Vec<VolumeName>,
    /// Directories on the host that didn't exist before, outermost first.
    pub created_directories: Vec<PathBuf>,
}

impl Resolved {
    /// Takes back what was made, for a container that doesn't come to be after all. What somebody else has begun to use
    /// meanwhile stays.
    pub fn undo(&self, state: &State) -> Result<(), Error> {
        source::remove(&self.created_directories);
        for name in &self.created_volumes {
            orlop_volumes::undo_create(state, name)?;
        }
        Ok(())
    }
}

/// Merges all that is mounted into a container: flags beat `--volumes-from`, of which a later one beats an earlier,
/// and the image's `VOLUME`s get an anonymous volume where nothing else is mounted at exactly that path.
///
/// Everything is checked before anything is made. When making fails, what was made is taken back.
pub fn resolve(state: &State, request: &Request<'_>) -> Result<Resolved, Error> {
    check_duplicates(request.mounts)?;
    let drafts = merge(request)?;
    for draft in &drafts {
        check(draft, &drafts, request)?;
    }

    let mut resolved = Resolved {
        mounts: Vec::new(),
        warnings: warnings(&drafts, request)?,
        created_volumes: Vec::new(),
        created_directories: Vec::new(),
    };
    for draft in drafts {
        match make(state, draft, request, &mut resolved) {
            Ok(mount) => resolved.mounts.push(mount),
            Err(cause) => {
                return Err(match resolved.undo(state) {
                    Ok(()) => cause,
                    Err(cleanup) => Error::CleanUp { cause: cause.into(), cleanup: cleanup.into() },
                });
            }
        }
    }
    Ok(resolved)
}

/// A mount of which it is settled that it will be there, but not yet with what.
struct Draft {
    target: String,
    read_only: bool,
    mode: String,
    origin: Origin,
    kind: DraftKind,
}

enum DraftKind {
    /// Of this request.
    New(MountKind),
    /// Resolved for another container already.
    Inherited(ResolvedKind),
}

fn merge(request: &Request<'_>) -> Result<Vec<Draft>, Error> {
    let mut drafts = BTreeMap::new();
    for inherited in request.volumes_from {
        check_relabel(inherited.flag.relabel, &inherited.flag.container)?;
        // A tmpfs has no content that could be shared.
        let shared = |mount: &&ResolvedMount| !matches!(mount.kind, ResolvedKind::Tmpfs(_));
        for mount in inherited.mounts.iter().filter(shared) {
            drafts.insert(mount.target.clone(), inherit(&inherited.flag, mount));
        }
    }
    for mount in request.mounts {
        drafts.insert(mount.target.clone(), from_flag(mount));
    }
    for path in request.image_volumes {
        let target = parse_target(&format!("/{path}"))?;
        drafts.entry(target.clone()).or_insert_with(|| from_image(target));
    }
    let mut drafts: Vec<Draft> = drafts.into_values().collect();
    drafts.sort_by_key(|draft| draft.target.split('/').count());
    Ok(drafts)
}

fn inherit(flag: &VolumesFrom, mount: &ResolvedMount) -> Draft {
    let mut kind = mount.kind.clone();
    if let ResolvedKind::Volume(volume) = &mut kind {
        volume.no_copy = true;
    }
    Draft {
        target: mount.target.clone(),
        read_only: mount.read_only || flag.read_only,
        mode: mount.mode.clone(),
        origin: Origin::VolumesFrom(flag.container.clone()),
        kind: DraftKind::Inherited(kind),
    }
}

fn from_flag(mount: &MountSpec) -> Draft {
    Draft {
        target: mount.target.clone(),
        read_only: mount.read_only,
        mode: mount.mode.clone(),
        origin: Origin::Flag,
        kind: DraftKind::New(mount.kind.clone()),
    }
}

fn from_image(target: String) -> Draft {
    Draft {
        target,
        read_only: false,
        mode: String::new(),
        origin: Origin::Image,
        kind: DraftKind::New(MountKind::Volume(VolumeMount::default())),
    }
}

/// Refuses what can be known to fail, before anything is made.
fn check(draft: &Draft, drafts: &[Draft], request: &Request<'_>) -> Result<(), Error> {
    let DraftKind::New(kind) = &draft.kind else { return Ok(()) };
    match kind {
        MountKind::Volume(volume) => {
            check_relabel(volume.relabel, &draft.target)?;
            if image_entry(request, drafts, &draft.target)? == Some(Entry::File) && volume.subpath.is_none() {
                return Err(Error::VolumeOverFile(draft.target.clone()));
            }
        }
        MountKind::Bind(bind) => {
            check_relabel(bind.relabel, &bind.source)?;
            let at_target = image_entry(request, drafts, &draft.target)?;
            if !source::must_create(bind, &draft.target, at_target)? {
                source::check_fit(bind, &draft.target, at_target)?;
            }
        }
        MountKind::Tmpfs(mount) => {
            if tmpfs::wants_no_swap(mount) && !orlop_sys::mount::tmpfs_has("noswap") {
                return Err(Error::NoSwap);
            }
        }
    }
    Ok(())
}

/// What the image has at a target; None where that can't be said, also because another mount will cover it.
fn image_entry(request: &Request<'_>, drafts: &[Draft], target: &str) -> Result<Option<Entry>, Error> {
    let is_covered = |draft: &Draft| draft.target != target && is_within(target, &draft.target);
    if drafts.iter().any(is_covered) {
        return Ok(None);
    }
    request.image_entry.map(|look| look(target)).transpose()
}

/// Docker relabels only where SELinux is on, and so does nothing on other hosts.
fn check_relabel(relabel: Option<Relabel>, source: &str) -> Result<(), Error> {
    let is_enforcing = || std::fs::read("/sys/fs/selinux/enforce").is_ok_and(|mode| mode.starts_with(b"1"));
    match relabel {
        Some(_) if is_enforcing() => Err(Error::Relabel(source.to_owned())),
        _ => Ok(()),
    }
}

fn make(state: &State, draft: Draft, request: &Request<'_>, made: &mut Resolved) -> Result<ResolvedMount, Error> {
    let kind = match draft.kind {
        DraftKind::Inherited(kind) => kind,
        DraftKind::New(MountKind::Volume(volume)) => ResolvedKind::Volume(make_volume(state, volume, request, made)?),
        DraftKind::New(MountKind::Bind(bind)) => ResolvedKind::Bind(make_source(bind, &draft.target, made)?),
        DraftKind::New(MountKind::Tmpfs(mount)) => ResolvedKind::Tmpfs(mount),
    };
    Ok(ResolvedMount { target: draft.target, read_only: draft.read_only, mode: draft.mode, origin: draft.origin, kind })
}

fn make_volume(
    state: &State,
    mount: VolumeMount,
    request: &Request<'_>,
    made: &mut Resolved,
) -> Result<ResolvedVolume, Error> {
    let anonymous = mount.name.is_none();
    let wanted = CreateVolume {
        name: mount.name,
        driver: mount.driver,
        options: mount.options,
        labels: mount.labels,
        origin: anonymous.then(|| request.origin.clone()),
    };
    let Created { volume, created } = orlop_volumes::create(state, wanted)?;
    if created {
        made.created_volumes.push(volume.name.clone());
        if !anonymous {
            made.warnings.extend(nearly_named(state, &volume.name)?);
        }
    }
    Ok(ResolvedVolume {
        mountpoint: orlop_volumes::data_path(state, &volume.name),
        name: volume.name,
        anonymous,
        driver: volume.driver,
        subpath: mount.subpath,
        no_copy: mount.no_copy,
    })
}

/// Tells who gets a new volume that one of a compose project has its name with the project's before it: a backup of the
/// new one would hold nothing.
fn nearly_named(state: &State, name: &VolumeName) -> Result<Option<String>, Error> {
    let volumes = state.read(|tx| Ok::<_, orlop_volumes::Error>(tx.volumes().list()?))?;
    let is_near =
        |other: &VolumeName| other.as_str().strip_suffix(name.as_str()).is_some_and(|rest| rest.ends_with('_'));
    let near: Vec<&str> =
        volumes.iter().map(|row| &row.name).filter(|other| is_near(other)).map(VolumeName::as_str).collect();
    if near.is_empty() {
        return Ok(None);
    }
    Ok(Some(format!("volume {name} is new and empty; did you mean {}?", near.join(" or "))))
}

fn make_source(bind: BindMount, target: &str, made: &mut Resolved) -> Result<BindMount, Error> {
    if source::must_create(&bind, target, None)? {
        made.created_directories.extend(source::create(&bind.source)?);
    }
    Ok(bind)
}

/// Tells who mounts a volume beside the image's data directory that the data goes elsewhere.
fn warnings(drafts: &[Draft], request: &Request<'_>) -> Result<Vec<String>, Error> {
    let mut misplaced = Vec::new();
    for mount in request.mounts {
        // Below another mount, so also inside the image's own volume, it is where it was meant to be.
        if let MountKind::Volume(VolumeMount { name: Some(name), .. }) = &mount.kind
            && image_entry(request, drafts, &mount.target)? == Some(Entry::Missing)
        {
            misplaced.push(format!("{name} is at {}", mount.target));
        }
    }
    if misplaced.is_empty() {
        return Ok(Vec::new());
    }
    let (places, image) = (misplaced.join(", "), &request.origin.image);
    let anonymous = drafts.iter().filter(|draft| draft.origin == Origin::Image);
    let warn = |draft: &Draft| format!("{places}; {image} keeps its data in {}, now an anonymous volume", draft.target);
    Ok(anonymous.map(warn).collect())
}
