//! Docker's flags that are not there yet: refused by name, so that nobody looks for a typing mistake. What stands here
//! is what `--help` of Docker 28 has beyond ours, and its flags that are hidden there. A flag that a verb reads already,
//! but that has no effect yet, stands here too and is refused all the same: who gives it its effect removes it.

/// Flags of a verb that have one reason.
struct Missing {
    /// Paths of the verbs, as [`super::Syntax`] has them; the empty one stands for what comes before the verb.
    verbs: &'static [&'static str],
    reason: Reason,
    /// As errors show them, divided by semicolons.
    flags: &'static str,
}

/// Why a flag is missing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reason {
    /// It is going to be there.
    Later,
    /// It will never be there: what it is for.
    OnlyFor(&'static str),
    /// It is refused: why, and what does it instead.
    Because(&'static str),
}

const MISSING: &[Missing] = &[
    Missing { verbs: &[""], reason: Reason::Later, flags: "--tls; --tlscacert; --tlscert; --tlskey; --tlsverify" },
    Missing {
        verbs: &["run", "create"],
        reason: Reason::Later,
        flags: "--disable-content-trust; --ip; --ip6; --link-local-ip; \
            --mac-address; --net-alias; --network-alias; --use-api-socket",
    },
    Missing {
        verbs: &["run", "create"],
        reason: Reason::Because("a GPU needs a driver of its vendor in the container; single devices go by --device"),
        flags: "--gpus",
    },
    Missing {
        verbs: &["run", "create"],
        reason: Reason::Because("the kernel has no such limit any more; --memory counts its memory too"),
        flags: "--kernel-memory",
    },
    Missing {
        verbs: &["run", "create"],
        reason: Reason::Because(
            "containers will know each other by names in a network, which come with a later version",
        ),
        flags: "--link",
    },
    Missing {
        verbs: &["run", "create"],
        reason: Reason::Because("a size needs project quotas of the data root's file system, which aren't used yet"),
        flags: "--storage-opt",
    },
    Missing {
        verbs: &["run", "create"],
        reason: Reason::OnlyFor("Windows"),
        flags: "--cpu-count; --cpu-percent; --io-maxbandwidth; --io-maxiops; --isolation",
    },
    Missing { verbs: &["start"], reason: Reason::Later, flags: "--checkpoint; --checkpoint-dir" },
    Missing {
        verbs: &["update"],
        reason: Reason::Because("the kernel has no such limit any more; --memory counts its memory too"),
        flags: "--kernel-memory",
    },
    Missing { verbs: &["images"], reason: Reason::Later, flags: "--tree" },
    Missing { verbs: &["load", "save", "history", "image inspect", "rmi"], reason: Reason::Later, flags: "--platform" },
    Missing { verbs: &["rmi"], reason: Reason::OnlyFor("intermediate images"), flags: "--no-prune" },
    Missing {
        verbs: &["volume create"],
        reason: Reason::OnlyFor("Swarm's cluster volumes"),
        flags: "--availability; --group; --limit-bytes; --required-bytes; --scope; --secret; --sharing; \
            --topology-preferred; --topology-required; --type",
    },
    Missing { verbs: &["volume ls"], reason: Reason::OnlyFor("Swarm's cluster volumes"), flags: "--cluster" },
];

impl Missing {
    fn flags(&self) -> impl Iterator<Item = &'static str> {
        self.flags.split(';').map(str::trim)
    }
}

/// The refusal of a flag of Docker's that the verb hasn't; None for what Docker doesn't know either. `flag` is long
/// (`--memory`) or short (`-m`).
pub fn refusal(verb: &str, flag: &str) -> Option<String> {
    let of_verb = MISSING.iter().filter(|missing| missing.verbs.contains(&verb));
    let found = of_verb.flat_map(|missing| missing.flags().map(|names| (names, missing.reason)));
    let (names, reason) = found.into_iter().find(|(names, _)| names.split(", ").any(|name| name == flag))?;
    Some(match reason {
        Reason::Later => format!("{names} comes with a later version"),
        Reason::OnlyFor(what) => format!("{names} is not there: it is for {what}"),
        Reason::Because(why) => format!("{names} is not there: {why}"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::args::{Refusal, global::GlobalArgs};
    use crate::door::Door;
    use crate::failure::Failure;
    use crate::verbs::VERBS;

    /// The list of docs/cli.md.
    fn page() -> String {
        let mut page = String::new();
        for Missing { verbs, reason, flags } in MISSING {
            let names: Vec<String> = verbs.iter().map(|verb| format!("`{verb}`")).collect();
            let names = if *verbs == [""] { "before the verb".to_owned() } else { names.join(", ") };
            let why = match reason {
                Reason::Later => String::new(),
                Reason::OnlyFor(what) => format!(" (for {what})"),
                Reason::Because(why) => format!(" ({why})"),
            };
            page += &wrapped(&format!("- {names}{why}: `{flags}`"));
        }
        page
    }

    /// An item of a list, in lines of at most 120 columns.
    fn wrapped(item: &str) -> String {
        let (mut text, mut used) = (String::new(), 0);
        for word in item.split(' ') {
            match used {
                0 => {}
                _ if used + 1 + word.len() > 120 => {
                    text += "\n  ";
                    used = 2;
                }
                _ => {
                    text.push(' ');
                    used += 1;
                }
            }
            text += word;
            used += word.len();
        }
        text + "\n"
    }

    #[test]
    fn the_page_lists_them() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/cli.md");
        let text = std::fs::read_to_string(path).unwrap();
        let (before, rest) = text.split_once("<!-- flags that are missing -->\n").expect("the list's beginning");
        let (listed, after) = rest.split_once("<!-- end -->").expect("the list's end");
        if std::env::var_os("ORLOP_WRITE_DOCS").is_some() {
            let text = format!("{before}<!-- flags that are missing -->\n{}<!-- end -->{after}", page());
            return std::fs::write(path, text).unwrap();
        }
        assert_eq!(listed, page(), "docs/cli.md differs from {}; ORLOP_WRITE_DOCS=1 writes it anew", file!());
    }

    #[test]
    fn each_is_refused_by_its_verb_and_by_no_other_way() {
        let root = tempfile::tempdir().unwrap();
        let globals = || GlobalArgs {
            data_root: Some(root.path().join("data")),
            run_root: Some(root.path().join("run")),
            ..GlobalArgs::default()
        };
        for missing in MISSING.iter().filter(|missing| missing.verbs != [""]) {
            for path in missing.verbs {
                let verb = VERBS.iter().find(|verb| verb.syntax.path == *path).expect(path);
                for name in missing.flags().flat_map(|names| names.split(", ")) {
                    let door = Door { program: "docker".to_owned(), globals: globals() };
                    match verb.run(&door, &[name.to_owned(), "x".to_owned()]) {
                        Err(Failure::Refusal(Refusal::Missing(text))) => {
                            assert!(text.contains(name) && text.lines().count() == 1, "{text}");
                        }
                        other => panic!("{path} {name}: {other:?}"),
                    }
                }
            }
        }
    }

    #[test]
    fn what_docker_does_not_know_stays_unknown() {
        assert_eq!(refusal("run", "--ip").as_deref(), Some("--ip comes with a later version"));
        assert_eq!(refusal("run", "--memory"), None);
        assert_eq!(refusal("run", "--isolation").as_deref(), Some("--isolation is not there: it is for Windows"));
        for (verb, flag) in [("run", "--foo"), ("run", "--cpu"), ("run", "-z"), ("ps", "--memory"), ("run", "")] {
            assert_eq!(refusal(verb, flag), None, "{verb} {flag}");
        }
    }
}
