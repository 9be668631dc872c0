//! The overlay file system's own mount call, and threads with a working directory and a umask of their own.
//!
//! Layers are named one by one by `lowerdir+` (Linux 6.5 and later): up to 500 of them, with no limit of a page for
//! all names together. Older kernels get mount(2), whose options must fit into one page, so there the caller gives
//! short names relative to a directory.

use crate::Error;
use rustix::io::Errno;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MountFlags, fsconfig_create, fsconfig_set_flag, fsconfig_set_string,
    fsmount, fsopen, mount,
};
use std::ffi::{CString, OsStr, OsString};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

/// The kernel's own limit of lower layers (OVL_MAX_STACK).
pub const MAX_LOWER: usize = 500;

/// The longest value that fsconfig(2) takes, in bytes.
const MAX_VALUE: usize = 255;

/// The options of mount(2) must fit into a page, with the closing NUL.
const MAX_OPTIONS: usize = 4095;

/// What an overlay is made of.
#[derive(Clone, Debug)]
pub struct Overlay {
    /// Lower directories, topmost first; one at least.
    pub lower: Vec<PathBuf>,
    /// The writable directory.
    pub upper: PathBuf,
    /// An empty directory on the same file system as `upper`.
    pub work: PathBuf,
    /// Further options such as `("index", "off")`; one without a value is a flag (`("volatile", "")`).
    pub options: Vec<(&'static str, &'static str)>,
}

/// What came of an attempt by the new mount API.
#[derive(Debug)]
pub enum Attempt {
    /// The mount, not attached anywhere yet: [`crate::mount::attach`] does that.
    Mounted(OwnedFd),
    /// This kernel, or the length of a path, wants mount(2): the reason.
    UseMount2(Error),
}

/// Makes an overlay by fsopen(2) and `lowerdir+`; nothing is attached yet.
///
/// A kernel without `lowerdir+` answers EINVAL (ENOSYS without fsopen); so does a kernel that has it, to anything else
/// that is wrong. The caller then tries [`mount2`], which shows whether it was that.
pub fn open(overlay: &Overlay) -> Result<Attempt, Error> {
    let too_long = |path: &Path| path.as_os_str().len() > MAX_VALUE;
    if overlay.lower.iter().chain([&overlay.upper, &overlay.work]).any(|path| too_long(path)) {
        return Ok(Attempt::UseMount2(Error::call("fsconfig", Errno::NAMETOOLONG)));
    }
    match configure(overlay) {
        Ok(fd) => Ok(Attempt::Mounted(fd)),
        Err(error) if error.is(Errno::INVAL) || error.is(Errno::NOSYS) || error.is(Errno::NODEV) => {
            Ok(Attempt::UseMount2(error))
        }
        Err(error) => Err(error),
    }
}

fn configure(overlay: &Overlay) -> Result<OwnedFd, Error> {
    // The context is closed on return; kept open it would hold the mount busy.
    let context =
        fsopen("overlay", FsOpenFlags::FSOPEN_CLOEXEC).map_err(|error| Error::call("fsopen overlay", error))?;
    let set = |key: &'static str, value: &OsStr| {
        fsconfig_set_string(&context, key, value).map_err(|error| Error::io("fsconfig overlay", value, error))
    };
    set("source", OsStr::new("overlay"))?;
    for lower in &overlay.lower {
        set("lowerdir+", lower.as_os_str())?;
    }
    // Unlike the value of `lowerdir+`, these two are unescaped by the kernel.
    set("upperdir", &escaped(&overlay.upper))?;
    set("workdir", &escaped(&overlay.work))?;
    for &(key, value) in &overlay.options {
        if value.is_empty() {
            fsconfig_set_flag(&context, key).map_err(|error| Error::io("fsconfig overlay", key, error))?;
        } else {
            set(key, OsStr::new(value))?;
        }
    }
    fsconfig_create(&context).map_err(|error| Error::io("mount overlay", &overlay.upper, error))?;
    fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, MountAttrFlags::empty())
        .map_err(|error| Error::io("fsmount overlay", &overlay.upper, error))
}

/// Mounts an overlay by mount(2). `overlay.lower` may be names relative to `directory`, short enough for one page.
///
/// Runs on a thread of its own, whose working directory is `directory`.
pub fn mount2(overlay: &Overlay, directory: &Path, target: &Path) -> Result<(), Error> {
    let options = options(overlay);
    if options.len() > MAX_OPTIONS {
        return Err(Error::io("mount overlay", target, Errno::TOOBIG));
    }
    let options = CString::new(options).map_err(|_| Error::io("mount overlay", target, Errno::INVAL))?;
    std::thread::scope(|scope| {
        let mounting = scope.spawn(|| {
            unshare_fs()?;
            rustix::process::chdir(directory).map_err(|error| Error::io("chdir", directory, error))?;
            mount("overlay", target, "overlay", MountFlags::empty(), options.as_c_str())
                .map_err(|error| Error::io("mount overlay", target, error))
        });
        mounting.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

/// The options as mount(2) takes them, as bytes.
fn options(overlay: &Overlay) -> Vec<u8> {
    let mut options = b"lowerdir=".to_vec();
    for (position, lower) in overlay.lower.iter().enumerate() {
        if position > 0 {
            options.push(b':');
        }
        escape(lower, &mut options);
    }
    options.extend_from_slice(b",upperdir=");
    escape(&overlay.upper, &mut options);
    options.extend_from_slice(b",workdir=");
    escape(&overlay.work, &mut options);
    for (key, value) in &overlay.options {
        let value = if value.is_empty() { String::new() } else { format!("={value}") };
        options.extend_from_slice(format!(",{key}{value}").as_bytes());
    }
    options
}

/// Overlay takes a backslash before what would end a value.
fn escape(path: &Path, options: &mut Vec<u8>) {
    for &byte in path.as_os_str().as_bytes() {
        if matches!(byte, b'\\' | b',' | b':') {
            options.push(b'\\');
        }
        options.push(byte);
    }
}

fn escaped(path: &Path) -> OsString {
    let mut value = Vec::with_capacity(path.as_os_str().len());
    escape(path, &mut value);
    OsString::from_vec(value)
}

/// Gives the calling thread a working directory, root and umask of its own (unshare(2) with CLONE_FS). It can't be
/// undone, so call it on a thread that was made for it.
pub fn unshare_fs() -> Result<(), Error> {
    // SAFETY: CLONE_FS only stops this thread from sharing cwd, root and umask with others; no descriptor table or
    // memory is touched.
    match unsafe { libc::unshare(libc::CLONE_FS) } {
        0 => Ok(()),
        _ => Err(Error::call("unshare", std::io::Error::last_os_error())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_of_mount2_are_escaped() {
        let overlay = Overlay {
            lower: vec!["0".into(), "1".into()],
            upper: "/a,b/c:d".into(),
            work: "/a\\b".into(),
            options: vec![("index", "off"), ("volatile", "")],
        };
        assert_eq!(options(&overlay), br"lowerdir=0:1,upperdir=/a\,b/c\:d,workdir=/a\\b,index=off,volatile");
    }

    #[test]
    fn a_thread_of_its_own_keeps_its_working_directory_to_itself() {
        let before = std::env::current_dir().unwrap();
        let inside = std::thread::spawn(|| {
            unshare_fs().unwrap();
            rustix::process::chdir("/proc").unwrap();
            std::env::current_dir().unwrap()
        });
        assert_eq!(inside.join().unwrap(), Path::new("/proc"));
        assert_eq!(std::env::current_dir().unwrap(), before);
    }
}
