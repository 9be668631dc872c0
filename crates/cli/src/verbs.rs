//! Every verb: its names, what it takes, and the function that does it. Help and dispatch read this one table.

use crate::args::{self, Count, Refusal, Syntax, help};
use crate::commands;
use crate::door::Door;
use crate::failure::{Failure, Outcome};

/// Where the verb stands in the help of the whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Group {
    /// What most people type.
    Common,
    /// The rest of the short forms.
    Short,
    /// Under a noun.
    Noun,
}

/// A verb.
#[derive(Debug)]
pub struct Verb {
    /// Names and arguments.
    pub syntax: Syntax,
    aliases: &'static [&'static str],
    group: Group,
    run: fn(&Door, &Syntax, &[String]) -> Outcome,
}

impl Verb {
    /// Does it; `words` are what follows its name.
    pub fn run(&self, door: &Door, words: &[String]) -> Outcome {
        (self.run)(door, &self.syntax, words)
    }
}

/// The nouns that have verbs under them.
const NOUNS: [(&str, &str); 5] = [
    ("container", "Manage containers"),
    ("image", "Manage images"),
    ("system", "Manage Orlop"),
    ("volume", "Manage volumes"),
    ("volume trash", "Manage removed volumes"),
];

/// Docker's verbs that come with a later issue; named, so that nobody looks for a typing mistake.
const LATER: &[&str] = &[
    "build",
    "builder",
    "buildx",
    "checkpoint",
    "compose",
    "config",
    "context",
    "image build",
    "image push",
    "manifest",
    "network",
    "node",
    "plugin",
    "push",
    "search",
    "secret",
    "service",
    "stack",
    "swarm",
    "trust",
    "volume update",
];

macro_rules! verb {
    ($group:ident, $path:literal, $usage:literal, $count:expr, $about:literal, $run:path $(, $alias:literal)*) => {
        Verb {
            syntax: Syntax { path: $path, usage: $usage, about: $about, count: $count },
            aliases: &[$($alias),*],
            group: Group::$group,
            run: |door, syntax, words| $run(door, args::parse(&door.program, syntax, words)?),
        }
    };
}

use Count::{AtLeast, AtMost, Between, Exactly};
use commands::{change, complete, container, copy, files, image, login, port, pull, scrub, system, volume, watch};

const NONE: Count = AtMost(0);

