//! Tables of what each flag gives and of what it answers when it is wrong.

use super::*;

const CWD: &str = "/work/dir";

fn short(text: &str) -> Result<MountSpec, String> {
    parse_volume(text, Path::new(CWD), None).map_err(|error| error.to_string())
}

fn long(text: &str) -> Result<MountSpec, String> {
    parse_mount(text, Path::new(CWD)).map_err(|error| error.to_string())
}

fn tmpfs(text: &str) -> Result<MountSpec, String> {
    parse_tmpfs(text).map_err(|error| error.to_string())
}

/// One line that says all that isn't the default.
fn show(mount: &MountSpec) -> String {
    let mut text = format!("{} {}", mount.kind.name(), mount.target);
    let mut add = |what: &str, is_set: bool| {
        if is_set {
            text += &format!(" {what}");
        }
    };
    add("ro", mount.read_only);
    match &mount.kind {
        MountKind::Volume(volume) => {
            add(&format!("name={:?}", volume.name.as_ref().map(VolumeName::as_str)), volume.name.is_some());
            add(&format!("driver={:?}", volume.driver), volume.driver.is_some());
            add(&format!("options={:?}", volume.options), !volume.options.is_empty());
            add(&format!("labels={:?}", volume.labels), !volume.labels.is_empty());
            add("nocopy", volume.no_copy);
            add(&format!("subpath={:?}", volume.subpath), volume.subpath.is_some());
            add(&format!("relabel={:?}", volume.relabel), volume.relabel.is_some());
        }
        MountKind::Bind(bind) => {
            add(&format!("source={}", bind.source), true);
            add(bind.propagation.name(), bind.propagation != Propagation::Rprivate);
            add(&format!("recursive={:?}", bind.recursive), bind.recursive != BindRecursive::Enabled);
            add("create", bind.create_source);
            add(&format!("relabel={:?}", bind.relabel), bind.relabel.is_some());
        }
        MountKind::Tmpfs(tmpfs) => {
            add(&format!("size={:?}", tmpfs.size), tmpfs.size.is_some());
            add(&format!("mode={:o}", tmpfs.mode.unwrap_or_default()), tmpfs.mode.is_some());
            add(&format!("uid={:?}", tmpfs.uid), tmpfs.uid.is_some());
            add(&format!("gid={:?}", tmpfs.gid), tmpfs.gid.is_some());
            add("exec", tmpfs.exec);
            add(&format!("{:?}", tmpfs.options), !tmpfs.options.is_empty());
        }
    }
    text
}

