//! `completion`, and what its scripts ask: `internal complete WORD…`, the last word being the one that is typed. Words
//! are verbs, the flags that the verb's own help shows, and the names of what the verb takes.

use crate::args::Refusal;
use crate::args::system::CompletionArgs;
use crate::door::Door;
use crate::failure::{Failure, Outcome};
use crate::output::print::out;
use crate::verbs;
use orlop_engine::{Engine, ListRequest};
use orlop_model::filter::Filters;

/// `completion`
pub fn completion(door: &Door, args: CompletionArgs) -> Outcome {
    let program = &door.program;
    let script = match args.shell[0].as_str() {
        "bash" => BASH,
        "zsh" => ZSH,
        "fish" => FISH,
        other => {
            return Err(Failure::invalid(format!("no completion for {other:?}: there is one for bash, zsh and fish")));
        }
    };
    out(&script.replace("PROGRAM", program))?;
    Ok(0)
}

const BASH: &str = "# bash completion of PROGRAM: put it into /etc/bash_completion.d, or source it
_PROGRAM() {
    local IFS=$'\\n'
    COMPREPLY=($(\"${COMP_WORDS[0]}\" internal complete \"${COMP_WORDS[@]:1:COMP_CWORD}\" 2>/dev/null))
}
complete -o default -F _PROGRAM PROGRAM
";

const ZSH: &str = "#compdef PROGRAM
# zsh completion of PROGRAM: put it as _PROGRAM into a directory of $fpath, or source it
_PROGRAM() {
    local -a found
    found=(\"${(@f)$(\"${words[1]}\" internal complete \"${(@)words[2,CURRENT]}\" 2>/dev/null)}\")
    if [[ -n \"${found[1]}\" ]]; then compadd -a found; else _files; fi
}
compdef _PROGRAM PROGRAM
";

const FISH: &str = "# fish completion of PROGRAM: put it into ~/.config/fish/completions/PROGRAM.fish
complete -c PROGRAM -a '(PROGRAM internal complete (commandline -opc)[2..-1] (commandline -ct) 2>/dev/null)'
";

/// `internal complete`: a line for each word that may follow. What can't be looked up is left out without a word.
pub fn complete(door: &Door, words: &[String]) -> Outcome {
    let (typed, before) = words.split_last().map_or(("", words), |(typed, before)| (typed.as_str(), before));
    let mut found = match verbs::find(before) {
        Some((verb, _)) if typed.starts_with('-') => flags(&verb.run(door, &["--help".to_owned()])),
        Some((verb, length)) => {
            let given = before[length..].iter().filter(|word| !word.starts_with('-')).count();
            names(door, verb.syntax.usage, given, typed)
        }
        None => verbs::names_below(&before.join(" ")),
    };
    found.retain(|word| word.starts_with(typed));
    found.sort_unstable();
    found.dedup();
    out(&found.iter().map(|word| format!("{word}\n")).collect::<String>())?;
    Ok(0)
}

/// The flags in a verb's help.
fn flags(help: &Outcome) -> Vec<String> {
    let Err(Failure::Refusal(Refusal::Help(text))) = help else { return Vec::new() };
    let options = text.lines().filter(|line| line.starts_with("  ")).map(str::trim_start);
    let flags = options.filter(|line| line.starts_with('-')).flat_map(|line| line.split_whitespace().take(2));
    let flags = flags.map(|word| word.trim_end_matches(','));
    flags.filter(|word| word.starts_with("--")).map(str::to_owned).chain(["--help".to_owned()]).collect()
}

/// What the next argument of a verb names, by what its usage calls it. For `run` and `exec` only the first does.
fn names(door: &Door, usage: &str, given: usize, typed: &str) -> Vec<String> {
    let arguments: Vec<&str> = usage.split_whitespace().filter(|word| *word != "[OPTIONS]").collect();
    let is_repeated = usage.contains("...]") && !usage.contains("[ARG...]");
    let Some(argument) = arguments.get(if is_repeated { 0 } else { given }) else { return Vec::new() };
    let Ok(engine) = door.engine() else { return Vec::new() };
    let mut found = Vec::new();
    if argument.contains("CONTAINER") || argument.contains("NAME|ID") {
        found.extend(containers(&engine, typed));
    }
    if argument.contains("IMAGE") || argument.contains("NAME|ID") || argument.contains("REPOSITORY") {
        found.extend(images(&engine));
    }
    if argument.contains("VOLUME") || argument.contains("NAME|ID") {
        let volumes = engine.volume_list(&Filters::default()).unwrap_or_default();
        found.extend(volumes.into_iter().map(|volume| volume.name.to_string()));
    }
    found
}

/// Names; an id only for who has begun to type one.
fn containers(engine: &Engine, typed: &str) -> Vec<String> {
    let all = engine.list(&ListRequest { all: true, ..ListRequest::default() }).unwrap_or_default();
    let looks_like_id = typed.len() > 3 && typed.bytes().all(|byte| byte.is_ascii_hexdigit());
    let ids = all.iter().filter(|_| looks_like_id).map(|summary| summary.container.id.short());
    all.iter().map(|summary| summary.container.name.to_string()).chain(ids).collect()
}

fn images(engine: &Engine) -> Vec<String> {
    engine.image_tags().unwrap_or_default()
}