/// All of them, in the order of the help.
pub const VERBS: &[Verb] = &[
    verb!(
        Common,
        "run",
        "[OPTIONS] IMAGE [COMMAND] [ARG...]",
        AtLeast(1),
        "Create and run a new container from an image",
        container::run,
        "container run"
    ),
    verb!(
        Common,
        "exec",
        "[OPTIONS] CONTAINER COMMAND [ARG...]",
        AtLeast(2),
        "Execute a command in a running container",
        container::exec,
        "container exec"
    ),
    verb!(
        Common,
        "ps",
        "[OPTIONS]",
        NONE,
        "List containers",
        container::ps,
        "container ls",
        "container list",
        "container ps"
    ),
    verb!(
        Common,
        "images",
        "[OPTIONS] [REPOSITORY[:TAG]]",
        AtMost(1),
        "List images",
        image::ls,
        "image ls",
        "image list"
    ),
    verb!(
        Common,
        "pull",
        "[OPTIONS] NAME[:TAG|@DIGEST]",
        Exactly(1),
        "Download an image from a registry",
        pull::pull,
        "image pull"
    ),
    verb!(Common, "login", "[OPTIONS] [SERVER]", AtMost(1), "Authenticate to a registry", login::login),
    verb!(Common, "logout", "[SERVER]", AtMost(1), "Log out from a registry", login::logout),
    verb!(Common, "load", "[OPTIONS]", NONE, "Load an image from a tar archive or STDIN", image::load, "image load"),
    verb!(Common, "version", "[OPTIONS]", NONE, "Show the version information", system::version),
    verb!(Common, "info", "[OPTIONS]", NONE, "Display system-wide information", system::info, "system info"),
    verb!(
        Short,
        "attach",
        "[OPTIONS] CONTAINER",
        Exactly(1),
        "Attach local streams to a running container",
        container::attach,
        "container attach"
    ),
    verb!(
        Short,
        "commit",
        "[OPTIONS] CONTAINER [REPOSITORY[:TAG]]",
        Between(1, 2),
        "Create a new image from a container's changes",
        files::commit,
        "container commit"
    ),
    verb!(
        Short,
        "cp",
        "[OPTIONS] CONTAINER:SRC_PATH DEST_PATH|- | SRC_PATH|- CONTAINER:DEST_PATH",
        Exactly(2),
        "Copy files/folders between a container and the local filesystem",
        copy::cp,
        "container cp"
    ),
    verb!(
        Short,
        "completion",
        "SHELL",
        Exactly(1),
        "Generate the completion script for bash, zsh or fish",
        complete::completion
    ),
    verb!(
        Short,
        "create",
        "[OPTIONS] IMAGE [COMMAND] [ARG...]",
        AtLeast(1),
        "Create a new container",
        container::create,
        "container create"
    ),
    verb!(
        Short,
        "diff",
        "CONTAINER",
        Exactly(1),
        "Inspect changes to files or directories on a container's filesystem",
        files::diff,
        "container diff"
    ),
    verb!(Short, "events", "[OPTIONS]", NONE, "Get real time events", system::events, "system events"),
    verb!(
        Short,
        "export",
        "[OPTIONS] CONTAINER",
        Exactly(1),
        "Export a container's filesystem as a tar archive",
        files::export,
        "container export"
    ),
    verb!(
        Short,
        "history",
        "[OPTIONS] IMAGE",
        Exactly(1),
        "Show the history of an image",
        image::history,
        "image history"
    ),
    verb!(
        Short,
        "import",
        "[OPTIONS] file|URL|- [REPOSITORY[:TAG]]",
        Between(1, 2),
        "Import the contents from a tarball to create a filesystem image",
        files::import,
        "image import"
    ),
    verb!(
        Short,
        "inspect",
        "[OPTIONS] NAME|ID [NAME|ID...]",
        AtLeast(1),
        "Return low-level information on containers, images and volumes",
        container::inspect_any
    ),
    verb!(
        Short,
        "kill",
        "[OPTIONS] CONTAINER [CONTAINER...]",
        AtLeast(1),
        "Kill one or more running containers",
        container::kill,
        "container kill"
    ),
    verb!(
        Short,
        "logs",
        "[OPTIONS] CONTAINER",
        Exactly(1),
        "Fetch the logs of a container",
        container::logs,
        "container logs"
    ),
    verb!(
        Short,
        "pause",
        "CONTAINER [CONTAINER...]",
        AtLeast(1),
        "Pause all processes within one or more containers",
        container::pause,
        "container pause"
    ),
    verb!(
        Short,
        "port",
        "CONTAINER [PRIVATE_PORT[/PROTO]]",
        Between(1, 2),
        "List port mappings or a specific mapping for the container",
        port::port,
        "container port"
    ),
    verb!(Short, "rename", "CONTAINER NEW_NAME", Exactly(2), "Rename a container", change::rename, "container rename"),
    verb!(
        Short,
        "restart",
        "[OPTIONS] CONTAINER [CONTAINER...]",
        AtLeast(1),
        "Restart one or more containers",
        container::restart,
        "container restart"
    ),
    verb!(
        Short,
        "rm",
        "[OPTIONS] CONTAINER [CONTAINER...]",
        AtLeast(1),
        "Remove one or more containers",
        container::rm,
        "container rm",
        "container remove"
    ),
    verb!(
        Short,
        "rmi",
        "[OPTIONS] IMAGE [IMAGE...]",
        AtLeast(1),
        "Remove one or more images",
        image::rm,
        "image rm",
        "image remove"
    ),
    verb!(
        Short,
        "save",
        "[OPTIONS] IMAGE [IMAGE...]",
        AtLeast(1),
        "Save one or more images to a tar archive (streamed to STDOUT by default)",
        image::save,
        "image save"
    ),
    verb!(
        Short,
        "start",
        "[OPTIONS] CONTAINER [CONTAINER...]",
        AtLeast(1),
        "Start one or more stopped containers",
        container::start,
        "container start"
    ),
    verb!(
        Short,
        "stats",
        "[OPTIONS] [CONTAINER...]",
        AtLeast(0),
        "Display a live stream of container(s) resource usage statistics",
        watch::stats,
        "container stats"
    ),
    verb!(
        Short,
        "stop",
        "[OPTIONS] CONTAINER [CONTAINER...]",
        AtLeast(1),
        "Stop one or more running containers",
        container::stop,
        "container stop"
    ),
    verb!(
        Short,
        "tag",
        "SOURCE_IMAGE[:TAG] TARGET_IMAGE[:TAG]",
        Exactly(2),
        "Create a tag TARGET_IMAGE that refers to SOURCE_IMAGE",
        image::tag,
        "image tag"
    ),
    verb!(
        Short,
        "top",
        "CONTAINER [ps OPTIONS]",
        AtLeast(1),
        "Display the running processes of a container",
        watch::top,
        "container top"
    ),
    verb!(
        Short,
        "unpause",
        "CONTAINER [CONTAINER...]",
        AtLeast(1),
        "Unpause all processes within one or more containers",
        container::unpause,
        "container unpause"
    ),
    verb!(
        Short,
        "update",
        "[OPTIONS] CONTAINER [CONTAINER...]",
        AtLeast(1),
        "Update configuration of one or more containers",
        change::update,
        "container update"
    ),
    verb!(
        Short,
        "wait",
        "CONTAINER [CONTAINER...]",
        AtLeast(1),
        "Block until one or more containers stop, then print their exit codes",
        container::wait,
        "container wait"
    ),
    verb!(
        Noun,
        "container inspect",
        "[OPTIONS] CONTAINER [CONTAINER...]",
        AtLeast(1),
        "Display detailed information on one or more containers",
        container::inspect
    ),
    verb!(Noun, "container prune", "[OPTIONS]", NONE, "Remove all stopped containers", container::prune),
    verb!(
        Noun,
        "image from-host",
        "NAME [BINARY...]",
        AtLeast(1),
        "Make an image of programs of this machine",
        image::from_host
    ),
    verb!(
        Noun,
        "image inspect",
        "[OPTIONS] IMAGE [IMAGE...]",
        AtLeast(1),
        "Display detailed information on one or more images",
        image::inspect
    ),
    verb!(Noun, "image prune", "[OPTIONS]", NONE, "Remove unused images", image::prune),
    verb!(
        Noun,
        "image scrub",
        "[OPTIONS] [IMAGE...]",
        AtLeast(0),
        "Check that stored images are what was loaded, and fetch again what is not",
        scrub::scrub
    ),
    verb!(
        Noun,
        "image why",
        "[OPTIONS] IMAGE|LAYER",
        Exactly(1),
        "Show what keeps each layer, and what removing an image would free",
        scrub::why
    ),
    verb!(Noun, "system df", "[OPTIONS]", NONE, "Show disk usage", system::df),
    verb!(Noun, "system prune", "[OPTIONS]", NONE, "Remove unused data", system::prune),
    verb!(
        Noun,
        "system install-units",
        "[OPTIONS]",
        NONE,
        "Write systemd units that start, stop and tend containers",
        system::install_units
    ),
    verb!(Noun, "system stop-all", "", NONE, "Stop all containers because the machine goes down", system::stop_all),
    verb!(Noun, "system tend", "[OPTIONS]", NONE, "Finish what was interrupted, and keep limits", system::tend),
    verb!(Noun, "volume create", "[OPTIONS] [VOLUME]", AtMost(1), "Create a volume", volume::create),
    verb!(
        Noun,
        "volume inspect",
        "[OPTIONS] VOLUME [VOLUME...]",
        AtLeast(1),
        "Display detailed information on one or more volumes",
        volume::inspect
    ),
    verb!(Noun, "volume ls", "[OPTIONS]", NONE, "List volumes", volume::ls, "volume list"),
    verb!(Noun, "volume prune", "[OPTIONS]", NONE, "Remove unused local volumes", volume::prune),
    verb!(
        Noun,
        "volume restore",
        "VOLUME|TRASH-ID [VOLUME|TRASH-ID...]",
        AtLeast(1),
        "Bring removed volumes back from the trash",
        volume::restore
    ),
    verb!(
        Noun,
        "volume rm",
        "[OPTIONS] VOLUME [VOLUME...]",
        AtLeast(1),
        "Remove one or more volumes; they stay in the trash for a while",
        volume::rm,
        "volume remove"
    ),
    verb!(
        Noun,
        "volume trash ls",
        "[OPTIONS]",
        NONE,
        "List what lies in the trash",
        volume::trash_ls,
        "volume trash list"
    ),
    verb!(
        Noun,
        "volume trash empty",
        "[OPTIONS]",
        NONE,
        "Delete what lies in the trash, for good",
        volume::trash_empty
    ),
];

