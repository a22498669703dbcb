//! What is measured: the ceiling, and relays. A relay is a name and a command line.
//!
//! A new tier or another server is one more entry of [`builtin`], or `--subject NAME=COMMAND` for
//! something that this repository does not know. In a command these words are replaced:
//!
//! ```text
//!  {listen4} {listen6}  address and port to listen on      {realm} {user} {password}  the one user
//!  {ip4} {ip6}          the address alone                  {interfaces}   the relay's, for XDP
//!  {relay4} {relay6}    address to relay from              {logs}         a folder to write into
//!  {port}               the port alone                     {turnwire} {contenders} {bench}  programs
//!  {client4} {peer4}    where clients and peers are
//! ```

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use wire::Family;

use super::plan::{Direction, Mode, Scenario};

/// What stands in the relay's place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Subject {
    /// On the command line and in results.
    pub(crate) name: String,
    /// For people.
    pub(crate) label: String,
    /// Words of the command that starts it; none: the bare programs.
    pub(crate) command: Vec<String>,
    /// Words of the command that tells its version.
    pub(crate) version: Vec<String>,
    /// Whether the kernel forwards, in the interface's NAPI, and no process has to be woken.
    pub(crate) in_kernel: bool,
    /// What it can do.
    pub(crate) abilities: Abilities,
    /// The cores of its process, as taskset(1) has them.
    pub(crate) cores: &'static str,
    /// An option that its `serve --help` must name, else it is left out.
    pub(crate) needs: Option<&'static str>,
    /// Takes part only where it is named.
    pub(crate) special: bool,
}

/// What a relay's design allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Abilities {
    /// Peers outside the relay.
    pub(crate) peers: bool,
    /// Clients over one family and peers over the other.
    pub(crate) across: bool,
    /// Clients outlive an overload.
    pub(crate) sturdy: bool,
    /// It speaks TURN. Else it forwards by port numbers alone, for [`ECHO_CLIENTS`] clients, over
    /// IPv4.
    pub(crate) turn: bool,
}

const WHOLE: Abilities = Abilities { peers: true, across: true, sturdy: true, turn: true };
/// Clients of the echo, each with a channel of its own.
const ECHO_CLIENTS: u16 = 1000;

/// A command that can be run here, or why it cannot.
pub(crate) type Available = Result<String, String>;

fn words(text: &str) -> Vec<String> {
    text.split_whitespace().map(str::to_owned).collect()
}

fn relay(name: &str, label: &str, command: &str, version: &str) -> Subject {
    Subject {
        name: name.to_owned(),
        label: label.to_owned(),
        command: words(command),
        version: words(version),
        in_kernel: false,
        abilities: WHOLE,
        cores: "1",
        needs: None,
        special: false,
    }
}

fn turnwire(name: &str, label: &str, flags: &str) -> Subject {
    let command = "{turnwire} serve --realm {realm} --user {user}:{password} --listen {listen4} \
                   --relay-ip {relay4} --listen {listen6} --relay-ip {relay6}";
    relay(name, label, &format!("{command} {flags}"), "{turnwire} --version")
}

/// Everybody that this repository knows, in the order of a round.
pub(crate) fn builtin() -> Vec<Subject> {
    let coturn = "turnserver -n --no-cli --no-tls --no-dtls --lt-cred-mech --realm {realm} \
                  --user {user}:{password} --log-file stdout --simple-log \
                  --pidfile {logs}/turnserver.pid --userdb {logs}/turnserver.db \
                  --listening-ip {ip4} --relay-ip {relay4} --listening-ip {ip6} --relay-ip {relay6}";
    let pion = "{contenders}/pion -realm {realm} -user {user}:{password} -sockets 2 \
                -listen {listen4}={relay4} -listen {listen6}={relay6}";
    let pion_version = "dpkg-query -W golang-github-pion-turn.v2-dev golang-go";
    let echo = "{bench} echo --listen {listen4} --relay {relay4}:49152 --clients {client4}:20000 \
                --peer {peer4}:30000";
    let turn_server = "{contenders}/turn-server --config {logs}/turn-server.toml";
    vec![
        Subject { in_kernel: true, ..relay("bare", "bare XDP_TX", "", "") },
        Subject {
            in_kernel: true,
            ..turnwire("xdp", "Turnwire, native XDP", "--xdp-mode native --xdp {interfaces}")
        },
        Subject {
            in_kernel: true,
            ..turnwire(
                "xdp-generic",
                "Turnwire, generic XDP",
                "--xdp-mode generic --xdp {interfaces}",
            )
        },
        Subject {
            needs: Some("--af-xdp"),
            ..turnwire(
                "af-xdp",
                "Turnwire, AF_XDP (copy)",
                "--xdp-mode native --xdp {interfaces} --af-xdp copy --xdp-forward workers",
            )
        },
        turnwire("sockets", "Turnwire, sockets", "--xdp-mode off"),
        Subject {
            abilities: Abilities { across: false, turn: false, ..WHOLE },
            ..relay("echo", "bare echo, sockets", &format!("{echo} --count {ECHO_CLIENTS}"), "")
        },
        Subject {
            special: true,
            cores: "0,1",
            ..turnwire("one-worker", "Turnwire, sockets, one worker", "--xdp-mode off --cores 1")
        },
        Subject {
            special: true,
            cores: "0,1",
            ..turnwire(
                "two-workers",
                "Turnwire, sockets, two workers",
                "--xdp-mode off --cores 0,1",
            )
        },
        relay("coturn", "coturn", coturn, "turnserver --version"),
        Subject {
            abilities: Abilities { across: false, ..WHOLE },
            ..relay("pion", "pion", pion, pion_version)
        },
        Subject {
            abilities: Abilities { peers: false, across: false, sturdy: false, ..WHOLE },
            ..relay("turn-server", "turn-server", turn_server, "{contenders}/turn-server --version")
        },
    ]
}

