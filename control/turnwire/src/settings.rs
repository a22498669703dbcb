//! Settings as they were given: text, each with the place it came from.
//!
//! ```text
//!   flags ──┐
//!   env   ──┼──> Settings: key -> [(text, Source)] ──> config: typed, checked
//!   file  ──┘
//! ```
//!
//! A flag replaces all that the environment and the file say about its key; the environment
//! replaces the file. Keys and flags have the same names, listed once in [`KEYS`], and one parser
//! for each value, so a mistake reads alike wherever it was made.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

pub mod file;
pub mod secrets;

/// How a key's value is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shape {
    /// One text.
    Text,
    /// One whole number; in the file with or without quotes.
    Number,
    /// On or off: a flag without a value, `true` or `false` in the file.
    Switch,
    /// One path, in the file relative to the file's own folder.
    Path,
    /// Any number of texts: a repeated flag, a list (or one text) in the file.
    List,
    /// As `List`; a text may also hold several, separated by commas.
    Commas,
    /// As `List`; paths, in the file relative to the file's own folder.
    Paths,
}

/// One setting: a flag `--name` of `turnwire serve` and a key `name` of the file.
#[derive(Debug)]
pub struct Key {
    /// The flag without its dashes.
    pub name: &'static str,
    /// How its value is written.
    pub shape: Shape,
    /// What a right value looks like.
    pub example: &'static str,
    /// Whether a reload carries a change of it out; else it takes a restart.
    pub live: bool,
}

/// A setting for which a change takes a restart.
const fn key(name: &'static str, shape: Shape, example: &'static str) -> Key {
    Key { name, shape, example, live: false }
}

/// A setting that a reload can change.
const fn live(name: &'static str, shape: Shape, example: &'static str) -> Key {
    Key { name, shape, example, live: true }
}

/// Every setting there is.
pub const KEYS: &[Key] = &[
    key("listen", Shape::List, "\"0.0.0.0:3478\""),
    key("no-tcp", Shape::Switch, "true"),
    live("cert", Shape::Path, "\"/etc/turnwire/cert.pem\""),
    live("key", Shape::Path, "\"/etc/turnwire/key.pem\""),
    key("tls-listen", Shape::List, "\"0.0.0.0:5349\""),
    key("proxy-protocol-from", Shape::List, "\"10.0.0.0/24\""),
    key("relay-ip", Shape::List, "\"198.51.100.7\""),
    key("external-ip", Shape::List, "\"198.51.100.7=10.0.0.7\""),
    key("relay-ports", Shape::Text, "\"49152-65535\""),
    key("realm", Shape::Text, "\"example.org\""),
    live("user", Shape::List, "\"NAME:PASSWORD\""),
    live("user-file", Shape::Paths, "\"/etc/turnwire/users\""),
    live("auth-secret", Shape::List, "\"SECRET\""),
    live("auth-secret-file", Shape::Paths, "\"/etc/turnwire/auth-secret\""),
    live("oauth-key", Shape::List, "\"KID:BASE64\""),
    live("oauth-key-file", Shape::Paths, "\"/etc/turnwire/oauth-keys\""),
    live("oauth-server-name", Shape::Text, "\"turn.example.org\""),
    live("nonce-key-file", Shape::Path, "\"/etc/turnwire/nonce-key\""),
    key("nonce-rotation", Shape::Number, "86400"),
    live("peer-policy", Shape::Text, "\"public\""),
    live("allow-peer", Shape::List, "\"10.20.0.0/16\""),
    live("deny-peer", Shape::List, "\"10.20.30.0/24\""),
    key("tcp-relay", Shape::Switch, "true"),
    key("mobility", Shape::Switch, "true"),
    key("nat-discovery", Shape::List, "\"198.51.100.8:3479\""),
    key("alternate-server", Shape::List, "\"198.51.100.9:3478\""),
    key("alternate-domain", Shape::Text, "\"turn2.example.org\""),
    key("redirect", Shape::Switch, "true"),
    key("software", Shape::Text, "\"turnwire\""),
    key("xdp", Shape::Commas, "\"eth0\""),
    key("xdp-mode", Shape::Text, "\"auto\""),
    key("xdp-forward", Shape::Text, "\"kernel\""),
    key("af-xdp", Shape::Text, "\"auto\""),
    key("cores", Shape::Commas, "\"0,2-3\""),
    key("busy-poll", Shape::Number, "50"),
    key("lanes", Shape::Number, "128"),
    key("max-allocations", Shape::Number, "65536"),
    key("max-channels", Shape::Number, "65536"),
    key("user-quota", Shape::Number, "16"),
    key("max-connections", Shape::Number, "16384"),
    key("max-connections-per-ip", Shape::Number, "1024"),
    key("handshake-timeout", Shape::Number, "10"),
    key("idle-timeout", Shape::Number, "60"),
    key("max-tcp-peers", Shape::Number, "4096"),
    key("allocation-lifetime", Shape::Number, "600"),
    live("drain-timeout", Shape::Number, "3600"),
    key("admin", Shape::Text, "\"127.0.0.1:9641\""),
    key("log-format", Shape::Text, "\"text\""),
];