/// The other names of a verb.
pub fn aliases(path: &str) -> Vec<&'static str> {
    let found = VERBS.iter().find(|verb| verb.syntax.path == path && !verb.aliases.is_empty());
    found.map(|verb| [verb.aliases, &[verb.syntax.path]].concat()).unwrap_or_default()
}

/// Runs the verb that `words` begin with.
pub fn dispatch(door: &Door, words: &[String]) -> Outcome {
    let Some(first) = words.first() else { return Err(Refusal::Help(overview(&door.program)).into()) };
    if let Some((verb, length)) = find(words) {
        return verb.run(door, &words[length..]);
    }
    let depth = if words.len() > 1 && words[0] == "volume" && words[1] == "trash" { 2 } else { 1 };
    let noun = words[..depth].join(" ");
    if first == "help" {
        return help_on(door, &words[1..]);
    }
    let rest: Vec<&str> = words.iter().take(2).map(String::as_str).collect();
    if LATER.contains(&first.as_str()) || LATER.contains(&rest.join(" ").as_str()) {
        let verb = if LATER.contains(&first.as_str()) { first.clone() } else { rest.join(" ") };
        return Err(Failure::unsupported(format!("'{} {verb}' comes with a later version", door.program)));
    }
    if !NOUNS.iter().any(|(known, _)| *known == noun) {
        let program = &door.program;
        let known = VERBS.iter().map(|verb| verb.syntax.path).chain(NOUNS.iter().map(|(noun, _)| *noun));
        let hint = hint(program, "", first, known.filter(|name| !name.contains(' ')));
        let text = format!(
            "{program}: unknown command: {program} {first}\n\nRun '{program} --help' for more information{hint}"
        );
        return Err(Refusal::Arguments(text).into());
    }
    match words.get(depth).map(String::as_str) {
        None | Some("--help" | "-h") => Err(Refusal::Help(noun_help(&door.program, &noun)).into()),
        Some(word) => {
            let program = &door.program;
            let pointer =
                format!("Usage:  {program} {noun} COMMAND\n\nRun '{program} {noun} --help' for more information");
            Err(match word.starts_with('-') {
                true => Refusal::Flag(format!("unknown flag: {word}\n\n{pointer}")),
                false => {
                    let prefix = format!("{noun} ");
                    let names = VERBS.iter().flat_map(|verb| verb.aliases.iter().copied().chain([verb.syntax.path]));
                    let hint = hint(program, &prefix, word, names.filter_map(|name| name.strip_prefix(&prefix)));
                    Refusal::Arguments(format!(
                        "{program}: unknown command: {program} {noun} {word}\n\n{pointer}{hint}"
                    ))
                }
            }
            .into())
        }
    }
}