/// One of the user's own: `NAME=COMMAND`, words apart by spaces.
///
/// # Errors
/// There is no name, or no command.
pub(crate) fn custom(text: &str) -> Result<Subject> {
    let (name, command) = text.split_once('=').context("--subject wants NAME=COMMAND")?;
    ensure!(!name.is_empty() && !command.trim().is_empty(), "--subject wants NAME=COMMAND");
    ensure!(
        name.chars().all(|one| one.is_ascii_alphanumeric() || one == '-'),
        "a subject's name is made of letters, digits and hyphens, not {name:?}"
    );
    Ok(relay(name, name, command, ""))
}

/// What the words in braces stand for.
#[derive(Clone, Debug, Default)]
pub(crate) struct Words(Vec<(&'static str, String)>);

impl Words {
    /// Adds one.
    pub(crate) fn with(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.0.push((name, value.into()));
        self
    }

    /// Replaces them in a command's words.
    pub(crate) fn fill(&self, words: &[String]) -> Vec<String> {
        let fill = |word: &String| {
            let replace = |word: String, (name, value): &(&str, String)| {
                word.replace(&format!("{{{name}}}"), value)
            };
            self.0.iter().fold(word.clone(), replace)
        };
        words.iter().map(fill).collect()
    }
}

impl Subject {
    /// The ceiling: no relay at all.
    pub(crate) fn is_bare(&self) -> bool {
        self.command.is_empty()
    }

    /// Whether it can be asked for this, or why not.
    pub(crate) fn suits(&self, scenario: &Scenario) -> Result<(), String> {
        let between = scenario.direction == Direction::RelayToRelay;
        let (client, peer) = scenario.families;
        if !between && !self.abilities.peers {
            Err("relays between its own clients only".to_owned())
        } else if client != peer && !self.abilities.across {
            Err("does not relay between address families".to_owned())
        } else if between && (self.is_bare() || !self.abilities.turn) {
            Err("is no relay".to_owned())
        } else if self.is_bare() && scenario.mode == Mode::Indications {
            Err("changes no headers".to_owned())
        } else if !self.abilities.turn
            && (client != Family::V4
                || scenario.channels > ECHO_CLIENTS
                || scenario.mode == Mode::Indications)
        {
            Err(format!("echoes channel data of up to {ECHO_CLIENTS} clients over IPv4"))
        } else {
            Ok(())
        }
    }

    /// Its version, in a line; or what is missing.
    pub(crate) fn available(&self, words: &Words) -> Available {
        let command = words.fill(&self.command);
        let Some(program) = command.first() else { return Ok("ebpf/program/src/bare.rs".into()) };
        if !is_program(program) {
            return Err(format!("{program} is not there"));
        }
        if let Some(option) = self.needs {
            let help = Command::new(program).args(["serve", "--help"]).output();
            let knows = |output: std::process::Output| {
                String::from_utf8_lossy(&output.stdout).contains(option)
            };
            if !help.is_ok_and(knows) {
                return Err(format!("this turnwire has no option {option}"));
            }
        }
        let version = words.fill(&self.version);
        let Some((program, arguments)) = version.split_first() else { return Ok(String::new()) };
        match Command::new(program).args(arguments).output() {
            Ok(output) => Ok(in_a_line(&output.stdout)),
            Err(error) => Err(format!("{program}: {error}")),
        }
    }
}

fn in_a_line(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).split_whitespace().collect::<Vec<_>>().join(" ")
}

fn is_program(name: &str) -> bool {
    if name.contains('/') {
        return Path::new(name).is_file();
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|folder| folder.join(name).is_file())
}

/// For `{listen4}` and the like.
pub(crate) fn digit(family: Family) -> char {
    if family == Family::V4 { '4' } else { '6' }
}

#[cfg(test)]
mod tests {
    use super::super::plan::scenarios;
    use super::*;

    #[test]
    fn every_word_in_braces_has_a_meaning() {
        let known = [
            "listen4",
            "listen6",
            "ip4",
            "ip6",
            "relay4",
            "relay6",
            "port",
            "realm",
            "user",
            "password",
            "interfaces",
            "logs",
            "turnwire",
            "contenders",
            "bench",
            "client4",
            "peer4",
        ];
        let words = known.into_iter().fold(Words::default(), |words, name| words.with(name, "X"));
        for subject in builtin() {
            for word in words.fill(&[subject.command, subject.version].concat()) {
                assert!(!word.contains(['{', '}']), "{}: {word}", subject.name);
            }
        }
    }

    #[test]
    fn each_scenario_names_subjects_that_exist_and_that_can_do_it() {
        let subjects = builtin();
        for scenario in scenarios() {
            for name in scenario.subjects {
                let subject = subjects.iter().find(|one| one.name == *name);
                let subject = subject.unwrap_or_else(|| panic!("{}: {name}?", scenario.name));
                assert_eq!(subject.suits(&scenario), Ok(()), "{}: {name}", scenario.name);
            }
        }
    }

    #[test]
    fn what_is_not_there_is_said() {
        let absent = custom("mine=/nowhere/relay --listen {listen4}").unwrap();
        let why = absent.available(&Words::default()).unwrap_err();
        assert!(why.contains("/nowhere/relay"), "{why}");
        assert!(custom("mine").is_err() && custom("=x").is_err() && custom("a b=x").is_err());
    }
}