/// The key of this name.
pub fn find_key(name: &str) -> Option<&'static Key> {
    KEYS.iter().find(|key| key.name == name)
}

/// The key that was probably meant by `name`: the nearest by edit distance, if it is near.
pub fn nearest_key(name: &str) -> Option<&'static str> {
    let name = name.to_lowercase().replace('_', "-");
    let (distance, nearest) = KEYS.iter().map(|key| (distance(&name, key.name), key.name)).min()?;
    (distance <= nearest.len().div_ceil(3)).then_some(nearest)
}

/// The number of insertions, deletions and replacements that make `b` of `a` (Levenshtein).
fn distance(a: &str, b: &str) -> usize {
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, from) in a.bytes().enumerate() {
        let mut diagonal = std::mem::replace(&mut row[0], i + 1);
        for (j, to) in b.bytes().enumerate() {
            let replaced = diagonal + usize::from(from != to);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[b.len()]
}

/// Where a setting was made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// On the command line, as `--key`.
    Flag(&'static str),
    /// In a configuration file, under this key.
    File(Arc<PathBuf>, usize, String),
    /// In a configuration file, where no key could be made out.
    FileLine(Arc<PathBuf>, usize),
    /// In an environment variable.
    Environment(&'static str),
    /// In a configuration file as a whole.
    WholeFile(Arc<PathBuf>),
    /// In a file of secrets, on this line.
    SecretFile(Arc<PathBuf>, usize),
    /// Nowhere: the default of this key, or a check of several settings together.
    Default(&'static str),
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Source::Flag(key) => write!(f, "--{key}"),
            Source::File(path, line, key) => write!(f, "{}:{line}: {key}", path.display()),
            Source::FileLine(path, line) | Source::SecretFile(path, line) => {
                write!(f, "{}:{line}", path.display())
            }
            Source::WholeFile(path) => write!(f, "{}", path.display()),
            Source::Environment(name) => f.write_str(name),
            Source::Default(key) => write!(f, "{key} (default)"),
        }
    }
}

/// A value and where it was given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Given<T> {
    /// The value.
    pub value: T,
    /// Where it was given.
    pub source: Source,
}

/// Something that stops the start: where it is, what is wrong, and what would be right.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// Where the mistake is.
    pub source: Source,
    /// What is wrong and what would be right. Never holds a secret.
    pub message: String,
}

impl Problem {
    /// A problem with what was given at `source`.
    pub fn new(source: &Source, message: impl Into<String>) -> Problem {
        Problem { source: source.clone(), message: message.into() }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.source, self.message)
    }
}

impl std::error::Error for Problem {}

/// All mistakes that were found, so that they can be mended in one go.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Problems(pub Vec<Problem>);

impl std::error::Error for Problems {}

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, problem) in self.0.iter().enumerate() {
            let separator = if index == 0 { "" } else { "\n" };
            write!(f, "{separator}{problem}")?;
        }
        Ok(())
    }
}

/// Every setting that was made, as text.
#[derive(Debug, Default)]
pub struct Settings {
    given: BTreeMap<&'static str, Vec<Given<String>>>,
}

