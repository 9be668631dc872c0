//! Mounts, made by the kernel's mount API of descriptors: a mount is cloned or created detached, gets its attributes
//! while nobody can see it, and is attached last. No path is looked up twice.
//!
//! Needs Linux 5.12 (mount_setattr). Overlay mounts have their own module.

use crate::Error;
use rustix::fs::{CWD, Mode, OFlags};
use rustix::io::Errno;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MoveMountFlags, OpenTreeFlags, UnmountFlags, fsconfig_create,
    fsconfig_set_flag, fsconfig_set_string, fsmount, fsopen, move_mount, open_tree,
};
use std::ffi::OsString;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

/// What events a mount shares with others, mount_namespaces(7).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Propagation {
    /// Neither way.
    Private,
    /// Both ways, with every other member of its peer group.
    Shared,
    /// Receives from its former peers, sends nothing.
    Slave,
    /// Private, and left out when the tree around it is cloned.
    Unbindable,
}

/// Changes to a mount, or with `recursive` to a whole tree of mounts. What is not named stays.
#[derive(Clone, Copy, Debug)]
pub struct Changes {
    /// Also for every mount below.
    pub recursive: bool,
    /// Makes it read-only.
    pub read_only: bool,
    /// Makes it ignore setuid bits.
    pub no_suid: bool,
    /// Makes it ignore device nodes.
    pub no_dev: bool,
    /// Makes it refuse to execute.
    pub no_exec: bool,
    /// Changes its propagation.
    pub propagation: Option<Propagation>,
}

impl Changes {
    /// No change at all, to be extended by struct update.
    pub const NONE: Self =
        Self { recursive: false, read_only: false, no_suid: false, no_dev: false, no_exec: false, propagation: None };
}

/// A detached clone of the mount at `source` (a file or a directory), beginning there; with `recursive` also of all
/// mounts below, except unbindable ones. It dies with the descriptor unless it is attached. `source` must be in this
/// mount namespace; a descriptor opened with O_PATH will do.
pub fn clone_tree(source: impl AsFd, recursive: bool) -> Result<OwnedFd, Error> {
    let mut flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC | OpenTreeFlags::AT_EMPTY_PATH;
    if recursive {
        flags |= OpenTreeFlags::AT_RECURSIVE;
    }
    open_tree(source, "", flags).map_err(|error| Error::call("open_tree", error))
}

/// Attaches a detached mount at `target`, which must exist and be of the same kind (file or directory). A symlink at
/// its end is not followed.
pub fn attach(mount: impl AsFd, target: &Path) -> Result<(), Error> {
    move_mount(mount, "", CWD, target, MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)
        .map_err(|error| Error::io("move_mount", target, error))
}

/// Attaches a detached mount where the descriptor `target` points to.
pub fn attach_at(mount: impl AsFd, target: impl AsFd) -> Result<(), Error> {
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
    move_mount(mount, "", target, "", flags).map_err(|error| Error::call("move_mount", error))
}

/// Enters the mount namespace of process 1, so that what is mounted stays when the caller's goes; the working directory
/// is the one of the same path there, else the root. False where that isn't another one, or may not be entered: then
/// nothing has changed. To be called while this process has one thread.
pub fn enter_namespace_of_init() -> bool {
    let open = |path: &str| rustix::fs::open(path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty());
    let (Ok(own), Ok(wanted)) = (open("/proc/self/ns/mnt"), open("/proc/1/ns/mnt")) else { return false };
    let inode = |fd: &OwnedFd| rustix::fs::fstat(fd).map(|stat| stat.st_ino).ok();
    let directory = std::env::current_dir();
    // SAFETY: no memory is involved; the descriptor is of a namespace, and a failure changes nothing.
    let entered = inode(&own) != inode(&wanted)
        && unsafe { libc::setns(std::os::fd::AsRawFd::as_raw_fd(&wanted), libc::CLONE_NEWNS) } == 0;
    if let (true, Ok(directory)) = (entered, directory) {
        // Where it isn't there, the root, which setns(2) has chosen, stays.
        let _ = std::env::set_current_dir(directory);
    }
    entered
}