/// The words that may follow `before` (`volume`) in the name of a verb.
pub fn names_below(before: &str) -> Vec<String> {
    let prefix = if before.is_empty() { String::new() } else { format!("{before} ") };
    let names = VERBS.iter().flat_map(|verb| verb.aliases.iter().copied().chain([verb.syntax.path]));
    let below = names.chain(NOUNS.iter().map(|(noun, _)| *noun)).filter_map(|name| name.strip_prefix(&prefix));
    below.filter_map(|rest| rest.split(' ').next()).map(str::to_owned).collect()
}

/// The verb that may have been meant, as a line of its own.
fn hint<'a>(program: &str, prefix: &str, word: &str, known: impl Iterator<Item = &'a str>) -> String {
    let near = orlop_model::near::near(word, known);
    near.first().map_or_else(String::new, |name| format!("\nHint: did you mean '{program} {prefix}{name}'?"))
}

/// The verb with the longest name that `words` begin with, and how many words that name has.
pub fn find(words: &[String]) -> Option<(&'static Verb, usize)> {
    (1..=words.len().min(3)).rev().find_map(|length| {
        let name = words[..length].join(" ");
        let named = |verb: &&Verb| verb.syntax.path == name || verb.aliases.contains(&name.as_str());
        VERBS.iter().find(named).map(|verb| (verb, length))
    })
}

