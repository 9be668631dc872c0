//! Crowds of processes on one name.

use super::crashes::command;
use super::*;

fn crowd(world: &World, content: &Path, verbs: &[&str]) {
    let children: Vec<_> = (0..50)
        .map(|index| {
            let mut command = command(world.path(), content, verbs[index % verbs.len()], "");
            command.stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::piped()).spawn().unwrap()
        })
        .collect();
    for child in children {
        let output = child.wait_with_output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }
}

#[test]
fn fifty_containers_start_at_once_on_a_new_volume() {
    let (world, content) = (World::new(), make_content());
    crowd(&world, content.path(), &["use"]);
    world.check();
    assert!(is_whole(&world.data("data")));
    let did = names(world.path()).into_iter().filter(|name| name.starts_with("did-")).count();
    assert_eq!(did, 1, "so many copied the image's content");
}

#[test]
fn creating_removing_and_filling_one_name_at_once() {
    let (world, content) = (World::new(), make_content());
    crowd(&world, content.path(), &["create", "remove", "create,initialise", "empty"]);
    world.check();
    recover(&world.state).unwrap();
    world.check();
}

/// Containers that come and go with an anonymous-looking volume while others prune all: nobody sees an error, and no
/// container refers to a volume that is gone.
#[test]
fn running_and_pruning_at_once() {
    let (world, content) = (World::new(), make_content());
    crowd(&world, content.path(), &["run", "prune"]);
    recover(&world.state).unwrap();
    world.check();
}