/// Gives this thread a mount namespace of its own, a copy of the present one in which nothing is passed on to others or
/// comes from them. It ends with its last process.
pub fn enter_private_namespace() -> Result<(), Error> {
    // SAFETY: no memory is involved; what other code relies on is that paths stay what they are, which they do until
    // this thread mounts something.
    if unsafe { libc::unshare(libc::CLONE_NEWNS) } != 0 {
        let error = Errno::from_io_error(&std::io::Error::last_os_error()).unwrap_or(Errno::IO);
        return Err(Error::call("unshare", error));
    }
    let private = rustix::mount::MountPropagationFlags::PRIVATE | rustix::mount::MountPropagationFlags::REC;
    rustix::mount::mount_change("/", private).map_err(|error| Error::io("make private", "/", error))
}

/// Changes the mount whose root `mount` has open. Changes to a whole tree happen all or none.
pub fn change(mount: impl AsFd, changes: Changes) -> Result<(), Error> {
    set_attributes(mount, changes).map_err(|error| Error::call("mount_setattr", error))
}

/// Changes the mount at `path`; EINVAL where `path` isn't the root of a mount.
pub fn change_at(path: &Path, changes: Changes) -> Result<(), Error> {
    let root = open_path(path, OFlags::NOFOLLOW)?;
    set_attributes(root, changes).map_err(|error| Error::io("mount_setattr", path, error))
}

/// A detached tmpfs. `options` are the kernel's (`size=1g`, `mode=1777`, `noswap` …); `changes` may hold the flags.
pub fn tmpfs<S: AsRef<str>>(source: &str, options: &[S], changes: Changes) -> Result<OwnedFd, Error> {
    let context = fsopen("tmpfs", FsOpenFlags::FSOPEN_CLOEXEC).map_err(|error| Error::call("fsopen tmpfs", error))?;
    fsconfig_set_string(&context, "source", source).map_err(|error| Error::call("fsconfig source", error))?;
    for option in options.iter().map(AsRef::as_ref) {
        let set = match option.split_once('=') {
            Some((key, value)) => fsconfig_set_string(&context, key, value),
            None => fsconfig_set_flag(&context, option),
        };
        set.map_err(|error| Error::io("set tmpfs option", option, error))?;
    }
    fsconfig_create(&context).map_err(|error| Error::call("create tmpfs", error))?;
    let mut flags = MountAttrFlags::empty();
    flags.set(MountAttrFlags::MOUNT_ATTR_RDONLY, changes.read_only);
    flags.set(MountAttrFlags::MOUNT_ATTR_NOSUID, changes.no_suid);
    flags.set(MountAttrFlags::MOUNT_ATTR_NODEV, changes.no_dev);
    flags.set(MountAttrFlags::MOUNT_ATTR_NOEXEC, changes.no_exec);
    let mount =
        fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, flags).map_err(|error| Error::call("fsmount tmpfs", error))?;
    if let Some(propagation) = changes.propagation {
        change(&mount, Changes { propagation: Some(propagation), ..Changes::NONE })?;
    }
    Ok(mount)
}

/// Whether this kernel's tmpfs knows an option that stands alone (`noswap`: Linux 6.4).
pub fn tmpfs_has(option: &str) -> bool {
    fsopen("tmpfs", FsOpenFlags::FSOPEN_CLOEXEC).and_then(|context| fsconfig_set_flag(&context, option)).is_ok()
}

/// Unmounts what is at `path`. Lazily means: it disappears at once, with all that is mounted below it, and ends when
/// its last user does. A symlink at the end is not followed. EINVAL where nothing is mounted.
pub fn unmount(path: &Path, lazy: bool) -> Result<(), Error> {
    let mut flags = UnmountFlags::NOFOLLOW;
    flags.set(UnmountFlags::DETACH, lazy);
    rustix::mount::unmount(path, flags).map_err(|error| Error::io("umount", path, error))
}

