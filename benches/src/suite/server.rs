//! The relays under test, as processes.

use std::collections::HashMap;
use std::ffi::OsString;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use traffic::abi::LISTENER;
use turnwire_tests::process::Process;
use turnwire_tests::wait::{Deadline, SOON};
use wire::Family;

use super::calls::{self, PASSWORD, USER};
use super::site::{Side, Site, client_ip, listener_ip, peer_ip, relay_ip};
use super::subject::{Subject, Words, digit};

const REALM: &str = "bench.test";
const TURN_SERVER: &str = include_str!("../../contenders/turn-server.toml");

/// Where programs are, and where they may write.
#[derive(Clone, Debug)]
pub(crate) struct Paths {
    /// The `turnwire` program.
    pub(crate) turnwire: PathBuf,
    /// The folder of what `benches/contenders/build` made.
    pub(crate) contenders: PathBuf,
    /// This program.
    pub(crate) bench: PathBuf,
    /// Logs, and other files that a relay needs.
    pub(crate) logs: PathBuf,
}

impl Paths {
    /// What commands may name; interfaces only with a site.
    pub(crate) fn words(&self, site: Option<&Site>) -> Words {
        let path = |path: &Path| path.to_string_lossy().into_owned();
        let mut words = Words::default()
            .with("turnwire", path(&self.turnwire))
            .with("contenders", path(&self.contenders))
            .with("bench", path(&self.bench))
            .with("client4", client_ip(Family::V4).to_string())
            .with("peer4", peer_ip(Family::V4).to_string())
            .with("logs", path(&self.logs))
            .with("realm", REALM)
            .with("user", USER)
            .with("password", PASSWORD)
            .with("port", LISTENER.to_string())
            .with("interfaces", site.map_or_else(|| "arm0".to_owned(), Site::arm_names));
        for (family, names) in
            [(Family::V4, ["listen4", "ip4", "relay4"]), (Family::V6, ["listen6", "ip6", "relay6"])]
        {
            debug_assert!(names[0].ends_with(digit(family)));
            let ip = listener_ip(family);
            words = words
                .with(names[0], std::net::SocketAddr::new(ip, LISTENER).to_string())
                .with(names[1], ip.to_string())
                .with(names[2], relay_ip(family).to_string());
        }
        words
    }

    /// Writes the configuration files that some of them need.
    ///
    /// # Errors
    /// The folder cannot be written.
    pub(crate) fn prepare(&self) -> Result<()> {
        let text = self.words(None).fill(&[TURN_SERVER.to_owned()]).concat();
        std::fs::write(self.logs.join("turn-server.toml"), text)
            .with_context(|| format!("writing to {}", self.logs.display()))
    }
}

/// A relay that serves.
pub(crate) struct Server {
    process: Process,
}

impl Server {
    /// Starts it on the relay's core, and waits until it answers.
    ///
    /// # Errors
    /// It ends, or does not answer in time: with what it printed last.
    pub(crate) fn start(subject: &Subject, site: &Site, paths: &Paths) -> Result<Server> {
        let mut command = Side::Relay.command("taskset");
        command.args(["-c", subject.cores]);
        command.args(paths.words(Some(site)).fill(&subject.command));
        // a Ctrl-C at the terminal is ours to hear
        command.process_group(0);
        let log = paths.logs.join(format!("{}.log", subject.name));
        let process = Process::start(&subject.name, &mut command, &log)?;
        let mut server = Server { process };
        let deadline = Deadline::after(SOON);
        while !server.is_ready(subject)? {
            server.process.must_be_running()?;
            if deadline.left().is_none() {
                bail!("{} does not serve:\n{}", subject.name, server.process.last_words());
            }
        }
        Ok(server)
    }

    fn is_ready(&self, subject: &Subject) -> Result<bool> {
        if subject.abilities.turn {
            return calls::server_answers(Family::V4);
        }
        std::thread::sleep(Duration::from_millis(10));
        Ok(self.process.output().contains("ready"))
    }

    /// Stops all of it for now, or lets it go on.
    ///
    /// # Errors
    /// It has ended.
    pub(crate) fn set_stopped(&mut self, stopped: bool) -> Result<()> {
        self.process.signal(if stopped { libc::SIGSTOP } else { libc::SIGCONT })
    }

    /// Its threads by number: nanoseconds on a core, with softirqs that ran in their place, and
    /// nanoseconds that they were ready and waited for one.
    pub(crate) fn threads(&mut self) -> Result<Threads> {
        self.process.must_be_running()?;
        let mut threads = Threads::new();
        for entry in std::fs::read_dir(format!("/proc/{}/task", self.process.pid()))? {
            let entry = entry?;
            threads.insert(entry.file_name(), times_of(&entry.path()));
        }
        Ok(threads)
    }

    /// What it printed last.
    pub(crate) fn last_words(&self) -> String {
        self.process.last_words()
    }

    /// Ends it as an operator would; kills it if it does not listen.
    ///
    /// # Errors
    /// It had ended before.
    pub(crate) fn stop(mut self) -> Result<()> {
        self.process.signal(libc::SIGTERM)?;
        if self.process.wait(Duration::from_secs(3)).is_err() {
            self.process.kill();
        }
        Ok(())
    }
}

/// A process's threads: see [`Server::threads`].
pub(crate) type Threads = HashMap<OsString, [u64; 2]>;

/// Nanoseconds on a CPU, of a task's folder in /proc; 0 for one that is gone.
pub(crate) fn cpu_of(task: &Path) -> u64 {
    times_of(task)[0]
}

/// On a CPU, and waiting for one.
fn times_of(task: &Path) -> [u64; 2] {
    let text = std::fs::read_to_string(task.join("schedstat")).unwrap_or_default();
    let mut words = text.split(' ').map(|word| word.parse().unwrap_or(0));
    [words.next().unwrap_or(0), words.next().unwrap_or(0)]
}