impl Settings {
    /// Adds one value of `key`, or each of several between commas where the key's shape has them.
    /// What is already there stays.
    pub fn add(&mut self, key: &'static Key, value: String, source: Source) {
        let values = self.given.entry(key.name).or_default();
        if key.shape == Shape::Commas {
            let each = |part: &str| Given { value: part.trim().to_owned(), source: source.clone() };
            values.extend(value.split(',').map(each));
        } else {
            values.push(Given { value, source });
        }
    }

    /// Lays `over` over these settings: each key that it gives replaces what was given here.
    pub fn overlay(&mut self, over: Settings) {
        self.given.extend(over.given);
    }

    /// All values of a key, in the order given.
    pub fn all(&self, key: &str) -> &[Given<String>] {
        self.given.get(key).map_or(&[], Vec::as_slice)
    }

    /// Gives every key that takes a restart the values that `running` has for it, and names those
    /// whose values were others here.
    pub fn keep_running(&mut self, running: &Settings) -> Vec<&'static str> {
        let texts = |settings: &Settings, key: &str| -> Vec<String> {
            settings.all(key).iter().map(|given| given.value.clone()).collect()
        };
        // Sockets for TLS are bound at the start, or not at all.
        let tls = |settings: &Settings| settings.one("cert").is_some();
        let tls_changed = tls(self) != tls(running);
        let stays = |key: &&Key| !key.live || tls_changed && ["cert", "key"].contains(&key.name);
        let mut changed = Vec::new();
        for key in KEYS.iter().filter(stays) {
            if texts(self, key.name) == texts(running, key.name) {
                continue;
            }
            changed.push(key.name);
            match running.given.get(key.name) {
                Some(values) => drop(self.given.insert(key.name, values.clone())),
                None => drop(self.given.remove(key.name)),
            }
        }
        changed
    }

    /// The last value of a key.
    pub fn one(&self, key: &str) -> Option<&Given<String>> {
        self.all(key).last()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_misspelt_key_finds_the_one_that_was_meant() {
        for (written, meant) in [
            ("relay-prots", "relay-ports"),
            ("relay_ip", "relay-ip"),
            ("Listen", "listen"),
            ("max-alocations", "max-allocations"),
            ("users", "user"),
        ] {
            assert_eq!(nearest_key(written), Some(meant), "{written}");
        }
        assert_eq!(nearest_key("zebra"), None);
    }

    #[test]
    fn what_takes_a_restart_stays_as_it_runs_and_is_named() {
        // given
        let settings = |pairs: &[(&str, &str)]| {
            let mut settings = Settings::default();
            for (name, value) in pairs {
                let key = find_key(name).expect("a key");
                settings.add(key, (*value).into(), Source::Flag(key.name));
            }
            settings
        };
        let running = settings(&[("listen", "one"), ("realm", "a"), ("user", "a:b")]);
        // when
        let mut fresh = settings(&[("listen", "one"), ("user", "c:d"), ("xdp", "eth0")]);
        let changed = fresh.keep_running(&running);
        // then
        assert_eq!(changed, ["realm", "xdp"]);
        assert_eq!(fresh.one("realm").map(|given| given.value.as_str()), Some("a"));
        assert_eq!(fresh.one("xdp"), None);
        assert_eq!(fresh.one("user").map(|given| given.value.as_str()), Some("c:d"));
    }

    #[test]
    fn an_overlay_replaces_whole_keys_and_keeps_the_others() {
        // given
        let listen = find_key("listen").expect("a key");
        let realm = find_key("realm").expect("a key");
        let mut base = Settings::default();
        base.add(listen, "one".into(), Source::Default("listen"));
        base.add(listen, "two".into(), Source::Default("listen"));
        base.add(realm, "kept".into(), Source::Default("realm"));
        let mut over = Settings::default();
        over.add(listen, "three".into(), Source::Flag("listen"));
        // when
        base.overlay(over);
        // then
        assert_eq!(base.all("listen").len(), 1);
        assert_eq!(base.one("listen").map(|given| given.value.as_str()), Some("three"));
        assert_eq!(base.one("realm").map(|given| given.value.as_str()), Some("kept"));
    }
}