/// Unmounts `path` and all below it lazily, without unmounting anything anywhere else: the kernel passes an unmount
/// below a shared mount on to its peers, so the tree is made private first. False when nothing was mounted there.
pub fn unmount_tree(path: &Path) -> Result<bool, Error> {
    let changes = Changes { recursive: true, propagation: Some(Propagation::Private), ..Changes::NONE };
    match change_at(path, changes) {
        Ok(()) => {}
        // Not a mount, or not there.
        Err(error) if error.is(Errno::INVAL) || error.is(Errno::NOENT) => return Ok(false),
        Err(error) => return Err(error),
    }
    match unmount(path, true) {
        Ok(()) => Ok(true),
        // Somebody else did it in between.
        Err(error) if error.is(Errno::INVAL) || error.is(Errno::NOENT) => Ok(false),
        Err(error) => Err(error),
    }
}

/// One line of `/proc/PID/mountinfo`, proc_pid_mountinfo(5).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MountInfo {
    /// Of the mount; may be used again after an unmount.
    pub id: u64,
    /// Of the mount that it lies on.
    pub parent: u64,
    /// Major and minor number of the file system; with `root` it says what is mounted, in whatever namespace.
    pub device: (u32, u32),
    /// Which path of that file system is the mount's root.
    pub root: PathBuf,
    /// Where, seen from the process's root.
    pub mount_point: PathBuf,
    /// Options of the mount (`rw,nosuid`).
    pub options: String,
    /// `shared:N`, when it is in a peer group.
    pub shared: Option<u64>,
    /// `master:N`, when it receives from a peer group.
    pub master: Option<u64>,
    /// `overlay`, `ext4` …
    pub file_system: String,
    /// The device, or whatever whoever mounted it called it.
    pub source: OsString,
    /// Options of the file system.
    pub super_options: OsString,
}

impl MountInfo {
    /// Whether the mount itself is read-only.
    pub fn is_read_only(&self) -> bool {
        self.options.split(',').any(|option| option == "ro")
    }
}

/// The mounts that this process sees.
pub fn mount_info() -> Result<Vec<MountInfo>, Error> {
    // Of the thread, not of the main thread, which may have another namespace.
    read_mount_info(Path::new("/proc/thread-self/mountinfo"))
}

/// The mounts that another process sees.
pub fn mount_info_of(pid: u32) -> Result<Vec<MountInfo>, Error> {
    read_mount_info(&PathBuf::from(format!("/proc/{pid}/mountinfo")))
}

/// The mounts of one mount namespace.
#[derive(Clone, Debug)]
pub struct Namespace {
    /// Inode number of the namespace; None where the kernel doesn't show this process's (it has more capabilities).
    pub inode: Option<u64>,
    /// A process in it, for messages.
    pub pid: u32,
    /// Its mounts, seen from that process.
    pub mounts: Vec<MountInfo>,
}

