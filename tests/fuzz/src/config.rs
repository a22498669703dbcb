//! Configurations: any text is settings, or mistakes that name their line; any settings are a
//! configuration, or mistakes. The same value is taken or refused alike in the file and as a flag.
//!
//! ```text
//!   | even 1 | a TOML file ... |
//!   | odd 1  | key 1, length 2, value | key 1, length 2, value | ...
//! ```

use std::path::Path;

use clap::Parser;
use turnwire::cli::{Cli, Command};
use turnwire::config::Config;
use turnwire::settings::{KEYS, Key, Problem, Problems, Settings, Shape, Source, file};

use crate::input::{Input, chunk};

const NAME: &str = "turnwire.toml";

pub(crate) fn run(bytes: &[u8]) {
    let mut input = Input::new(bytes);
    if input.byte().is_multiple_of(2) {
        return toml(input.rest());
    }
    let mut given: Vec<(&'static Key, String)> = Vec::new();
    while !input.is_empty() && given.len() < 16 {
        let key = &KEYS[input.below(KEYS.len())];
        let value = String::from_utf8_lossy(input.chunk()).into_owned();
        // a value that is a path would be opened
        let is_path = matches!(key.shape, Shape::Path | Shape::Paths);
        given.push((key, if is_path { "/dev/null/nothing".into() } else { value }));
    }
    values(&given);
}

fn toml(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    match file::parse(Path::new(NAME), text) {
        Ok(settings) if names_a_path(&settings) => {}
        Ok(settings) => told(Config::new(&settings), text.lines().count()),
        Err(problems) => {
            assert!(!problems.0.is_empty(), "refused without a reason");
            problems.0.iter().for_each(|problem| placed(problem, text.lines().count()));
        }
    }
}

/// Files are read by `Config::new`; which ones is not for a fuzzer to choose.
fn names_a_path(settings: &Settings) -> bool {
    let paths = KEYS.iter().filter(|key| matches!(key.shape, Shape::Path | Shape::Paths));
    paths.into_iter().any(|key| !settings.all(key.name).is_empty())
}

fn told(config: Result<Config, Problems>, lines: usize) {
    match config {
        // what holds for a configuration is known to it alone; that it can be shown is enough here
        Ok(config) => assert!(!format!("{config:?}").is_empty()),
        Err(problems) => {
            assert!(!problems.0.is_empty(), "refused without a reason");
            problems.0.iter().for_each(|problem| placed(problem, lines));
        }
    }
}

/// A mistake says where it is and what is wrong, on one line each.
fn placed(problem: &Problem, lines: usize) {
    match &problem.source {
        Source::File(path, line, _) | Source::FileLine(path, line) => {
            assert_eq!(path.as_path(), Path::new(NAME));
            assert!((1..=lines.max(1) + 1).contains(line), "line {line} of {lines}");
        }
        _ => {}
    }
    assert!(!problem.message.is_empty());
}

/// The same settings as flags and as a file give the same configuration, or as many mistakes.
fn values(given: &[(&'static Key, String)]) {
    let mut settings = Settings::default();
    for (key, value) in given {
        settings.add(key, value.clone(), Source::Flag(key.name));
    }
    if !names_a_path(&settings) {
        let _ = Config::new(&settings).map_err(|problems| {
            assert!(!problems.0.is_empty() && !problems.to_string().is_empty());
        });
    }
    let flags = given.iter().flat_map(|(key, value)| match key.shape {
        Shape::Switch => vec![format!("--{}={value}", key.name)],
        _ => vec![format!("--{}", key.name), value.clone()],
    });
    let words = ["turnwire", "serve"].map(String::from).into_iter().chain(flags);
    if let Ok(cli) = Cli::try_parse_from(words) {
        let Command::Serve(_) = cli.command else { panic!("serve became another command") };
    }
    // one whole file of the first values, each key once
    let mut text = String::new();
    for (at, (key, value)) in given.iter().enumerate() {
        if given[..at].iter().all(|(earlier, _)| earlier.name != key.name) {
            let value = match key.shape {
                Shape::Switch | Shape::Number => value.clone(),
                _ => format!("{value:?}"),
            };
            text += &format!("{} = {value}\n", key.name);
        }
    }
    toml(text.as_bytes());
}

pub(crate) fn seeds() -> Vec<Vec<u8>> {
    let whole: String = KEYS
        .iter()
        .filter(|key| !matches!(key.shape, Shape::Path | Shape::Paths))
        .map(|key| format!("{} = {}\n", key.name, key.example))
        .collect();
    let mut seeds = vec![
        [&[0], whole.as_bytes()].concat(),
        b"\0listen = [\"0.0.0.0:3478\"]\nrealm = \"a\"\nrelay-ports = \"5000-6000\"\n".to_vec(),
        b"\0[section]\nrealm = 'a'\n".to_vec(),
    ];
    for (at, key) in KEYS.iter().enumerate() {
        let value = chunk(key.example.trim_matches('"').as_bytes());
        seeds.push([&[1, at as u8], &value[..]].concat());
    }
    seeds
}