fn help_on(door: &Door, words: &[String]) -> Outcome {
    match words.is_empty() {
        true => Err(Refusal::Help(overview(&door.program)).into()),
        false => dispatch(door, &[words, &["--help".to_owned()]].concat()),
    }
}

fn rows(verbs: impl Iterator<Item = (&'static str, &'static str)>) -> String {
    let rows: Vec<(String, String)> = verbs.map(|(name, about)| (format!("  {name:11}"), about.to_owned())).collect();
    help::columns(&rows)
}

/// `orlop --help`.
pub fn overview(program: &str) -> String {
    let group = |group: Group| {
        rows(VERBS.iter().filter(|verb| verb.group == group).map(|verb| (verb.syntax.path, verb.syntax.about)))
    };
    let nouns = rows(NOUNS.iter().filter(|(name, _)| !name.contains(' ')).copied());
    format!(
        "Usage:  {program} [OPTIONS] COMMAND\n\nContainers and their data, with nothing lost\n\nCommon Commands:\n{}\n\
         Management Commands:\n{nouns}\nCommands:\n{}\nGlobal Options:\n{}\n\
         Run '{program} COMMAND --help' for more information on a command.\n",
        group(Group::Common),
        group(Group::Short),
        args::global_options(),
    )
}

fn noun_help(program: &str, noun: &str) -> String {
    let about = NOUNS.iter().find(|(name, _)| *name == noun).map_or("", |(_, about)| about);
    let prefix = format!("{noun} ");
    let mut verbs: Vec<(&'static str, &'static str)> = VERBS
        .iter()
        .flat_map(|verb| {
            // The first alias is the long form; `list` and `remove` are only other names of it.
            let long = verb.aliases.first().filter(|_| verb.group != Group::Noun);
            let names = std::iter::once(verb.syntax.path).chain(long.copied());
            names.map(|name| (name, verb.syntax.about))
        })
        .filter_map(|(name, about)| Some((name.strip_prefix(&prefix)?, about)))
        .filter(|(name, _)| !name.contains(' '))
        .chain((noun == "volume").then_some(("trash", "Manage removed volumes")))
        .collect();
    verbs.sort_unstable();
    format!(
        "Usage:  {program} {noun} COMMAND\n\n{about}\n\nCommands:\n{}\n\
         Run '{program} {noun} COMMAND --help' for more information on a command.\n",
        rows(verbs.into_iter())
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_distinct_and_known() {
        let mut names: Vec<&str> = VERBS
            .iter()
            .flat_map(|verb| verb.aliases.iter().copied().chain([verb.syntax.path]))
            .chain(LATER.iter().copied())
            .collect();
        let count = names.len();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), count);
    }

    #[test]
    fn long_and_short_forms_are_one_verb() {
        for (words, path, length) in [
            (&["ps", "-a"][..], "ps", 1),
            (&["container", "ls"], "ps", 2),
            (&["volume", "trash", "ls"], "volume trash ls", 3),
            (&["image", "rm", "x"], "rmi", 2),
            (&["volume", "rm", "volume"], "volume rm", 2),
        ] {
            let words: Vec<String> = words.iter().map(|word| (*word).to_owned()).collect();
            let (verb, found) = find(&words).unwrap();
            assert_eq!((verb.syntax.path, found), (path, length));
        }
    }

    #[test]
    fn help_fits_eighty_columns() {
        for text in [overview("docker"), noun_help("orlop", "volume"), noun_help("orlop", "system")] {
            assert!(text.lines().all(|line| line.len() <= 80), "{text}");
        }
        assert!(noun_help("docker", "container").contains("\n  ls "));
        assert!(!noun_help("docker", "volume").contains("\n  list "));
    }
}