/// The mounts of every mount namespace that a process in `/proc` lives in. A process that ends meanwhile is left out;
/// a namespace without any process is not found.
pub fn mount_info_of_all_namespaces() -> Result<Vec<Namespace>, Error> {
    let proc = Path::new("/proc");
    let io = |error| Error::io("read", proc, error);
    let mut namespaces: Vec<Namespace> = Vec::new();
    for entry in std::fs::read_dir(proc).map_err(io)? {
        let Some(pid) = entry.map_err(io)?.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
        let inode = match namespace_of(pid) {
            Ok(inode) => Some(inode),
            // Its mounts may still be read; they are compared instead.
            Err(error) if error.is(Errno::ACCESS) || error.is(Errno::PERM) => None,
            Err(error) if is_gone(&error) => continue,
            Err(error) => return Err(error),
        };
        if inode.is_some() && namespaces.iter().any(|namespace| namespace.inode == inode) {
            continue;
        }
        match mount_info_of(pid) {
            // A zombie has an empty list: another process of the namespace may still be found.
            Ok(mounts) if mounts.is_empty() => {}
            Ok(mounts) if inode.is_none() && namespaces.iter().any(|namespace| namespace.mounts == mounts) => {}
            Ok(mounts) => namespaces.push(Namespace { inode, pid, mounts }),
            Err(error) if is_gone(&error) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(namespaces)
}

/// Inode number of a process's mount namespace.
fn namespace_of(pid: u32) -> Result<u64, Error> {
    let path = PathBuf::from(format!("/proc/{pid}/ns/mnt"));
    let link = std::fs::read_link(&path).map_err(|error| Error::io("read link", &path, error))?;
    link.to_str()
        .and_then(|link| link.strip_prefix("mnt:[")?.strip_suffix(']')?.parse().ok())
        .ok_or_else(|| Error::io("parse", &path, std::io::ErrorKind::InvalidData))
}

/// Whether the process has ended since it was listed; EINVAL says that it has no namespace any more.
fn is_gone(error: &Error) -> bool {
    [Errno::NOENT, Errno::SRCH, Errno::INVAL].into_iter().any(|errno| error.is(errno))
}

fn read_mount_info(path: &Path) -> Result<Vec<MountInfo>, Error> {
    let bytes = std::fs::read(path).map_err(|error| Error::io("read", path, error))?;
    let lines = bytes.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
    lines
        .map(|line| parse_line(line).ok_or_else(|| Error::io("parse", path, std::io::ErrorKind::InvalidData)))
        .collect()
}

/// `36 35 98:0 /root /mount/point rw,noatime shared:1 master:2 - ext4 /dev/root rw,errors=continue`
fn parse_line(line: &[u8]) -> Option<MountInfo> {
    let mut fields = line.split(|byte| *byte == b' ');
    let id = number(fields.next()?)?;
    let parent = number(fields.next()?)?;
    let device = std::str::from_utf8(fields.next()?).ok()?.split_once(':')?;
    let root = unescape(fields.next()?);
    let mount_point = unescape(fields.next()?);
    let options = String::from_utf8(fields.next()?.to_vec()).ok()?;
    let tags: Vec<&[u8]> = fields.by_ref().take_while(|field| *field != b"-").collect();
    let tag = |name: &str| tags.iter().find_map(|tag| number(tag.strip_prefix(name.as_bytes())?));
    Some(MountInfo {
        id,
        parent,
        device: (device.0.parse().ok()?, device.1.parse().ok()?),
        root: root.into(),
        mount_point: mount_point.into(),
        options,
        shared: tag("shared:"),
        master: tag("master:"),
        file_system: String::from_utf8(fields.next()?.to_vec()).ok()?,
        source: unescape(fields.next()?),
        // An empty source leaves two spaces; a missing last field is none.
        super_options: fields.next().map(unescape).unwrap_or_default(),
    })
}

fn number(text: &[u8]) -> Option<u64> {
    std::str::from_utf8(text).ok()?.parse().ok()
}

/// Takes back the kernel's octal escapes (`\040` is a space).
fn unescape(text: &[u8]) -> OsString {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((byte, after)) = rest.split_first() {
        match (byte, after) {
            (b'\\', [a @ b'0'..=b'3', b @ b'0'..=b'7', c @ b'0'..=b'7', ..]) => {
                bytes.push((a - b'0') << 6 | (b - b'0') << 3 | (c - b'0'));
                rest = &after[3..];
            }
            _ => {
                bytes.push(*byte);
                rest = after;
            }
        }
    }
    OsString::from_vec(bytes)
}

/// Opens a file or a directory of any kind, only to name it.
fn open_path(path: &Path, flags: OFlags) -> Result<OwnedFd, Error> {
    rustix::fs::open(path, flags | OFlags::PATH | OFlags::CLOEXEC, Mode::empty())
        .map_err(|error| Error::io("open", path, error))
}

/// `struct mount_attr` of linux/mount.h, in its first and only size.
#[repr(C)]
struct MountAttr {
    attr_set: u64,
    attr_clr: u64,
    propagation: u64,
    userns_fd: u64,
}

fn set_attributes(mount: impl AsFd, changes: Changes) -> Result<(), Errno> {
    let mut attr_set = MountAttrFlags::empty();
    attr_set.set(MountAttrFlags::MOUNT_ATTR_RDONLY, changes.read_only);
    attr_set.set(MountAttrFlags::MOUNT_ATTR_NOSUID, changes.no_suid);
    attr_set.set(MountAttrFlags::MOUNT_ATTR_NODEV, changes.no_dev);
    attr_set.set(MountAttrFlags::MOUNT_ATTR_NOEXEC, changes.no_exec);
    let propagation = match changes.propagation {
        None => 0,
        Some(Propagation::Private) => libc::MS_PRIVATE,
        Some(Propagation::Shared) => libc::MS_SHARED,
        Some(Propagation::Slave) => libc::MS_SLAVE,
        Some(Propagation::Unbindable) => libc::MS_UNBINDABLE,
    };
    let attr = MountAttr { attr_set: attr_set.bits().into(), attr_clr: 0, propagation, userns_fd: 0 };
    let flags = libc::AT_EMPTY_PATH | if changes.recursive { libc::AT_RECURSIVE } else { 0 };
    // SAFETY: mount_setattr reads the empty string and `size` bytes at `attr`; both outlive the call, and it keeps
    // neither. The descriptor is borrowed for as long.
    let result = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            mount.as_fd().as_raw_fd(),
            c"".as_ptr(),
            flags,
            &raw const attr,
            size_of::<MountAttr>(),
        )
    };
    if result == 0 { Ok(()) } else { Err(Errno::from_io_error(&std::io::Error::last_os_error()).unwrap_or(Errno::IO)) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::ffi::OsStr;
    use std::fs;

    /// A private tmpfs on a directory of its own, unmounted with all below it at the end.
    struct World(tempfile::TempDir);

    impl World {
        fn new() -> Option<Self> {
            let dir = tempfile::tempdir().unwrap();
            let propagation = Some(Propagation::Private);
            let mount = match tmpfs("test", &["mode=755"], Changes { propagation, ..Changes::NONE }) {
                Ok(mount) => mount,
                Err(error) => {
                    skip(&error);
                    return None;
                }
            };
            attach(mount, dir.path()).unwrap();
            Some(Self(dir))
        }

        fn dir(&self, name: &str) -> PathBuf {
            let path = self.0.path().join(name);
            fs::create_dir_all(&path).unwrap();
            path
        }

        fn mounts(&self) -> Vec<MountInfo> {
            let is_ours = |mount: &MountInfo| mount.mount_point.starts_with(self.0.path());
            mount_info().unwrap().into_iter().filter(is_ours).collect()
        }
    }

    impl Drop for World {
        fn drop(&mut self) {
            let _ = unmount_tree(self.0.path());
        }
    }

    #[expect(clippy::print_stderr, reason = "whoever runs the tests has to see it")]
    fn skip(reason: &Error) {
        eprintln!("skipped: {reason}");
    }

    fn mount_tmpfs(target: &Path, propagation: Propagation) {
        attach(tmpfs("test", &["size=1m"], Changes::NONE).unwrap(), target).unwrap();
        change_at(target, Changes { propagation: Some(propagation), ..Changes::NONE }).unwrap();
    }

    #[test]
    fn mountinfo_lines_are_read_with_their_escapes() {
        let line = br"36 35 98:0 /a\040b /mnt/tab\011back\134 rw,noatime shared:7 master:1 propagate_from:2 - ext4 /dev/x rw,e=c";
        let mount = parse_line(line).unwrap();
        assert_eq!((mount.id, mount.parent, mount.device), (36, 35, (98, 0)));
        assert_eq!(mount.root, Path::new("/a b"));
        assert_eq!(mount.mount_point, Path::new("/mnt/tab\tback\\"));
        assert_eq!((mount.shared, mount.master, mount.is_read_only()), (Some(7), Some(1), false));
        assert_eq!((mount.file_system.as_str(), mount.source.as_os_str()), ("ext4", OsStr::new("/dev/x")));
        let bare = parse_line(b"1 0 0:1 / / ro - tmpfs none rw").unwrap();
        assert_eq!((bare.shared, bare.is_read_only()), (None, true));
        for bad in [&b""[..], b"1 2", b"1 0 0:1 / / rw", b"x 0 0:1 / / rw - tmpfs none rw"] {
            assert_eq!(parse_line(bad), None);
        }
    }

    #[test]
    fn our_own_namespace_is_among_all() {
        let ours = namespace_of(std::process::id()).unwrap();
        let all = mount_info_of_all_namespaces().unwrap();
        assert!(all.iter().any(|namespace| namespace.inode == Some(ours) && !namespace.mounts.is_empty()));
    }

    fn bind(source: &Path, target: &Path, recursive: bool, read_only: bool) -> Result<(), Error> {
        let clone = clone_tree(open_path(source, OFlags::empty())?, recursive)?;
        change(&clone, Changes { recursive, read_only, propagation: Some(Propagation::Private), ..Changes::NONE })?;
        attach(clone, target)
    }

    #[test]
    fn files_and_directories_are_bound_read_only() {
        let Some(world) = World::new() else { return };
        let (from, to) = (world.dir("from"), world.dir("to"));
        fs::write(from.join("file"), "1").unwrap();
        fs::write(world.0.path().join("point"), "").unwrap();
        bind(&from, &to, false, true).unwrap();
        bind(&from.join("file"), &world.0.path().join("point"), false, false).unwrap();
        assert!(fs::write(to.join("file"), "2").is_err());
        fs::write(world.0.path().join("point"), "3").unwrap();
        assert_eq!(fs::read_to_string(from.join("file")).unwrap(), "3");
        change_at(&world.0.path().join("point"), Changes { read_only: true, ..Changes::NONE }).unwrap();
        assert!(fs::write(world.0.path().join("point"), "4").is_err());
        assert!(bind(&from, &world.0.path().join("point"), false, false).is_err());
    }

    #[test]
    fn read_only_reaches_mounts_below_only_when_asked() {
        let Some(world) = World::new() else { return };
        let (from, plain, deep) = (world.dir("from"), world.dir("plain"), world.dir("deep"));
        mount_tmpfs(&world.dir("from/below"), Propagation::Private);
        bind(&from, &deep, true, true).unwrap();
        assert!(fs::write(deep.join("below/file"), "").is_err());
        bind(&from, &plain, false, true).unwrap();
        assert!(fs::write(plain.join("below/file"), "").is_err(), "the mount below did not come along");
        fs::write(from.join("below/file"), "").unwrap();
    }

    #[test]
    fn unmounting_a_clone_leaves_the_peers_alone() {
        let Some(world) = World::new() else { return };
        let (from, to) = (world.dir("from"), world.dir("to"));
        mount_tmpfs(&from, Propagation::Shared);
        mount_tmpfs(&world.dir("from/below"), Propagation::Shared);
        attach(clone_tree(crate::path::open_directory(&from).unwrap(), true).unwrap(), &to).unwrap();
        mount_tmpfs(&world.dir("from/later"), Propagation::Shared);
        assert!(world.mounts().iter().any(|mount| mount.mount_point == to.join("later")), "clones are peers");
        assert!(unmount_tree(&to).unwrap());
        let left = world.mounts();
        for path in ["from", "from/below", "from/later"] {
            assert!(left.iter().any(|mount| mount.mount_point == world.0.path().join(path)), "{path}");
        }
        assert!(!left.iter().any(|mount| mount.mount_point.starts_with(&to)));
        assert!(!unmount_tree(&to).unwrap(), "nothing is mounted there any more");
    }

    #[test]
    fn tmpfs_takes_its_options() {
        let Some(world) = World::new() else { return };
        let target = world.dir("tmpfs");
        let changes = Changes { no_exec: true, read_only: false, ..Changes::NONE };
        attach(tmpfs("x", &["size=64k", "mode=700", "uid=5"], changes).unwrap(), &target).unwrap();
        let stat = rustix::fs::stat(&target).unwrap();
        assert_eq!((stat.st_mode & 0o7777, stat.st_uid), (0o700, 5));
        assert_eq!(crate::durable::free_space(&target).unwrap().1, 64 << 10);
        assert!(world.mounts().iter().any(|mount| mount.mount_point == target && mount.options.contains("noexec")));
        assert!(tmpfs("x", &["nonsense=1"], Changes::NONE).unwrap_err().to_string().contains("nonsense"));
        assert!(!tmpfs_has("nonsense"));
    }
}
