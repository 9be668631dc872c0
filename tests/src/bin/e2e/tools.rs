//! Images that other tools built and saved.

use std::path::Path;
use std::time::Duration;

use orlop_tests::Outcome;
use orlop_tests::images::static_busybox;
use orlop_tests::world::World;

use crate::{Case, missing_tools, same};

pub fn cases() -> Vec<Case> {
    let case = |name, tools: &[&str], run| Case { name, missing: missing_tools(tools), run };
    vec![
        case("tools::umoci_layout", &["umoci"], umoci),
        case("tools::skopeo_archives", &["umoci", "skopeo"], skopeo),
        case("tools::buildah_push", &["buildah"], buildah),
        case("tools::podman_save", &["podman"], podman),
        case("tools::docker_save", &["dockerd", "docker"], docker),
        case("tools::compressed_and_from_stdin", &["gzip", "zstd"], compressed),
    ]
}

/// Loads what `load` names, runs what was loaded, and removes it again.
fn loads(world: &World, what: &str, load: &str) -> Outcome {
    let complain = |said: String| format!("{what}: {said}");
    let loaded = world.sh(load)?.ok().map_err(complain)?;
    if !loaded.contains("Loaded image") {
        return Err(format!("{what}: {loaded}"));
    }
    let run =
        "docker run --rm $(docker images -q | sort -u) /bin/busybox sh -c 'cat /marker; stat -c \"%u %a\" /marker'";
    same(what, &world.sh(run)?.ok().map_err(complain)?, "made elsewhere\n7 640")?;
    // Its layers' archives come back, and what is saved is what was loaded.
    let back = "docker images -q --no-trunc | sort -u > $W/ids && docker save -o $W/again.tar $(docker images -q | sort -u) && \
        docker image scrub && docker rmi -f $(docker images -q | sort -u) && docker load -q -i $W/again.tar && \
        docker images -q --no-trunc | sort -u | cmp - $W/ids";
    world.sh(back)?.ok().map_err(complain)?;
    world.sh("docker rmi -f $(docker images -q | sort -u)")?.ok().map_err(complain)?;
    Ok(())
}

/// A directory with what every tool puts into its image: busybox and a marker with an owner and a mode.
fn ingredients(world: &World) -> Outcome {
    let busybox = static_busybox().map_err(|error| error.to_string())?;
    let make = format!(
        "mkdir -p $W/in/bin && cp {} $W/in/bin/busybox && ln -s busybox $W/in/bin/sh && ln -s busybox $W/in/bin/cat && \
         echo 'made elsewhere' > $W/in/marker && chown 7 $W/in/marker && chmod 640 $W/in/marker",
        busybox.display()
    );
    world.sh(&make)?.ok().map(|_| ())
}

fn umoci_layout(world: &World) -> Outcome {
    ingredients(world)?;
    let build = "cd $W && umoci init --layout lay && umoci new --image lay:one && \
        umoci unpack --image lay:one bundle && cp -a in/. bundle/rootfs/ && umoci repack --image lay:one bundle && \
        umoci config --image lay:one --config.cmd /bin/sh";
    world.sh(build)?.ok().map(|_| ())
}

fn umoci(world: &mut World) -> Outcome {
    umoci_layout(world)?;
    loads(world, "OCI layout, a directory", "docker load -i $W/lay")?;
    world.sh("tar cf $W/lay.tar -C $W/lay .")?.ok()?;
    loads(world, "OCI layout in a tar", "docker load -i $W/lay.tar")
}

fn skopeo(world: &mut World) -> Outcome {
    umoci_layout(world)?;
    for (kind, compress) in
        [("docker-archive", ""), ("oci-archive", ""), ("oci-archive", "--dest-compress-format zstd")]
    {
        let copy = format!(
            "rm -f $W/a.tar; skopeo copy --insecure-policy --quiet {compress} oci:$W/lay:one {kind}:$W/a.tar:example.org/made:1.0"
        );
        world.sh(&copy)?.ok()?;
        loads(world, &format!("skopeo {kind} {compress}"), "docker load -i $W/a.tar")?;
    }
    Ok(())
}

fn buildah(world: &mut World) -> Outcome {
    ingredients(world)?;
    let buildah = "buildah --root $W/b/root --runroot $W/b/run --storage-driver vfs";
    let build = format!(
        "c=$({buildah} from scratch) && {buildah} copy -q $c $W/in/bin /bin && \
         {buildah} copy -q --chown 7 $c $W/in/marker /marker && {buildah} config --cmd /bin/sh $c && {buildah} commit -q $c made:1.0"
    );
    world.sh(&build)?.ok()?;
    for kind in ["docker-archive", "oci-archive"] {
        world.sh(&format!("rm -f $W/a.tar; {buildah} push -q made:1.0 {kind}:$W/a.tar:made:1.0"))?.ok()?;
        loads(world, &format!("buildah {kind}"), "docker load -i $W/a.tar")?;
    }
    world.sh("umount -R $W/b/root 2>/dev/null; true")?.ok().map(|_| ())
}