#[test]
fn volume_flags() {
    for (text, expected) in [
        ("/data", "volume /data"),
        ("mydata:/data", r#"volume /data name=Some("mydata")"#),
        ("mydata:/data:ro", r#"volume /data ro name=Some("mydata")"#),
        ("mydata:/data:rw", r#"volume /data name=Some("mydata")"#),
        ("mydata:/data:", r#"volume /data name=Some("mydata")"#),
        ("mydata:/a//b/./../c/:z,nocopy", r#"volume /a/c name=Some("mydata") nocopy relabel=Some(Shared)"#),
        ("/host/path:/container/path", "bind /container/path source=/host/path create"),
        ("/host/../path/:/c:ro,Z", "bind /c ro source=/path create relabel=Some(Private)"),
        ("/:/host:rslave,cached", "bind /host source=/ rslave create"),
        ("/x:/y:delegated,ro,shared", "bind /y ro source=/x shared create"),
        ("./x:/y", "bind /y source=/work/dir/x create"),
        (".:/y", "bind /y source=/work/dir create"),
        ("..:/y", "bind /y source=/work create"),
        ("../x/../z:/y", "bind /y source=/work/z create"),
        (".hidden:/y", "bind /y source=/work/dir/.hidden create"),
        ("../../../../x:/y", "bind /y source=/x create"),
    ] {
        assert_eq!(short(text).map(|mount| show(&mount)), Ok(expected.to_owned()), "{text}");
    }
    let driver = parse_volume("mydata:/data", Path::new(CWD), Some("csi")).unwrap();
    assert_eq!(show(&driver), r#"volume /data name=Some("mydata") driver=Some("csi")"#);
    let bind = parse_volume("/x:/data:ro", Path::new(CWD), Some("csi")).unwrap();
    assert_eq!((show(&bind).as_str(), bind.mode.as_str()), ("bind /data ro source=/x create", "ro"));
}

#[test]
fn volume_flags_that_are_wrong() {
    for (text, expected) in [
        ("", "invalid volume specification: ''"),
        (":/data", "invalid volume specification: ':/data'"),
        ("mydata:", "invalid volume specification: 'mydata:'"),
        ("mydata:ro", "invalid volume specification: 'mydata:ro'"),
        ("/data:ro", "invalid volume specification: '/data:ro'"),
        ("a:/b:ro:x", "invalid volume specification: 'a:/b:ro:x'"),
        ("ab:/b:ro,foo", "invalid volume specification: 'ab:/b:ro,foo': invalid mode: foo"),
        ("ab:/b:RO", "invalid volume specification: 'ab:/b:RO': invalid mode: RO"),
        ("ab:/b:ro,rw", "invalid volume specification: 'ab:/b:ro,rw': invalid mode: ro,rw"),
        ("ab:/b:z,Z", "invalid volume specification: 'ab:/b:z,Z': invalid mode: z,Z"),
        ("/a:/b:private,slave", "invalid volume specification: '/a:/b:private,slave': invalid mode: private,slave"),
        (
            "mydata:rel",
            "invalid volume specification: 'mydata:rel': invalid mount config for type \"volume\": \
             invalid mount path: 'rel' mount path must be absolute",
        ),
        (
            "mydata",
            "invalid volume specification: 'mydata': invalid mount config for type \"volume\": \
             invalid mount path: 'mydata' mount path must be absolute",
        ),
        (
            "mydata:/",
            "invalid volume specification: 'mydata:/': invalid mount config for type \"volume\": \
             invalid specification: destination can't be '/'",
        ),
        (
            "/a:/b/..",
            "invalid volume specification: '/a:/b/..': invalid mount config for type \"bind\": \
             invalid specification: destination can't be '/'",
        ),
        (
            "/a:/b:nocopy",
            "invalid volume specification: '/a:/b:nocopy': invalid mount config for type \"bind\": \
             field VolumeOptions must not be specified (nocopy)",
        ),
        (
            "ab:/b:rshared",
            "invalid volume specification: 'ab:/b:rshared': invalid mount config for type \"volume\": \
             field BindOptions must not be specified (rshared)",
        ),
        (
            "host/path:/b",
            "create host/path: \"host/path\" includes invalid characters for a local volume name, only \
             \"[a-zA-Z0-9][a-zA-Z0-9_.-]\" are allowed. If you intended to pass a host directory, use absolute path",
        ),
        (
            "~/x:/b",
            "create ~/x: \"~/x\" includes invalid characters for a local volume name, only \
             \"[a-zA-Z0-9][a-zA-Z0-9_.-]\" are allowed. If you intended to pass a host directory, use absolute path",
        ),
        ("a:/b", "create a: volume name is too short, names should be at least two alphanumeric characters"),
    ] {
        assert_eq!(short(text), Err(expected.to_owned()), "{text}");
    }
}

#[test]
fn mount_flags() {
    for (text, expected) in [
        ("source=my_vol,target=/data", r#"volume /data name=Some("my_vol")"#),
        ("type=volume,src=my_vol,dst=/data,ro", r#"volume /data ro name=Some("my_vol")"#),
        ("type=volume,destination=/data", "volume /data"),
        ("Type=Volume,target=/data,readonly=false", "volume /data"),
        (
            "type=volume,source=ab,target=/d,volume-driver=local,volume-opt=type=none,\"volume-opt=o=bind,ro\",\
             volume-label=a=1,volume-label=b,volume-nocopy,volume-subpath=x/y",
            r#"volume /d name=Some("ab") driver=Some("local") options={"o": "bind,ro", "type": "none"} labels={"a": "1", "b": ""} nocopy subpath=Some("x/y")"#,
        ),
        ("\"type=bind\",\"source=/a,\"\"b\"\"\",target=/c", "bind /c source=/a,\"b\""),
        ("type=bind,source=/host/path,target=/app,readonly", "bind /app ro source=/host/path"),
        ("type=bind,source=./x,target=/app", "bind /app source=/work/dir/x"),
        ("type=bind,source=..,target=/app", "bind /app source=/work"),
        ("type=bind,source=/x,target=/y,bind-propagation=rshared,consistency=cached", "bind /y source=/x rshared"),
        ("type=bind,source=/x,target=/y,bind-nonrecursive", "bind /y source=/x recursive=Disabled"),
        ("type=bind,source=/x,target=/y,bind-nonrecursive=0", "bind /y source=/x"),
        ("type=bind,source=/x,target=/y,bind-recursive=disabled", "bind /y source=/x recursive=Disabled"),
        ("type=bind,source=/x,target=/y,ro,bind-recursive=writable", "bind /y ro source=/x recursive=Writable"),
        (
            "type=bind,source=/x,target=/y,ro,bind-recursive=readonly,bind-propagation=rprivate",
            "bind /y ro source=/x recursive=Readonly",
        ),
        ("type=bind,source=/x,target=/y,bind-create-src=true", "bind /y source=/x create"),
        ("type=tmpfs,target=/cache,tmpfs-size=1g,tmpfs-mode=1770", "tmpfs /cache size=Some(1073741824) mode=1770"),
        ("type=tmpfs,target=/cache,tmpfs-size=0,ro", "tmpfs /cache ro"),
    ] {
        assert_eq!(long(text).map(|mount| show(&mount)), Ok(expected.to_owned()), "{text}");
    }
}

#[test]
fn mount_flags_that_are_wrong() {
    for (text, expected) in [
        (" ", "value is empty"),
        (
            "type=bind,\"source=/a,target=/b",
            "parse error on line 1, column 31: extraneous or missing \" in quoted-field",
        ),
        ("type=bind,source=\"/a\"", "parse error on line 1, column 18: bare \" in non-quoted field"),
        ("\"a\"b", "parse error on line 1, column 3: extraneous or missing \" in quoted-field"),
        ("type=volume,target", "invalid field 'target' must be a key=value pair"),
        ("type=volume,", "invalid field '' must be a key=value pair"),
        ("type=volume, target=/x", "invalid option ' target' in ' target=/x': option should not have whitespace"),
        ("type=volume,tarjet=/x", "unexpected key 'tarjet' in 'tarjet=/x'"),
        ("type=volume,volume-foo=1,target=/x", "unexpected key 'volume-foo' in 'volume-foo=1'"),
        ("type=volume", "target is required"),
        ("type=bind,source=/x", "target is required"),
        ("type=volume,target=/x,readonly=maybe", "invalid value for readonly: maybe"),
        ("type=volume,target=/x,volume-nocopy=maybe", "invalid value for volume-nocopy: maybe"),
        ("type=volume,target=/x,volume-label==1", "invalid value for volume-label: =1"),
        ("type=tmpfs,target=/x,tmpfs-size=big", "invalid value for tmpfs-size: big"),
        ("type=tmpfs,target=/x,tmpfs-mode=999", "invalid value for tmpfs-mode: 999"),
        ("type=tmpfs,target=/x,tmpfs-mode=77777", "invalid value for tmpfs-mode: 77777"),
        (
            "type=bind,source=/x,target=/x,consistency=always",
            "invalid value for consistency: always (must be \"default\", \"consistent\", \"cached\", or \"delegated\")",
        ),
        (
            "type=bind,source=/x,target=/x,bind-recursive=yes",
            "invalid value for bind-recursive: yes (must be \"enabled\", \"disabled\", \"writable\", or \"readonly\")",
        ),
        (
            "type=bind,source=/x,target=/x,bind-recursive=writable",
            "option 'bind-recursive=writable' requires 'readonly' to be specified in conjunction",
        ),
        (
            "type=bind,source=/x,target=/x,ro,bind-recursive=readonly",
            "option 'bind-recursive=readonly' requires 'bind-propagation=rprivate' to be specified in conjunction",
        ),
        ("type=image,source=a,target=/x", "mount type \"image\" is not supported: use volume, bind or tmpfs"),
        ("type=cluster,source=a,target=/x", "mount type \"cluster\" is not supported: use volume, bind or tmpfs"),
        ("type=npipe,source=a,target=/x", "mount type \"npipe\" is not supported: use volume, bind or tmpfs"),
        ("type=disk,target=/x", "invalid mount config for type \"disk\": mount type unknown"),
        (
            "type=bind,source=/x,target=/y,volume-nocopy",
            "cannot mix 'volume-*' options with mount type 'bind' (volume-nocopy)",
        ),
        (
            "target=/y,bind-propagation=rslave",
            "cannot mix 'bind-*' options with mount type 'volume' (bind-propagation)",
        ),
        (
            "type=bind,source=/x,target=/y,tmpfs-size=1",
            "cannot mix 'tmpfs-*' options with mount type 'bind' (tmpfs-size)",
        ),
        ("type=bind,target=/x", "invalid mount config for type \"bind\": field Source must not be empty"),
        (
            "type=bind,source=x,target=/x",
            "invalid mount config for type \"bind\": invalid mount path: 'x' mount path must be absolute",
        ),
        (
            "type=volume,source=ab,target=x",
            "invalid mount config for type \"volume\": invalid mount path: 'x' mount path must be absolute",
        ),
        (
            "type=volume,source=ab,target=/..",
            "invalid mount config for type \"volume\": invalid specification: destination can't be '/'",
        ),
        (
            "type=bind,source=/x,target=/x,bind-propagation=up",
            "invalid mount config for type \"bind\": invalid propagation mode: up",
        ),
        (
            "type=volume,source=ab,target=/x,volume-subpath=a/../../b",
            "invalid mount config for type \"volume\": subpath must be a relative path within the volume: \"a/../../b\"",
        ),
        (
            "type=volume,source=ab,target=/x,volume-subpath=/a",
            "invalid mount config for type \"volume\": subpath must be a relative path within the volume: \"/a\"",
        ),
        (
            "type=volume,target=/x,volume-subpath=a",
            "invalid mount config for type \"volume\": must not set Subpath when using anonymous volumes",
        ),
        (
            "type=tmpfs,source=x,target=/x",
            "invalid mount config for type \"tmpfs\": field Source must not be specified (source=x)",
        ),
        (
            "source=/host,target=/x",
            "create /host: \"/host\" includes invalid characters for a local volume name, only \
             \"[a-zA-Z0-9][a-zA-Z0-9_.-]\" are allowed. If you intended to pass a host directory, use absolute path",
        ),
    ] {
        assert_eq!(long(text), Err(expected.to_owned()), "{text}");
    }
    let unsupported = parse_mount("type=image,target=/x", Path::new(CWD)).unwrap_err();
    assert_eq!(crate::Kind::kind(&unsupported), crate::ErrorKind::Unsupported);
}

#[test]
fn tmpfs_flags() {
    for (text, expected) in [
        ("/tmp", "tmpfs /tmp"),
        ("/tmp/:", "tmpfs /tmp"),
        ("/cache:size=1g,mode=1777", "tmpfs /cache size=Some(1073741824) mode=1777"),
        ("/cache:size=64m,size=32k", "tmpfs /cache size=Some(32768)"),
        ("/cache:size=1g,size=10%", r#"tmpfs /cache ["size=10%"]"#),
        ("/cache:size=10%,size=1g", "tmpfs /cache size=Some(1073741824)"),
        ("/run/secrets:mode=0700,uid=1000,gid=5", "tmpfs /run/secrets mode=700 uid=Some(1000) gid=Some(5)"),
        ("/x:exec,ro", "tmpfs /x ro exec"),
        ("/x:exec,noexec,ro,rw", "tmpfs /x"),
        ("/x:suid,nosuid,dev,noswap", r#"tmpfs /x ["nosuid", "dev", "noswap"]"#),
        ("/x:nr_inodes=1k,nr_inodes=2k,huge=always", r#"tmpfs /x ["nr_inodes=2k", "huge=always"]"#),
        ("/x:mpol=bind:0,noatime,relatime", r#"tmpfs /x ["mpol=bind:0", "relatime"]"#),
    ] {
        assert_eq!(tmpfs(text).map(|mount| show(&mount)), Ok(expected.to_owned()), "{text}");
    }
    for (text, expected) in [
        ("", "invalid mount config for type \"tmpfs\": field Target must not be empty"),
        ("tmp", "invalid mount config for type \"tmpfs\": invalid mount path: 'tmp' mount path must be absolute"),
        ("/", "invalid mount config for type \"tmpfs\": invalid specification: destination can't be '/'"),
        ("/x:foo", "invalid tmpfs option \"foo\""),
        ("/x:foo=1", "invalid tmpfs option \"foo=1\""),
        ("/x:size=big", "invalid tmpfs option \"size=big\""),
        ("/x:size=%", "invalid tmpfs option \"size=%\""),
        ("/x:mode=888", "invalid tmpfs option \"mode=888\""),
        ("/x:uid=root", "invalid tmpfs option \"uid=root\""),
        ("/x:nr_inodes=k", "invalid tmpfs option \"nr_inodes=k\""),
        ("/x:mpol=what", "invalid tmpfs option \"mpol=what\""),
        ("/x:bind", "invalid tmpfs option \"bind\""),
    ] {
        assert_eq!(tmpfs(text), Err(expected.to_owned()), "{text}");
    }
}

#[test]
fn volumes_from_flags() {
    for (text, expected) in [
        ("db", Ok(("db", false))),
        ("db:ro", Ok(("db", true))),
        ("db:rw", Ok(("db", false))),
        ("db:ro,z", Ok(("db", true))),
        ("", Err("volumes-from specification cannot be an empty string")),
        (":ro", Err("volumes-from specification cannot be an empty string")),
        ("db:foo", Err("invalid mode: foo")),
        ("db:nocopy", Err("invalid mode: nocopy")),
        ("db:rshared", Err("invalid mode: rshared")),
    ] {
        let found = parse_volumes_from(text);
        let found = found.as_ref().map(|from| (from.container.as_str(), from.read_only)).map_err(|e| e.to_string());
        assert_eq!(found, expected.map_err(str::to_owned), "{text}");
    }
}

#[test]
fn one_path_takes_one_mount() {
    let mounts = [short("ab:/x").unwrap(), long("target=/y").unwrap(), tmpfs("//x/").unwrap()];
    assert_eq!(check_duplicates(&mounts[..2]), Ok(()));
    assert_eq!(check_duplicates(&mounts).unwrap_err().to_string(), "Duplicate mount point: /x");
}