/// The image that podman and Docker are given: ours, with the marker in a layer of its own.
fn marked(world: &World) -> Outcome<String> {
    let make = || -> std::io::Result<_> {
        let base = world.images().base()?;
        let marker = world.images().layer("marker", |layer| {
            let owner = orlop_tests::archive::Owner { mode: 0o640, uid: 7, gid: 0 };
            layer.file("marker", owner, b"made elsewhere\n")
        })?;
        let config = serde_json::json!({"Cmd": ["sh"]});
        let image =
            orlop_tests::archive::Image { tags: vec!["made:1.0".to_owned()], layers: vec![base, marker], config };
        let path = world.dir().join("marked.tar");
        orlop_tests::archive::write_docker_archive(&path, &[image])?;
        Ok(path.display().to_string())
    };
    make().map_err(|error| error.to_string())
}

/// Saves the image by our own hand to `$W/s.tar`; the id that others must give it, in `$W/id`.
fn saved(world: &World, archive: &str) -> Outcome {
    let save =
        "docker save -o $W/s.tar made:1.0 && docker images -q --no-trunc made:1.0 > $W/id && docker rmi made:1.0";
    world.sh(&format!("docker load -q -i {archive} && {save}"))?.ok().map(|_| ())
}

fn podman(world: &mut World) -> Outcome {
    let archive = marked(world)?;
    saved(world, &archive)?;
    let podman = "podman --root $W/p/root --runroot $W/p/run --storage-driver vfs";
    world.sh(&format!("{podman} load -q -i $W/s.tar && {podman} images -q --no-trunc made:1.0 | cmp - $W/id"))?.ok()?;
    let oci = "skopeo copy --insecure-policy -q --preserve-digests oci-archive:$W/s.tar dir:$W/oci && \
        test -e $W/oci/$(cut -d: -f2 $W/id)";
    world.sh(&format!("! command -v skopeo || {{ {oci}; }}"))?.ok()?;
    for format in ["docker-archive", "oci-archive", "oci-dir"] {
        world.sh(&format!("rm -rf $W/a.tar; {podman} save -q --format {format} -o $W/a.tar localhost/made:1.0 2>/dev/null || {podman} save -q --format {format} -o $W/a.tar made:1.0"))?.ok()?;
        loads(world, &format!("podman {format}"), "docker load -i $W/a.tar")?;
    }
    world.sh("umount -R $W/p/root 2>/dev/null; true")?.ok().map(|_| ())
}

/// A dockerd of our own in the world; ended by its pid.
fn docker(world: &mut World) -> Outcome {
    let archive = marked(world)?;
    saved(world, &archive)?;
    let client = ["/usr/bin/docker", "/usr/local/bin/docker"].into_iter().find(|path| Path::new(path).exists());
    let client = client.ok_or("no docker client")?;
    let daemon = "exec dockerd --iptables=false --bridge=none --data-root $W/d --exec-root $W/e --pidfile $W/d.pid -H unix://$W/d.sock";
    world.spawn("dockerd", daemon)?;
    let docker = format!("{client} -H unix://$W/d.sock");
    let work = || -> Outcome {
        world.until(&format!("{docker} version"), Duration::from_secs(30))?;
        let same_id = format!("{docker} images -q --no-trunc made:1.0 | cmp - $W/id");
        world.sh(&format!("{docker} load -q -i $W/s.tar && {same_id} && {docker} save -o $W/a.tar made:1.0"))?.ok()?;
        world.sh(&format!("printf 'FROM made:1.0\\nCOPY more /more\\nCMD [\"sh\"]\\n' > $W/host/Dockerfile; echo more > $W/host/more; DOCKER_BUILDKIT=0 {docker} build -q -t built:1.0 $W/host && {docker} save built:1.0 | gzip > $W/b.tar.gz"))?.ok()?;
        Ok(())
    };
    let worked = work();
    world.sh("kill $(cat $W/d.pid); for i in $(seq 100); do [ -e $W/d.pid ] || break; sleep 0.1; done; umount $W/d/* 2>/dev/null; true")?.ok()?;
    worked?;
    loads(world, "docker save", "docker load -i $W/a.tar")?;
    loads(world, "docker build, docker save, gzip", "docker load -i $W/b.tar.gz")
}

fn compressed(world: &mut World) -> Outcome {
    let archive = marked(world)?;
    for tool in ["cat", "gzip -c", "zstd -qc"] {
        loads(world, &format!("{tool}, from stdin"), &format!("{tool} {archive} | docker load"))?;
        world.sh(&format!("{tool} {archive} > $W/a"))?.ok()?;
        loads(world, &format!("{tool}, a file"), "docker load -i $W/a")?;
    }
    Ok(())
}
